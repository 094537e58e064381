//! The whole tool against its own bare server: every scenario once, every planted fault, every refusal.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

fn loadtest(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_tidegate-loadtest");
    Command::new(program).args(arguments).args(["--timeout", "100s"]).output().expect("the binary runs")
}

/// Runs with `--json` and returns the exit code and the report.
fn report_of(name: &str, arguments: &[&str]) -> (i32, Value) {
    let file = std::env::temp_dir().join(format!("tidegate-loadtest-{name}-{}.json", std::process::id()));
    let output =
        loadtest(&[arguments, &["--quiet", "--json", file.to_str().expect("a path in UTF-8")]].concat());
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let _ = std::fs::remove_file(&file);
    (output.status.code().expect("not killed"), serde_json::from_str(&text).expect("valid JSON"))
}

#[test]
fn hundreds_of_subscribers_receive_every_message_once_and_in_order() {
    let arguments =
        ["fanout", "--limit", "-n", "300", "--window", "8", "--rounds", "2", "--round-seconds", "200ms"];
    let (code, report) = report_of("fanout", &arguments);
    assert_eq!(code, 0, "{report:#}");
    let counts = &report["verification"]["limit"];
    assert!(counts["delivered"].as_u64() > Some(300 * 8 * 2), "{counts}");
    assert_eq!((&counts["lost"], &counts["live"]), (&Value::from(0), &Value::from(300)));
    assert!(report["series"][0]["cpu_us_per_unit"].as_f64() > Some(0.0));
}

#[test]
fn a_limit_of_several_threads_reaches_every_subscriber() {
    let arguments =
        ["fanout", "--limit=2,1", "-n", "100", "--window", "4", "--rounds", "2", "--round-seconds", "200ms"];
    let (code, report) = report_of("limits", &arguments);
    assert_eq!(code, 0, "{report:#}");
    for name in ["limit-2", "limit"] {
        let counts = &report["verification"][name];
        assert!(counts["delivered"].as_u64() > Some(100 * 4 * 2), "{counts}");
        assert_eq!((&counts["lost"], &counts["live"]), (&Value::from(0), &Value::from(100)));
    }
}

#[test]
fn two_threads_with_private_descriptors_share_the_load() {
    let (code, report) =
        report_of("threads", &["hold", "--limit", "-n", "400", "--threads", "2", "--hold", "300ms"]);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["verification"]["limit"]["delivered"], 3 * 400);
}

#[test]
fn connections_are_opened_and_closed_in_rounds() {
    let (code, report) = report_of("connect", &["connect", "--limit", "-n", "200", "--rounds", "2"]);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["verification"]["limit"]["upgraded"], 3 * 200);
    assert_eq!(report["verification"]["limit"]["live"], 0);
}

#[test]
fn a_batch_that_no_socket_takes_at_once_arrives_whole() {
    let arguments = ["fanout", "--limit", "-n", "20", "--rounds", "1", "--round-seconds", "10ms"];
    for (name, size, window) in [("large", "8192KiB", "1"), ("many", "512KiB", "16")] {
        let (code, report) =
            report_of(name, &[&arguments[..], &["--size", size, "--window", window]].concat());
        assert_eq!(code, 0, "{report:#}");
        let counts = &report["verification"]["limit"];
        assert_eq!((&counts["lost"], &counts["live"]), (&Value::from(0), &Value::from(20)), "{counts}");
    }
}

#[test]
fn subscribers_that_never_read_do_not_disturb_the_count_of_the_others() {
    let arguments =
        ["slow", "--limit", "-n", "200", "--rounds", "1", "--round-seconds", "200ms", "--size", "4KiB"];
    let (code, report) = report_of("slow", &arguments);
    assert_eq!(code, 0, "{report:#}");
    let counts = &report["verification"]["limit"];
    assert_eq!((&counts["closed"], &counts["live"]), (&Value::from(0), &Value::from(180)), "{counts}");
    assert_eq!(report["verification"]["limit"]["upgraded"], 200);
}

#[test]
fn subscribers_come_and_go_while_messages_are_published() {
    let common = ["--limit", "-n", "300", "--rate", "100", "--rounds", "2"];
    let arguments = [&["churn", "--churn", "400", "--round-seconds", "500ms"], &common[..]].concat();
    let (code, report) = report_of("churn", &arguments);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["verification"]["limit"]["live"], 300);
    // 400 a second for half a second, twice: the last tick of a round has its share in the next.
    assert!(report["verification"]["limit"]["upgraded"].as_u64() > Some(300 + 2 * 190), "{report:#}");
    assert!(report["series"][0]["first_to_last_ms"]["max"].as_f64() > Some(0.0), "{report:#}");

    let (code, report) = report_of("storm", &[&["storm"], &common[..]].concat());
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["verification"]["limit"]["upgraded"], 3 * 300);
    assert!(report["facts"]["limit_recovery_seconds_max"].as_f64() > Some(0.0), "{report:#}");
}

#[test]
fn a_soak_states_the_slope_of_memory_and_its_slow_readers_read_on() {
    let arguments =
        ["soak", "--limit", "-n", "200", "--for", "3s", "--round-seconds", "300ms", "--rate", "50"];
    let (code, report) = report_of("soak", &[&arguments[..], &["--read-rate", "1MiB"]].concat());
    assert_eq!(code, 0, "{report:#}");
    let counts = &report["verification"]["limit"];
    assert_eq!((&counts["live"], &counts["stalled"]), (&Value::from(200), &Value::from(4)));
    assert!(report["facts"]["limit_rss_slope"].is_f64(), "{report:#}");
}

#[test]
fn connections_are_opened_at_a_rate() {
    let (code, report) =
        report_of("rate", &["connect", "--limit", "-n", "100", "--rounds", "1", "--rate", "400"]);
    assert_eq!(code, 0, "{report:#}");
    // The first is due at once and the last after 99 gaps of 2.5 ms.
    assert!(report["series"][0]["rounds"][0]["wall_seconds"].as_f64() >= Some(0.247), "{report:#}");
}

#[test]
fn every_planted_fault_is_caught() {
    for (plant, count) in
        [("drop", "lost"), ("duplicate", "duplicated"), ("swap", "reordered"), ("corrupt", "corrupted")]
    {
        let arguments =
            ["latency", "--limit", "-n", "50", "--rate", "50", "--rounds", "1", "--round-seconds", "500ms"];
        let (code, report) = report_of(plant, &[&arguments[..], &["--plant", plant]].concat());
        assert_eq!(code, 1, "{plant}: {report:#}");
        assert_eq!(report["verification"]["limit"][count], 1, "{plant}: {report:#}");
    }
}

#[test]
fn a_message_that_is_withheld_from_who_has_just_joined_is_caught() {
    let arguments = ["churn", "--limit", "-n", "20", "--rate", "200", "--churn", "200", "--rounds", "1"];
    let (code, report) =
        report_of("miss", &[&arguments[..], &["--round-seconds", "500ms", "--plant", "miss"]].concat());
    assert_eq!(code, 1, "{report:#}");
    assert!(report["verification"]["limit"]["lost"].as_u64() >= Some(1), "{report:#}");
}

#[test]
fn allowed_loss_is_counted_and_does_not_fail() {
    let arguments =
        ["latency", "--limit", "-n", "50", "--rate", "50", "--rounds", "1", "--round-seconds", "500ms"];
    let (code, report) =
        report_of("allowed", &[&arguments[..], &["--plant", "drop", "--allow-loss"]].concat());
    assert_eq!((code, &report["verification"]["limit"]["lost"]), (0, &Value::from(1)));
}

/// A port that several servers may share. It is bound, so that nobody else is given it, and does not listen.
struct SharedPort {
    number: u16,
    _reserved: Socket,
}

impl SharedPort {
    fn reserve() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("an option");
        socket.set_reuse_port(true).expect("an option");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        let address = socket.local_addr().expect("bound").as_socket().expect("an address");
        Self { number: address.port(), _reserved: socket }
    }

    fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/", self.number)
    }

    /// A command for a bare server on this port.
    fn server(&self) -> String {
        let program = env!("CARGO_BIN_EXE_tidegate-loadtest");
        format!("{program} bare-server --bare-threads 2 --bare-port {}", self.number)
    }

    fn is_open(&self) -> bool {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.number)).is_ok()
    }
}

/// A server process that ends with the test.
struct Server(Child);

impl Server {
    /// Starts it and waits until it listens.
    fn start(command: &str) -> Self {
        let mut words = command.split(' ');
        let mut command = Command::new(words.next().expect("a program"));
        let mut child = command.args(words).stdout(Stdio::piped()).spawn().expect("the binary runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("its ports");
        Self(child)
    }

    fn cpu_ns(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).expect("it runs");
        let cpu_of = |task: std::fs::DirEntry| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).expect("it runs");
            text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).expect("a number")
        };
        tasks.map(|task| cpu_of(task.expect("it runs"))).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_accounts_of_a_server_are_those_of_all_processes_that_share_its_port() {
    let port = SharedPort::reserve();
    let servers = [Server::start(&port.server()), Server::start(&port.server())];
    // All connections are gone before the last sample, so that nobody works after it.
    let (url, arguments) = (port.url(), ["connect", "-n", "400", "--rounds", "2", "--url"]);
    let (code, report) = report_of("shared", &[&arguments[..], &[&url]].concat());
    assert_eq!(code, 0, "{report:#}");
    let [one, other] = servers.each_ref().map(Server::cpu_ns);
    let samples = report["timeline"]["targets"]["server"]["cpu_ns"].as_array().expect("a column");
    let accounted = samples.last().and_then(Value::as_u64).expect("a number");
    assert!(accounted > one.max(other) && accounted <= one + other, "{accounted} of {one} and {other}");
    assert!(accounted as f64 > 0.95 * (one + other) as f64, "{accounted} of {one} and {other}");
}

#[test]
fn a_command_of_several_processes_is_accounted_for_and_ended_as_a_whole() {
    // A server that is left behind must not hold the standard error that the test reads to its end.
    let port = SharedPort::reserve();
    let (url, server) = (port.url(), port.server());
    let (listen, several) = (port.number, format!("exec 2>/dev/null; {server} & {server} & wait"));
    let assigned = format!("NUMBER={listen} sh -c '{} $NUMBER'", server.trim_end_matches(char::is_numeric));
    let sequence = format!("cd / && {server}; true");
    // A shell gives its place to one program; of others it may become the last, and one that waits for two is a third.
    for (name, command, processes) in [
        ("several", &several, 3..=3),
        ("assigned", &assigned, 1..=3),
        ("sequence", &sequence, 2..=2),
        ("one", &server, 1..=1),
    ] {
        let arguments = ["idle", "-n", "50", "--settle", "10ms", "--url", &url, "--spawn", command];
        let (code, report) = report_of(name, &arguments);
        assert_eq!(code, 0, "{name}: {report:#}");
        let found = report["facts"]["server_processes"].as_f64().expect("a number");
        assert!(processes.contains(&(found as usize)), "{name}: {report:#}");
        assert!(report["facts"]["server_rss_bytes"].as_f64() > Some(0.0), "{name}: {report:#}");
        assert!(!port.is_open(), "{name}: a server is still there");
    }
}

#[test]
fn a_killed_run_leaves_no_server_behind() {
    let port = SharedPort::reserve();
    let (url, command) = (port.url(), format!("{0} & {0} & wait", port.server()));
    let mut run = Command::new(env!("CARGO_BIN_EXE_tidegate-loadtest"))
        .args(["idle", "-n", "5", "--settle", "100s", "--quiet", "--url", &url, "--spawn", &command])
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    // The server's shell, and the guard that is started behind it.
    let children = format!("/proc/{0}/task/{0}/children", run.id());
    let count = || std::fs::read_to_string(&children).unwrap_or_default().split_whitespace().count();
    wait_until("the server is up and guarded", || port.is_open() && count() == 2);
    run.kill().expect("it runs");
    run.wait().expect("it ended");
    wait_until("no server is left", || !port.is_open());
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < give_up, "{what}: not within a minute");
        std::thread::yield_now();
    }
}

#[test]
fn each_refusal_is_one_line_with_its_exit_code() {
    let cases: [(&[&str], i32, &str); 14] = [
        (&["connect", "--url", "ws://127.0.0.1:1/x", "-n", "5"], 69, "refuses connections"),
        (&["fanout", "--url", "ws://127.0.0.1:1/x", "--admin", "http://127.0.0.1:1"], 69, "cannot publish"),
        (&["idle", "--url", "ws://127.0.0.1:1/x", "--spawn", "false"], 69, "ended at once"),
        (&["fanout"], 64, "--url"),
        (&["fanout", "--limit", "-n", "3000000", "--threads", "1"], 64, "descriptors"),
        (&["fanout", "--limit", "-n", "100000", "--threads", "9", "--sources", "127.0.0.2"], 64, "--sources"),
        (&["fanout", "--limit", "--size", "3"], 64, "a message has"),
        (&["fanout", "--limit", "--size", "16384KiB", "--window", "17"], 64, "--window times --size"),
        (&["slow", "--limit", "--size", "16384KiB", "--window", "4096"], 64, "--window times --size"),
        (&["fanout", "--limit", "--round-seconds", "0"], 64, "a round takes 10ms or more"),
        (&["soak", "--limit", "--round-seconds", "0s"], 64, "a round takes 10ms or more"),
        (&["connect", "--limit", "--rounds", "0"], 64, "1 or more"),
        (&["storm", "--limit", "--rounds", "0"], 64, "1 or more"),
        (&["idle", "--url", "ws://127.0.0.1:1/x", "--pid", "4194305"], 69, "there is no process 4194305"),
    ];
    // Three URLs of one address have the ports of one.
    let url = ["--url", "ws://127.0.0.1:1/x"];
    let same =
        [&["connect", "-n", "70000", "--threads", "9", "--sources", "127.0.0.2"], &url[..], &url, &url]
            .concat();
    for (arguments, code, text) in cases.into_iter().chain([(&same[..], 64, "--sources")]) {
        let output = loadtest(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(text) && !errors.contains("panicked"), "{arguments:?}: {errors}");
    }
}

#[test]
fn an_answer_that_is_no_upgrade_is_told() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("ws://{}/x", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accepted");
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let output = loadtest(&["idle", "--url", &url, "-n", "1"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{errors}");
    assert!(errors.contains("404 Not Found"), "{errors}");
}
