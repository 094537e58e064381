//! Kernel memory of sockets (C21): the send buffer is what was configured, also of readers that take nothing, and the formula
//! for sizing in OPERATIONS.md holds for connections at rest.

use crate::kit::Standing;
use crate::support::{Gateway, Oracles, RawOptions, WebSocketClient};
use std::process::Command;

/// A receive window of a few kilobytes.
const TINY: RawOptions = RawOptions { receive_buffer: Some(4096), source: None };
const PAGE_BYTES: u64 = 4096;

/// The kernel's own figures for both ends of every TCP connection of this network namespace, in bytes.
fn tcp_buffers() -> u64 {
    let text = std::fs::read_to_string("/proc/net/sockstat").expect("a kernel with /proc");
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:")).expect("a line about TCP");
    let fields: Vec<&str> = line.split_whitespace().collect();
    let pages =
        fields.iter().position(|field| *field == "mem").and_then(|at| fields.get(at + 1)?.parse().ok());
    pages.map_or(0, |pages: u64| pages * PAGE_BYTES)
}

/// Bytes of the kernel's objects that every TCP connection has one of a side; none where they are not to be seen.
fn tcp_objects() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/slabinfo").ok()?;
    let row = |name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name))?;
        let mut numbers = line.split_whitespace().skip(1).map(|field| field.parse::<u64>().ok());
        let (_active, count, bytes) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some(count * bytes)
    };
    ["TCP", "sock_inode_cache", "dentry", "filp", "eventpoll_epi"].into_iter().map(row).sum()
}

/// One of the gateway's ends of its client connections, in bytes.
#[derive(Clone, Copy, Debug)]
struct Socket {
    /// What its send buffer may hold.
    limit: u64,
    /// What it holds to be sent or acknowledged.
    queued: u64,
}

/// The gateway's ends of its client connections, as `ss` shows them; none without it.
fn sockets(gateway: &Gateway) -> Option<Vec<Socket>> {
    let filter = format!("sport = :{}", gateway.clients.port());
    let shown = Command::new("ss").args(["-tmnH", &filter]).output().ok();
    let Some(shown) = shown.filter(|shown| shown.status.success()) else {
        println!("skipped: ss of iproute2 is not here");
        return None;
    };
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let memory = text.split("skmem:(").skip(1).filter_map(|rest| rest.split(')').next());
    let socket = |fields: &str| {
        let field = |name: &str| fields.split(',').find_map(|field| field.strip_prefix(name)?.parse().ok());
        Some(Socket { limit: field("tb")?, queued: field("w")? })
    };
    Some(memory.filter_map(socket).collect())
}

/// Publishes until every one of `readers` takes no more.
#[track_caller]
fn block_all(standing: &mut Standing, readers: usize) {
    let body = vec![b'k'; 16 * 1024];
    for _ in 0..60 {
        if standing.metric("tidegate_connections_lagging", &[]) == readers as f64 {
            return;
        }
        (0..4).for_each(|_| _ = standing.publish_as("feed", "text/plain", &body));
    }
    panic!("a megabyte each did not block {readers} readers");
}

fn join_all(gateway: &Gateway, readers: usize) -> Vec<WebSocketClient> {
    (0..readers).map(|_| WebSocketClient::join_with(gateway.clients, "/ws/feed", TINY, &[])).collect()
}

#[test]
fn c21_the_send_buffer_of_a_client_is_capped_as_configured() {
    for (flag, configured) in [(None, 64 * 1024), (Some("32KiB"), 32 * 1024), (Some("128KiB"), 128 * 1024)] {
        let mut arguments = vec!["--max-lag-age", "1m", "--max-lag-bytes", "16MiB", "--user-timeout", "0"];
        arguments.extend(flag.into_iter().flat_map(|size| ["--send-buffer", size]));
        let gateway = Gateway::start(&arguments);
        let mut standing = Standing::open(&gateway);
        let readers = join_all(&gateway, 10);
        block_all(&mut standing, readers.len());
        let Some(blocked) = sockets(&gateway) else { return };
        assert_eq!(blocked.len(), readers.len());
        for socket in blocked {
            // The kernel doubles what it is asked for, and takes whole segments.
            assert_eq!(socket.limit, 2 * configured, "{flag:?}: {socket:?}");
            assert!((4096..=2 * configured + 64 * 1024).contains(&socket.queued), "{flag:?}: {socket:?}");
        }
    }
}

#[test]
fn c21_the_formula_for_sizing_covers_what_the_kernel_holds_of_idle_clients() {
    const IDLE: u64 = 200;
    // What OPERATIONS.md states for an end of a connection, its epoll entry included, and whole slabs.
    const END_BYTES_MAX: u64 = 3600 + 144 + 1024;
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    let objects = || tcp_objects().unwrap_or(0);
    // The figures are the whole machine's: others open connections meanwhile, and the least of several rounds is nearest.
    let round = |_| {
        let before = (tcp_buffers(), objects());
        let idle: Vec<_> = (0..IDLE).map(|_| gateway.join("/ws/idle")).collect();
        let after = (tcp_buffers(), objects());
        drop(idle);
        let grown = |after: u64, before: u64| after.saturating_sub(before) / IDLE;
        (grown(after.0, before.0), grown(after.1, before.1) / 2)
    };
    let rounds: Vec<(u64, u64)> = (0..5).map(round).collect();
    let buffers = rounds.iter().map(|(buffers, _)| *buffers).min();
    let objects = rounds.iter().map(|(_, objects)| *objects).min();
    assert!(buffers.is_some_and(|bytes| bytes <= PAGE_BYTES), "bytes of buffers and objects: {rounds:?}");
    assert!(objects.is_some_and(|bytes| bytes <= END_BYTES_MAX), "bytes of buffers and objects: {rounds:?}");
    oracles.check(&mut gateway);
}
