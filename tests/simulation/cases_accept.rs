//! Cases C1, C2, C3, C16 and D6: how connections come in when the world is against it.

use std::time::Duration;

use tidegate::bus::{DrainSchedule, Order};
use tidegate::model::{ConnectionId, ShardId};
use tidegate::shard::reactor::Readiness;

use super::client::Reader;
use super::world::{Setup, World};

fn turns(world: &World) -> u64 {
    world.shards[0].host.borrow().turns
}

#[test]
fn c1_without_descriptors_clients_are_answered_and_service_resumes_unasked() {
    let mut world = World::new(Setup::new(1));
    let resident = world.join(0, &[0]);
    world.shards[0].host.borrow_mut().is_exhausted = true;
    world.ends_freely = true;
    let early: Vec<usize> = (0..100).map(|_| world.connect(0, &[0], Reader::Healthy, usize::MAX)).collect();
    let before = turns(&world);
    world.run_for(Duration::from_millis(950));
    assert!(turns(&world) - before < 40, "{} turns while nothing can be done", turns(&world) - before);
    assert!(early.iter().all(|number| world.clients[*number].status.is_none()));
    world.run_for(Duration::from_millis(500));
    for number in early {
        let client = &world.clients[number];
        assert_eq!(client.status, Some(503));
        assert!(client.retry_after.is_some_and(|seconds| (2..=10).contains(&seconds)));
    }
    world.publish(0, 100);
    assert_eq!(world.clients[resident].received[0].len(), 1);

    // A second shortage ends before patience does: whoever waits is served without a new connection.
    world.shards[0].host.borrow_mut().is_exhausted = false;
    world.run_for(Duration::from_millis(200));
    world.shards[0].host.borrow_mut().is_exhausted = true;
    let late = world.connect(0, &[0], Reader::Healthy, usize::MAX);
    world.run_for(Duration::from_millis(300));
    world.shards[0].host.borrow_mut().is_exhausted = false;
    world.run_for(Duration::from_millis(120));
    assert_eq!(world.clients[late].status, Some(101));
    assert_eq!(world.total(|counters| counters.descriptors_exhausted_seconds.get()), 0);
    world.expect_all_well();
}

#[test]
fn c1_a_connection_that_ends_frees_its_descriptor_for_the_next_at_once() {
    let mut world = World::new(Setup::new(1));
    let leaver = world.join(0, &[0]);
    world.shards[0].host.borrow_mut().is_exhausted = true;
    let waiting = world.connect(0, &[0], Reader::Healthy, usize::MAX);
    world.run_for(Duration::from_millis(20));
    world.shards[0].host.borrow_mut().is_exhausted = false;
    world.settle();
    assert_eq!(world.clients[waiting].status, None, "it is tried again every 100 ms, or on a close");
    world.clients[leaver].leave_politely();
    world.settle();
    assert_eq!(world.clients[waiting].status, Some(101));
    world.expect_all_well();
}

#[test]
fn c2_accept_errors_at_call_1_3_and_every_10th_stop_nobody() {
    let errors = [
        libc::ECONNABORTED,
        libc::EPROTO,
        libc::EINTR,
        libc::EPERM,
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EIO,
        9999,
    ];
    // A function pointer carries no errno: one pattern for each.
    macro_rules! pattern {
        ($errno:expr) => {
            |call| (call == 1 || call == 3 || call % 10 == 0).then_some($errno)
        };
    }
    let patterns: [fn(u64) -> Option<i32>; 10] = [
        pattern!(libc::ECONNABORTED),
        pattern!(libc::EPROTO),
        pattern!(libc::EINTR),
        pattern!(libc::EPERM),
        pattern!(libc::EMFILE),
        pattern!(libc::ENFILE),
        pattern!(libc::ENOBUFS),
        pattern!(libc::ENOMEM),
        pattern!(libc::EIO),
        pattern!(9999),
    ];
    for (errno, pattern) in errors.into_iter().zip(patterns) {
        let mut world = World::new(Setup::new(2));
        world.shards[0].host.borrow_mut().accept_error = pattern;
        let clients: Vec<usize> =
            (0..30).map(|_| world.connect(0, &[0], Reader::Healthy, usize::MAX)).collect();
        let before = turns(&world);
        world.run_for(Duration::from_secs(1));
        assert!(turns(&world) - before < 100, "{} turns for errno {errno}", turns(&world) - before);
        let served = clients.iter().filter(|number| world.clients[**number].status == Some(101)).count();
        let errors = world
            .total(|counters| counters.accept_errors_exhausted.get() + counters.accept_errors_other.get())
            as usize;
        let lost = if errno == libc::ECONNABORTED { errors } else { 0 };
        assert_eq!(served + lost, 30, "errno {errno}");
        assert!(errors >= 4, "errno {errno}: {errors}");
    }
}

#[test]
fn c2_an_accept_error_as_the_drain_begins_turns_nobody_in_the_queue_away_unheard() {
    let mut setup = Setup::new(2);
    setup.config.accepts_per_turn = 1;
    let mut world = World::new(setup);
    // The first is accepted in its turn; the second gives up in the queue; the others are there when it is closed.
    world.shards[0].host.borrow_mut().accept_error = |call| (call == 2).then_some(libc::ECONNABORTED);
    let clients: Vec<usize> = (0..4).map(|_| world.connect(0, &[0], Reader::Healthy, usize::MAX)).collect();
    let now = world.now();
    let schedule = DrainSchedule {
        stop_accepting_at: now,
        closes_begin_at: now,
        closes_end_at: now.after(Duration::from_secs(1)),
    };
    assert!(world.bus.order(ShardId(0), Order::Drain(schedule)).is_ok());
    world.is_draining = true;
    world.ends_freely = true;
    world.settle();
    let heard: Vec<_> = clients.iter().map(|number| world.clients[*number].status).collect();
    assert_eq!(heard, [Some(503), None, Some(503), Some(503)]);
    assert!(world.shards[0].host.borrow().has_stopped_accepting);
}

#[test]
fn c3_beyond_the_limit_clients_are_told_and_the_count_is_exact() {
    let mut setup = Setup::new(3);
    setup.max_connections = 2;
    let mut world = World::new(setup);
    let first = world.join(0, &[0]);
    world.join(0, &[0]);
    for _ in 0..5 {
        let refused = world.connect(0, &[0], Reader::Healthy, usize::MAX);
        world.settle();
        assert_eq!(world.clients[refused].status, Some(503));
    }
    world.clients[first].leave_politely();
    world.settle();
    world.join(0, &[0]);
    world.ends_freely = true;
    world.expect_all_well();
}

#[test]
fn c3_refused_clients_that_stay_hold_few_descriptors_and_nobody_waits_for_them() {
    let mut setup = Setup::new(3);
    setup.max_connections = 1;
    setup.config.accepts_per_turn = 1000;
    let allowance = setup.config.refused_max() as u64;
    let mut world = World::new(setup);
    world.ends_freely = true;
    world.join(0, &[0]);
    let crowd: Vec<usize> = (0..100).map(|_| world.connect(0, &[0], Reader::Stalled, usize::MAX)).collect();
    let before = turns(&world);
    while world.turn(0) {
        let held = world.total(|counters| counters.connections.get());
        assert!(held <= 1 + allowance, "{held} descriptors");
    }
    // Not a moment has passed: all have their answer, those who came last may go on reading it.
    assert!(turns(&world) - before < 100, "{} turns", turns(&world) - before);
    let now = world.now();
    for number in crowd {
        world.clients[number].read(usize::MAX, now, &mut world.ledger);
        assert_eq!(world.clients[number].status, Some(503), "client {number}");
    }
    assert!(world.total(|counters| counters.connections.get()) > allowance / 2);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.total(|counters| counters.connections.get()), 1);
    world.expect_all_well();
}

#[test]
fn c16_an_event_of_a_freed_slot_does_not_touch_its_next_owner() {
    let mut world = World::new(Setup::new(16));
    for round in 1..=20 {
        let first = world.join(0, &[0]);
        let gone: ConnectionId = world.clients[first].wire.borrow().id().expect("registered");
        let now = world.now();
        world.clients[first].reset(now, &world.ledger);
        // The slot is free before the next one comes, and is given to it.
        world.settle();
        let second = world.connect(0, &[0], Reader::Healthy, usize::MAX);
        world.settle();
        let next: ConnectionId = world.clients[second].wire.borrow().id().expect("registered");
        assert_eq!(next.slot, gone.slot);
        let stale =
            Readiness { connection: gone, is_readable: true, is_writable: true, is_read_closed: true };
        world.shards[0].host.borrow_mut().stale.push(stale);
        world.settle();
        world.publish(0, 10);
        assert_eq!(world.clients[second].received[0].len(), 1);
        assert_eq!(world.total(|counters| counters.stale_events.get()), round);
        world.clients[second].finish();
        world.settle();
    }
    world.expect_all_well();
}

#[test]
fn a_socket_that_cannot_be_registered_is_closed_and_counted() {
    let mut world = World::new(Setup::new(4));
    world.ends_freely = true;
    world.shards[0].host.borrow_mut().refuses_registration = true;
    world.connect(0, &[0], Reader::Healthy, usize::MAX);
    world.settle();
    world.expect_all_well();
}

#[test]
fn d6_mass_connect_does_not_become_a_mass_ping() {
    let mut world = World::new(Setup::new(6));
    for _ in 0..20 {
        for _ in 0..100 {
            world.connect(0, &[0], Reader::Healthy, usize::MAX);
        }
        world.run_for(Duration::from_millis(50));
    }
    let from = world.now().after(Duration::from_secs(5));
    world.run_for(Duration::from_secs(80));
    assert_eq!(world.total(|counters| counters.open.get()), 2000);
    let width_ms = 250;
    let mut pings = vec![0_u32; 75_000 / width_ms as usize];
    for at in world.clients.iter().flat_map(|client| &client.pings_seen) {
        if let Some(bin) = pings.get_mut((at.since(from).as_millis() / width_ms) as usize)
            && *at >= from
        {
            *bin += 1;
        }
    }
    let mean = pings.iter().sum::<u32>() as f64 / pings.len() as f64;
    let most = f64::from(pings.iter().copied().max().unwrap_or(0));
    assert!(mean > 10.0 && most <= 3.0 * mean, "{most} in {width_ms} ms, {mean} on average");
}
