//! Runs that end before their time: what was seen until then is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::Value;

/// A run that writes its report to a file.
struct Run {
    child: Child,
    file: PathBuf,
}

impl Run {
    fn start(name: &str, arguments: &[&str]) -> Run {
        let file = std::env::temp_dir().join(format!("tidegate-loadtest-{name}-{}.json", std::process::id()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-loadtest"));
        command.args(arguments).args(["--timeout", "100s", "--json"]).arg(&file);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        Run { child, file }
    }

    fn interrupt(&self) {
        let kill = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(kill.expect("kill is installed").success());
    }

    fn end(mut self) -> (ExitStatus, Value) {
        let mut errors = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut errors).expect("text");
        }
        let status = self.child.wait().expect("it ends");
        let report = std::fs::read_to_string(&self.file).unwrap_or_else(|error| panic!("{error}: {errors}"));
        let _ = std::fs::remove_file(&self.file);
        (status, serde_json::from_str(&report).expect("valid JSON"))
    }

    /// Sends Ctrl-C as soon as a line that contains `text` is said, and waits for the end.
    fn interrupt_at(mut self, text: &str) -> (ExitStatus, Value) {
        let mut lines =
            BufReader::new(self.child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains(text)), "it never said '{text}'");
        self.interrupt();
        lines.for_each(drop);
        self.end()
    }
}

/// The tool's own bare server, and a way in for messages that the test has in its hand.
struct Served {
    bare: Child,
    url: String,
    publish: String,
    /// Says each message that has been published; the answer to it waits for `answers`.
    published: Receiver<()>,
    answers: Sender<&'static str>,
}

impl Served {
    fn start() -> Served {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-loadtest"));
        let mut bare = command.arg("bare-server").stdout(Stdio::piped()).spawn().expect("the binary runs");
        let mut line = String::new();
        BufReader::new(bare.stdout.take().expect("piped")).read_line(&mut line).expect("its ports");
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let control = TcpStream::connect(format!("127.0.0.1:{}", words[3])).expect("the bare server");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let publish = format!("http://{}/", listener.local_addr().expect("bound"));
        let (says, published) = channel();
        let (answers, to_say) = channel();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("the publisher");
            let _ = publish_all(stream, control, &says, &to_say);
        });
        Served { bare, url: format!("ws://127.0.0.1:{}/x", words[1]), publish, published, answers }
    }

    /// Lets so many messages pass.
    fn pass(&self, count: usize) {
        for _ in 0..count {
            self.published.recv().expect("a message");
            self.answers.send("204 No Content").expect("it waits");
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.bare.kill();
        let _ = self.bare.wait();
    }
}

/// Takes POST after POST and hands each body, framed, to the bare server.
fn publish_all(
    mut stream: TcpStream,
    mut control: TcpStream,
    says: &Sender<()>,
    answers: &Receiver<&'static str>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
        let mut body = vec![0; length.parse().expect("a number")];
        reader.read_exact(&mut body)?;
        let frame = [&[0x82, 126][..], &(body.len() as u16).to_be_bytes(), &body].concat();
        control.write_all(&[&(frame.len() as u32).to_le_bytes()[..], &frame].concat())?;
        control.read_exact(&mut [0; 8])?;
        let _ = says.send(());
        let Ok(status) = answers.recv() else { return Ok(()) };
        stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
    }
}

#[test]
fn ctrl_c_between_rounds_leaves_a_report_of_those_that_were_played() {
    let arguments = ["fanout", "--limit", "-n", "50", "--rounds", "1000", "--round-seconds", "100ms"];
    let (status, report) = Run::start("rounds", &arguments).interrupt_at("round 2");
    assert_eq!((status.code(), &report["interrupted"]), (Some(0), &Value::from(true)), "{report:#}");
    let rounds = report["series"][0]["rounds"].as_array().expect("rounds").len();
    assert!((2..1000).contains(&rounds), "{rounds}");
    assert_eq!(report["failed"], Value::Array(Vec::new()));
}

#[test]
fn ctrl_c_while_connecting_leaves_a_report_of_those_that_were_there() {
    let arguments = ["hold", "--limit", "-n", "15000", "--hold", "100s"];
    for attempt in 1.. {
        let (status, report) = Run::start("ramp", &arguments).interrupt_at("connecting 15000");
        // Nobody may have been there yet.
        assert!(matches!(status.code(), Some(0 | 130)), "{report:#}");
        assert_eq!(report["interrupted"], true, "{report:#}");
        assert_eq!(report["failed"], Value::Array(Vec::new()));
        // All of them, if this test was held up meanwhile.
        if report["verification"]["limit"]["live"].as_u64() < Some(15_000) {
            return;
        }
        assert!(attempt < 5, "{report:#}");
    }
}

#[test]
fn ctrl_c_within_a_round_leaves_a_report_of_what_was_played_of_it() {
    let served = Served::start();
    let arguments = ["latency", "-n", "20", "--size", "200", "--rate", "100", "--rounds", "1"];
    let target = ["--round-seconds", "90s", "--url", &served.url, "--publish-url", &served.publish];
    let run = Run::start("within", &[&arguments[..], &target].concat());
    served.pass(30);
    run.interrupt();
    // One more may be on its way.
    let _ = served.answers.send("204 No Content");
    let (status, report) = run.end();
    assert_eq!((status.code(), &report["interrupted"]), (Some(0), &Value::from(true)), "{report:#}");
    // Four messages warm it up.
    assert!(report["series"][0]["rounds"][0]["units"].as_u64() >= Some(20 * 26), "{report:#}");
    assert_eq!(report["failed"], Value::Array(Vec::new()));
}

#[test]
fn a_failure_in_the_middle_leaves_a_report_of_the_rounds_before_it() {
    let served = Served::start();
    let arguments = ["latency", "-n", "20", "--size", "200", "--rate", "100", "--rounds", "1000"];
    let target = ["--round-seconds", "100ms", "--url", &served.url, "--publish-url", &served.publish];
    let run = Run::start("failure", &[&arguments[..], &target].concat());
    served.pass(40);
    served.published.recv().expect("a message");
    served.answers.send("503 Busy").expect("it waits");
    let (status, report) = run.end();
    assert_eq!(status.code(), Some(69), "{report:#}");
    assert!(report["ended_by"].as_str().is_some_and(|cause| cause.contains("503 Busy")), "{report:#}");
    assert!(report["series"][0]["units"].as_u64() >= Some(20 * 20), "{report:#}");
}
