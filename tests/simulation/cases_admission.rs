//! Cases A1 and A23: clients that do not get to the end of their first request head; case C5: very many that do at once.

use std::time::Duration;

use tidegate::config::limits::HEADS_PER_TURN;
use tidegate::model::CloseReason;

use super::client::{End, Reader};
use super::protocol::upgrade_request;
use super::wire::Closed;
use super::world::{Setup, World, homed};

/// A client that connects and says nothing.
fn connect_silent(world: &mut World) -> usize {
    let number = world.connect(0, &[0], Reader::Healthy, usize::MAX);
    world.clients[number].wire.borrow_mut().flight.clear();
    number
}

fn say(world: &World, number: usize, bytes: &[u8]) {
    world.clients[number].wire.borrow_mut().flight.extend(bytes);
}

#[test]
fn a1_the_deadline_of_a_head_does_not_depend_on_how_it_comes() {
    let head = upgrade_request(&["c"], None);
    for piece in [0, 1, 2, 19, head.len() - 1] {
        for gap_ms in [40, 700, 4500] {
            let mut world = World::new(Setup::new(1));
            world.ends_freely = true;
            let number = connect_silent(&mut world);
            world.settle();
            let accepted_at = world.now();
            let mut sent = 0;
            while world.now().since(accepted_at) < Duration::from_millis(9900) {
                // All but the last byte, which never comes.
                let end = (sent + piece).min(head.len() - 1);
                say(&world, number, &head[sent..end]);
                sent = end;
                let left = Duration::from_millis(9900) - world.now().since(accepted_at);
                world.run_for(Duration::from_millis(gap_ms).min(left));
                assert_eq!(world.clients[number].status, None, "{piece} bytes every {gap_ms} ms");
            }
            world.run_for(Duration::from_millis(300));
            assert_eq!(world.clients[number].status, Some(408), "{piece} bytes every {gap_ms} ms");
            world.expect_all_well();
        }
    }
}

#[test]
fn a23_those_that_say_nothing_make_room_in_their_order_and_nobody_else_does() {
    let mut setup = Setup::new(23);
    setup.config.max_pending = 10;
    let mut world = World::new(setup);
    world.ends_freely = true;
    let mut seated: Vec<usize> = (0..20).map(|_| world.join(0, &[0])).collect();
    let mut silent = Vec::new();
    for round in 0..50 {
        silent.push(connect_silent(&mut world));
        world.settle();
        assert!(world.total(|counters| counters.pending.get()) <= 10);
        if round % 10 == 0 {
            seated.push(world.join(0, &[0]));
        }
    }
    let end_of = |world: &World, number: usize| world.clients[number].end;
    for number in &silent[..40] {
        assert_eq!(end_of(&world, *number), Some(End::ByGateway(Closed::Reset)), "client {number}");
    }
    assert!(silent[40..].iter().all(|number| end_of(&world, *number).is_none()));
    assert_eq!(world.closed(CloseReason::PendingEvicted), 40);
    // Whoever is left may still say what it wants.
    for number in &silent[40..] {
        say(&world, *number, &upgrade_request(&["c"], None));
    }
    world.settle();
    assert!(silent[40..].iter().all(|number| world.clients[*number].status == Some(101)));
    assert_eq!(world.total(|counters| counters.pending.get()), 0);
    world.publish(0, 10);
    assert!(seated.iter().all(|number| world.clients[*number].received[0].len() == 1));
    world.expect_all_well();
}

#[test]
fn a23_who_waits_for_its_channels_is_not_pending() {
    let mut setup = Setup::new(24);
    setup.shards = 2;
    setup.config.max_pending = 2;
    setup.channels[0].0 = homed(1, 2);
    let mut world = World::new(setup);
    world.ends_freely = true;
    let joining = world.connect(0, &[0], Reader::Healthy, usize::MAX);
    world.clients[joining].wire.borrow_mut().arrive(usize::MAX);
    while world.turn(0) {}
    assert_eq!(world.clients[joining].status, None, "its channel's home has not turned yet");
    for _ in 0..10 {
        connect_silent(&mut world);
        while world.turn(0) {}
    }
    assert_eq!(world.closed(CloseReason::PendingEvicted), 8);
    world.settle();
    assert_eq!(world.clients[joining].status, Some(101));
    world.expect_all_well();
}

#[test]
fn a23_a_kept_connection_waits_from_its_last_answer_on_and_is_closed_in_order() {
    let request = b"GET /favicon.svg HTTP/1.1\r\nHost: gateway\r\n\r\n";
    let mut setup = Setup::new(25);
    setup.config.max_pending = 3;
    let mut world = World::new(setup);
    world.ends_freely = true;
    let kept = connect_silent(&mut world);
    let others: Vec<usize> = (0..2).map(|_| connect_silent(&mut world)).collect();
    world.settle();
    say(&world, kept, request);
    world.settle();
    assert_eq!(world.clients[kept].status, Some(200));
    for other in others {
        connect_silent(&mut world);
        world.settle();
        assert_eq!(world.clients[other].end, Some(End::ByGateway(Closed::Reset)));
        assert_eq!(world.clients[kept].end, None);
    }
    connect_silent(&mut world);
    world.settle();
    assert_eq!(world.clients[kept].end, Some(End::ByGateway(Closed::Finished)));
    world.expect_all_well();
}

#[test]
fn a23_those_accepted_in_one_turn_are_read_before_any_of_them_makes_room() {
    let mut setup = Setup::new(26);
    setup.config.max_pending = 1;
    // More than a turn reads.
    setup.config.accepts_per_turn = 4 * HEADS_PER_TURN;
    let mut world = World::new(setup);
    let crowd: Vec<usize> =
        (0..4 * HEADS_PER_TURN).map(|_| world.connect(0, &[0], Reader::Healthy, usize::MAX)).collect();
    for number in &crowd {
        world.clients[*number].wire.borrow_mut().arrive(usize::MAX);
    }
    world.settle();
    assert!(crowd.iter().all(|number| world.clients[*number].status == Some(101)));
    world.expect_all_well();
}

#[test]
fn c5_heads_that_come_at_once_are_spread_over_turns_and_what_else_there_is_goes_on() {
    let mut setup = Setup::new(27);
    setup.config.max_pending = 10_000;
    let mut world = World::new(setup);
    let subscriber = world.join(0, &[0]);
    let crowd: Vec<usize> = (0..10 * HEADS_PER_TURN).map(|_| connect_silent(&mut world)).collect();
    world.settle();
    for number in &crowd {
        say(&world, *number, &upgrade_request(&["c"], None));
        world.clients[*number].wire.borrow_mut().arrive(usize::MAX);
    }
    world.hand_over(0, &[10]);
    let mut upgraded = world.total(|counters| counters.upgraded.get());
    let mut turns = 0;
    while world.turn(0) {
        let now = world.total(|counters| counters.upgraded.get());
        assert!(now - upgraded <= HEADS_PER_TURN as u64, "{} heads in a turn", now - upgraded);
        upgraded = now;
        turns += 1;
        if turns == 2 {
            // While most still wait, the message is with those who were there before.
            let now = world.now();
            world.clients[subscriber].read(usize::MAX, now, &mut world.ledger);
            assert_eq!(world.clients[subscriber].received[0].len(), 1);
            assert!(upgraded <= 2 * HEADS_PER_TURN as u64 + 1);
        }
    }
    world.settle();
    assert!(crowd.iter().all(|number| world.clients[*number].status == Some(101)));
    world.expect_all_well();
}

#[test]
fn c5_beyond_the_rate_of_connections_clients_are_told_to_come_back_later() {
    let mut setup = Setup::new(28);
    setup.config.connect_rate = 50;
    let mut world = World::new(setup);
    world.ends_freely = true;
    let connect = |world: &mut World, count: usize| {
        let crowd: Vec<usize> =
            (0..count).map(|_| world.connect(0, &[0], Reader::Healthy, usize::MAX)).collect();
        world.settle();
        let with =
            |status| crowd.iter().filter(|number| world.clients[**number].status == Some(status)).count();
        let has_delay = |number: &usize| {
            world.clients[*number].retry_after.is_some_and(|delay| (2..=10).contains(&delay))
        };
        assert_eq!(crowd.iter().filter(|number| has_delay(number)).count(), with(503));
        (with(101), with(503))
    };
    assert_eq!(connect(&mut world, 80), (50, 30), "a second's worth at once");
    world.run_for(Duration::from_millis(100));
    assert_eq!(connect(&mut world, 10), (5, 5));
    world.run_for(Duration::from_secs(60));
    assert_eq!(connect(&mut world, 60), (50, 10), "a rest gives no more");
    world.expect_all_well();
}
