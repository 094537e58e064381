//! Cases B9, B20, B23, C17, C18: sockets that stop, cut and break anywhere; nothing is lost that the peer could still have.

use std::time::Duration;

use tidegate::config::ChannelSettings;
use tidegate::model::CloseReason;

use super::client::{Client, Reader};
use super::protocol::{self, BINARY, CLOSE, PING, RSV1, close_payload};
use super::world::{Setup, World};

fn chat(seed: u64) -> World {
    let mut setup = Setup::new(seed);
    setup.channels[0].1 = ChannelSettings { relay: true, compression: true, ..ChannelSettings::default() };
    setup.config.client_rate = 0;
    let mut world = World::new(setup);
    let witness = world.join(0, &[0]);
    world.clients[witness].witnesses.push(0);
    world
}

#[test]
fn c17_lost_readiness_one_edge_is_enough_for_all_that_arrived_with_it() {
    for lengths in [vec![50_000; 8], vec![0; 9000], vec![65_500; 3], vec![131; 1000]] {
        let mut world = chat(17);
        let sender = world.join(0, &[0]);
        for length in &lengths {
            world.relay(sender, *length);
        }
        world.clients[sender].ping();
        world.clients[sender].wire.borrow_mut().arrive(usize::MAX);
        while world.turn(0) {}
        assert_eq!(world.total(|counters| counters.published.get()), lengths.len() as u64);
        world.settle();
        assert_eq!(world.clients[sender].pongs.len(), 1);
        world.expect_all_well();
    }
}

#[test]
fn c17_an_end_that_comes_with_the_last_bytes_is_seen_after_them() {
    let mut world = chat(18);
    let sender = world.join(0, &[0]);
    for _ in 0..10 {
        world.relay(sender, 20_000);
    }
    world.clients[sender].finish();
    world.settle();
    assert_eq!(world.clients[0].received[0].len(), 10);
    assert_eq!(world.closed(CloseReason::EndOfFile), 1);
    world.expect_all_well();
}

#[test]
fn c18_writes_of_one_byte_and_buffers_of_one_byte_lose_nothing() {
    for (capacity, write_max) in [(usize::MAX, 1), (1, usize::MAX), (7, 3), (130, 129)] {
        let mut world = chat(19);
        let slow = world.connect(0, &[0], Reader::Slow, capacity);
        world.clients[slow].wire.borrow_mut().write_max = write_max;
        world.settle();
        for length in [0, 50, 125, 126, 127, 9000, 3] {
            world.publish(0, length);
            let now = world.now();
            let client = &mut world.clients[slow];
            client.read(10, now, &mut world.ledger);
            client.ping();
            world.settle();
        }
        for _ in 0..20_000 {
            let now = world.now();
            world.clients[slow].read(usize::MAX, now, &mut world.ledger);
            if !world.turn(0) {
                break;
            }
        }
        world.recover();
        assert_eq!(world.clients[slow].received[0].len(), 7);
        world.expect_all_well();
    }
}

#[test]
fn c18_short_and_zero_writes_a_write_of_nothing_ends_the_connection() {
    let mut world = chat(20);
    let odd = world.join(0, &[0]);
    world.clients[odd].wire.borrow_mut().takes_zero = true;
    world.ends_freely = true;
    world.publish(0, 100);
    assert!(world.clients[odd].wire.borrow().closed.is_some());
    assert!(world.clients[odd].wire.borrow().write_calls < 5);
    world.expect_all_well();
}

/// The frame of a message that `number` sends next, taken off the wire before any of it has arrived.
fn unsent_frame(world: &mut World, number: usize) -> Vec<u8> {
    world.relay(number, 60);
    world.clients[number].wire.borrow_mut().flight.drain(..).collect()
}

#[test]
fn b9_each_message_has_a_deadline_of_its_own_however_reads_cut_the_stream() {
    let mut world = chat(9);
    let sender = world.join(0, &[0]);
    // Every read ends in the middle of a message: the sender is never at rest, and never late.
    let mut rest = Vec::new();
    for count in 0..5 {
        let frame = unsent_frame(&mut world, sender);
        let (head, tail) = frame.split_at(20);
        let bytes = [&rest[..], head].concat();
        world.clients[sender].wire.borrow_mut().flight.extend(bytes);
        rest = tail.to_vec();
        world.run_for(Duration::from_secs(6));
        assert_eq!(world.clients[0].received[0].len(), count);
        assert!(world.clients[sender].is_open(), "after {count} messages");
    }
    // One that is not finished is given up: the rest never comes.
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.clients[sender].close, Some((1008, "stalled_msg".to_owned())));
    assert_eq!(world.closed(CloseReason::StalledMessage), 1);
}

/// A byte every three seconds, from the place `at` of `stream` on; what is before it came with the first byte.
fn dribble(world: &mut World, number: usize, stream: &[u8], at: usize) {
    let began = world.now();
    let send = |world: &mut World, bytes: &[u8]| {
        world.clients[number].wire.borrow_mut().flight.extend(bytes);
        world.settle();
    };
    send(world, &stream[..at]);
    for byte in stream[at..].iter().take(3) {
        world.run_for(Duration::from_secs(3));
        send(world, &[*byte]);
    }
    world.run_for(Duration::from_millis(900));
    assert_eq!(world.now().since(began), Duration::from_millis(9900));
    assert!(world.clients[number].is_open(), "given up before its time");
    world.run_for(Duration::from_millis(200));
}

#[test]
fn b23_a_byte_now_and_then_wins_no_time_wherever_in_a_frame_it_stands() {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let long = protocol::frame(BINARY, &[7; 65_536], MASK);
    let ping = protocol::frame(PING, b"are you there?", MASK);
    let mut fragments = protocol::frame(BINARY, b"begun", MASK);
    fragments[0] &= 0x7f;
    let next_frame = fragments.len();
    fragments.extend(protocol::frame(0, &[7; 200], MASK));
    let begun = |places: &[usize], stream: &[u8], first: u8| -> Vec<(usize, Vec<u8>)> {
        let stream = [&[stream[0] | first], &stream[1..]].concat();
        places.iter().map(|at| (*at, stream.clone())).collect()
    };
    let in_header_mask_and_payload = [1, 2, 9, 10, 11, 14, 5000];
    let across_fragments = [1, next_frame - 1, next_frame, next_frame + 1, next_frame + 4, next_frame + 8];
    let streams = [
        begun(&in_header_mask_and_payload, &long, 0),
        begun(&in_header_mask_and_payload, &long, RSV1),
        begun(&across_fragments, &fragments, 0),
        begun(&across_fragments, &fragments, RSV1),
        begun(&[1, 3, 6, 9], &ping, 0),
    ];
    for (at, stream) in streams.into_iter().flatten() {
        let mut world = chat(23);
        let sender = world.join_offering(0, &[0], "");
        // A pong would stand in the middle of the frame.
        world.clients[sender].answers_pings = false;
        dribble(&mut world, sender, &stream, at);
        let close = world.clients[sender].close.clone();
        assert_eq!(close, Some((1008, "stalled_msg".to_owned())), "{:#x} from byte {at} on", stream[0]);
        assert_eq!(world.closed(CloseReason::StalledMessage), 1);
    }
}

/// Upgrade, then a message, a ping and a close: all the bytes a client sends in its life.
fn say_everything(world: &mut World, number: usize) {
    world.relay(number, 300);
    let client = &mut world.clients[number];
    client.ping();
    client.send_frame(CLOSE, &close_payload(1000, "bye"));
    client.has_left = true;
}

fn at_every_offset(end: impl Fn(&mut Client, &mut World)) {
    for offset in 0.. {
        let mut world = chat(offset as u64);
        let number = world.connect(0, &[0], Reader::Healthy, usize::MAX);
        while world.turn(0) {}
        // The request goes first in any case: bytes ahead of the 101 would be refused.
        let request = world.clients[number].wire.borrow().flight.len();
        world.clients[number].wire.borrow_mut().arrive(offset);
        while world.turn(0) {}
        if offset > request {
            world.settle();
            say_everything(&mut world, number);
            let script = world.clients[number].wire.borrow().flight.len();
            if offset - request > script {
                return;
            }
            world.clients[number].wire.borrow_mut().arrive(offset - request);
            while world.turn(0) {}
        }
        world.ends_freely = true;
        let mut client = world.clients.remove(number);
        end(&mut client, &mut world);
        world.clients.insert(number, client);
        world.settle();
        world.publish(0, 10);
        world.expect_all_well();
    }
}

#[test]
fn b20_reset_at_every_byte_offset() {
    at_every_offset(|client, world| {
        let now = world.now();
        client.reset(now, &world.ledger);
    });
}

#[test]
fn b20_end_at_every_byte_offset() {
    at_every_offset(|client, _| {
        client.wire.borrow_mut().flight.clear();
        client.finish();
    });
}

#[test]
fn b20_reset_after_every_byte_the_client_reads() {
    for offset in 0..700 {
        let mut world = chat(offset as u64);
        let number = world.connect(0, &[0], Reader::Slow, 40 + offset % 5);
        world.settle();
        let mut left = offset;
        for length in [300, 20, 20] {
            world.publish(0, length);
            while left > 0 && world.clients[number].wire.borrow().readable() > 0 {
                let now = world.now();
                let count = left.min(world.clients[number].wire.borrow().readable());
                world.clients[number].read(count, now, &mut world.ledger);
                left -= count;
                world.settle();
            }
        }
        let now = world.now();
        world.clients[number].reset(now, &world.ledger);
        world.settle();
        assert_eq!(world.total(|counters| counters.connections.get()), 1);
        assert_eq!(world.closed(CloseReason::Reset), 1);
        world.expect_all_well();
    }
}

#[test]
fn a_client_that_ends_its_side_with_its_request_gets_the_answer() {
    for request in
        ["GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "nonsense\r\n\r\n"]
    {
        let mut world = World::new(Setup::new(1));
        world.ends_freely = true;
        let number = world.connect(0, &[0], Reader::Healthy, usize::MAX);
        let wire = world.clients[number].wire.clone();
        wire.borrow_mut().flight = request.bytes().collect();
        world.clients[number].finish();
        world.settle();
        assert!(world.clients[number].status.is_some(), "no answer to {request:?}");
        assert!(wire.borrow().closed.is_some());
        world.expect_all_well();
    }
}

#[test]
fn a_client_that_closes_and_ends_its_side_at_once_gets_the_close_reply() {
    let mut world = chat(1);
    let number = world.join(0, &[0]);
    world.clients[number].leave_politely();
    world.clients[number].finish();
    world.settle();
    assert_eq!(world.clients[number].close.as_ref().map(|(code, _)| *code), Some(1000));
    world.expect_all_well();
}
