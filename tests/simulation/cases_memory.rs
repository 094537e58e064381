//! Case C7: what is done at each grade of short memory, that it is undone five per cent below, and that the sum is right.

use std::time::Duration;

use tidegate::config::ChannelSettings;
use tidegate::metrics::memory::Held;
use tidegate::model::{CloseReason, Grade, RejectReason};

use super::client::Reader;
use super::world::{Setup, World};

/// Far more than any of these worlds holds by itself, so that `press` decides.
const BUDGET: u64 = 1 << 40;

fn world(settings: ChannelSettings) -> World {
    let mut setup = Setup::new(7);
    setup.memory = BUDGET;
    setup.channels = vec![("c".to_owned(), settings)];
    World::new(setup)
}

/// Has the process hold `percent` of its budget; the shards have noticed.
fn press(world: &mut World, percent: u64) -> Held {
    let held = world.memory.hold((BUDGET / 100 * percent + BUDGET / 1000) as usize);
    world.run_for(Duration::from_millis(1100));
    held
}

fn retained(world: &World) -> u64 {
    world.total(|counters| counters.journal_bytes.get())
}

#[test]
fn c7_at_70_per_cent_history_is_put_away_and_no_compression_begins() {
    let base = ChannelSettings::default();
    let settings = ChannelSettings { history_messages: 100, compression: true, compression_epoch: 5, ..base };
    let mut world = world(settings);
    let plain = world.join(0, &[0]);
    (0..10).for_each(|_| world.publish(0, 500));
    assert!(retained(&world) > 5000);

    let held = press(&mut world, 70);
    assert_eq!((world.memory.grade(), retained(&world)), (Grade::Frugal, 0));
    assert_eq!(world.total(|counters| counters.memory_histories_dropped.get()), 1);
    let late = world.join_offering(0, &[0], "");
    (0..10).for_each(|_| world.publish(0, 500));
    world.run_for(Duration::from_secs(2));
    assert_eq!((world.clients[late].deflated(), retained(&world)), (0, 0));
    assert!(world.total(|counters| counters.memory_compressions_declined.get()) > 0);
    drop(held);

    // Four per cent below where it began, and nothing has changed.
    let held = press(&mut world, 66);
    assert_eq!(world.memory.grade(), Grade::Frugal);
    world.publish(0, 500);
    world.run_for(Duration::from_secs(2));
    assert_eq!(retained(&world), 0);
    drop(held);

    let held = press(&mut world, 64);
    // A shard that sleeps hears of it when it wakes.
    world.publish(0, 500);
    world.run_for(Duration::from_millis(1100));
    assert_eq!(world.memory.grade(), Grade::Calm);
    (0..10).for_each(|_| world.publish(0, 500));
    assert!(retained(&world) > 5000);
    assert!(world.clients[late].deflated() >= 5, "from the next epoch on");
    assert_eq!(world.clients[plain].messages, 32, "nobody missed anything");
    drop(held);
    world.expect_all_well();
}

#[test]
fn c7_compression_that_had_begun_goes_on_while_memory_is_short() {
    let mut world = world(ChannelSettings { compression: true, ..ChannelSettings::default() });
    let early = world.join_offering(0, &[0], "");
    world.publish(0, 500);
    let held = press(&mut world, 79);
    (0..5).for_each(|_| world.publish(0, 500));
    assert_eq!(world.clients[early].deflated(), 6);
    drop(held);
    world.expect_all_well();
}

#[test]
fn c7_at_80_per_cent_who_comes_is_told_to_come_later_and_who_is_there_stays() {
    let mut world = world(ChannelSettings::default());
    let resident = world.join(0, &[0]);
    world.ends_freely = true;
    for (percent, status) in [(79, 101), (80, 503), (76, 503), (74, 101), (79, 101), (99, 503)] {
        let held = press(&mut world, percent);
        let new = world.connect(0, &[0], Reader::Healthy, usize::MAX);
        world.settle();
        let client = &world.clients[new];
        assert_eq!(client.status, Some(status), "{percent} per cent");
        if status == 503 {
            assert!(client.retry_after.is_some_and(|seconds| (2..=10).contains(&seconds)));
        }
        world.publish(0, 100);
        drop(held);
    }
    assert_eq!(world.clients[resident].received[0].len(), 6);
    assert_eq!(world.total(|counters| counters.rejected_total(RejectReason::Memory)), 3);
    world.expect_all_well();
}

#[test]
fn c7_a_crowd_that_is_turned_away_holds_few_places() {
    let mut world = world(ChannelSettings::default());
    world.join(0, &[0]);
    world.ends_freely = true;
    let held = press(&mut world, 85);
    let crowd: Vec<usize> = (0..200).map(|_| world.connect(0, &[0], Reader::Stalled, usize::MAX)).collect();
    while world.turn(0) {
        assert!(world.total(|counters| counters.connections.get()) <= 9);
    }
    let now = world.now();
    for number in crowd {
        world.clients[number].read(usize::MAX, now, &mut world.ledger);
        assert_eq!(world.clients[number].status, Some(503), "client {number}");
    }
    drop(held);
    world.expect_all_well();
}

#[test]
fn c7_at_90_per_cent_the_furthest_behind_go_first_and_one_in_twenty_a_second() {
    let mut world =
        world(ChannelSettings { max_lag_age: Duration::from_secs(60), ..ChannelSettings::default() });
    let healthy: Vec<usize> = (0..80).map(|_| world.join(0, &[0])).collect();
    // Of the messages below, who has the smaller window takes less.
    let stalled: Vec<usize> =
        (0..20).map(|index| world.connect(0, &[0], Reader::Dead, 1000 + 2000 * index)).collect();
    world.settle();
    (0..50).for_each(|_| world.publish(0, 1000));
    assert_eq!(world.total(|counters| counters.lagging.get()), 20);
    let open = |world: &World| world.total(|counters| counters.open.get());
    let shed = |world: &World| world.total(|counters| counters.memory_shed.get());
    let held = press(&mut world, 89);
    assert_eq!((open(&world), shed(&world)), (100, 0));
    drop(held);

    let held = world.memory.hold((BUDGET / 100 * 91) as usize);
    let mut counts = Vec::new();
    for _ in 0..60 {
        world.run_for(Duration::from_millis(100));
        counts.push(shed(&world));
    }
    assert_eq!(*counts.last().expect("some"), 20, "{counts:?}");
    for window in counts.windows(10) {
        assert!(window[9] - window[0] <= 5, "{counts:?}");
    }
    // Whoever was closed had no later message than whoever was left: the first five are those with the smallest windows.
    let first = counts.iter().find(|count| **count > 0).copied();
    assert_eq!(first, Some(5), "{counts:?}");
    world.run_for(Duration::from_secs(4));
    let ends = |numbers: &[usize]| -> Vec<_> {
        numbers.iter().map(|number| world.clients[*number].wire.borrow().closed.is_some()).collect()
    };
    assert!(ends(&stalled).iter().all(|is_closed| *is_closed));
    assert!(healthy.iter().all(|number| world.clients[*number].is_open()));
    assert_eq!(world.closed(CloseReason::SlowConsumer), 20);
    drop(held);
    world.expect_all_well();
}

#[test]
fn c7_the_first_to_go_is_the_one_furthest_behind() {
    let mut world =
        world(ChannelSettings { max_lag_age: Duration::from_secs(60), ..ChannelSettings::default() });
    let stalled: Vec<usize> = [9000, 3000, 500, 6000]
        .into_iter()
        .map(|capacity| world.connect(0, &[0], Reader::Dead, capacity))
        .collect();
    world.settle();
    (0..20).for_each(|_| world.publish(0, 1000));
    let held = world.memory.hold((BUDGET / 100 * 92) as usize);
    let mut order = Vec::new();
    while order.len() < stalled.len() {
        world.run_for(Duration::from_millis(100));
        for number in &stalled {
            // A closing connection is cut three seconds after its close, in the order of the closes.
            if world.clients[*number].wire.borrow().closed.is_some() && !order.contains(number) {
                order.push(*number);
            }
        }
    }
    assert_eq!(order, [stalled[2], stalled[1], stalled[3], stalled[0]]);
    drop(held);
    world.expect_all_well();
}

#[test]
fn c7_at_95_per_cent_who_relays_is_paused_and_nothing_is_lost() {
    let mut world = world(ChannelSettings { relay: true, ..ChannelSettings::default() });
    let witness = world.join(0, &[0]);
    world.clients[witness].witnesses.push(0);
    let sender = world.join(0, &[0]);
    let held = press(&mut world, 94);
    world.relay(sender, 100);
    world.settle();
    assert_eq!(world.clients[witness].messages, 1);
    drop(held);

    let held = press(&mut world, 95);
    (0..3).for_each(|_| world.relay(sender, 100));
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.clients[witness].messages, 1);
    assert!(world.total(|counters| counters.memory_pauses.get()) > 0);
    drop(held);
    let held = press(&mut world, 91);
    assert_eq!((world.memory.grade(), world.clients[witness].messages), (Grade::Refusing, 1));
    drop(held);
    let held = press(&mut world, 89);
    assert_eq!((world.memory.grade(), world.clients[witness].messages), (Grade::Shedding, 4));
    drop(held);
    world.expect_all_well();
}

#[test]
fn c7_what_stalled_readers_make_a_shard_hold_is_accounted_for_and_given_back() {
    let mut setup = Setup::new(8);
    setup.shards = 2;
    setup.memory = BUDGET;
    let mut world = World::new(setup);
    let start = world.memory.used();
    for index in 0..10 {
        world.connect(index % 2, &[0], Reader::Stalled, 1000);
    }
    world.settle();
    let idle = world.memory.used() - start;
    assert!((10 * 100..10 * 1000 + 4000).contains(&idle), "{idle}");
    (0..100).for_each(|_| world.publish(0, 5000));
    let full = world.memory.used() - start;
    // A journal on each shard, and little beside.
    assert!((1_000_000..1_400_000).contains(&full), "{full}");
    world.recover();
    world.run_for(Duration::from_secs(2));
    let after = world.memory.used() - start;
    assert!(after < idle + 1000, "{after} after {idle}");
    world.expect_all_well();
}
