//! The gateway as an operator has it: the real binary, its printed lines, its log, signals and exit code.

use super::admin::Admin;
use super::raw::{RawClient, RawOptions};
use super::wait::{PATIENCE, wait_for};
use super::websocket::WebSocketClient;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Options that every test gateway has unless the test names them itself.
const DEFAULTS: &[(&str, &str)] = &[
    ("--listen", "127.0.0.1:0"),
    ("--admin-listen", "127.0.0.1:0"),
    ("--shards", "2"),
    ("--default-channel", "lobby"),
];

/// A running gateway; killed when dropped.
pub struct Gateway {
    child: Child,
    log: Arc<Mutex<String>>,
    printed: Vec<String>,
    /// Where clients connect: the first printed `clients` line.
    pub clients: SocketAddr,
    /// Where publishers and operators connect: the printed `publish` line.
    pub admin: SocketAddr,
}

/// How a gateway ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Everything on standard output.
    pub printed: String,
    /// Everything on standard error.
    pub log: String,
}

/// What a supervisor sends.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    /// Drain and exit.
    Term,
    /// The same, from a terminal.
    Int,
    /// No chance to do anything.
    Kill,
}

impl Gateway {
    /// Starts `tidegate serve` on free ports with `arguments`, two shards and the default channel `lobby`, and waits
    /// for its `ready` line.
    ///
    /// # Panics
    /// With everything it printed and logged if it ends or stays silent instead.
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Gateway {
        Gateway::start_with(arguments, |_| {})
    }

    /// As [`Gateway::start`], with room for environment variables and a working folder.
    #[track_caller]
    pub fn start_with(arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> Gateway {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(serve(arguments));
        Gateway::launch(command, prepare)
    }

    /// As [`Gateway::start`], under a limit on descriptors that the gateway cannot raise.
    #[track_caller]
    pub fn start_with_descriptors(descriptors_max: usize, arguments: &[&str]) -> Gateway {
        Gateway::start_in_shell(&format!("ulimit -n {descriptors_max}"), arguments)
    }

    /// As [`Gateway::start`], from a shell that has done `first`.
    #[track_caller]
    pub fn start_in_shell(first: &str, arguments: &[&str]) -> Gateway {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{first} && exec \"$0\" \"$@\"")]);
        command.arg(env!("CARGO_BIN_EXE_tidegate")).args(serve(arguments));
        Gateway::launch(command, |_| {})
    }

    /// As [`Gateway::start_in_shell`], with namespaces of its own, as `unshare` (util-linux) names them: `--net`, `--mount`.
    /// None, and a plain message, where this machine does not allow that, or `first` fails there.
    #[track_caller]
    pub fn start_apart(namespaces: &str, first: &str, arguments: &[&str]) -> Option<Gateway> {
        let tried = Command::new("unshare").args([namespaces, "sh", "-c", first]).output();
        let cause = match tried {
            Ok(tried) if tried.status.success() => None,
            Ok(tried) => Some(String::from_utf8_lossy(&tried.stderr).trim().to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(cause) = cause {
            println!("skipped: `unshare {namespaces}` and what is done there are not possible here: {cause}");
            return None;
        }
        let mut command = Command::new("unshare");
        // It becomes the shell, which becomes the gateway.
        command.args([namespaces, "sh", "-c", &format!("{first} && exec \"$0\" \"$@\"")]);
        command.arg(env!("CARGO_BIN_EXE_tidegate")).args(serve(arguments));
        Some(Gateway::launch(command, |_| {}))
    }

    /// Runs the binary with exactly `arguments` until it ends by itself: for `check`, `--help` and refused starts.
    ///
    /// # Panics
    /// If it has not ended within [`PATIENCE`].
    #[track_caller]
    pub fn run(arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments);
        let (mut child, lines, log) = spawn(command, |_| {});
        let status = wait_child(&mut child, PATIENCE).unwrap_or_else(|| {
            let _ = child.kill();
            panic!("`tidegate {}` did not end within {PATIENCE:?}", arguments.join(" "))
        });
        let printed = lines.iter().map(|line| line + "\n").collect();
        Ended { code: status.code(), printed, log: settled(&log) }
    }

    #[track_caller]
    fn launch(command: Command, prepare: impl FnOnce(&mut Command)) -> Gateway {
        let (mut child, lines, log) = spawn(command, prepare);
        let end = Instant::now() + PATIENCE;
        let mut printed: Vec<String> = Vec::new();
        while printed.last().is_none_or(|line| line != "ready") {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => printed.push(line),
                Err(reason) => {
                    let _ = child.kill();
                    let status = child.wait();
                    let what = match reason {
                        RecvTimeoutError::Timeout => format!("did not print `ready` within {PATIENCE:?}"),
                        RecvTimeoutError::Disconnected => format!("ended before `ready` ({status:?})"),
                    };
                    panic!("the gateway {what}\nprinted: {printed:#?}\nlog:\n{}", settled(&log));
                }
            }
        }
        let clients = address_on("clients", &printed);
        let admin = address_on("publish", &printed);
        Gateway { child, log, printed, clients, admin }
    }

    /// The lines of standard output up to `ready`.
    pub fn printed(&self) -> &[String] {
        &self.printed
    }

    /// The admin API of this gateway.
    pub fn admin(&self) -> Admin {
        Admin::new(self.admin)
    }

    /// The sum of a metric over all its label sets, as the admin API states it now.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        self.admin().metric(name)
    }

    /// A client that has not sent anything yet.
    #[track_caller]
    pub fn raw(&self) -> RawClient {
        RawClient::connect(self.clients, RawOptions::default())
    }

    /// A WebSocket client that has joined at `target`: `/`, `/ws/news`, `/ws?channels=a,b`.
    #[track_caller]
    pub fn join(&self, target: &str) -> WebSocketClient {
        WebSocketClient::join(self.clients, target)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log reader does not panic").clone()
    }

    /// True while the process runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let name = match signal {
            Signal::Term => "TERM",
            Signal::Int => "INT",
            Signal::Kill => "KILL",
        };
        // The shell's own `kill` is there on every machine; a `kill` program is not.
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.id())]).status();
        assert!(sent.as_ref().is_ok_and(ExitStatus::success), "could not send SIG{name}: {sent:?}");
    }

    /// Waits for the process to end by itself; none if it still runs after `deadline`.
    pub fn wait_exit(&mut self, deadline: Duration) -> Option<Ended> {
        let status = wait_child(&mut self.child, deadline)?;
        Some(Ended { code: status.code(), printed: self.printed.join("\n"), log: settled(&self.log) })
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that it has been.
    pub fn resident_bytes_max(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line with that name");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kilobytes") * 1024
    }

    /// Bytes on their way from its clients that it has not read.
    pub fn unread_bytes(&self) -> u64 {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table of sockets");
        let port = format!(":{:04X}", self.clients.port());
        let unread = |line: &str| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, remote) = (fields.next()?, fields.next()?);
            // Established, or closed by the client. Nobody reads from the others.
            let is_alive = matches!(fields.next()?, "01" | "08");
            let (unsent, unread) = fields.next()?.split_once(':')?;
            let bytes = |hex| u64::from_str_radix(hex, 16).ok().filter(|_| is_alive);
            let ours = if local.ends_with(&port) { bytes(unread)? } else { 0 };
            let theirs = if remote.ends_with(&port) { bytes(unsent)? } else { 0 };
            Some(ours + theirs)
        };
        table.lines().filter_map(unread).sum()
    }

    /// Open descriptors of the process.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).expect("the gateway is alive").count()
    }

    /// Processor time used so far, user and system.
    pub fn processor_time(&self) -> Duration {
        let stat = self.proc("stat");
        // The name may hold spaces; fields are counted behind its closing bracket. Fields 14 and 15, in ticks of 10 ms.
        let fields: Vec<&str> =
            stat.rsplit_once(')').expect("a name in brackets").1.split_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<u64>().expect("a number of ticks");
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    fn proc(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.id())).expect("the gateway is alive")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = settled(&self.log);
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- the gateway's last log lines");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// `serve`, then the defaults that `arguments` does not set, then `arguments`.
fn serve(arguments: &[&str]) -> Vec<String> {
    let named =
        |flag: &str| arguments.iter().any(|given| *given == flag || given.starts_with(&format!("{flag}=")));
    let defaults = DEFAULTS.iter().filter(|(flag, _)| !named(flag)).flat_map(|(flag, value)| [*flag, *value]);
    ["serve"].into_iter().chain(defaults).chain(arguments.iter().copied()).map(str::to_owned).collect()
}

/// Starts `command` with its lines in a channel and its log in a string, and none of the caller's `TIDEGATE_` variables.
fn spawn(
    mut command: Command,
    prepare: impl FnOnce(&mut Command),
) -> (Child, Receiver<String>, Arc<Mutex<String>>) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    prepare(&mut command);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let log = Arc::new(Mutex::new(String::new()));
    let writer = Arc::clone(&log);
    std::thread::spawn(move || collect(stderr, &writer));
    (child, lines, log)
}

fn collect(mut stream: impl Read, log: &Mutex<String>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        log.lock().expect("readers do not panic").push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

/// The log once its reader holds the only other handle no longer, or what there is when that takes too long.
fn settled(log: &Arc<Mutex<String>>) -> String {
    let end = Instant::now() + PATIENCE;
    while Arc::strong_count(log) > 1 && Instant::now() < end {
        super::wait::pause(Duration::from_millis(2));
    }
    log.lock().expect("the log reader does not panic").clone()
}

fn wait_child(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            return Some(status);
        }
        if Instant::now() >= end {
            return None;
        }
        super::wait::pause(Duration::from_millis(5));
    }
}

/// The address in the printed line that begins with `word`: what follows its first `http://`, up to the next slash.
#[track_caller]
fn address_on(word: &str, printed: &[String]) -> SocketAddr {
    let address = printed
        .iter()
        .find(|line| line.split_whitespace().next() == Some(word))
        .and_then(|line| line.split_once("http://"))
        .and_then(|(_, rest)| rest.split('/').next())
        .and_then(|address| address.parse().ok());
    address.unwrap_or_else(|| panic!("no `{word}` line with an address among {printed:#?}"))
}

/// Waits until the gateway says that it is ready for traffic.
#[track_caller]
pub fn wait_ready(gateway: &Gateway) {
    wait_for("/readyz to answer 200", PATIENCE, || {
        (gateway.admin().get("/readyz").status == 200).then_some(())
    });
}
