//! A journal and its cursors against a list of all messages and a number for each reader.
//!
//! Input: operations. Messages come, readers join on either strip, writes stop at any byte, history and need let go of what is
//! old. Every reader must have got exactly the bytes of the messages from where it joined, each in the form it may read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate::journal::{Cursor, Journal, Need, Ride, Window};
use tidegate::model::{
    ChannelName, ConnectionId, Deflated, Offset, Origin, PayloadKind, Publication, ShardId, Time,
};

use super::input::Input;

/// Operations of one input.
const OPERATIONS_MAX: usize = 400;
/// Bytes of messages of one input.
const BYTES_MAX: usize = 1 << 20;
const READERS_MAX: usize = 16;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(u64::from(input.byte()) + 1);
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0 | 1 => world.append(&mut input),
            2 => world.retain(&mut input),
            3 => world.keep_deflated(!input.byte().is_multiple_of(4)),
            4 => world.join(&mut input),
            5 | 6 => world.write(&mut input),
            _ => world.ask(&mut input),
        }
        world.check();
    }
}

struct Message {
    plain: Bytes,
    deflated: Option<Arc<Deflated>>,
    origin: Option<Origin>,
    accepted_at: Time,
}

struct World {
    journal: Journal,
    /// All messages of the numbering, let go or not.
    messages: BTreeMap<u64, Message>,
    first: u64,
    next: u64,
    /// The first message that the deflated strip may hold.
    deflated_from: Option<u64>,
    readers: Vec<Cursor>,
    now: Time,
    bytes: usize,
}

fn origin(number: u8) -> Option<Origin> {
    let connection = ConnectionId { slot: u32::from(number), generation: 1 };
    (number % 4 < 3).then_some(Origin { shard: ShardId(0), connection })
}

impl World {
    fn new(first: u64) -> Self {
        let journal = Journal::new(Offset(first));
        let (messages, readers) = (BTreeMap::new(), Vec::new());
        Self {
            journal,
            messages,
            first,
            next: first,
            deflated_from: None,
            readers,
            now: Time::ZERO,
            bytes: 0,
        }
    }

    fn append(&mut self, input: &mut Input<'_>) {
        let size: usize = input.one_of(&[0, 1, 50, 125, 126, 1000, 4000, 8187, 8188, 30_000, 70_000]);
        let form = input.byte();
        if self.bytes + size > BYTES_MAX {
            return;
        }
        self.bytes += size;
        self.now = self.now.after(Duration::from_millis(u64::from(form)));
        if form == 0xff {
            // A hole: what was before belongs to another numbering.
            self.next += 5;
            self.first = self.next;
            self.messages.clear();
            self.deflated_from = self.deflated_from.map(|_| self.next);
            self.readers.clear();
        }
        let payload: Vec<u8> = (0..size).map(|place| (place as u64 * 31 + self.next) as u8).collect();
        let channel = ChannelName::parse("c").expect("a literal");
        let mut publication =
            Publication::encode(channel, PayloadKind::Binary, &payload, self.now, origin(form >> 2));
        if form % 4 > 1 {
            // Not deflated data, but told from the plain frame at every byte.
            let frame = publication.frame.iter().rev().take(1 + size / 2).map(|byte| byte ^ 0x55);
            publication.deflated =
                Some(Arc::new(Deflated { frame: frame.collect(), begins_epoch: form % 4 == 3 }));
        }
        self.journal.append(Offset(self.next), &publication);
        let Publication { frame: plain, deflated, origin, accepted_at, .. } = publication;
        self.messages.insert(self.next, Message { plain, deflated, origin, accepted_at });
        self.next += 1;
    }

    fn retain(&mut self, input: &mut Input<'_>) {
        let window = Window {
            messages: input.one_of(&[0, 1, 3, 10, u64::MAX]),
            bytes: input.one_of(&[0, 100, 10_000, u64::MAX]),
            age: Duration::from_millis(input.one_of(&[0, 200, 2000, u64::MAX])),
        };
        let slowest = self.readers.iter().map(|reader| reader.offset().0).min();
        let need = Need {
            from: Offset(slowest.unwrap_or(u64::MAX)),
            bytes_max: input.one_of(&[0, 1000, 100_000, u64::MAX]),
        };
        self.journal.retain(window, need, self.now);
        let is_kept = |offset: u64| {
            let bytes: u64 =
                self.messages.range(offset..).map(|(_, message)| message.plain.len() as u64).sum();
            let is_history = self.next - offset <= window.messages
                && bytes <= window.bytes
                && self.now.since(self.messages[&offset].accepted_at) <= window.age;
            let is_needed = offset >= need.from.0 && (bytes <= need.bytes_max || offset + 1 == self.next);
            is_history || is_needed
        };
        self.first = (self.first..self.next).find(|offset| is_kept(*offset)).unwrap_or(self.next);
        // Who was overtaken goes on with what there is, as a lag policy has it.
        for reader in &mut self.readers {
            if reader.offset().0 < self.first {
                assert!(self.journal.span(*reader, Offset(self.next), 100).bytes.is_empty());
                *reader = reader.moved_to(Offset(self.first));
            }
        }
        if self.first == self.next && self.deflated_from.is_none() {
            assert_eq!(self.journal.memory_bytes(), 0, "empty, it owns no memory");
        }
    }

    fn keep_deflated(&mut self, is_kept: bool) {
        self.journal.keep_deflated(is_kept);
        self.deflated_from = is_kept.then(|| self.deflated_from.unwrap_or(self.next));
    }

    fn join(&mut self, input: &mut Input<'_>) {
        let kept = self.next - self.first;
        let offset = self.next - u64::from(input.byte()) % (kept + 1);
        let ride = input.one_of(&[Ride::Plain, Ride::Plain, Ride::Waiting, Ride::Waiting]);
        if self.readers.len() < READERS_MAX {
            self.readers.push(Cursor::new(Offset(offset), ride));
        }
    }

    /// The first message of the deflated strip, if there is one.
    fn strip_first(&self) -> Option<u64> {
        self.deflated_from.map(|from| from.max(self.first))
    }

    fn begins_epoch(&self, offset: u64) -> bool {
        self.strip_first().is_some_and(|first| offset >= first)
            && self
                .messages
                .get(&offset)
                .and_then(|message| message.deflated.as_ref())
                .is_some_and(|deflated| deflated.begins_epoch)
    }

    /// What a reader on `ride` gets of message `offset`.
    fn form(&self, offset: u64, ride: Ride) -> &Bytes {
        let message = &self.messages[&offset];
        match &message.deflated {
            Some(deflated) if ride == Ride::Riding => &deflated.frame,
            _ => &message.plain,
        }
    }

    fn write(&mut self, input: &mut Input<'_>) {
        let count = self.readers.len();
        let which = usize::from(input.byte());
        let (bytes_max, until, taken) = (input.word(), input.byte(), input.word());
        if count == 0 {
            return;
        }
        let before = self.readers[which % count];
        let cursor = self.journal.board(before);
        let from = cursor.offset().0;
        assert_eq!(cursor, Cursor::new(Offset(from), self.ride_after_boarding(before)), "{before:?}");
        let until = if until == 0 { u64::MAX } else { from + u64::from(until) };
        let bytes_max = usize::from(bytes_max) * 2 + 1;
        let span = self.journal.span(cursor, Offset(until), bytes_max);
        // The span is the beginning of all that the reader is owed, and ends where a message does.
        let stop =
            (from + 1..self.next).find(|offset| cursor.ride() == Ride::Waiting && self.begins_epoch(*offset));
        let end = until.min(self.next).min(stop.unwrap_or(u64::MAX));
        assert!(span.bytes.len() <= bytes_max && span.next.ride() == cursor.ride());
        let (mut rest, mut reached) = (span.bytes, from);
        while reached < end && !rest.is_empty() {
            let form = self.form(reached, cursor.ride());
            let here = rest.len().min(form.len());
            assert!(rest[..here] == form[..here], "message {reached} for {cursor:?}");
            rest = &rest[here..];
            if here < form.len() {
                assert_eq!((reached, span.bytes.len()), (from, bytes_max), "a part, although one would fit");
                break;
            }
            reached += 1;
        }
        assert!(rest.is_empty(), "{} bytes too many", rest.len());
        assert_eq!(span.next.offset().0, reached);
        assert_eq!(span.bytes.is_empty(), from >= end, "nothing, although {from} is there");

        let taken = usize::from(taken).min(span.bytes.len());
        let sent = span.bytes[..taken].to_vec();
        let (after, rest) = self.journal.interrupted(cursor, taken);
        let got = [&sent[..], rest.as_deref().unwrap_or_default()].concat();
        let owed: Vec<u8> =
            (from..after.offset().0).flat_map(|offset| self.form(offset, cursor.ride()).to_vec()).collect();
        assert!(got == owed, "cut after {taken}: {} bytes of {}", got.len(), owed.len());
        assert!(rest.is_none_or(|rest| !rest.is_empty()) && after.ride() == cursor.ride());
        self.readers[which % count] = after;
    }

    fn ride_after_boarding(&self, cursor: Cursor) -> Ride {
        let next = cursor.offset().0;
        match cursor.ride() {
            Ride::Waiting if self.begins_epoch(next) => Ride::Riding,
            Ride::Riding if self.strip_first().is_none_or(|first| first > next) => Ride::Waiting,
            other => other,
        }
    }

    fn ask(&mut self, input: &mut Input<'_>) {
        let offset = (self.first + u64::from(input.byte() % 64)).saturating_sub(8);
        let is_kept = (self.first..self.next).contains(&offset);
        let number = input.byte();
        let kept: u64 = self
            .messages
            .range(offset.max(self.first)..)
            .map(|(_, message)| message.plain.len() as u64)
            .sum();
        assert_eq!(self.journal.bytes_behind(Offset(offset)), kept + self.first.saturating_sub(offset));
        assert_eq!(
            self.journal.frame(Offset(offset)).as_ref(),
            is_kept.then(|| &self.messages[&offset].plain)
        );
        assert_eq!(self.journal.entry(Offset(offset)).is_some(), is_kept);
        if let Some(sender) = origin(number) {
            let next =
                (offset..self.next).find(|offset| is_kept && self.messages[offset].origin == Some(sender));
            assert_eq!(self.journal.next_sent_by(sender, Offset(offset)), next.map(Offset));
        }
        let epoch = (offset..self.next).find(|offset| self.begins_epoch(*offset));
        assert_eq!(self.journal.next_epoch(Offset(offset)), epoch.map(Offset));
        // One reader is not sent its next message.
        let count = self.readers.len().max(1);
        let is_deflated = |offset: u64| {
            let is_there = self.strip_first().is_some_and(|first| (first..self.next).contains(&offset));
            is_there && self.messages[&offset].deflated.is_some()
        };
        if let Some(reader) = self
            .readers
            .get(usize::from(number) % count)
            .copied()
            .filter(|reader| reader.offset().0 < self.next)
        {
            let next = reader.offset().0;
            let ride = match reader.ride() {
                Ride::Riding if self.deflated_from.is_none() || is_deflated(next) => Ride::Waiting,
                other => other,
            };
            let after = self.journal.step_over(reader);
            assert_eq!(after, Cursor::new(Offset(next + 1), ride));
            self.readers[usize::from(number) % count] = after;
        }
    }

    fn check(&self) {
        assert_eq!((self.journal.first(), self.journal.next()), (Offset(self.first), Offset(self.next)));
        assert_eq!(self.journal.len() as u64, self.next - self.first);
        let bytes: u64 =
            self.messages.range(self.first..).map(|(_, message)| message.plain.len() as u64).sum();
        assert_eq!((self.journal.bytes(), self.journal.is_empty()), (bytes, self.first == self.next));
    }
}
