//! What a connection is told beside its messages: notices before what they speak of, ids behind whole messages, each once
//! wherever the socket cuts.

use super::*;
use crate::delivery::Herald;
use crate::model::encoding::append_data_frame;

/// Tells as texts that show what is where: a notice, and one id for all subscriptions.
struct Teller;

impl Herald for Teller {
    fn announce(&self, _: ChannelIndex, _: Offset, passed: Passed, out: &mut Vec<u8>) {
        append_data_frame(PayloadKind::Text, format!("told {}", passed.told()).as_bytes(), out);
    }

    fn conclude(&self, cursors: &mut dyn Iterator<Item = (ChannelIndex, Cursor)>, out: &mut Vec<u8>) {
        let offsets: Vec<_> = cursors.map(|(_, cursor)| cursor.offset().0).collect();
        append_data_frame(PayloadKind::Text, format!("id {offsets:?}").as_bytes(), out);
    }
}

/// As [`write`], to a connection that is told of what it is not sent.
fn write_telling(owed: &mut Owed, feeds: &Feeds, accepted: usize, wire: &mut Vec<u8>) -> Progress {
    let manner = Manner { me: None, herald: Some(&Teller) };
    write_as(owed, feeds, manner, accepted, wire).1
}

/// What stands in the frames of `wire`: texts and letters as they are, of others how many bytes.
fn story(wire: &[u8]) -> Vec<String> {
    let text = |(first, payload): (u8, Vec<u8>)| match payload.len() {
        length if first == 0x81 || length == 1 => String::from_utf8(payload).unwrap(),
        length => format!("{length} bytes"),
    };
    frames(wire).into_iter().map(text).collect()
}

#[test]
fn an_id_follows_a_message_and_never_stands_inside_one() {
    for pace in [Pace::Every, Pace::Newest] {
        for accepted in [usize::MAX, 30_000, 66_000] {
            let mut feeds = feeds();
            let mut owed = subscribed();
            let subscription = owed.subscription_mut(CHANNEL).unwrap();
            subscription.cursor = subscription.cursor.at_pace(pace);
            publish(&mut feeds, &[1; 200], None);
            publish(&mut feeds, &vec![1; 200_000], None);
            let mut wire = Vec::new();
            let (mut delivered, mut writes) = (0, 0);
            while owed.subscriptions()[0].cursor.offset() < Offset(3) || owed.has_own() {
                delivered += write_telling(&mut owed, &feeds, accepted, &mut wire).delivered;
                writes += 1;
                assert!(writes < 20, "{pace:?}: it never ends");
            }
            assert_eq!(
                story(&wire),
                ["200 bytes", "id [2]", "200000 bytes", "id [3]"],
                "{pace:?} {accepted}"
            );
            assert_eq!(delivered, 2, "{pace:?} {accepted}");
        }
    }
}

#[test]
fn nothing_follows_the_last_word_of_who_was_cut_in_a_message() {
    let mut feeds = feeds();
    let mut owed = subscribed();
    publish(&mut feeds, &[1; 200], None);
    let mut wire = Vec::new();
    write_telling(&mut owed, &feeds, 100, &mut wire);
    owed.take_subscriptions();
    owed.push_last(&[0x88, 0]);
    owed.unblock();
    write_telling(&mut owed, &feeds, usize::MAX, &mut wire);
    assert_eq!(story(&wire), ["200 bytes", "0 bytes"]);
}

/// Feeds with one letter a message, of which capitals have expired.
fn aged(letters: &[u8]) -> Feeds {
    let mut feeds = feeds();
    let feed = feeds.get_mut(CHANNEL).unwrap();
    for letter in letters {
        let channel = ChannelName::parse("c").unwrap();
        let fresh = Publication::encode(channel, PayloadKind::Binary, &[*letter], Time::ZERO, None);
        let expires_at = if letter.is_ascii_uppercase() { Time::from_millis(1) } else { Time::NEVER };
        let publication = Publication { expires_at, ..fresh };
        feed.append(feed.journal.next(), &publication, 1, Time::ZERO);
    }
    feed.journal.expire(Time::from_millis(2));
    feeds
}

#[test]
fn a_notice_that_was_cut_is_not_given_twice() {
    for cut in 1..40 {
        let feeds = aged(b"BCd");
        let mut owed = subscribed();
        let mut wire = Vec::new();
        write_telling(&mut owed, &feeds, cut, &mut wire);
        owed.unblock();
        let progress = write_telling(&mut owed, &feeds, usize::MAX, &mut wire);
        let story = story(&wire);
        assert_eq!(story[..2], ["told 2", "d"], "cut after {cut}: {story:?}");
        assert!(!progress.is_blocked && owed.backlog.is_none(), "cut after {cut}");
    }
}

#[test]
fn who_subscribes_again_is_told_anew() {
    let feeds = aged(b"BCd");
    let mut owed = subscribed();
    let mut wire = Vec::new();
    write_telling(&mut owed, &feeds, 1, &mut wire);
    owed.unsubscribe(CHANNEL).unwrap();
    owed.unblock();
    owed.subscribe(Subscription { channel: CHANNEL, member: 0, cursor: Cursor::plain(Offset(1)) });
    write_telling(&mut owed, &feeds, usize::MAX, &mut wire);
    assert_eq!(story(&wire)[..3], ["told 2", "told 2", "d"]);
}

#[test]
fn messages_that_expired_together_are_told_together_and_once_wherever_the_socket_cuts() {
    let feeds = aged(b"aBCDeFg");
    for first in 0..30 {
        for second in 0..30 {
            let (mut owed, mut wire, mut passed) = (subscribed(), Vec::new(), 0);
            for accepted in [first, second, usize::MAX, usize::MAX] {
                passed += write_telling(&mut owed, &feeds, accepted, &mut wire).passed.expired;
            }
            let mut told = story(&wire);
            told.retain(|text| !text.starts_with("id "));
            assert_eq!(told, ["a", "told 3", "e", "told 1", "g"], "{first} bytes, then {second}");
            assert_eq!((passed, owed.memory_bytes()), (4, 0), "{first} bytes, then {second}");
        }
    }
}

#[test]
fn many_messages_that_expired_take_one_notice_and_one_write() {
    let mut feeds = aged(&[b'B'; 100]);
    publish(&mut feeds, b"c", None);
    let (mut owed, mut wire) = (subscribed(), Vec::new());
    let progress = write_telling(&mut owed, &feeds, usize::MAX, &mut wire);
    assert_eq!((progress.passed.expired, progress.delivered, progress.has_more), (100, 1, false));
    assert_eq!(story(&wire), ["told 100", "c", "id [102]"]);
}

#[test]
fn what_was_told_is_forgotten_with_the_subscription() {
    let feeds = aged(b"BCd");
    let (mut owed, mut wire) = (subscribed(), Vec::new());
    write_telling(&mut owed, &feeds, 1, &mut wire);
    assert_eq!(owed.told(CHANNEL).told(), 2);
    owed.forget_told(CHANNEL);
    assert_eq!(owed.told(CHANNEL).told(), 0);
}

#[test]
fn a_reason_that_changes_after_it_was_told_is_not_told_again() {
    let superseded = Passed { superseded: 3, ..Passed::default() };
    let expired = Passed { superseded: 1, expired: 4, ..Passed::default() };
    assert_eq!(expired.without(superseded), Passed { expired: 2, ..Passed::default() });
    assert_eq!(superseded.without(expired), Passed::default());
    assert_eq!(superseded.without(Passed::default()), superseded);
}
