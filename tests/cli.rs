//! The real binary at its border: exit codes, the configuration it prints, help, and the two client commands
//! against servers made here.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

/// The binary with no variable of ours in its environment.
fn tidegate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command
}

/// Exit code, standard output, standard error.
fn outcome(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (status.code().expect("no signal"), text(stdout), text(stderr))
}

/// The configuration without its comments, which begin with the first ` #` here.
fn values(printed: &str) -> Vec<&str> {
    let lines = printed.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.map(|line| line.split(" #").next().unwrap_or_default().trim_end());
    lines.filter(|line| !line.is_empty()).collect()
}

fn write_file(directory: &Path, text: &str) -> String {
    let path = directory.join("tidegate.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_wrong_command_line_exits_64() {
    for arguments in [
        &["--colour"][..],
        &["fly"],
        &["serve", "--shards"],
        &["serve", "--shards", "1", "--shards", "2"],
        &["check", "--channel", "a b"],
        &["publish", "a b", "x"],
        &["publish", "--admin", "localhost:8090", "lobby", "x"],
        &["subscribe", "localhost:8080"],
        &["subscribe", "wss://localhost:8080"],
    ] {
        let (code, output, error) = outcome(&mut tidegate(arguments));
        assert_eq!((code, output.as_str()), (64, ""), "{arguments:?}: {error}");
        assert!(!error.is_empty());
    }
}

#[test]
fn a_wrong_configuration_exits_78_with_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = write_file(directory.path(), "shards = 2\nping_intervall = \"25s\"\n");
    for command in ["serve", "check"] {
        for (arguments, variable, line) in [
            (
                vec![command, "--ping-interval", "25"],
                None,
                "flag --ping-interval: \"25\" has no unit; write 25s".to_owned(),
            ),
            (
                vec![command],
                Some(("TIDEGATE_SHARD", "2")),
                "variable TIDEGATE_SHARD: no such variable; write TIDEGATE_SHARDS".to_owned(),
            ),
            (
                vec![command, "--config", &path],
                None,
                format!("file {path}:2: ping_intervall: no such key; write ping_interval"),
            ),
            (
                vec![command, "--notsent-lowat=1MiB"],
                None,
                "flag --notsent-lowat: notsent_lowat = 1MiB (flag --notsent-lowat) exceeds send_buffer = 64KiB (default); lower notsent_lowat or raise send_buffer".to_owned(),
            ),
        ] {
            let (code, output, error) = outcome(tidegate(&arguments).envs(variable));
            assert_eq!((code, output.as_str()), (78, ""));
            assert_eq!(error, format!("tidegate: configuration: {line}\n"));
        }
    }
}

#[test]
fn more_connections_than_descriptors_allow_are_blamed_on_whoever_asked_for_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = write_file(directory.path(), "shards = 2\nmax_connections = 99_000_000\n");
    for (arguments, variable, blamed) in [
        (vec!["--max-connections", "99000000"], None, "flag --max-connections".to_owned()),
        (
            vec![],
            Some(("TIDEGATE_MAX_CONNECTIONS", "99000000")),
            "variable TIDEGATE_MAX_CONNECTIONS".to_owned(),
        ),
        (vec!["--config", &path], None, format!("file {path}:2: max_connections")),
    ] {
        for (command, code, kind) in [("serve", 78, "configuration"), ("check", 0, "warning")] {
            let arguments: Vec<&str> =
                [command, "--listen", "127.0.0.1:0"].into_iter().chain(arguments.iter().copied()).collect();
            let (was, _, error) = outcome(tidegate(&arguments).envs(variable));
            assert_eq!(was, code, "{error}");
            let begins = format!("tidegate: {kind}: {blamed}: the descriptor limit is ");
            assert!(error.starts_with(&begins) && error.lines().count() == 1, "{begins}\n{error}");
            assert!(error.contains("needed for 99000000 connections; raise it"), "{error}");
        }
    }
}

#[test]
fn help_and_version_exit_0_on_standard_output() {
    let (code, output, error) = outcome(&mut tidegate(&["--version"]));
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(output, format!("tidegate {}\n", env!("CARGO_PKG_VERSION")));
    for arguments in [&["--help"][..], &["-h"], &["serve", "--help"], &["check", "--help"]] {
        let (code, output, error) = outcome(&mut tidegate(arguments));
        assert_eq!((code, error.as_str()), (0, ""));
        let options = output.matches("[TIDEGATE_").count();
        assert_eq!(
            output.matches("[default: ").count(),
            options,
            "an option without its default in {output}"
        );
        let mut position = 0;
        for title in [
            "\nListening:\n",
            "\nShards:\n",
            "\nConnections:\n",
            "\nLiveness:\n",
            "\nSockets:\n",
            "\nChannels (a file sets these per pattern as well):\n",
            "\nFan-out:\n",
            "\nDraining:\n",
            "\nLogging:\n",
            "\nGeneral:\n",
        ] {
            position += output[position..].find(title).unwrap_or_else(|| panic!("{title} in {output}"));
        }
        assert!(output.contains("[default: 25s] [TIDEGATE_PING_INTERVAL]"));
        assert!(output.lines().all(|line| line.chars().count() <= 80));
    }
}

#[test]
fn what_check_prints_is_a_file_that_gives_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = write_file(
        directory.path(),
        "relay = [\"lobby\"]\n[[channel]]\npattern = \"news.*\"\nhistory_messages = 500\non_lag = \"skip\"\n",
    );
    let mut first =
        tidegate(&["check", "--config", &path, "--shards", "3", "--pin-shards", "--idle-timeout=1h30m"]);
    let (code, printed, error) = outcome(first.env("TIDEGATE_LISTEN", "127.0.0.1:1,[::1]:2"));
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(printed.contains("listen = [\"127.0.0.1:1\", \"[::1]:2\"]"), "{printed}");
    assert!(printed.contains("# variable TIDEGATE_LISTEN\n"));
    assert!(
        printed.contains("idle_timeout = \"1h30m\"                  # flag --idle-timeout\n"),
        "{printed}"
    );

    let again = directory.path().join("again.toml");
    std::fs::write(&again, &printed).unwrap();
    let (code, reprinted, error) = outcome(&mut tidegate(&["check", "--config", again.to_str().unwrap()]));
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(values(&reprinted), values(&printed));
    assert!(values(&printed).contains(&"pin_shards = true"));
}

#[test]
fn check_shows_what_a_channel_gets() {
    let directory = tempfile::tempdir().unwrap();
    let path = write_file(directory.path(), "[[channel]]\npattern = \"news.*\"\nhistory_messages = 500\n");
    let arguments = ["check", "--config", &path, "--relay", "news.>", "--channel", "news.eu"];
    let (code, printed, error) = outcome(&mut tidegate(&arguments));
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(printed.starts_with("[[channel]]\npattern = \"news.eu\"\n"));
    assert!(printed.contains("relay = true                            # flag --relay\n"), "{printed}");
    assert!(printed.contains(&format!("history_messages = 500                  # file {path}:3\n")));
}

#[test]
fn warnings_go_to_standard_error_and_do_not_fail() {
    let (code, printed, error) = outcome(&mut tidegate(&["check", "--ping-interval", "1m"]));
    assert_eq!(code, 0);
    assert!(printed.contains("ping_interval = \"1m\""));
    assert_eq!(
        error,
        "tidegate: warning: flag --ping-interval: 1m is 55s or more, and many proxies cut a silent connection at 60s; write 25s\n"
    );
}

#[test]
fn a_closed_pipe_is_not_a_failure() {
    let mut child = tidegate(&["reference"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!((child.wait().unwrap().code(), error.as_str()), (Some(0), ""));
}

/// Accepts one connection, reads a request with a body of `body_bytes`, answers, and gives back what it read.
fn admin_listener(body_bytes: usize, answer: &'static str) -> (String, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let is_complete = |request: &[u8]| {
            let head = request.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            head.is_some_and(|end| request.len() >= end + 4 + body_bytes)
        };
        while !is_complete(&request) {
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk).unwrap();
            assert_ne!(count, 0, "the request ended early");
            request.extend_from_slice(&chunk[..count]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        request
    });
    (url, server)
}

#[test]
fn publish_sends_one_message_and_prints_the_reply() {
    const REPLY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"channel\":1}\n";
    for (arguments, input, kind, body) in [
        (vec!["hello"], &b""[..], "text/plain; charset=utf-8", &b"hello"[..]),
        (vec!["-"], b"from stdin\n", "text/plain; charset=utf-8", b"from stdin\n"),
        (vec![], b"\xff\x00", "application/octet-stream", b"\xff\x00"),
    ] {
        let (url, server) = admin_listener(body.len(), REPLY);
        let mut command = tidegate(&["publish", "--admin", &url, "news.eu"]);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdin.take().unwrap().write_all(input));
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"{\"channel\":1}\n"[..]));
        let request = server.join().unwrap();
        let head_bytes = request.len() - body.len();
        let head = String::from_utf8(request[..head_bytes].to_vec()).unwrap();
        assert!(head.starts_with("POST /publish/news.eu HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Type: {kind}\r\n")), "{head}");
        assert_eq!(&request[head_bytes..], body);
    }
}

#[test]
fn a_refused_publish_exits_65_and_a_busy_or_missing_gateway_69() {
    for (answer, code) in [
        ("HTTP/1.1 413 Content Too Large\r\nContent-Length: 12\r\n\r\nbody_too_big", 65),
        ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy", 69),
        ("not http", 69),
    ] {
        let (url, server) = admin_listener(1, answer);
        let (found, output, error) = outcome(&mut tidegate(&["publish", "--admin", &url, "a", "x"]));
        assert_eq!((found, output.as_str()), (code, ""), "{error}");
        assert!(error.starts_with("tidegate: error: "));
        server.join().unwrap();
    }
    let gone = unused_address();
    let (code, _, error) =
        outcome(&mut tidegate(&["publish", "--admin", &format!("http://{gone}"), "a", "x"]));
    assert_eq!(code, 69);
    assert!(error.starts_with(&format!("tidegate: error: cannot reach {gone}: ")), "{error}");
}

/// An address on which nobody listens.
fn unused_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A WebSocket server for one client.
fn feed(
    serve: impl FnOnce(&mut WebSocket<std::net::TcpStream>) + Send + 'static,
) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/ws/lobby", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        serve(&mut tungstenite::accept(stream).unwrap());
    });
    (url, server)
}

#[test]
fn subscribe_prints_messages_answers_pings_and_stops_at_its_count() {
    for (raw, third) in [(false, &b"00ff"[..]), (true, b"\x00\xff")] {
        let (url, server) = feed(|socket| {
            socket.send(Message::text("one")).unwrap();
            socket.send(Message::Ping("are you there".into())).unwrap();
            assert_eq!(socket.read().unwrap(), Message::Pong("are you there".into()));
            socket.send(Message::text("two")).unwrap();
            socket.send(Message::binary(vec![0_u8, 0xff])).unwrap();
            let Message::Close(Some(frame)) = socket.read().unwrap() else { panic!("no close") };
            assert_eq!(u16::from(frame.code), 1000);
            while socket.read().is_ok() {}
        });
        let mut command = tidegate(&["subscribe", &url, "--count", "3"]);
        command.args(raw.then_some("--raw"));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(output.stdout, [b"one\ntwo\n", third, b"\n"].concat());
        server.join().unwrap();
    }
}

#[test]
fn subscribe_tells_how_it_was_closed() {
    for (close_code, exit_code, line) in [
        (1000, 0, "tidegate: closed: 1000 why\n"),
        (1012, 69, "tidegate: error: closed with 1012 why\n"),
        (1008, 65, "tidegate: error: closed with 1008 why\n"),
    ] {
        let (url, server) = feed(move |socket| {
            socket.close(Some(CloseFrame { code: close_code.into(), reason: "why".into() })).unwrap();
            while socket.read().is_ok() {}
        });
        let (code, output, error) = outcome(&mut tidegate(&["subscribe", &url]));
        assert_eq!((code, output.as_str(), error.as_str()), (exit_code, "", line));
        server.join().unwrap();
    }
}

#[test]
fn a_refused_subscription_says_why() {
    let answer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 11\r\n\r\nbad_channel";
    let (url, server) = admin_listener(0, answer);
    let (code, _, error) = outcome(&mut tidegate(&["subscribe", &url.replace("http", "ws")]));
    assert_eq!((code, error.as_str()), (65, "tidegate: error: the gateway answered 400: bad_channel\n"));
    server.join().unwrap();
    let (code, _, _) = outcome(&mut tidegate(&["subscribe", &format!("ws://{}", unused_address())]));
    assert_eq!(code, 69);
}
