//! Cases B11, B12, B18, B22, D2, G1: control frames, deadlines, and how connections end from our side.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate::bus::{DrainSchedule, Order};
use tidegate::config::ChannelSettings;
use tidegate::config::limits::WRITE_BYTES_MAX;
use tidegate::model::{CloseReason, ShardId, Time};

use super::client::Reader;
use super::protocol::{CLOSE, PONG, close_payload};
use super::wire::Closed;
use super::world::{Setup, World};

fn second(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn b18_a_close_handshake_that_hangs_ends_in_a_reset_after_three_seconds() {
    let mut world = World::new(Setup::new(18));
    let canary = world.join(0, &[0]);
    let hanging = world.join(0, &[0]);
    world.clients[hanging].reader = Reader::Stalled;
    world.relay(hanging, 40);
    world.settle();
    let counted = world.total(|counters| counters.messages_in.get());
    // It neither reads nor answers, and keeps talking.
    for _ in 0..28 {
        world.relay(hanging, 40);
        world.clients[hanging].ping();
        world.run_for(Duration::from_millis(100));
        assert!(world.clients[hanging].wire.borrow().closed.is_none());
    }
    world.publish(0, 10);
    world.run_for(Duration::from_millis(300));
    assert_eq!(world.clients[hanging].wire.borrow().closed, Some(Closed::Reset));
    assert_eq!(world.total(|counters| counters.messages_in.get()), counted, "nothing of it was listened to");
    assert_eq!(world.clients[canary].received[0].len(), 1);
    let now = world.now();
    world.clients[hanging].pings_sent.clear();
    world.clients[hanging].read(usize::MAX, now, &mut world.ledger);
    assert_eq!(world.clients[hanging].close.as_ref().map(|(code, _)| *code), Some(1008));
    assert_eq!(world.closed(CloseReason::Policy), 1);
    world.expect_all_well();
}

#[test]
fn b18_a_close_in_the_same_breath_as_the_fault_needs_no_deadline() {
    let mut world = World::new(Setup::new(18));
    let client = world.join(0, &[0]);
    world.relay(client, 40);
    world.clients[client].send_frame(CLOSE, &close_payload(1000, ""));
    world.clients[client].has_left = true;
    world.settle();
    assert_eq!(world.clients[client].close.as_ref().map(|(code, _)| *code), Some(1008));
    assert_eq!(world.clients[client].wire.borrow().closed, Some(Closed::Finished));
    world.expect_all_well();
}

#[test]
fn b22_control_frames_pass_a_stalled_reader_at_the_next_boundary() {
    let mut world = World::new(Setup::new(22));
    let slow = world.connect(0, &[0], Reader::Stalled, 1000);
    world.settle();
    let now = world.now();
    world.clients[slow].read(usize::MAX, now, &mut world.ledger);
    for _ in 0..100 {
        world.publish(0, 900);
    }
    world.clients[slow].ping();
    world.settle();
    for _ in 0..4 {
        let now = world.now();
        world.clients[slow].read(usize::MAX, now, &mut world.ledger);
        world.settle();
    }
    assert_eq!(world.clients[slow].pongs.len(), 1);
    assert!(world.clients[slow].pongs_after[0] <= 2, "after {} messages", world.clients[slow].pongs_after[0]);
    world.recover();
    assert_eq!(world.clients[slow].received[0].len(), 100);
    world.expect_all_well();
}

/// What a line of 1 Mbit/s carries in a tenth of a second.
const SLOW_LINE_BYTES: usize = 12_500;

/// Reads as a slow line does until `count` pings have come; gives the bytes that came before the last of them, in tens.
fn read_to_ping(world: &mut World, number: usize, count: usize) -> usize {
    let mut bytes = 0;
    while world.clients[number].pings_seen.len() < count {
        let now = world.now();
        world.clients[number].read(10, now, &mut world.ledger);
        world.settle();
        bytes += 10;
        if bytes % SLOW_LINE_BYTES == 0 {
            world.run_for(Duration::from_millis(100));
        }
        assert!(bytes < 2 << 20, "no ping");
    }
    bytes
}

#[test]
fn b21_a_ping_waits_for_less_than_one_write_whatever_the_backlog() {
    /// What the line itself has taken and not delivered yet.
    const BUFFER_BYTES: usize = 4096;
    for length in [900, 16_000, 64_000] {
        let mut setup = Setup::new(21);
        setup.config.ping_interval = second(4);
        setup.channels[0].1 = ChannelSettings {
            history_bytes: 4 << 20,
            max_lag_bytes: 4 << 20,
            max_lag_age: second(600),
            ..setup.channels[0].1
        };
        let mut world = World::new(setup);
        let slow = world.connect(0, &[0], Reader::Stalled, BUFFER_BYTES);
        world.settle();
        let now = world.now();
        world.clients[slow].read(usize::MAX, now, &mut world.ledger);
        for _ in 0..(1 << 20) / length {
            world.publish(0, length);
        }
        for count in 1..=3 {
            while world.total(|counters| counters.pings.get()) < count as u64 {
                let now = world.now();
                world.clients[slow].read(SLOW_LINE_BYTES, now, &mut world.ledger);
                world.run_for(Duration::from_millis(100));
            }
            let bytes = read_to_ping(&mut world, slow, count);
            assert!(
                bytes <= BUFFER_BYTES + length + 100,
                "{bytes} bytes before the ping, messages of {length}"
            );
        }
        let left = (1 << 20) / length - world.clients[slow].messages;
        assert!(left * length > 300_000, "the backlog lasted");
        assert!(world.clients[slow].wire.borrow().offered_max <= WRITE_BYTES_MAX + 200);
        world.recover();
        assert_eq!(world.clients[slow].messages, (1 << 20) / length);
        world.expect_all_well();
    }
}

#[test]
fn b22_the_close_reaches_a_stalled_reader_that_reads_again_in_time() {
    let mut setup = Setup::new(22);
    setup.channels[0].1.max_lag_bytes = 5000;
    let mut world = World::new(setup);
    let slow = world.connect(0, &[0], Reader::Stalled, 1000);
    world.settle();
    let now = world.now();
    world.clients[slow].read(usize::MAX, now, &mut world.ledger);
    for _ in 0..10 {
        world.publish(0, 900);
    }
    world.run_for(second(2));
    for _ in 0..3 {
        let now = world.now();
        world.clients[slow].read(usize::MAX, now, &mut world.ledger);
        world.settle();
    }
    let close = world.clients[slow].close.clone();
    assert_eq!(close, Some((4101, "slow_consumer".to_owned())));
    assert!(world.clients[slow].received[0].len() <= 3, "waiting data is replaced by the close");
    world.expect_all_well();
}

#[test]
fn b11_who_pings_within_the_allowance_and_does_not_read_is_kept_and_owed_one_pong() {
    let mut setup = Setup::new(11);
    setup.channels[0].1.max_lag_age = second(3600);
    let mut world = World::new(setup);
    let mute = world.connect(0, &[0], Reader::Stalled, 400);
    world.settle();
    let now = world.now();
    world.clients[mute].read(usize::MAX, now, &mut world.ledger);
    // Ten a second for five minutes: 24 KiB of pongs, and a send buffer that takes some thirty.
    for _ in 0..3000 {
        world.clients[mute].ping();
        world.run_for(Duration::from_millis(100));
    }
    assert!(world.clients[mute].is_open());
    assert_eq!(world.closed(CloseReason::ControlFlood), 0);
    while world.clients[mute].pongs.last() != world.clients[mute].pings_sent.last() {
        let (now, before) = (world.now(), world.clients[mute].pongs.len());
        world.clients[mute].read(usize::MAX, now, &mut world.ledger);
        world.settle();
        assert!(world.clients[mute].pongs.len() > before, "the newest ping is answered");
    }
    let pongs = &world.clients[mute].pongs;
    assert!(pongs.len() < 60, "{} pongs waited", pongs.len());
    let answered_in_full = pongs.iter().zip(&world.clients[mute].pings_sent);
    let kept = answered_in_full.take_while(|(pong, ping)| pong == ping).count();
    assert!(kept >= pongs.len() - 2, "of those that found no room the newest alone is kept: {kept}");
    world.expect_all_well();
}

#[test]
fn b11_pings_beyond_the_allowance_end_the_connection_and_its_alone() {
    let mut world = World::new(Setup::new(11));
    let canary = world.join(0, &[0]);
    let patient = world.join(0, &[0]);
    let flooding = world.join(0, &[0]);
    for number in 0..21 {
        world.clients[flooding].ping();
        if number < 20 {
            world.clients[patient].ping();
        }
    }
    world.clients[flooding].has_misbehaved = true;
    world.settle();
    assert_eq!(world.clients[flooding].close, Some((1008, "ctl_flood".to_owned())));
    assert_eq!(world.clients[patient].pongs.len(), 20, "a burst is answered in full");
    // A second gives ten back.
    world.run_for(second(1));
    (0..10).for_each(|_| world.clients[patient].ping());
    world.settle();
    assert_eq!(world.clients[patient].pongs.len(), 30);
    world.publish(0, 10);
    assert_eq!(world.clients[canary].received[0].len(), 1);
    assert_eq!(world.closed(CloseReason::ControlFlood), 1);
    world.clients[flooding].pings_sent.clear();
    world.expect_all_well();
}

#[test]
fn b12_who_sends_pongs_and_never_echoes_is_closed_at_the_pong_deadline() {
    let mut world = World::new(Setup::new(12));
    let pretender = world.join(0, &[0]);
    world.clients[pretender].answers_pings = false;
    let honest = world.join(0, &[0]);
    let talker = world.join(0, &[0]);
    world.clients[talker].answers_pings = false;
    for _ in 0..45 {
        world.clients[pretender].send_frame(PONG, b"12345678");
        world.clients[honest].send_frame(PONG, b"");
        // Anything else is a sign of life.
        world.clients[talker].ping();
        world.run_for(second(1));
    }
    assert_eq!(world.clients[pretender].close, Some((4105, "ping_timeout".to_owned())));
    let pinged = world.clients[pretender].pings_seen[0];
    let closed = world.clients[pretender].seen_end.as_ref().expect("closed").0;
    assert!((second(10)..second(10) + Duration::from_millis(40)).contains(&closed.since(pinged)));
    assert!(world.clients[honest].is_open() && world.clients[talker].is_open());
    assert_eq!(world.closed(CloseReason::PingTimeout), 1);
    world.expect_all_well();
}

#[test]
fn b12_pongs_that_nobody_asked_for_count_against_the_allowance() {
    let mut world = World::new(Setup::new(12));
    let flooding = world.join(0, &[0]);
    world.clients[flooding].has_misbehaved = true;
    (0..21).for_each(|_| world.clients[flooding].send_frame(PONG, b"12345678"));
    world.settle();
    assert_eq!(world.clients[flooding].close, Some((1008, "ctl_flood".to_owned())));
    world.expect_all_well();
}

#[test]
fn d2_dead_peer_is_closed_at_the_pong_deadline() {
    let mut world = World::new(Setup::new(2));
    let mute = world.join(0, &[0]);
    world.clients[mute].answers_pings = false;
    let dead = world.join(0, &[0]);
    world.clients[dead].reader = Reader::Dead;
    let well = world.join(0, &[0]);
    // The first ping comes after 1.2 intervals at most; one who does not read gets its close 3 s later.
    world.run_for(second(30 + 10 + 4));
    assert_eq!(world.clients[mute].close, Some((4105, "ping_timeout".to_owned())));
    assert!(world.clients[dead].wire.borrow().closed.is_some());
    assert_eq!(world.closed(CloseReason::PingTimeout), 2);
    let pinged = world.clients[mute].pings_seen[0];
    let closed = world.clients[mute].seen_end.as_ref().expect("closed").0;
    assert!((second(10)..second(10) + Duration::from_millis(40)).contains(&closed.since(pinged)));
    world.run_for(second(600));
    assert!(world.clients[well].is_open());
    assert!(world.clients[well].pings_seen.len() >= 20);
    world.expect_all_well();
}

fn drain(world: &mut World, closes_begin: Duration, spread: Duration) {
    let now = world.now();
    let schedule = DrainSchedule {
        stop_accepting_at: now.after(second(1)),
        closes_begin_at: now.after(closes_begin),
        closes_end_at: now.after(closes_begin + spread),
    };
    for index in 0..world.shards.len() {
        assert!(world.bus.order(ShardId(index as u16), Order::Drain(schedule)).is_ok());
    }
    world.is_draining = true;
}

#[test]
fn g1_drain_spreads_its_closes_evenly_and_tells_everyone() {
    let mut setup = Setup::new(1);
    setup.shards = 2;
    let mut world = World::new(setup);
    for index in 0..600 {
        world.connect(index % 2, &[0], Reader::Healthy, usize::MAX);
    }
    world.run_for(second(1));
    drain(&mut world, second(2), second(20));
    let mut expected = BTreeMap::new();
    for _ in 0..23 {
        world.run_for(second(1));
        world.publish(0, 50);
        for (number, client) in world.clients.iter().enumerate().filter(|(_, client)| client.close.is_none())
        {
            *expected.entry(number).or_insert(0) += 1;
            assert!(client.end.is_none());
        }
    }
    let late = world.connect(0, &[0], Reader::Healthy, usize::MAX);
    world.run_for(second(1));
    assert_eq!(world.clients[late].status, None, "nobody accepts any more");
    let told: Vec<_> = world.clients.iter().filter(|client| client.number != late).collect();
    let begin = told.iter().filter_map(|client| client.seen_end.as_ref()).map(|(at, _)| *at).min();
    let begin = begin.unwrap_or(Time::ZERO);
    let mut seconds = BTreeMap::new();
    for client in told {
        let (code, reason) = client.close.clone().expect("told");
        let delay = reason.strip_prefix("draining;in=").and_then(|delay| delay.parse::<u64>().ok());
        assert!(code == 1012 && delay.is_some_and(|delay| delay < 5000), "{code} {reason:?}");
        let at = client.seen_end.as_ref().expect("seen").0;
        *seconds.entry(at.since(begin).as_secs()).or_insert(0_u32) += 1;
        assert_eq!(client.received[0].len(), expected.get(&client.number).copied().unwrap_or(0));
    }
    assert!(seconds.values().all(|count| *count <= 60), "more than twice the mean: {seconds:?}");
    assert!(seconds.len() >= 19);
    assert_eq!(world.closed(CloseReason::Draining), 600);
    world.expect_all_well();
}

#[test]
fn g1_a_second_signal_hurries() {
    let mut world = World::new(Setup::new(1));
    for _ in 0..50 {
        world.connect(0, &[0], Reader::Healthy, usize::MAX);
    }
    world.run_for(second(1));
    drain(&mut world, second(10), second(110));
    world.run_for(second(15));
    assert!(world.total(|counters| counters.open.get()) > 40);
    drain(&mut world, Duration::ZERO, second(1));
    world.run_for(second(2));
    assert_eq!(world.total(|counters| counters.connections.get()), 0);
    world.expect_all_well();
}
