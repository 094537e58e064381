//! Write calls: one for everything that a subscriber is owed.

use super::kit::{self, sink};
use super::rig;

const SUBSCRIBERS: u64 = 100;

/// Publishes `count` messages to each of `channels` before the shard turns; gives the writes and bytes that followed.
fn writes(channels: &[&str], count: u64, bytes: usize) -> (u64, u64) {
    let mut rig = rig(SUBSCRIBERS as usize, &channels.join(","));
    let before = sink::written();
    for channel in channels {
        let publication = kit::message(&kit::channel(channel), bytes);
        (0..count).for_each(|_| rig.publish(&publication));
    }
    rig.settle();
    assert_eq!(rig.counters.delivered.get(), SUBSCRIBERS * count * channels.len() as u64);
    let after = sink::written();
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn one_message_is_one_write_for_each_subscriber() {
    assert_eq!(writes(&["a"], 1, 512), (SUBSCRIBERS, SUBSCRIBERS * 516));
}

#[test]
fn thirty_two_outstanding_messages_are_one_write_for_each_subscriber() {
    assert_eq!(writes(&["a"], 32, 512), (SUBSCRIBERS, SUBSCRIBERS * 32 * 516));
}

#[test]
fn what_waits_in_several_channels_is_one_write_for_each_subscriber() {
    assert_eq!(writes(&["a", "b", "c"], 10, 512), (SUBSCRIBERS, SUBSCRIBERS * 30 * 516));
}

#[test]
fn four_large_messages_are_one_write_for_each_subscriber() {
    assert_eq!(writes(&["a"], 4, 16 * 1024), (SUBSCRIBERS, SUBSCRIBERS * 4 * (16 * 1024 + 4)));
}
