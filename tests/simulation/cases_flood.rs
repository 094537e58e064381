//! Cases B11 and B13: clients that send more than they may, and the clocks behind that.

use std::time::Duration;

use tidegate::config::Config;
use tidegate::model::CloseReason;

use super::world::{Setup, World};

/// A world with relay on, a subscriber, and a sender.
fn relaying() -> (World, usize, usize) {
    relaying_with(|_| {})
}

/// The same with changes to its configuration.
fn relaying_with(change: impl FnOnce(&mut Config)) -> (World, usize, usize) {
    let mut setup = Setup::new(13);
    setup.channels[0].1.relay = true;
    change(&mut setup.config);
    let mut world = World::new(setup);
    let subscriber = world.join(0, &[0]);
    world.clients[subscriber].witnesses.push(0);
    let sender = world.join(0, &[0]);
    (world, subscriber, sender)
}

fn heard(world: &World) -> u64 {
    world.total(|counters| counters.messages_in.get())
}

#[test]
fn b13_who_sends_too_much_rests_and_everything_arrives() {
    let (mut world, subscriber, sender) = relaying();
    (0..400).for_each(|_| world.relay(sender, 40));
    // A turn takes no more than 64, and it takes two turns to use up the burst.
    world.clients[sender].wire.borrow_mut().arrive(usize::MAX);
    let mut turns = Vec::new();
    for _ in 0..3 {
        let before = heard(&world);
        world.turn(0);
        turns.push(heard(&world) - before);
    }
    assert_eq!(turns, [64, 36, 0]);
    world.settle();
    assert_eq!(heard(&world), 100, "the rest waits in the socket");
    let busy = world.total(|counters| counters.turns.get());
    world.run_for(Duration::from_millis(990));
    assert_eq!(heard(&world), 100);
    assert!(world.total(|counters| counters.turns.get()) - busy < 100, "nothing spins meanwhile");
    world.run_for(Duration::from_millis(20));
    assert_eq!(heard(&world), 162);
    world.run_for(Duration::from_secs(5));
    assert_eq!(heard(&world), 400);
    assert_eq!(world.total(|counters| counters.client_rests.get()), 5);
    assert_eq!(world.clients[subscriber].received[0].len(), 400);
    assert!(world.clients[sender].is_open());
    // Rested, it has its burst again.
    world.run_for(Duration::from_secs(3));
    (0..100).for_each(|_| world.relay(sender, 40));
    world.settle();
    assert_eq!(heard(&world), 500);
    world.expect_all_well();
}

#[test]
fn b13_who_goes_on_for_five_seconds_is_closed_and_harms_nobody() {
    let (mut world, subscriber, sender) = relaying();
    let patient = world.join(0, &[0]);
    let began = world.now();
    for _ in 0..70 {
        (0..20).for_each(|_| world.relay(sender, 40));
        world.relay(patient, 40);
        world.run_for(Duration::from_millis(100));
    }
    world.clients[sender].has_misbehaved = true;
    assert_eq!(world.clients[sender].close, Some((4102, "rate_limited".to_owned())));
    let after = world.clients[sender].seen_end.as_ref().expect("closed").0.since(began);
    assert!((Duration::from_secs(5)..Duration::from_secs(7)).contains(&after), "{after:?}");
    assert_eq!(world.closed(CloseReason::RateLimited), 1);
    assert_eq!(world.clients[patient].relayed.len(), 70);
    assert!(world.clients[patient].is_open() && world.clients[subscriber].is_open());
    world.expect_all_well();
}

#[test]
fn b13_a_client_that_is_not_read_is_not_taken_for_dead() {
    let (mut world, _, sender) = relaying_with(|config| {
        config.ping_interval = Duration::from_millis(400);
        config.pong_timeout = Duration::from_millis(200);
    });
    (0..300).for_each(|_| world.relay(sender, 40));
    world.run_for(Duration::from_secs(6));
    assert_eq!(heard(&world), 300);
    assert!(world.clients[sender].is_open());
    assert_eq!(world.closed(CloseReason::PingTimeout), 0);
    world.expect_all_well();
}

#[test]
fn b13_nothing_is_limited_where_the_rate_is_off() {
    let (mut world, subscriber, sender) = relaying_with(|config| config.client_rate = 0);
    (0..1000).for_each(|_| world.relay(sender, 40));
    world.settle();
    assert_eq!(world.clients[subscriber].received[0].len(), 1000);
    assert_eq!(world.total(|counters| counters.client_rests.get()), 0);
    world.expect_all_well();
}

#[test]
fn b13_large_messages_and_fragments_count_once_each() {
    let (mut world, subscriber, sender) = relaying();
    for length in [0, 1, 125, 126, 5000, 60_000] {
        (0..10).for_each(|_| world.relay(sender, length));
    }
    world.settle();
    assert_eq!(heard(&world), 60);
    assert_eq!(world.clients[subscriber].received[0].len(), 60);
    assert_eq!(world.total(|counters| counters.client_rests.get()), 0);
    world.expect_all_well();
}

/// The moments of control frames are kept modulo 204.8 s: a rest of about that must not look like none, however seldom
/// the client is pinged.
#[test]
fn b11_a_rest_that_goes_once_round_the_clock_of_pings_is_a_rest() {
    for offset in [0, 100, 200, 1900] {
        let mut setup = Setup::new(11);
        setup.config.ping_interval = Duration::from_secs(3600);
        let mut world = World::new(setup);
        let client = world.join(0, &[0]);
        for round in 1..=3 {
            (0..20).for_each(|_| world.clients[client].ping());
            world.settle();
            assert_eq!(world.clients[client].pongs.len(), 20 * round, "{offset}");
            world.run_for(Duration::from_millis(204_800 + offset));
        }
        assert!(world.clients[client].is_open());
        world.expect_all_well();
    }
}
