//! What lies around plain subscribing: TLS, event streams, publishing by a command and by any URL, each
//! against a server that shares no code with this tool.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use tungstenite::{Message, WebSocket};

fn loadtest(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_tidegate-loadtest");
    Command::new(program).args(arguments).args(["--timeout", "60s", "-q"]).output().expect("the binary runs")
}

/// Runs and returns the verification counts of the server.
fn counts_of(name: &str, arguments: &[&str]) -> Value {
    let file = std::env::temp_dir().join(format!("tidegate-edges-{name}-{}.json", std::process::id()));
    let output = loadtest(&[arguments, &["--json", file.to_str().expect("UTF-8")]].concat());
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let _ = std::fs::remove_file(&file);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_str(&text).expect("valid JSON");
    report["verification"]["server"].clone()
}

/// The tool's own bare server, for what stands in front of it.
struct Bare {
    child: Child,
    port: String,
    control: String,
}

impl Bare {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate-loadtest"))
            .arg("bare-server")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("its ports");
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        Self { child, port: words[1].clone(), control: format!("http://127.0.0.1:{}", words[3]) }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends TLS in front of a port; the certificate is for `localhost`, and its PEM is returned.
fn tls_in_front_of(port: String) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let pem = made.cert.pem();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let chain = vec![CertificateDer::from(made.cert)];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key.into()))
        .expect("valid settings");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let own_port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (config, port) = (Arc::clone(&config), port.clone());
            std::thread::spawn(move || pump(client, config, &port));
        }
    });
    (own_port, pem)
}

/// Carries the upgrade one way and everything after it the other.
fn pump(client: TcpStream, config: Arc<ServerConfig>, port: &str) {
    let session = ServerConnection::new(config).expect("a session");
    let mut client = StreamOwned::new(session, client);
    let mut server = TcpStream::connect(format!("127.0.0.1:{port}")).expect("the bare server");
    let mut buffer = vec![0; 64 * 1024];
    // A client that does not trust us ends here.
    let Ok(length) = client.read(&mut buffer) else { return };
    server.write_all(&buffer[..length]).expect("the request passes");
    while let Ok(length @ 1..) = server.read(&mut buffer) {
        if client.write_all(&buffer[..length]).and_then(|()| client.flush()).is_err() {
            return;
        }
    }
}

#[test]
fn over_tls_every_message_is_verified_and_trust_is_checked() {
    // The bare server ends with its publisher, so that each run has its own.
    let with_server = |run: &dyn Fn(&[&str], &str)| {
        let bare = Bare::start();
        let (port, pem) = tls_in_front_of(bare.port.clone());
        let url = format!("wss://localhost:{port}/");
        let common = ["fanout", "-n", "20", "--rounds", "1", "--round-seconds", "200ms", "--window", "4"];
        let target = ["--size", "40KiB", "--url", &url, "--publish", "bare", "--admin", &bare.control];
        run(&[&common[..], &target].concat(), &pem);
    };

    with_server(&|arguments, _| {
        let refused = loadtest(arguments);
        let errors = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && errors.contains("certificate"), "{errors}");
    });
    with_server(&|arguments, _| {
        let counts = counts_of("insecure", &[arguments, &["--insecure"]].concat());
        assert!(counts["delivered"].as_u64() >= Some(20 * 4), "{counts}");
    });
    with_server(&|arguments, pem| {
        let file = std::env::temp_dir().join(format!("tidegate-edges-{}.pem", std::process::id()));
        std::fs::write(&file, pem).expect("written");
        let counts = counts_of("ca", &[arguments, &["--ca", file.to_str().expect("UTF-8")]].concat());
        let _ = std::fs::remove_file(&file);
        assert!(counts["delivered"].as_u64() >= Some(20 * 4), "{counts}");
        assert_eq!(counts["lost"], 0, "{counts}");
    });
}

/// Subscribers of a server that somebody else's library speaks for.
type Subscribers = Arc<Mutex<Vec<WebSocket<TcpStream>>>>;

/// Accepts WebSocket subscribers on one port, and hands each connection of another to `feed`.
fn relay(feed: fn(TcpStream, &Subscribers)) -> (String, u16) {
    let subscribers = Subscribers::default();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("ws://{}/x", listener.local_addr().expect("bound"));
    let joining = Arc::clone(&subscribers);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Before it learns that it has joined: what is sent from then on is for it as well.
            let mut joined = joining.lock().expect("not poisoned");
            joined.extend(tungstenite::accept(stream));
        }
    });
    let publishing = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = publishing.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in publishing.incoming().flatten() {
            let subscribers = Arc::clone(&subscribers);
            std::thread::spawn(move || feed(stream, &subscribers));
        }
    });
    (url, port)
}

fn send_to_all(subscribers: &Subscribers, message: &str) {
    for socket in subscribers.lock().expect("not poisoned").iter_mut() {
        let _ = socket.send(Message::text(message));
    }
}

#[test]
fn a_command_publishes_what_it_is_given_line_by_line() {
    let (url, port) = relay(|stream, subscribers| {
        BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| send_to_all(subscribers, &line));
    });
    let command = format!("command:exec bash -c 'exec cat >/dev/tcp/127.0.0.1/{port}'");
    let counts =
        counts_of("command", &["hold", "-n", "15", "--hold", "100ms", "--url", &url, "--publish", &command]);
    assert_eq!((&counts["delivered"], &counts["lost"]), (&Value::from(3 * 15), &Value::from(0)));

    let output = loadtest(&["hold", "-n", "5", "--url", &url, "--publish", "command:exit 3"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(69) && errors.contains("takes no more messages"), "{errors}");
}

#[test]
fn messages_are_posted_as_they_are_to_any_url() {
    let (url, port) = relay(|mut stream, subscribers| {
        let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
        loop {
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    return;
                }
            }
            assert!(head.starts_with("POST /pub?id=x HTTP/1.1\r\n"), "{head}");
            for line in head.lines() {
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.parse().expect("a number");
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the body");
            send_to_all(subscribers, std::str::from_utf8(&body).expect("ASCII"));
            stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").expect("answered");
        }
    });
    let publish = format!("http://127.0.0.1:{port}/pub?id=x");
    let arguments = ["fanout", "-n", "10", "--rounds", "1", "--round-seconds", "100ms", "--window", "3"];
    let counts = counts_of("post", &[&arguments[..], &["--url", &url, "--publish-url", &publish]].concat());
    assert!(counts["delivered"].as_u64() >= Some(3 * 10), "{counts}");
    assert_eq!((&counts["lost"], &counts["foreign"]), (&Value::from(0), &Value::from(0)));
}

#[test]
fn an_event_stream_is_read_and_verified() {
    let streams: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/events", listener.local_addr().expect("bound"));
    let publish = format!("http://{}/pub", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let streams = Arc::clone(&streams);
            std::thread::spawn(move || serve_events(stream, &streams));
        }
    });
    let arguments = ["fanout", "-n", "10", "--rounds", "1", "--round-seconds", "100ms", "--sse"];
    let counts = counts_of("sse", &[&arguments[..], &["--url", &url, "--publish-url", &publish]].concat());
    assert!(counts["delivered"].as_u64() >= Some(3 * 10), "{counts}");
    assert_eq!((&counts["lost"], &counts["corrupted"]), (&Value::from(0), &Value::from(0)));
}

/// A stream of events in chunks for a GET, and a publication for each POST.
fn serve_events(mut stream: TcpStream, streams: &Mutex<Vec<TcpStream>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        if head.starts_with("GET ") {
            assert!(head.contains("Accept: text/event-stream"), "{head}");
            let answer =
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            // Whoever has the answer must receive what is published from then on.
            let mut all = streams.lock().expect("not poisoned");
            stream.write_all(answer.as_bytes()).expect("answered");
            all.push(stream.try_clone().expect("a clone"));
            continue;
        }
        let line = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
        let mut body = vec![0; line.parse().expect("a number")];
        reader.read_exact(&mut body).expect("the body");
        let event = [b"id: 1\r\ndata: ".as_slice(), &body, b"\r\n\r\n"].concat();
        let (one, two) = event.split_at(event.len() / 2);
        let chunk = |part: &[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
        for stream in streams.lock().expect("not poisoned").iter_mut() {
            let _ = stream.write_all(&[chunk(one), chunk(two)].concat());
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("answered");
    }
}

/// Refuses every third connection after the first `count`, and carries the others to `port`.
fn refuse_some_in_front_of(port: String, count: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let own_port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for (number, mut client) in listener.incoming().flatten().enumerate() {
            if number >= count && number % 3 == 0 {
                let _ = client.read(&mut [0; 1024]);
                let _ = client.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            let server = TcpStream::connect(format!("127.0.0.1:{port}")).expect("the bare server");
            let back = (server.try_clone().expect("a clone"), client.try_clone().expect("a clone"));
            std::thread::spawn(move || carry(client, server));
            std::thread::spawn(move || carry(back.0, back.1));
        }
    });
    own_port
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[test]
fn whoever_is_refused_in_a_storm_tries_again() {
    let bare = Bare::start();
    let url = format!("ws://127.0.0.1:{}/", refuse_some_in_front_of(bare.port.clone(), 20));
    let arguments = ["storm", "-n", "20", "--rounds", "1", "--publish", "bare", "--admin", &bare.control];
    let counts = counts_of("refused", &[&arguments[..], &["--url", &url]].concat());
    assert_eq!((&counts["live"], &counts["refused"]), (&Value::from(20), &Value::from(0)));
    assert!(counts["retried"].as_u64() >= Some(6), "{counts}");
}
