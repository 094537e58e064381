//! Case E8: a publish of a client whose connection is lost at any moment, and that is sent again, is one message.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::config::ChannelSettings;

use super::protocol::{self, Item, Stream};
use super::wire::{Wire, WireRef};
use super::world::{Setup, World, homed};

/// A client of `tidegate.v1`.
struct Speaker {
    wire: WireRef,
    stream: Stream,
    heard: VecDeque<Value>,
}

impl Speaker {
    /// A client that asked `shard` for `target` and is settled.
    fn join(world: &mut World, shard: usize, target: &str) -> Speaker {
        let wire = Wire::new(0, usize::MAX);
        let head = protocol::upgrade_to(target, "Sec-WebSocket-Protocol: tidegate.v1\r\n");
        wire.borrow_mut().flight.extend(head);
        world.shards[shard].host.borrow_mut().connect(Rc::clone(&wire));
        let mut speaker = Speaker { wire, stream: Stream::new(false), heard: VecDeque::new() };
        speaker.settle(world);
        speaker
    }

    /// Sends a publish; it arrives with [`Speaker::settle`] or by hand.
    fn publish(&mut self, channel: &str, data: u32) {
        let command =
            json!({"type": "publish", "id": 1, "channel": channel, "data": data, "idempotency_key": "k"});
        let frame = protocol::frame(protocol::TEXT, command.to_string().as_bytes(), [7, 0, 9, 1]);
        self.wire.borrow_mut().flight.extend(frame);
    }

    /// All that was sent arrives, everybody does what there is to do, and all that was said is heard.
    fn settle(&mut self, world: &mut World) {
        self.wire.borrow_mut().arrive(usize::MAX);
        world.settle();
        let bytes = self.wire.borrow_mut().take(usize::MAX);
        for item in self.stream.feed(&bytes).expect("frames") {
            match item {
                Item::Head { status, .. } => assert_eq!(status, 101),
                Item::Data { payload, .. } => {
                    self.heard.push_back(serde_json::from_slice(&payload).expect("JSON"));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn hear(&mut self) -> Value {
        self.heard.pop_front().expect("something was said")
    }

    /// The position in the reply to a publish, and whether the message had it already.
    fn hear_published(&mut self) -> (Value, bool) {
        let reply = self.hear();
        assert_eq!((&reply["type"], &reply["id"]), (&json!("published"), &json!(1)), "{reply}");
        (reply["position"].clone(), reply["duplicate"] == true)
    }
}

/// Two shards, a channel that is homed at `home`, and a subscriber on the other.
fn world(home: usize, lane_capacity: usize) -> (World, String, Speaker) {
    let mut setup = Setup::new(8);
    setup.shards = 2;
    setup.lane_capacity = lane_capacity;
    let channel = homed(home, 2);
    setup.channels = vec![(channel.clone(), ChannelSettings { relay: true, ..ChannelSettings::default() })];
    let mut world = World::new(setup);
    let mut witness = Speaker::join(&mut world, 1 - home, &format!("/ws/{channel}"));
    assert_eq!(witness.hear()["type"], "subscribed");
    (world, channel, witness)
}

/// Every pair of shards.
fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..4).map(|number| (number / 2, number % 2))
}

#[test]
fn e8_a_client_that_is_cut_at_any_moment_and_publishes_again_gets_the_first_position() {
    const TURNS_MAX: usize = 12;
    let (mut cases, mut duplicates) = (0, 0);
    for (home, first) in pairs() {
        for (again, turns) in (0..2 * TURNS_MAX).map(|number| (number % 2, number / 2)) {
            let what = format!("home {home}, first {first}, again {again}, cut after {turns} turns");
            let (mut world, channel, mut witness) = world(home, 64);
            let mut sender = Speaker::join(&mut world, first, "/ws");
            sender.publish(&channel, 1);
            if turns > 0 {
                sender.wire.borrow_mut().arrive(usize::MAX);
            }
            for turn in 0..turns {
                world.turn((first + turn) % 2);
            }
            sender.wire.borrow_mut().reset();

            let mut sender = Speaker::join(&mut world, again, "/ws");
            sender.publish(&channel, 1);
            sender.settle(&mut world);
            let (position, is_duplicate) = sender.hear_published();
            witness.settle(&mut world);
            assert_eq!(
                witness.hear(),
                json!({"channel": channel, "position": position, "data": 1}),
                "{what}"
            );
            assert!(witness.heard.is_empty(), "{what}: {:?}", witness.heard);
            assert_eq!(world.total(|counters| counters.published.get()), 1, "{what}");
            cases += 1;
            duplicates += u32::from(is_duplicate);
        }
    }
    assert!(duplicates > 0 && duplicates < cases, "some were cut before they were taken, some behind it");
}

#[test]
fn e8_of_two_at_the_same_time_one_is_published_and_both_get_its_position() {
    for (home, first) in pairs() {
        let (mut world, channel, mut witness) = world(home, 64);
        let mut senders = [0, 1].map(|shard| Speaker::join(&mut world, shard, "/ws"));
        for sender in &mut senders {
            sender.publish(&channel, 1);
            sender.wire.borrow_mut().arrive(usize::MAX);
        }
        world.turn(first);
        let [one, other] = &mut senders;
        one.settle(&mut world);
        other.settle(&mut world);
        let replies = [one.hear_published(), other.hear_published()];
        assert_eq!(replies[0].0, replies[1].0, "home {home}, first {first}");
        assert_ne!(replies[0].1, replies[1].1, "one was the first");

        one.publish(&channel, 2);
        one.settle(&mut world);
        assert_eq!(one.hear()["error"], "idempotency_conflict");
        witness.settle(&mut world);
        assert_eq!(witness.hear()["position"], replies[0].0);
        assert!(witness.heard.is_empty(), "{:?}", witness.heard);
    }
}

#[test]
fn e8_what_waits_for_room_at_its_home_when_its_sender_goes_is_not_published_twice() {
    let (mut world, channel, mut witness) = world(1, 1);
    let mut sender = Speaker::join(&mut world, 0, "/ws");
    world.hand_over(0, &[40]);
    sender.publish(&channel, 1);
    sender.wire.borrow_mut().arrive(usize::MAX);
    while world.turn(0) {}
    assert_eq!(world.total(|counters| counters.publish_pushbacks.get()), 1, "the lane is full");
    sender.wire.borrow_mut().reset();

    let mut sender = Speaker::join(&mut world, 1, "/ws");
    sender.publish(&channel, 1);
    sender.settle(&mut world);
    world.run_for(Duration::from_secs(1));
    let (position, _) = sender.hear_published();
    witness.settle(&mut world);
    let told: Vec<Value> = witness.heard.iter().filter(|said| said["data"] == 1).cloned().collect();
    assert_eq!(told, [json!({"channel": channel, "position": position, "data": 1})]);
    assert_eq!(world.total(|counters| counters.idempotency_duplicates.get()), 1);
}

#[test]
fn e8_keys_are_accounted_for_and_put_away_after_their_time_though_nobody_publishes() {
    let (mut world, channel, witness) = world(0, 64);
    let mut sender = Speaker::join(&mut world, 1, "/ws");
    sender.publish(&channel, 1);
    sender.settle(&mut world);
    for speaker in [&witness, &sender] {
        speaker.wire.borrow_mut().reset();
    }
    let kept = |world: &World| world.total(|counters| counters.idempotency_keys.get());
    world.run_for(Duration::from_secs(299));
    assert_eq!(kept(&world), 1);
    assert!((300..1000).contains(&world.memory.used()), "{}", world.memory.used());
    world.run_for(Duration::from_secs(3));
    assert_eq!((kept(&world), world.memory.used()), (0, 0));
}
