//! Readers that do not read: C8 (zero window), C9 (caps that hold), B22 (control frames under pressure), and the skip
//! policy that announces what it drops (E2).

use crate::kit::Standing;
use crate::support::{
    Frame, Gateway, Opcode, Oracles, PATIENCE, RawOptions, WebSocketClient, masked_frame, wait_until,
};
use std::time::Duration;

/// A receive window of a few kilobytes.
const TINY: RawOptions = RawOptions { receive_buffer: Some(4096), source: None };
/// Bytes of a message that fills such a window several times over.
const MESSAGE_BYTES: usize = 16 * 1024;
/// What sockets and allocator may keep of a test beside its backlog.
const RESIDENT_SLACK_BYTES: u64 = 8 * 1024 * 1024;

#[track_caller]
fn join_tiny(gateway: &Gateway, target: &str) -> WebSocketClient {
    WebSocketClient::join_with(gateway.clients, target, TINY, &[])
}

/// A message that tells its number and whether all of it arrived.
fn message(number: usize) -> String {
    let mut text = format!("{number}:");
    while text.len() < MESSAGE_BYTES {
        text.push_str(&format!("{number},"));
    }
    text
}

/// Publishes numbered messages from `first` on until `is_enough`, and says how many there are then.
#[track_caller]
fn feed_until(
    standing: &mut Standing,
    first: usize,
    mut is_enough: impl FnMut(&mut Standing) -> bool,
) -> usize {
    for number in first..first + 2000 {
        standing.publish("feed", &message(number));
        if number % 8 == 7 && is_enough(standing) {
            return number + 1;
        }
    }
    panic!("2000 messages were not enough");
}

#[test]
fn c8_readers_with_a_closed_window_are_cut_by_bytes_and_memory_stays_bounded() {
    // Stands for 10,000 of them: each is one cursor.
    const STUCK: usize = 50;
    let mut gateway = Gateway::start(&["--max-lag-bytes", "256KiB", "--max-lag-age", "1m"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut stuck: Vec<_> = (0..STUCK).map(|_| join_tiny(&gateway, "/ws/feed")).collect();
    let mut healthy = gateway.join("/ws/feed");
    let resident = gateway.resident_bytes();

    let mut read = 0;
    let fed = feed_until(&mut standing, 0, |standing| {
        // The one who reads keeps up, and nothing is lost on the way.
        for _ in 0..8 {
            assert_eq!(healthy.next_text(), message(read));
            read += 1;
        }
        // Given up is at once; the end follows when the deadline of the close handshake has passed.
        standing.metric("tidegate_connections_open", &[]) == 2.0
    });
    standing
        .wait_metric("tidegate_closed_total", &["reason=\"slow_consumer\""], |closed| closed == STUCK as f64);

    let labels = ["reason=\"slow_consumer\"", "code=\"4101\"", "by=\"us\""];
    assert_eq!(standing.metric("tidegate_closed_total", &labels), STUCK as f64);
    let grown = gateway.resident_bytes().saturating_sub(resident);
    assert!(grown < RESIDENT_SLACK_BYTES, "{grown} bytes more after {fed} messages of 16 KiB");
    assert_eq!(standing.metric("tidegate_connections_lagging", &[]), 0.0);
    assert_eq!(standing.metric("tidegate_subscriptions", &[]), 2.0, "the healthy one and the canary");
    stuck.clear();
    healthy.close();
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn c8_readers_that_take_nothing_for_too_long_are_cut_by_age() {
    let mut gateway = Gateway::start(&["--max-lag-bytes", "64MiB", "--max-lag-age", "1s"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut stuck: Vec<_> = (0..20).map(|_| join_tiny(&gateway, "/ws/feed")).collect();

    // Until all are blocked; from then on nothing happens but time.
    feed_until(&mut standing, 0, |standing| {
        standing.metric("tidegate_connections_lagging", &[]) == 20.0 || standing.closed("slow_consumer") > 0.0
    });

    standing.wait_metric("tidegate_closed_total", &["reason=\"slow_consumer\""], |closed| closed == 20.0);
    standing.wait_metric("tidegate_journal_bytes", &[], |bytes| bytes < 1e6);
    stuck.clear();
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn c9_what_is_kept_for_slow_readers_never_exceeds_the_bound() {
    const LAG_BYTES: u64 = 256 * 1024;
    let gateway = Gateway::start(&[
        "--shards",
        "1",
        "--on-lag",
        "skip",
        "--max-lag-bytes",
        "256KiB",
        "--max-lag-age",
        "1m",
    ]);
    let mut standing = Standing::open(&gateway);
    let stuck: Vec<_> = (0..10).map(|_| join_tiny(&gateway, "/ws/feed")).collect();

    let mut highest = 0;
    feed_until(&mut standing, 0, |standing| {
        let channels = standing.get("/api/channels").json();
        highest = highest.max(channels["channels"][0]["retained_bytes"].as_u64().expect("a number of bytes"));
        standing.metric("tidegate_skipped_total", &[]) > 500.0
    });

    assert!(highest > LAG_BYTES / 2 && highest <= LAG_BYTES, "{highest} bytes");
    // Its memory has little on top: whole blocks, half empty at worst, and the index.
    standing.wait_metric("tidegate_journal_bytes", &[], |bytes| bytes <= 2.0 * LAG_BYTES as f64);
    assert_eq!(standing.closed("slow_consumer"), 0.0);
    drop(stuck);
}

#[test]
fn c9_replies_to_a_peer_that_does_not_read_are_capped() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut client = join_tiny(&gateway, "/");
    let resident = gateway.resident_bytes();

    // 125 bytes back for each: ten megabytes, were they all kept. The gateway may stop listening on the way.
    let pings = masked_frame(Opcode::Ping, &[7; 125]).repeat(500);
    for _ in 0..160 {
        if client.raw.try_send(&pings).is_err() {
            break;
        }
    }

    let grown = gateway.resident_bytes().saturating_sub(resident);
    assert!(grown < RESIDENT_SLACK_BYTES, "{grown} bytes more");
    standing.metric("tidegate_connections", &[]);
    drop((client, standing));
    oracles.check(&mut gateway);
}

#[test]
fn b22_a_stalled_reader_that_wakes_up_finds_whole_frames_and_the_newest_pong() {
    const MESSAGES: usize = 60;
    let gateway = Gateway::start(&["--shards", "1", "--max-lag-bytes", "16MiB", "--max-lag-age", "1m"]);
    let mut standing = Standing::open(&gateway);
    let mut client = join_tiny(&gateway, "/ws/feed");
    for number in 0..MESSAGES {
        standing.publish("feed", &message(number));
    }
    standing.wait_metric("tidegate_connections_lagging", &[], |lagging| lagging == 1.0);
    let heard = standing.metric("tidegate_received_bytes_total", &[]);
    let pings: Vec<u8> = (0..20_u8).flat_map(|number| masked_frame(Opcode::Ping, &[number])).collect();
    client.raw.send(&pings);
    standing.wait_metric("tidegate_received_bytes_total", &[], |bytes| bytes >= heard + pings.len() as f64);

    // It sips a few hundred bytes at a time: every cut falls somewhere else.
    let (mut next, mut pongs, mut order) = (0, Vec::new(), Vec::new());
    while next < MESSAGES || pongs.last() != Some(&19) {
        while let Some((frame, taken)) = Frame::parse(client.raw.received()) {
            client.raw.read_until("the frame", PATIENCE, |_, _| Some(((), taken)));
            assert!(frame.fin && frame.rsv == 0, "{:?}", frame.opcode);
            match frame.opcode {
                Opcode::Text => {
                    assert_eq!(frame.payload, message(next).as_bytes());
                    next += 1;
                    order.push('m');
                }
                Opcode::Pong => {
                    pongs.extend(frame.payload);
                    order.push('p');
                }
                other => panic!("{other:?} {:?}", frame.close_code()),
            }
        }
        if next < MESSAGES || pongs.last() != Some(&19) {
            assert!(client.raw.sip(777 + next) > 0, "{next} messages, pongs {pongs:?}");
        }
    }
    assert!(pongs.is_sorted(), "{pongs:?}");
    // They do not wait behind the data: pongs come at a frame boundary long before the last message.
    let first_pong = order.iter().position(|kind| *kind == 'p').expect("a pong");
    assert!(first_pong < MESSAGES / 2, "the first pong came after {first_pong} messages");
}

#[test]
fn b22_a_reader_that_was_given_up_reads_whole_frames_and_then_why() {
    let gateway = Gateway::start(&["--shards", "1", "--max-lag-bytes", "256KiB", "--max-lag-age", "1m"]);
    let mut standing = Standing::open(&gateway);
    let mut client = join_tiny(&gateway, "/ws/feed");
    let fed =
        feed_until(&mut standing, 0, |standing| standing.metric("tidegate_connections_open", &[]) == 0.0);

    // Within the three seconds that the gateway waits for an answer to its close.
    let mut next = 0;
    loop {
        let frame = client.next_frame();
        assert!(frame.fin && frame.rsv == 0, "{:?}", frame.opcode);
        match frame.opcode {
            Opcode::Text => {
                assert_eq!(frame.payload, message(next).as_bytes(), "message {next}");
                next += 1;
            }
            Opcode::Close => {
                let (code, reason) = frame.close_code().expect("a code");
                assert_eq!(code, 4101);
                assert!(reason.starts_with("slow_consumer"), "{reason}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(next < fed, "waiting data is replaced by the close");
    assert!(client.raw.received().is_empty(), "nothing follows the close");
}

#[test]
fn e2_under_the_skip_policy_a_slow_reader_goes_on_at_the_head() {
    let gateway = Gateway::start(&[
        "--shards",
        "1",
        "--on-lag",
        "skip",
        "--max-lag-bytes",
        "128KiB",
        "--max-lag-age",
        "1m",
    ]);
    let mut standing = Standing::open(&gateway);
    let mut client = join_tiny(&gateway, "/ws/feed");
    let fed = feed_until(&mut standing, 0, |standing| standing.metric("tidegate_skipped_total", &[]) > 20.0);
    standing.publish("feed", "last");

    let mut received: Vec<usize> = Vec::new();
    loop {
        let text = client.next_text();
        if text == "last" {
            break;
        }
        let number: usize = text.split(':').next().and_then(|number| number.parse().ok()).expect("a number");
        assert_eq!(text, message(number), "whole messages only");
        received.push(number);
    }

    assert!(received.is_sorted_by(|one, other| one < other), "{received:?}");
    let skipped = standing.metric("tidegate_skipped_total", &[]);
    assert_eq!(received.len() + skipped as usize, fed, "every message was delivered or counted as skipped");
    assert_eq!(standing.closed("slow_consumer"), 0.0);
}

#[test]
fn c18_content_survives_short_writes_at_every_size() {
    // Sizes around every form of the length field, the receive window, the write limit and the send buffer.
    const SIZES: &[usize] =
        &[0, 1, 125, 126, 127, 4095, 4096, 16_383, 65_535, 65_536, 65_537, 131_072, 200_001, 700_000];
    let gateway = Gateway::start(&["--max-lag-bytes", "16MiB", "--max-lag-age", "1m"]);
    let mut standing = Standing::open(&gateway);
    let mut clients: Vec<_> = (0..4).map(|_| join_tiny(&gateway, "/ws/feed")).collect();
    let content = |size: usize| -> Vec<u8> {
        (0..size as u64).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13) as u8 ^ size as u8).collect()
    };

    for size in SIZES {
        standing.publish_as("feed", "application/octet-stream", &content(*size));
    }
    standing.wait_metric("tidegate_connections_lagging", &[], |lagging| lagging == 4.0);

    for client in &mut clients {
        for size in SIZES {
            let frame = client.next_frame();
            assert_eq!((frame.fin, frame.rsv, frame.opcode), (true, 0, Opcode::Binary));
            assert_eq!(frame.payload.len(), *size);
            assert!(frame.payload == content(*size), "the content of {size} bytes changed");
        }
    }
    assert!(standing.metric("tidegate_writes_blocked_total", &[]) >= 4.0);
    wait_until("nobody to lag", Duration::from_secs(10), || {
        standing.metric("tidegate_connections_lagging", &[]) == 0.0
    });
    assert!(clients.iter().all(|client| client.raw.received().is_empty()), "nothing beyond the last message");
}
