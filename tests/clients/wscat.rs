//! `wscat` from npm, what one types into to look at a feed: both directions, pings, and the end of the gateway.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::script::folder;
use crate::support::{Gateway, Oracles, PATIENCE, Signal, wait_until};

/// A `wscat` whose input stays open, as a terminal's does.
struct Wscat {
    child: Child,
    lines: Receiver<String>,
}

impl Wscat {
    #[track_caller]
    fn connect(url: &str, arguments: &[&str]) -> Self {
        let program = folder().join("node_modules/.bin/wscat");
        assert!(program.exists(), "wscat is missing: run scripts/install-test-tools");
        let mut command = Command::new("node");
        command.arg(program).args(["--no-color", "--show-ping-pong", "--connect", url]);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("node is there, as the packages are");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (send, lines) = sync_channel(1000);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        Self { child, lines }
    }

    /// Waits for a line that begins so.
    #[track_caller]
    fn expect_line(&self, start: &str) {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.starts_with(start) => return,
                Ok(_) => {}
                Err(error) => panic!("wscat wrote no line that begins with {start:?}: {error}"),
            }
        }
    }
}

impl Drop for Wscat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_typed_reaches_the_others_and_what_is_published_is_shown() {
    let mut gateway = Gateway::start(&["--relay", "lobby", "--ping-interval", "1s", "--pong-timeout", "10s"]);
    let oracles = Oracles::before(&gateway);
    let mut other = gateway.join("/ws/lobby");

    let wscat = Wscat::connect(
        &format!("ws://{}/ws/lobby", gateway.clients),
        &["--wait", "-1", "--execute", "typed"],
    );
    assert_eq!(other.next_text(), "typed");
    other.close();
    assert_eq!(gateway.admin().publish("lobby", "published").status, 200);
    wscat.expect_line("published");
    // It answers pings, or it would get no second one.
    for _ in 0..3 {
        wscat.expect_line("Received ping");
    }

    drop(wscat);
    oracles.check(&mut gateway);
}

#[test]
fn the_end_of_the_gateway_ends_it() {
    let gateway = Gateway::start(&["--drain-grace", "0s", "--drain-spread", "0s"]);
    let mut wscat = Wscat::connect(&format!("ws://{}/", gateway.clients), &[]);
    wait_until("wscat has joined", PATIENCE, || gateway.metric("tidegate_subscriptions") == 1.0);

    gateway.signal(Signal::Term);

    wait_until("wscat has ended", PATIENCE, || wscat.child.try_wait().expect("our own child").is_some());
}
