//! Cases E1, E2, E3, E9, E10 and C9, C11: what arrives, in which order, and what becomes of those who lag.

use std::time::Duration;

use tidegate::config::{ChannelSettings, LagPolicy};
use tidegate::model::CloseReason;

use super::client::Reader;
use super::oracle::check_delivery;
use super::publisher::Publisher;
use super::world::{Setup, World, all_homed, homed};

fn channel(name: &str, max_lag_bytes: u64, on_lag: LagPolicy) -> (String, ChannelSettings) {
    (name.to_owned(), ChannelSettings { max_lag_bytes, on_lag, ..ChannelSettings::default() })
}

fn one_channel(shards: usize, home: usize, settings: ChannelSettings) -> World {
    let mut setup = Setup::new(1);
    setup.shards = shards;
    setup.channels = vec![(homed(home, shards), settings)];
    World::new(setup)
}

#[test]
fn e1_two_large_messages_in_one_turn_overtake_no_healthy_reader() {
    let settings = ChannelSettings { max_lag_bytes: 1000, ..ChannelSettings::default() };
    let mut world = one_channel(1, 0, settings);
    for _ in 0..3 {
        world.join(0, &[0]);
    }
    for _ in 0..5 {
        world.hand_over(0, &[400, 900]);
        world.settle();
    }
    assert_eq!(world.clients[0].received[0].len(), 10);
    world.expect_all_well();
}

#[test]
fn e1_a_fast_reader_of_large_messages_is_not_overtaken_by_the_write_bound() {
    let settings = ChannelSettings { max_lag_bytes: 400_000, ..ChannelSettings::default() };
    let mut world = one_channel(1, 0, settings);
    for _ in 0..4 {
        world.join(0, &[0]);
    }
    world.hand_over(0, &[60_000; 40]);
    world.settle();
    assert_eq!(world.clients[3].received[0].len(), 40);
    world.expect_all_well();
}

#[test]
fn e1_a_blocked_reader_delays_nobody_and_is_closed_beyond_its_limit() {
    let mut world =
        one_channel(1, 0, ChannelSettings { max_lag_bytes: 10_000, ..ChannelSettings::default() });
    let canary = world.join(0, &[0]);
    let slow = world.connect(0, &[0], Reader::Dead, 500);
    for count in 0..9 {
        world.publish(0, 996);
        assert_eq!(world.clients[canary].received[0].len(), count + 1);
        assert_eq!(
            world.total(|counters| counters.subscriptions.get()),
            2,
            "{count} behind is within bounds"
        );
    }
    world.publish(0, 2000);
    world.publish(0, 2000);
    assert_eq!(world.total(|counters| counters.subscriptions.get()), 1);
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.closed(CloseReason::SlowConsumer), 1);
    assert!(world.clients[slow].wire.borrow().closed.is_some());
    assert_eq!(world.clients[canary].received[0].len(), 11);
    world.expect_all_well();
}

/// 64 of them count as one write where a turn is bounded: neither as many as they are, nor as none.
#[test]
fn e1_who_waits_for_its_socket_takes_hardly_a_turn_from_the_others() {
    for on_lag in [LagPolicy::Disconnect, LagPolicy::Conflate] {
        let mut setup = Setup::new(1);
        setup.config.write_budget = 1;
        setup.channels = vec![channel("c", 100_000, on_lag)];
        let mut world = World::new(setup);
        let before = world.join(0, &[0]);
        for _ in 0..400 {
            world.connect(0, &[0], Reader::Dead, 200);
        }
        world.settle();
        let healthy = [before, world.join(0, &[0])];
        let mut slow_rounds = 0;
        for round in 1..30 {
            world.hand_over(0, &[3000]);
            let mut turns_until_all_had_it = 0;
            let mut turns = 0;
            while world.turn(0) {
                turns += 1;
                healthy.iter().for_each(|one| world.client_works(*one));
                let have_it = healthy.iter().all(|one| world.clients[*one].received[0].len() == round);
                if have_it && turns_until_all_had_it == 0 {
                    turns_until_all_had_it = turns;
                }
            }
            assert!(turns_until_all_had_it > 0, "round {round}: not all have the message");
            slow_rounds += u32::from(turns_until_all_had_it > 10);
            assert!(turns >= 6, "round {round}: over after {turns} turns of one write");
            world.settle();
        }
        // In the first round their sockets are filled. Where the channel conflates, all of them begin to in another.
        let conflating = world.total(|counters| counters.conflations.get());
        let expected = if on_lag == LagPolicy::Conflate { (2, 400) } else { (1, 0) };
        assert_eq!((slow_rounds, conflating), expected);
        assert_eq!(world.total(|counters| counters.subscriptions.get()), 402);
        world.expect_all_well();
    }
}

#[test]
fn e1_a_reader_behind_but_within_its_limits_keeps_everything() {
    let mut world =
        one_channel(1, 0, ChannelSettings { max_lag_bytes: 50_000, ..ChannelSettings::default() });
    for _ in 0..3 {
        world.join(0, &[0]);
    }
    world.connect(0, &[0], Reader::Stalled, 200);
    world.settle();
    // News in the middle of passes, so that passes begin at every place of the ring.
    for count in 0..60 {
        world.hand_over(0, &[300]);
        for _ in 0..count % 4 {
            world.turn(0);
        }
    }
    world.settle();
    assert_eq!(world.total(|counters| counters.subscriptions.get()), 4);
    world.expect_all_well();
}

#[test]
fn e1_a_reader_behind_in_large_messages_but_within_its_limits_keeps_everything() {
    for members in 2..12 {
        for place in 0..members {
            let mut world = one_channel(1, 0, ChannelSettings::default());
            for member in 0..members {
                if member == place {
                    world.connect(0, &[0], Reader::Stalled, 200);
                    world.settle();
                } else {
                    world.join(0, &[0]);
                }
            }
            for _ in 0..5 {
                world.hand_over(0, &[100_000, 90_000]);
                world.settle();
            }
            let left = world.total(|counters| counters.subscriptions.get());
            assert_eq!(left, members, "{members} members, the one at {place} is behind");
        }
    }
}

#[test]
fn e1_a_shard_that_is_behind_takes_no_more_than_half_the_lag_bound_and_a_message() {
    let mut setup = Setup::new(1);
    setup.config.write_budget = 1;
    setup.lane_capacity = 8;
    setup.channels = vec![channel("c", 2000, LagPolicy::Disconnect)];
    let mut world = World::new(setup);
    let members: Vec<usize> = (0..50).map(|_| world.join(0, &[0])).collect();
    let published = |world: &World| world.total(|counters| counters.published.get());
    // A pass takes fifty turns: in thirty of them it cannot end, and the second message is one too many.
    world.hand_over(0, &[600; 20]);
    for _ in 0..30 {
        world.turn(0);
        while world.publisher_works(0) {}
        assert!(published(&world) <= 2, "{} messages were taken in one pass", published(&world));
    }
    assert_eq!(published(&world), 2);
    assert!(world.publishers[0].pushbacks > 0, "the lane was never full");
    world.settle();
    assert!(members.iter().all(|member| world.clients[*member].received[0].len() == 20));
    world.expect_all_well();
}

#[test]
fn c8_a_socket_that_takes_nothing_is_closed_after_the_lag_age_whatever_the_policy() {
    for on_lag in [LagPolicy::Disconnect, LagPolicy::Skip] {
        let mut world = one_channel(1, 0, ChannelSettings { on_lag, ..ChannelSettings::default() });
        let dead = world.connect(0, &[0], Reader::Dead, 200);
        world.settle();
        world.publish(0, 1000);
        world.run_for(Duration::from_millis(9_900));
        assert_eq!(world.total(|counters| counters.open.get()), 1);
        world.run_for(Duration::from_millis(3_500));
        assert_eq!(world.closed(CloseReason::SlowConsumer), 1);
        assert!(world.clients[dead].wire.borrow().closed.is_some(), "its memory is given back");
        world.expect_all_well();
    }
}

#[test]
fn c9_ten_thousand_messages_behind_a_dead_reader_stay_within_the_bound() {
    let settings =
        ChannelSettings { max_lag_bytes: 20_000, on_lag: LagPolicy::Skip, ..ChannelSettings::default() };
    let mut world = one_channel(1, 0, settings);
    world.join(0, &[0]);
    world.connect(0, &[0], Reader::Dead, 300);
    for count in 0..500 {
        world.hand_over(0, &[100, 700, 50, 4000, 20]);
        world.settle();
        if count % 50 == 0 {
            world.check_memory().expect("within the bound");
        }
    }
    let journals = world.total(|counters| counters.journal_bytes.get());
    world.run_for(Duration::from_secs(2));
    assert!(world.total(|counters| counters.journal_bytes.get()) <= 64 * 1024 * 2 + 20_000, "{journals}");
    world.expect_all_well();
}

#[test]
fn e2_received_and_skipped_together_are_what_was_published() {
    let settings =
        ChannelSettings { max_lag_bytes: 2000, on_lag: LagPolicy::Skip, ..ChannelSettings::default() };
    let mut world = one_channel(1, 0, settings);
    let canary = world.join(0, &[0]);
    let slow = world.connect(0, &[0], Reader::Slow, 700);
    world.settle();
    for _ in 0..200 {
        world.publish(0, 300);
        if world.pick(3) == 0 {
            world.client_works(slow);
        }
    }
    world.recover();
    let (got, skipped) =
        (world.clients[slow].received[0].len(), world.total(|counters| counters.skipped.get()));
    assert!(skipped > 0 && got > 20, "{got} received, {skipped} skipped");
    assert_eq!(got as u64 + skipped, 200);
    assert_eq!(world.clients[canary].received[0].len(), 200);
    assert_eq!(world.total(|counters| counters.delivered.get()) + skipped, 400);
    world.expect_all_well();
}

#[test]
fn e3_every_subscriber_on_every_shard_sees_one_order() {
    let settings = ChannelSettings { relay: true, ..ChannelSettings::default() };
    let mut setup = Setup::new(3);
    setup.shards = 4;
    setup.lane_capacity = 2;
    setup.channels = vec![(homed(2, 4), settings)];
    let mut world = World::new(setup);
    let witness = world.join(2, &[0]);
    world.clients[witness].witnesses.push(0);
    let members: Vec<usize> = (0..8).map(|index| world.join(index % 4, &[0])).collect();
    for round in 0..400 {
        world.relay(members[round % 8], round % 200);
        let (shard, member) = (world.pick(4), world.pick(8));
        world.turn(shard);
        world.client_works(members[member]);
    }
    world.settle();
    world.recover();
    assert_eq!(world.ledger.channels[0].order.len(), 400);
    assert_eq!(world.total(|counters| counters.stepped_over.get()), 400);
    assert_eq!(world.total(|counters| counters.delivered.get()), 400 * 8);
    world.expect_all_well();
}

#[test]
fn a_home_that_is_full_delays_no_message_for_another_home() {
    let mut setup = Setup::new(9);
    (setup.shards, setup.lane_capacity) = (3, 1);
    let relay = ChannelSettings { relay: true, ..ChannelSettings::default() };
    setup.channels = vec![(homed(1, 3), relay), (homed(2, 3), relay)];
    let mut world = World::new(setup);
    let witness = world.join(2, &[0, 1]);
    world.clients[witness].witnesses = vec![0, 1];
    let (to_full, to_free) = (world.join(0, &[0]), world.join(0, &[1]));
    for number in [to_full, to_free] {
        for _ in 0..3 {
            world.relay(number, 50);
        }
        world.clients[number].wire.borrow_mut().arrive(usize::MAX);
        // Shard 1 does not turn: of the messages for it one fits into its lane, and the others wait first.
        world.turn(0);
    }
    for _ in 0..10 {
        world.clock.set(world.now().after(Duration::from_millis(2)));
        world.turn(0);
        world.turn(2);
    }
    assert_eq!(world.shards[2].counters.relayed.get(), 3);
    assert_eq!(world.shards[1].counters.relayed.get(), 0);
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.clients[witness].received[0].len(), 3);
    world.expect_all_well();
}

#[test]
fn e9_parallel_publishers_keep_their_own_order_and_share_one() {
    let mut setup = Setup::new(9);
    setup.shards = 3;
    setup.lane_capacity = 2;
    setup.channels = vec![channel(&homed(1, 3), 1 << 20, LagPolicy::Disconnect)];
    let mut world = World::new(setup);
    let members: Vec<usize> = (0..6).map(|index| world.join(index % 3, &[0])).collect();
    for number in 0..16 {
        let mut publisher = Publisher::new(number);
        publisher.waits_for_receipts = number % 2 == 0;
        (0..50).for_each(|length| publisher.enqueue(0, length));
        world.publishers.push(publisher);
    }
    for _ in 0..4000 {
        let (publisher, shard) = (world.pick(16), world.pick(3));
        world.publisher_works(publisher);
        if world.pick(4) == 0 {
            world.turn(shard);
        }
    }
    world.settle();
    world.recover();
    assert!(world.publishers.iter().any(|publisher| publisher.pushbacks > 0), "the lane was never full");
    let first = world.clients[members[0]].received[0].clone();
    assert_eq!(first.len(), 16 * 50);
    assert!(members.iter().all(|member| world.clients[*member].received[0] == first));
    world.expect_all_well();
}

#[test]
fn e9_nothing_comes_between_messages_that_were_published_together() {
    // More than a shard numbers in a turn, so that clients are read while some are numbered and some are not.
    const TOGETHER: usize = 600;
    for senders_shard in [0, 1] {
        let mut setup = Setup::new(9);
        setup.shards = 2;
        let relay = ChannelSettings { relay: true, ..ChannelSettings::default() };
        setup.channels = vec![(homed(0, 2), relay)];
        let mut world = World::new(setup);
        let witness = world.join(1, &[0]);
        world.clients[witness].witnesses.push(0);
        let sender = world.join(senders_shard, &[0]);
        let lengths = vec![10; TOGETHER];
        assert!(world.publish_together(0, &lengths));
        for _ in 0..8 {
            world.relay(sender, 20);
            world.clients[sender].wire.borrow_mut().arrive(usize::MAX);
            world.turn(1);
            world.turn(0);
        }
        world.settle();
        world.recover();
        let order = &world.ledger.channels[0].order;
        assert_eq!(order.len(), TOGETHER + 8);
        let places: Vec<usize> = (0..order.len()).filter(|place| order[*place].publisher == 0).collect();
        assert_eq!(places.len(), TOGETHER);
        assert_eq!(places.last().zip(places.first()).map(|(last, first)| last - first), Some(TOGETHER - 1));
        world.expect_all_well();
    }
}

/// The exchange of a remote subscribe is about ten turns of two shards: a message is published before each of them.
#[test]
fn e10_publish_at_every_step_of_a_subscribe() {
    for publish_at in 0..12 {
        for order in 0..64_u32 {
            let mut world = one_channel(2, 1, ChannelSettings::default());
            let resident = (order % 2 == 0).then(|| world.join(1, &[0]));
            let joiner = world.connect(0, &[0], Reader::Healthy, usize::MAX);
            for step in 0..12 {
                if step == publish_at {
                    world.hand_over(0, &[50]);
                }
                world.turn(usize::from(order >> (step % 6) & 1 == 1));
                world.client_works(joiner);
            }
            world.settle();
            world.publish(0, 60);
            let got = world.clients[joiner].received[0].len();
            assert!((1..=2).contains(&got), "published at {publish_at}, order {order}: {got}");
            if let Some(resident) = resident {
                assert_eq!(world.clients[resident].received[0].len(), 2);
            }
            check_delivery(&world).unwrap_or_else(|fault| panic!("{publish_at}, {order}: {fault}"));
        }
    }
}

/// What the joiner's shard has to ask waits in its outbox, as the home's lane is full: a message may be numbered before.
#[test]
fn e10_no_answer_while_the_interest_waits_for_room() {
    let mut setup = Setup::new(10);
    (setup.shards, setup.lane_capacity) = (2, 1);
    let names = all_homed(1, 2).take(2);
    setup.channels = names.map(|name| (name, ChannelSettings::default())).collect();
    let mut world = World::new(setup);
    for asked in [0, 1] {
        let joiner = world.connect(0, &[asked], Reader::Healthy, usize::MAX);
        world.clients[joiner].wire.borrow_mut().arrive(usize::MAX);
        while world.turn(0) {}
    }
    assert!(world.clients.iter().all(|client| client.wire.borrow().taken == 0), "the home has not answered");
    world.hand_over(1, &[50]);
    world.turn(1);
    world.run_for(Duration::from_millis(10));
    let heard: Vec<_> = world.clients.iter().map(|client| client.status).collect();
    assert_eq!(heard, [Some(101), Some(101)]);
    world.publish(1, 60);
    assert!((1..=2).contains(&world.clients[1].received[1].len()));
    world.expect_all_well();
}

/// The last member is found dead by a write, after this turn's withdrawals were sent; another comes in the next turn.
#[test]
fn e10_a_join_right_behind_a_member_that_died_in_the_flush_is_fed() {
    let mut world = one_channel(2, 1, ChannelSettings::default());
    let first = world.join(0, &[0]);
    world.hand_over(0, &[50]);
    world.turn(1);
    world.clients[first].wire.borrow_mut().takes_zero = true;
    let second = world.connect(0, &[0], Reader::Healthy, usize::MAX);
    world.ends_freely = true;
    world.turn(0);
    world.clients[second].wire.borrow_mut().arrive(usize::MAX);
    world.settle();
    for _ in 0..3 {
        world.publish(0, 20);
    }
    assert_eq!(world.clients[second].received[0].len(), 3);
    world.expect_all_well();
}

#[test]
fn e10_what_comes_while_another_channel_is_attached_does_not_count_as_lag() {
    let mut setup = Setup::new(10);
    setup.shards = 2;
    setup.channels =
        [(homed(0, 2)), (homed(1, 2))].map(|name| channel(&name, 1000, LagPolicy::Disconnect)).into();
    let mut world = World::new(setup);
    let joiner = world.connect(0, &[0, 1], Reader::Healthy, usize::MAX);
    world.clients[joiner].wire.borrow_mut().arrive(usize::MAX);
    while world.turn(0) {}
    for _ in 0..10 {
        world.hand_over(0, &[400]);
        while world.turn(0) {}
    }
    world.settle();
    assert_eq!(world.clients[joiner].status, Some(101));
    world.publish(0, 30);
    world.publish(1, 30);
    assert!(world.clients[joiner].received.iter().all(|received| received.len() == 1));
    world.expect_all_well();
}

#[test]
fn c11_a_message_too_large_for_its_history_leaves_no_channel_behind() {
    let settings = ChannelSettings { history_messages: 10, history_bytes: 500, ..ChannelSettings::default() };
    let mut world = one_channel(1, 0, settings);
    world.publish(0, 100);
    assert_eq!(world.shards[0].shard.channel_count(), 1);
    world.publish(0, 600);
    world.run_for(Duration::from_secs(90));
    assert_eq!(world.shards[0].shard.channel_count(), 0);
    world.expect_all_well();
}

#[test]
fn c11_a_channel_whose_last_member_dies_in_the_flush_is_forgotten_everywhere() {
    let mut world = one_channel(2, 1, ChannelSettings::default());
    let member = world.join(0, &[0]);
    world.ends_freely = true;
    world.clients[member].wire.borrow_mut().takes_zero = true;
    world.publish(0, 50);
    assert_eq!(world.shards.iter().map(|shard| shard.shard.channel_count()).sum::<usize>(), 0);
    world.expect_all_well();
}

#[test]
fn e4_what_a_home_hands_over_at_the_attach_grows_old_on_the_other_shard_too() {
    let settings = ChannelSettings { history_messages: 10, ..ChannelSettings::default() };
    let mut world = one_channel(2, 1, settings);
    for _ in 0..5 {
        world.publish(0, 100);
    }
    world.join(0, &[0]);
    assert!(world.shards[0].counters.journal_bytes.get() > 0);
    world.run_for(Duration::from_secs(70));
    assert_eq!(world.total(|counters| counters.journal_bytes.get()), 0);
    world.expect_all_well();
}

#[test]
fn a_full_journal_does_not_wait_for_the_batch_window() {
    let mut setup = Setup::new(1);
    setup.config.batch_window = Duration::from_millis(100);
    setup.channels = vec![channel("c", 1000, LagPolicy::Disconnect)];
    let mut world = World::new(setup);
    let member = world.join(0, &[0]);
    world.hand_over(0, &[100]);
    world.settle();
    assert!(world.clients[member].received[0].is_empty(), "it waits for more");
    world.hand_over(0, &[600]);
    world.settle();
    assert_eq!(world.clients[member].received[0].len(), 2);
    world.expect_all_well();
}
