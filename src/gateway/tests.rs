//! The whole gateway in this process: real shards, real sockets, signals that are only a channel's messages.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::*;

/// A started gateway and the sending end of its signals.
struct Running {
    signals: mpsc::Sender<()>,
    outcome: JoinHandle<Result<(), GatewayError>>,
    clients: SocketAddr,
    admin: SocketAddr,
}

fn config(drain_grace: Duration, drain_spread: Duration) -> Config {
    Config {
        listen: vec![([127, 0, 0, 1], 0).into()],
        admin_listen: ([127, 0, 0, 1], 0).into(),
        shards: 2,
        // Leaves room for the sockets of tests that run beside this one.
        max_connections: 100,
        drain_grace,
        drain_spread,
        ..Config::default()
    }
}

async fn start(config: Config) -> Running {
    let mut gateway = Gateway::start(config, Arc::default()).await.unwrap();
    let (clients, admin) = (gateway.banner.addresses[0], gateway.banner.admin_address);
    let (signals, mut received) = mpsc::channel(4);
    let next_signal = async move || match received.recv().await {
        Some(()) => {}
        None => std::future::pending().await,
    };
    let outcome = tokio::task::spawn_local(async move { gateway.serve(next_signal).await });
    Running { signals, outcome, clients, admin }
}

/// Runs `body` as the control thread does: one thread, everything on it.
fn on_control_thread(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, body);
}

/// Sends `request` and reads until `is_whole` says that the answer is.
fn exchange(stream: &mut TcpStream, request: &str, is_whole: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !is_whole(&answer) {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the end came after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..count]);
    }
    answer
}

fn join(clients: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(clients).unwrap();
    let request = format!(
        "GET /ws/lobby HTTP/1.1\r\nHost: {clients}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let answer = exchange(&mut stream, &request, |answer| answer.ends_with(b"\r\n\r\n"));
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{:?}", String::from_utf8_lossy(&answer));
    stream
}

/// The status line of `request_line` to the admin port.
fn ask(admin: SocketAddr, request_line: &str, body: &str) -> String {
    let length = body.len();
    let request =
        format!("{request_line} HTTP/1.1\r\nHost: {admin}\r\nContent-Length: {length}\r\n\r\n{body}");
    let mut stream = TcpStream::connect(admin).unwrap();
    let answer = exchange(&mut stream, &request, |answer| answer.windows(2).any(|end| end == b"\r\n"));
    String::from_utf8_lossy(&answer).lines().next().unwrap().to_owned()
}

/// Everything up to the end of the stream.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset ends a stream as well as an orderly end does.
    let _ = stream.read_to_end(&mut rest);
    rest
}

#[test]
fn a_publish_reaches_a_client_and_a_drain_tells_it_to_come_back_later() {
    on_control_thread(async {
        let running = start(config(Duration::from_millis(500), Duration::ZERO)).await;
        let (clients, admin) = (running.clients, running.admin);
        let client = spawn_blocking(move || {
            let client = join(clients);
            assert_eq!(ask(admin, "POST /publish/lobby", "hello"), "HTTP/1.1 200 OK");
            client
        });
        let client = client.await.unwrap();
        running.signals.send(()).await.unwrap();
        let frames = spawn_blocking(move || {
            let ready = || ask(admin, "GET /readyz", "");
            // The signal and the request race; the signal wins before the first close.
            while ready() == "HTTP/1.1 200 OK" {}
            assert_eq!(ready(), "HTTP/1.1 503 Service Unavailable");
            rest(client)
        });
        let frames = frames.await.unwrap();
        assert!(frames.starts_with(b"\x81\x05hello\x88"), "{frames:?}");
        assert_eq!(&frames[9..20], b"\x03\xf4draining;", "{frames:?}");
        assert!(running.outcome.await.unwrap().is_ok());
    });
}

#[test]
fn g2_a_second_signal_hurries_a_long_drain() {
    on_control_thread(async {
        let long = Duration::from_secs(3600);
        let running = start(config(long, long)).await;
        let clients = running.clients;
        let client = spawn_blocking(move || join(clients)).await.unwrap();
        running.signals.send(()).await.unwrap();
        running.signals.send(()).await.unwrap();
        let frames = spawn_blocking(move || rest(client)).await.unwrap();
        assert_eq!(&frames[..4], [0x88, frames[1], 0x03, 0xf4], "closed with 1012");
        assert!(running.outcome.await.unwrap().is_ok());
    });
}

#[test]
fn an_empty_gateway_ends_at_once_also_with_private_descriptor_tables() {
    on_control_thread(async {
        let config = Config { private_fds: true, ..config(Duration::ZERO, Duration::from_secs(3600)) };
        let running = start(config).await;
        let admin = running.admin;
        let live = spawn_blocking(move || ask(admin, "GET /livez", "")).await.unwrap();
        assert_eq!(live, "HTTP/1.1 200 OK");
        running.signals.send(()).await.unwrap();
        assert!(running.outcome.await.unwrap().is_ok());
    });
}

#[test]
fn an_address_in_use_is_refused_before_anything_runs() {
    on_control_thread(async {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let listen = Config { listen: vec![address], ..config(Duration::ZERO, Duration::ZERO) };
        let admin = Config { admin_listen: address, ..config(Duration::ZERO, Duration::ZERO) };
        for (config, option) in [(listen, "--listen"), (admin, "--admin-listen")] {
            let error = Gateway::start(config, Arc::default()).await.err().expect("refused");
            let line = error.to_string();
            assert!(line.contains(&address.to_string()) && line.contains(option), "{line}");
            assert_eq!(error.exit_code(), 69);
        }
    });
}
