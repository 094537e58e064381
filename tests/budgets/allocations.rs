//! Allocations: a few for a message, whatever the number of subscribers, and none for a delivery.

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use tidegate::config::Config;
use tidegate::model::{PayloadKind, Publication, Time};

use super::kit::sink::{Sink, answer_ping};
use super::kit::{self, Rig};
use super::rig;

/// Messages that bring a shard's own buffers to their size.
const WARM_UP: usize = 100;
/// How finely time passes for idle connections.
const STEP: Duration = Duration::from_millis(100);
/// About ten pings for each connection; the wheel goes round four times.
const ROUNDS: Duration = Duration::from_secs(250);

/// What `messages` publications of `channel` allocate, made, routed and delivered.
fn publish(rig: &mut Rig<Sink>, channel: &str, messages: u64) -> AllocationInfo {
    let channel = kit::channel(channel);
    let payload = [b'x'; 512];
    let mut publish_all = |count: u64| {
        for _ in 0..count {
            let publication =
                Publication::encode(channel.clone(), PayloadKind::Text, &payload, Time::ZERO, None);
            rig.publish(&publication);
        }
        rig.settle();
    };
    (0..WARM_UP).for_each(|_| publish_all(messages));
    measure(|| publish_all(messages))
}

/// What one publication allocates, delivered to `subscribers` of `channels`, the first of which it is for.
fn allocations(subscribers: usize, channels: &str, messages: u64) -> u64 {
    let first = channels.split(',').next().unwrap_or(channels);
    let counted = publish(&mut rig(subscribers, channels), first, messages);
    assert_eq!((counted.count_current, counted.bytes_current), (0, 0), "nothing stays behind");
    counted.count_total
}

#[test]
fn a_publication_allocates_at_most_six_times() {
    let counted = allocations(1, "a", 1);
    assert!(counted <= 6, "{counted}");
}

#[test]
fn a_delivery_allocates_nothing() {
    let one = allocations(1, "a", 1);
    for subscribers in [2, 100, 10_000] {
        assert_eq!(allocations(subscribers, "a", 1), one, "{subscribers} subscribers");
    }
}

#[test]
fn a_delivery_to_a_subscriber_of_several_channels_allocates_nothing() {
    assert_eq!(allocations(1000, "a,b,c", 1), allocations(1, "a,b,c", 1));
}

#[test]
fn many_outstanding_messages_are_delivered_without_an_allocation() {
    assert_eq!(allocations(1000, "a", 32), allocations(1, "a", 32));
}

/// Idle connections, each of which answers its pings at once.
struct Idle {
    rig: Rig<Sink>,
    numbers: Vec<u32>,
}

impl Idle {
    fn new(count: usize) -> Self {
        let request = kit::upgrade_request("a");
        let sinks: Vec<Sink> = (0..count).map(|_| Sink::new(&request)).collect();
        let numbers = sinks.iter().map(Sink::number).collect();
        let mut rig = Rig::new(Config::default(), count);
        rig.reserve(count);
        rig.admit(sinks);
        Self { rig, numbers }
    }

    /// Lets `duration` pass in small steps; gives the pings that were answered.
    fn pass(&mut self, duration: Duration) -> u64 {
        let before = self.rig.counters.pongs.get();
        for _ in 0..duration.as_millis() / STEP.as_millis() {
            self.rig.pass_time(STEP);
            self.rig.settle();
            for (index, number) in self.numbers.iter().enumerate() {
                if answer_ping(*number) {
                    self.rig.report_readable(index);
                }
            }
            self.rig.settle();
        }
        self.rig.counters.pongs.get() - before
    }
}

#[test]
fn a_ping_and_its_pong_leave_no_allocation_behind() {
    let mut idle = Idle::new(500);
    idle.pass(8 * ROUNDS);
    let mut pongs = 0;
    let counted = measure(|| pongs = idle.pass(ROUNDS));
    assert_eq!(idle.rig.counters.open.get(), 500);
    assert!(pongs >= 500 * 9, "{pongs}");
    // What is left is the wheel's: a slot that gets more entries than ever keeps room for a few.
    assert!(counted.count_current.unsigned_abs() < pongs / 100, "{} of {pongs} pongs", counted.count_current);
    assert!(counted.count_total <= 6 * pongs, "{} for {pongs} pongs", counted.count_total);
}
