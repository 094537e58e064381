//! Random writes against a naive client: whatever the socket takes, frames arrive whole and in order.

use std::io::IoSlice;

use super::*;
use crate::config::ChannelSettings;
use crate::config::limits::OWN_FRAMES_BYTES_MAX;
use crate::config::limits::WRITE_BYTES_MAX;
use crate::delivery::Feed;
use crate::delivery::{Feeds, Plan, Progress, SLICES_MAX};
use crate::model::encoding::append_control_frame;
use crate::model::{ChannelName, ConnectionId, Epoch, PayloadKind, Publication, ShardId};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

mod told;

const CHANNEL: ChannelIndex = ChannelIndex(0);
const ME: Origin = Origin { shard: ShardId(0), connection: ConnectionId { slot: 3, generation: 9 } };

fn feeds() -> Feeds {
    let mut feeds = Feeds::default();
    let feed = feeds.insert(CHANNEL, Feed::new(ChannelSettings::default(), Epoch(1), Offset(1)));
    feed.on_join(Offset(1), 1);
    feeds
}

fn publish(feeds: &mut Feeds, payload: &[u8], origin: Option<Origin>) {
    let channel = ChannelName::parse("c").unwrap();
    let publication = Publication::encode(channel, PayloadKind::Binary, payload, Time::ZERO, origin);
    let feed = feeds.get_mut(CHANNEL).unwrap();
    let offset = feed.journal.next();
    feed.append(offset, &publication, 1, Time::ZERO);
}

fn subscribed() -> Owed {
    let mut owed = Owed::default();
    owed.subscribe(Subscription { channel: CHANNEL, member: 0, cursor: Cursor::plain(Offset(1)) });
    owed
}

/// Writes at most `accepted` bytes of what is owed to `wire`.
fn write(
    owed: &mut Owed,
    feeds: &Feeds,
    me: Option<Origin>,
    accepted: usize,
    wire: &mut Vec<u8>,
) -> (Plan, Progress) {
    write_as(owed, feeds, Manner { me, herald: None }, accepted, wire)
}

/// The same to a connection that is written to in this manner.
fn write_as(
    owed: &mut Owed,
    feeds: &Feeds,
    manner: Manner<'_>,
    accepted: usize,
    wire: &mut Vec<u8>,
) -> (Plan, Progress) {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let mut scratch = Vec::new();
    let plan = owed.gather(feeds, manner, &mut scratch, &mut slices);
    let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
    assert_eq!(bytes.len(), plan.bytes);
    let written = accepted.min(bytes.len());
    wire.extend_from_slice(&bytes[..written]);
    let note = |_, from, next| assert!(from < next);
    let progress = owed.apply(&plan, written, feeds, &scratch, manner.me, Time::ZERO, note);
    (plan, progress)
}

/// Unmasked frames of a wire: (first byte, payload).
fn frames(mut wire: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while !wire.is_empty() {
        let (header, length) = match wire[1] {
            126 => (4, u16::from_be_bytes([wire[2], wire[3]]) as usize),
            127 => (10, u64::from_be_bytes(wire[2..10].try_into().unwrap()) as usize),
            short => (2, short as usize),
        };
        frames.push((wire[0], wire[header..header + length].to_vec()));
        wire = &wire[header + length..];
    }
    frames
}

#[test]
fn an_idle_connection_owes_a_few_words() {
    assert!(size_of::<Owed>() <= 32, "{}", size_of::<Owed>());
    assert_eq!(subscribed().memory_bytes(), 0);
}

#[test]
fn everything_since_the_cursor_goes_out_in_one_write() {
    let mut feeds = feeds();
    let mut owed = subscribed();
    for index in 0..10 {
        publish(&mut feeds, &[index; 20], None);
    }
    let mut wire = Vec::new();
    let (plan, progress) = write(&mut owed, &feeds, None, usize::MAX, &mut wire);
    assert_eq!(plan.pieces().len(), 1);
    assert_eq!((progress.delivered, progress.is_blocked, progress.has_more), (10, false, false));
    assert_eq!(frames(&wire).len(), 10);
    assert_eq!(owed.memory_bytes(), 0);
}

#[test]
fn own_frames_go_out_at_the_next_entry_boundary() {
    let mut feeds = feeds();
    let mut owed = subscribed();
    publish(&mut feeds, &[1; 100], None);
    publish(&mut feeds, &[2; 100], None);
    let mut wire = Vec::new();
    write(&mut owed, &feeds, None, 30, &mut wire);
    let mut pong = Vec::new();
    append_control_frame(0xA, b"hi", &mut pong);
    owed.push_own(&pong, OWN_FRAMES_BYTES_MAX).unwrap();
    let (_, progress) = write(&mut owed, &feeds, None, usize::MAX, &mut wire);
    assert_eq!(progress.delivered, 2);
    let opcodes: Vec<u8> = frames(&wire).iter().map(|(first, _)| *first).collect();
    assert_eq!(opcodes, [0x82, 0x8A, 0x82]);
}

#[test]
fn c9_own_frames_are_refused_as_a_unit_at_the_cap() {
    let mut owed = Owed::default();
    owed.push_own(&vec![0; OWN_FRAMES_BYTES_MAX - 10], OWN_FRAMES_BYTES_MAX).unwrap();
    assert_eq!(owed.push_own(&[0; 11], OWN_FRAMES_BYTES_MAX), Err(OwnFull));
    owed.push_own(&[0; 10], OWN_FRAMES_BYTES_MAX).unwrap();
    assert_eq!(owed.push_own(&[0], OWN_FRAMES_BYTES_MAX), Err(OwnFull));
}

/// A peer that reads, but never all of it.
#[test]
fn c9_what_was_sent_is_not_kept_while_more_waits() {
    let feeds = Feeds::default();
    let mut owed = Owed::default();
    let (mut wire, mut expected) = (Vec::new(), Vec::new());
    owed.push_own(&[0x8A, 1, 0].repeat(10), OWN_FRAMES_BYTES_MAX).unwrap();
    expected.extend([0x8A, 1, 0].repeat(10));
    for step in 0..10_000_u32 {
        let pong = [0x8A, 1, step as u8];
        owed.push_own(&pong, OWN_FRAMES_BYTES_MAX).unwrap();
        expected.extend(pong);
        write(&mut owed, &feeds, None, 3, &mut wire);
        assert!(owed.own_bytes() == 30 && owed.memory_bytes() < 400, "{}", owed.memory_bytes());
    }
    write(&mut owed, &feeds, None, usize::MAX, &mut wire);
    assert!(wire == expected, "a byte was lost or changed");
}

#[test]
fn b11_pongs_replace_each_other_while_the_socket_refuses() {
    let pong = |number: u8| {
        let mut frame = Vec::new();
        append_control_frame(0xA, &[number; 100], &mut frame);
        frame
    };
    let feeds = Feeds::default();
    let mut owed = Owed::default();
    let mut wire = Vec::new();
    owed.push_own(&pong(0), OWN_FRAMES_BYTES_MAX).unwrap();
    write(&mut owed, &feeds, None, 50, &mut wire);
    assert!(owed.is_blocked());
    for number in 1..=250 {
        owed.keep_newest_pong(&[pong(number), pong(number + 1)].concat());
        assert!(owed.memory_bytes() < 1000, "{}", owed.memory_bytes());
    }
    let mut closing = Owed::default();
    closing.push_own(&pong(0), OWN_FRAMES_BYTES_MAX).unwrap();
    let mut close_wire = Vec::new();
    write(&mut closing, &feeds, None, 50, &mut close_wire);
    closing.keep_newest_pong(&pong(7));

    owed.unblock();
    write(&mut owed, &feeds, None, usize::MAX, &mut wire);
    assert_eq!(frames(&wire), [(0x8A, vec![0; 100]), (0x8A, vec![251; 100])]);
    assert_eq!(owed.memory_bytes(), 0);

    // Nothing follows a close.
    closing.push_last(&[0x88, 0]);
    closing.unblock();
    write(&mut closing, &feeds, None, usize::MAX, &mut close_wire);
    assert_eq!(frames(&close_wire), [(0x8A, vec![0; 100]), (0x8A, vec![7; 100]), (0x88, vec![])]);
}

#[test]
fn a_sender_does_not_get_its_own_messages_back() {
    let mut feeds = feeds();
    let mut owed = subscribed();
    for (payload, origin) in [(b"a", None), (b"b", Some(ME)), (b"c", None), (b"d", Some(ME))] {
        publish(&mut feeds, payload, origin);
    }
    let mut wire = Vec::new();
    let (_, progress) = write(&mut owed, &feeds, Some(ME), usize::MAX, &mut wire);
    assert_eq!((progress.delivered, progress.passed.own), (2, 2));
    assert_eq!(frames(&wire), [(0x82, b"a".to_vec()), (0x82, b"c".to_vec())]);
    assert_eq!(owed.subscriptions()[0].cursor, Cursor::plain(Offset(5)));
}

#[test]
fn an_overtaken_cursor_is_reported_and_never_jumped_silently() {
    let mut feeds = feeds();
    let feed = feeds.get_mut(CHANNEL).unwrap();
    feed.settings.max_lag_bytes = 250;
    let mut owed = subscribed();
    for _ in 0..5 {
        publish(&mut feeds, &[0; 98], None);
        // Its socket is blocked whenever the pass comes by.
        let feed = feeds.get_mut(CHANNEL).unwrap();
        feed.pass.next_member(1);
        feed.note_visits(1, Offset(1), false, 1, Time::ZERO);
        feed.end_round(1, Time::ZERO);
    }
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let mut scratch = Vec::new();
    let plan = owed.gather(&feeds, Manner::default(), &mut scratch, &mut slices);
    assert_eq!((plan.overtaken, plan.bytes), (Some(CHANNEL), 0));
    owed.subscription_mut(CHANNEL).unwrap().cursor = Cursor::plain(Offset(6));
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    assert!(owed.gather(&feeds, Manner::default(), &mut scratch, &mut slices).is_empty());
}

#[test]
fn large_messages_are_cut_at_the_write_bound_and_pongs_pass_at_the_boundary() {
    let mut feeds = feeds();
    let mut owed = subscribed();
    publish(&mut feeds, &vec![1; 200_000], None);
    publish(&mut feeds, &[2; 100], None);
    let mut wire = Vec::new();
    let (plan, progress) = write(&mut owed, &feeds, None, usize::MAX, &mut wire);
    assert_eq!((plan.bytes, progress.delivered, progress.has_more), (WRITE_BYTES_MAX, 0, true));
    owed.push_own(&[0x8A, 0], OWN_FRAMES_BYTES_MAX).unwrap();
    while write(&mut owed, &feeds, None, usize::MAX, &mut wire).1.has_more {}
    let opcodes: Vec<(u8, usize)> =
        frames(&wire).iter().map(|(first, payload)| (*first, payload.len())).collect();
    assert_eq!(opcodes, [(0x82, 200_000), (0x8A, 0), (0x82, 100)]);
}

/// Short writes of every size, retention behind the reader's back, own frames at any moment.
#[test]
fn any_sequence_of_short_writes_gives_whole_frames_in_order() {
    for seed in 0..300 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut feeds = feeds();
        let mut owed = subscribed();
        let (mut wire, mut published, mut pongs) = (Vec::new(), Vec::new(), 0_usize);
        for step in 0..200_u64 {
            match random.random_range(0..4) {
                0 => {
                    let payload = vec![step as u8; [0, 5, 200, 9_000, 70_000][random.random_range(0..5)]];
                    publish(&mut feeds, &payload, None);
                    published.push(payload);
                }
                1 => {
                    owed.push_own(&[0x8A, 1, step as u8], OWN_FRAMES_BYTES_MAX).unwrap();
                    pongs += 1;
                }
                _ => {
                    let accepted = [0, 1, 7, 300, 5_000, usize::MAX][random.random_range(0..6)];
                    let lag = feeds
                        .get(CHANNEL)
                        .unwrap()
                        .journal
                        .bytes_behind(owed.subscriptions()[0].cursor.offset());
                    if lag < 500_000 {
                        write(&mut owed, &feeds, None, accepted, &mut wire);
                    } else {
                        while write(&mut owed, &feeds, None, usize::MAX, &mut wire).1.has_more {}
                    }
                }
            }
            let cursor = owed.subscriptions()[0].cursor.offset();
            feeds.get_mut(CHANNEL).unwrap().note_visits(1, cursor, true, 1, Time::ZERO);
        }
        while write(&mut owed, &feeds, None, usize::MAX, &mut wire).1.has_more {}
        let all = frames(&wire);
        let data: Vec<Vec<u8>> =
            all.iter().filter(|(first, _)| *first == 0x82).map(|(_, payload)| payload.clone()).collect();
        assert!(data == published, "seed {seed}: {} of {} messages", data.len(), published.len());
        assert_eq!(all.len() - data.len(), pongs, "seed {seed}");
        assert_eq!(owed.memory_bytes(), 0, "seed {seed}");
    }
}
