//! nginx and HAProxy in front of the gateway, with the very settings that `docs/OPERATIONS.md` shows: the tests read
//! them there, and put in the addresses and time-outs of the moment.

pub mod cases;
pub mod requests;

use crate::script::folder;
use crate::support::{PATIENCE, wait_until};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The unprivileged user and group of every Debian machine.
const NOBODY: u32 = 65_534;

/// A running proxy; killed when dropped.
pub struct Proxy {
    child: Child,
    folder: TempDir,
    /// Where clients connect.
    pub clients: SocketAddr,
    /// Where publishers connect, if it leads to the admin port too.
    pub publish: Option<SocketAddr>,
}

impl Proxy {
    /// Starts `program` in a folder of its own, as nobody if the test is root, and waits until it takes connections.
    /// What it writes goes to the file `log`.
    ///
    /// # Panics
    /// With what it wrote if it does not start.
    #[track_caller]
    pub fn start(
        program: &str,
        arguments: &[&str],
        configuration: &str,
        clients: SocketAddr,
        publish: Option<SocketAddr>,
    ) -> Proxy {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("configuration");
        fs::write(&file, configuration).expect("a file in a new folder");
        // Appended to, as some proxies open it once more by themselves.
        let log = fs::File::options().append(true).create(true).open(folder.path().join("log"));
        let log = log.expect("a file in a new folder");
        let mut command = Command::new(program);
        if rustix::process::geteuid().is_root() {
            for path in [folder.path(), &file, &folder.path().join("log")] {
                chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
            }
            command = Command::new("setpriv");
            command.args([
                &format!("--reuid={NOBODY}"),
                &format!("--regid={NOBODY}"),
                "--clear-groups",
                program,
            ]);
        }
        command.args(arguments).arg(&file).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("an open file")).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{program} is not installed ({error}): run scripts/install-test-tools")
        });
        let mut proxy = Proxy { child, folder, clients, publish };
        wait_until(&format!("{program} to take connections"), PATIENCE, || {
            let ended = proxy.child.try_wait().expect("our own child");
            assert!(
                ended.is_none(),
                "{program} ended, {ended:?} (127: run scripts/install-test-tools):\n{}",
                proxy.log()
            );
            TcpStream::connect(clients).is_ok()
        });
        proxy
    }

    /// Everything it wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Requests that it logged for the connection from `client`: one line each, `request PORT STATUS`.
    pub fn requests_of(&self, client: SocketAddr) -> usize {
        let start = format!("request {} ", client.port());
        self.log().lines().filter(|line| line.contains(&start)).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- what the proxy wrote\n{}", self.log());
        }
    }
}

/// The block of `docs/OPERATIONS.md` in the language `language` that holds `marker`.
#[track_caller]
pub fn documented(language: &str, marker: &str) -> String {
    let path = folder().join("../../docs/OPERATIONS.md");
    let text = fs::read_to_string(&path).expect("the document is in the checkout");
    let fence = format!("```{language}\n");
    text.split(&fence)
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .find(|block| block.contains(marker))
        .unwrap_or_else(|| panic!("docs/OPERATIONS.md shows no {language} with `{marker}`"))
        .to_owned()
}

/// `text` with each of `changes` made everywhere.
///
/// # Panics
/// If there is nothing to change: the document says something else than the test thinks.
#[track_caller]
pub fn changed(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "nothing to change, `{from}` is not in\n{text}");
        text.replace(from, to)
    })
}

/// Addresses on loopback that nobody listened on a moment ago, no two of them the same.
pub fn free_addresses<const COUNT: usize>() -> [SocketAddr; COUNT] {
    let listeners = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("a bound socket"))
}
