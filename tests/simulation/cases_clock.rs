//! Case D4: the shard does not turn for a while, as if it had been stopped or frozen, and finds all deadlines passed.

use std::time::Duration;

use tidegate::model::CloseReason;

use super::client::Reader;
use super::world::{Setup, World};

fn second(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Time passes and no shard turns.
fn freeze(world: &World, gap: Duration) {
    world.clock.set(world.now().after(gap));
}

#[test]
fn d4_after_a_freeze_only_the_dead_are_closed_and_a_round_later() {
    let mut world = World::new(Setup::new(4));
    let alive: Vec<usize> = (0..60).map(|_| world.join(0, &[0])).collect();
    let dead: Vec<usize> = (0..20).map(|_| world.join(0, &[0])).collect();
    world.run_for(second(100));
    // The clients are frozen too: what is pinged from here on answers only when all go on.
    for client in &mut world.clients {
        client.answers_pings = false;
    }
    world.run_for(second(9));
    let pings = world.total(|counters| counters.pings.get());
    freeze(&world, second(60));
    for number in &alive {
        world.clients[*number].answers_pings = true;
    }
    world.settle();
    assert_eq!(world.total(|counters| counters.freezes.get()), 1);
    assert_eq!(world.closed(CloseReason::PingTimeout), 0, "nobody is closed for the time of the freeze");
    assert!(world.total(|counters| counters.pings.get()) >= pings + 80, "everybody is asked again");

    world.run_for(second(9));
    assert_eq!(world.closed(CloseReason::PingTimeout), 0, "the dead have a round");
    world.run_for(second(2));
    assert_eq!(world.closed(CloseReason::PingTimeout), 20);
    assert!(
        dead.iter()
            .all(|number| world.clients[*number].close.as_ref().is_some_and(|(code, _)| *code == 4105))
    );

    world.run_for(second(600));
    assert!(alive.iter().all(|number| world.clients[*number].is_open()));
    assert_eq!(world.total(|counters| counters.freezes.get()), 1);
    world.expect_all_well();
}

#[test]
fn d4_a_slow_reader_is_not_charged_for_a_freeze() {
    let mut world = World::new(Setup::new(4));
    let slow = |world: &mut World| {
        let slow = world.connect(0, &[0], Reader::Stalled, 1000);
        world.settle();
        let now = world.now();
        world.clients[slow].read(usize::MAX, now, &mut world.ledger);
        slow
    };
    let [reads_on, never_reads] = [slow(&mut world), slow(&mut world)];
    world.clients[never_reads].reader = Reader::Dead;
    for _ in 0..10 {
        world.publish(0, 900);
    }
    world.run_for(second(5));
    freeze(&world, second(60));
    world.settle();
    // A pass in which the age of what waits is judged.
    world.publish(0, 900);
    assert_eq!(world.closed(CloseReason::SlowConsumer), 0);
    for _ in 0..30 {
        let now = world.now();
        world.clients[reads_on].read(usize::MAX, now, &mut world.ledger);
        world.settle();
    }
    assert_eq!(world.clients[reads_on].received[0].len(), 11);
    world.run_for(second(12));
    assert_eq!(world.closed(CloseReason::SlowConsumer), 1, "who does not read is closed an age later");
    assert!(world.clients[reads_on].is_open());
    world.expect_all_well();
}

#[test]
fn d4_a_pause_below_five_seconds_changes_nothing() {
    let mut world = World::new(Setup::new(4));
    let mute = world.join(0, &[0]);
    world.clients[mute].answers_pings = false;
    while world.clients[mute].pings_seen.is_empty() {
        world.run_for(Duration::from_millis(100));
    }
    world.run_for(second(9));
    freeze(&world, second(4));
    world.settle();
    assert_eq!(world.total(|counters| counters.freezes.get()), 0);
    assert_eq!(world.closed(CloseReason::PingTimeout), 1);
    world.expect_all_well();
}

#[test]
fn d1_pings_keep_their_interval_when_pongs_may_take_longer() {
    let mut setup = Setup::new(1);
    setup.config.ping_interval = second(1);
    setup.config.pong_timeout = second(20);
    let mut world = World::new(setup);
    let client = world.join(0, &[0]);
    world.run_for(second(60));
    let pings = world.clients[client].pings_seen.len();
    assert!((48..=76).contains(&pings), "{pings} pings in a minute");
    world.expect_all_well();
}
