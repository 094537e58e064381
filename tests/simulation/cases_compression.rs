//! Messages that are deflated once and read by many: who gets them so, and from when on.

use tidegate::config::{ChannelSettings, LagPolicy};

use super::client::Reader;
use super::world::{Setup, World, all_homed};

/// `shards` shards; each of `epochs` is a channel with compression on, epochs of so many messages and a home on shard 0.
fn world(shards: usize, epochs: &[u64], settings: ChannelSettings) -> World {
    let mut setup = Setup::new(1);
    setup.shards = shards;
    let names = all_homed(0, shards);
    let channel = |(name, epoch): (String, &u64)| {
        (name, ChannelSettings { compression: true, compression_epoch: *epoch, ..settings })
    };
    setup.channels = names.zip(epochs).map(channel).collect();
    World::new(setup)
}

fn deflated(world: &World) -> Vec<usize> {
    world.clients.iter().map(super::client::Client::deflated).collect()
}

fn publish(world: &mut World, channel: usize, count: usize) {
    (0..count).for_each(|_| world.publish(channel, 200));
}

#[test]
fn a_message_is_deflated_once_for_all_shards_and_only_for_who_agreed() {
    let mut world = world(3, &[64], ChannelSettings::default());
    for shard in 0..3 {
        world.join_offering(shard, &[0], "; client_max_window_bits");
        world.join(shard, &[0]);
    }
    publish(&mut world, 0, 10);
    assert_eq!(deflated(&world), [10, 0, 10, 0, 10, 0]);
    assert_eq!(world.total(|counters| counters.deflated.get()), 10);
    let (plain, sent) =
        (world.total(|counters| counters.deflate_bytes_in.get()), world.total(|c| c.deflate_bytes_out.get()));
    assert_eq!(plain, 10 * 204);
    assert!(sent < plain / 2, "{sent} of {plain} bytes");
    world.expect_all_well();
}

#[test]
fn nothing_is_deflated_for_nobody() {
    let mut world = world(2, &[64], ChannelSettings::default());
    world.join(0, &[0]);
    world.join_offering(1, &[0], "; server_no_context_takeover");
    world.join_offering(1, &[0], "; server_max_window_bits=9");
    publish(&mut world, 0, 5);
    let rider = world.join_offering(1, &[0], "");
    publish(&mut world, 0, 5);
    assert_eq!(deflated(&world), [0, 0, 0, 5]);
    let (now, clients) = (world.now(), &mut world.clients);
    clients[rider].reset(now, &world.ledger);
    publish(&mut world, 0, 5);
    assert_eq!(world.total(|counters| counters.deflated.get()), 5);
    world.expect_all_well();
}

#[test]
fn who_joins_reads_plain_messages_until_the_next_epoch() {
    let mut world = world(2, &[4], ChannelSettings::default());
    for count in [1, 2, 3, 4] {
        for shard in 0..2 {
            world.join_offering(shard, &[0], "");
        }
        publish(&mut world, 0, count);
    }
    // Epochs begin with messages 1, 5 and 9; these pairs joined before messages 1, 2, 4 and 7.
    assert_eq!(deflated(&world), [10, 10, 6, 6, 6, 6, 2, 2]);
    world.expect_all_well();
}

#[test]
fn of_several_channels_the_first_that_compresses_is_deflated() {
    let mut world = world(2, &[64, 64], ChannelSettings::default());
    for shard in 0..2 {
        world.join_offering(shard, &[0, 1], "");
        world.join_offering(shard, &[1, 0], "");
    }
    for _ in 0..5 {
        publish(&mut world, 0, 2);
        publish(&mut world, 1, 1);
    }
    assert_eq!(deflated(&world), [10, 5, 10, 5]);
    world.expect_all_well();
}

#[test]
fn a_sender_rides_on_from_the_epoch_after_its_own_message() {
    let mut world = world(1, &[4], ChannelSettings { relay: true, ..ChannelSettings::default() });
    let witness = world.join_offering(0, &[0], "");
    world.clients[witness].witnesses.push(0);
    let sender = world.join_offering(0, &[0], "");
    publish(&mut world, 0, 1);
    world.relay(sender, 200);
    world.settle();
    // Messages 3 and 4 end the epoch, 5 to 8 are the next one.
    publish(&mut world, 0, 6);
    assert_eq!(deflated(&world), [8, 5]);
    world.expect_all_well();
}

#[test]
fn who_was_skipped_on_rides_again_from_the_next_epoch() {
    let settings =
        ChannelSettings { on_lag: LagPolicy::Skip, max_lag_bytes: 1000, ..ChannelSettings::default() };
    let mut world = world(1, &[8], settings);
    let slow = world.connect_offering(0, &[0], Reader::Stalled, 250, Some("permessage-deflate"));
    world.settle();
    publish(&mut world, 0, 20);
    assert!(world.total(|counters| counters.skipped.get()) > 0);
    world.recover();
    let before = world.clients[slow].deflated();
    world.clients[slow].reader = Reader::Healthy;
    publish(&mut world, 0, 12);
    // Messages 21 to 24 belong to the epoch of 17, which it has missed the beginning of.
    assert_eq!(world.clients[slow].deflated() - before, 8);
    world.clients[slow].reader = Reader::Slow;
    world.expect_all_well();
}
