//! What compression costs: nothing for a connection, nothing for a delivery.

use allocation_counter::measure;
use tidegate::config::Config;

use super::kit::sink::{self, Sink};
use super::kit::{self, Rig};

const CONNECTIONS: usize = 5000;
/// About a megabyte for each subscriber.
const MESSAGES: usize = 2000;

/// A shard with compression on and the sockets of `count` subscribers, who offer permessage-deflate or do not.
fn rig(count: usize, offers: bool) -> (Rig<Sink>, Vec<Sink>) {
    let mut request = kit::upgrade_request("a");
    if offers {
        request.truncate(request.len() - 2);
        request.extend_from_slice(
            b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
        );
    }
    let mut config = Config::default();
    config.channels.base.compression = true;
    let mut rig = Rig::new(config, count);
    rig.reserve(count);
    (rig, (0..count).map(|_| Sink::new(&request)).collect())
}

fn publish(rig: &mut Rig<Sink>, count: usize) {
    let publication = kit::message(&kit::channel("a"), 512);
    for _ in 0..count {
        rig.publish(&publication);
        rig.settle();
    }
}

/// Bytes that a shard holds for `count` subscribers after the traffic.
fn bytes_held(count: usize, offers: bool) -> i64 {
    let (mut rig, sinks) = rig(count, offers);
    let held = measure(|| {
        rig.admit(sinks);
        publish(&mut rig, MESSAGES);
    });
    assert_eq!(rig.counters.deflated.get() > 0, offers);
    held.bytes_current
}

#[test]
fn b16_compression_costs_an_idle_subscriber_nothing() {
    let each =
        |offers| (bytes_held(2 * CONNECTIONS, offers) - bytes_held(CONNECTIONS, offers)) / CONNECTIONS as i64;
    let (deflating, plain) = (each(true), each(false));
    assert!((deflating - plain).abs() <= 64, "{deflating} against {plain} bytes");
}

#[test]
fn a_deflated_delivery_allocates_nothing() {
    let allocations = |subscribers| {
        let (mut rig, sinks) = rig(subscribers, true);
        rig.admit(sinks);
        publish(&mut rig, 200);
        measure(|| publish(&mut rig, 128)).count_total
    };
    let one = allocations(1);
    for subscribers in [2, 100, 1000] {
        assert_eq!(allocations(subscribers), one, "{subscribers} subscribers");
    }
}

#[test]
fn what_waits_deflated_is_one_write_for_each_subscriber() {
    const SUBSCRIBERS: usize = 100;
    let (mut rig, sinks) = rig(SUBSCRIBERS, true);
    rig.admit(sinks);
    publish(&mut rig, 1);
    let before = sink::written();
    let publication = kit::message(&kit::channel("a"), 512);
    (0..32).for_each(|_| rig.publish(&publication));
    rig.settle();
    let after = sink::written();
    assert_eq!(after.0 - before.0, SUBSCRIBERS as u64);
    assert!(after.1 - before.1 < (SUBSCRIBERS * 32 * 516 / 10) as u64, "{} bytes", after.1 - before.1);
}
