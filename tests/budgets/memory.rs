//! Bytes of user memory: of a connection, a subscription, a message that is kept, a timer.

use allocation_counter::measure;
use tidegate::clock::Wheel;
use tidegate::config::Config;
use tidegate::delivery::Subscription;
use tidegate::journal::{Entry, Journal};
use tidegate::model::{ConnectionId, Offset, Time};

use super::kit::sink::Sink;
use super::kit::{self, Rig};

const CONNECTIONS: usize = 10_000;

/// Bytes of a shard that has room for `connections` and none yet.
fn empty_shard_bytes(connections: usize) -> i64 {
    let mut rig: Option<Rig<Sink>> = None;
    measure(|| rig = Some(Rig::new(Config::default(), connections))).bytes_current
}

#[test]
fn a_slot_for_a_connection_costs_at_most_112_bytes() {
    let more = empty_shard_bytes(2 * CONNECTIONS) - empty_shard_bytes(CONNECTIONS);
    let each = more / CONNECTIONS as i64;
    assert!(each <= 112, "{each}");
}

#[test]
fn an_idle_subscriber_costs_at_most_200_bytes() {
    let request = kit::upgrade_request("a");
    let sinks: Vec<Sink> = (0..CONNECTIONS).map(|_| Sink::new(&request)).collect();
    let room = empty_shard_bytes(CONNECTIONS) - empty_shard_bytes(0);
    let mut rig = Rig::new(Config::default(), CONNECTIONS);
    rig.reserve(CONNECTIONS);
    let joined = measure(|| rig.admit(sinks));
    let each = (room + joined.bytes_current) / CONNECTIONS as i64;
    assert!(each <= 200, "{each}");
}

#[test]
fn a_subscription_is_sixteen_bytes() {
    assert_eq!(size_of::<Subscription>(), 16);
}

#[test]
fn an_armed_timer_costs_at_most_sixteen_bytes() {
    let mut wheel = Wheel::default();
    let armed = measure(|| {
        for slot in 0..1_000_000 {
            let due = Time::from_millis(u64::from(slot) * 7919 % 30_000);
            wheel.arm(ConnectionId { slot, generation: 0 }, due);
        }
    });
    assert!(armed.bytes_current <= 16 * 1_000_000, "{}", armed.bytes_current);
}

#[test]
fn an_entry_of_a_journal_is_thirty_two_bytes() {
    assert_eq!(size_of::<Entry>(), 32);
}

#[test]
fn a_message_that_is_kept_costs_at_most_100_bytes_beyond_its_frame() {
    let publication = kit::message(&kit::channel("a"), 512);
    let frame_bytes = publication.frame.len() as i64;
    for messages in [1000, 1025, 10_000, 100_000] {
        let mut journal = Journal::new(Offset(1));
        let kept = measure(|| (1..=messages).for_each(|offset| journal.append(Offset(offset), &publication)));
        let messages = messages as i64;
        let each = (kept.bytes_current - frame_bytes * messages) / messages;
        assert!(each <= 100, "{each} bytes for each of {messages}");
        assert_eq!(kept.bytes_current, journal.memory_bytes() as i64, "it knows what it holds");
    }
}
