//! What a refused client costs: a few small allocations, whatever it sent, and nothing that stays.

use std::time::Duration;

use allocation_counter::measure;
use tidegate::config::Config;

use super::kit::sink::Sink;
use super::kit::{self, Rig};

/// Clients that bring a shard's own buffers to their size.
const WARM_UP: usize = 1000;
const CLIENTS: usize = 500;

/// Allocations of a client that sends `request`, from accept to the reset; it never ends its side.
fn allocations_of(request: &[u8]) -> u64 {
    let mut rig: Rig<Sink> = Rig::new(Config::default(), WARM_UP);
    rig.reserve(3 * WARM_UP + CLIENTS);
    let mut refuse = |count: usize| {
        let sinks: Vec<Sink> = (0..count).map(|_| Sink::new(request)).collect();
        let counted = measure(|| {
            rig.offer(sinks);
            // The answer is out; after a second nobody waits for the client any more.
            rig.pass_time(Duration::from_secs(2));
            rig.settle();
        });
        assert_eq!(rig.shard.connection_count(), 0, "refused, told so, and gone");
        counted
    };
    // The wheel of timers has more entries in a slot than before now and then: it is gone round first.
    for _ in 0..40 {
        refuse(WARM_UP);
    }
    let counted = refuse(CLIENTS);
    assert_eq!(rig.counters.upgraded.get(), 0);
    counted.count_total / CLIENTS as u64
}

#[test]
fn a25_a_refused_client_costs_a_few_allocations_whatever_it_asks_for() {
    let lines = |lines: &str| {
        let request = String::from_utf8(kit::upgrade_request("a")).expect("ASCII");
        request.replace("Host:", &format!("{lines}\r\nHost:")).into_bytes()
    };
    let long = format!("Cookie: {}", "x".repeat(8000));
    for (what, request) in [
        ("origin", lines("Origin: http://evil.example")),
        ("subprotocol", lines("Sec-WebSocket-Protocol: a,,b")),
        ("dup_header", lines("Host: other.example")),
        ("framing", lines("Content-Length: 1\r\nTransfer-Encoding: chunked")),
        ("origin behind much else", lines(&format!("{long}\r\nOrigin: null"))),
        ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
    ] {
        let counted = allocations_of(&request);
        assert!(counted <= 10, "{what}: {counted}");
    }
}
