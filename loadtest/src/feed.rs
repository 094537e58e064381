//! What has been published to one target, as the exact bytes that every subscriber must receive.
//!
//! The controller appends a `Batch` before it publishes it; each worker thread keeps a `FeedView` and
//! compares what arrives with it: one memcmp, the strictest check there is and the cheapest. What does
//! not match (a ping, a fragmented frame, a fault) goes through the parser and `verify.rs` instead.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::payload::{Form, Keys, Payload};
use crate::protocol::Protocol;
use crate::wire::frame;

/// Published bytes that are kept for comparison; a subscriber further behind is checked by checksum.
const RETAINED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Batches kept for comparison.
pub const RETAINED_BATCHES_MAX: usize = 16 * 1024;
/// Of a frame that a server sends (RFC 6455 §5.2).
const FRAME_HEADER_BYTES_MAX: usize = 10;
/// Batches that can be made again, of 40 bytes each.
const RECIPES_MAX: usize = 256 * 1024;

/// Messages published together: frames of equal length laid end to end, as a server sends them.
#[derive(Debug)]
pub struct Batch {
    /// Sequence of the first message.
    pub first: u64,
    /// How many messages.
    pub count: usize,
    /// When the batch was due, in nanoseconds of `CLOCK_MONOTONIC`.
    pub due_ns: u64,
    /// The frames.
    pub bytes: Vec<u8>,
    /// When subscribers received of it.
    pub seen: Arc<Seen>,
    /// Bytes in front of a message in its frame.
    before: usize,
    /// Bytes behind it.
    after: usize,
    /// What the messages are about.
    keys: Keys,
}

impl Batch {
    /// Bytes of one frame.
    pub fn frame_bytes(&self) -> usize {
        self.bytes.len() / self.count
    }

    /// Bytes of one message.
    pub fn payload_bytes(&self) -> usize {
        self.frame_bytes() - self.before - self.after
    }

    /// One of the messages, without its frame.
    pub fn payload(&self, sequence: u64) -> Option<&[u8]> {
        let frame = self.bytes.chunks_exact(self.frame_bytes()).nth((sequence - self.first) as usize)?;
        Some(&frame[self.before..frame.len() - self.after])
    }

    /// The messages without their frame headers.
    pub fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.frame_bytes()).map(|frame| &frame[self.before..frame.len() - self.after])
    }

    /// The keys of the messages, in their order; nothing where they have none.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        (self.first..self.end()).filter_map(|sequence| self.keys.name(sequence))
    }

    fn end(&self) -> u64 {
        self.first + self.count as u64
    }
}

/// When the first and the last subscriber received of a batch, nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug)]
pub struct Seen {
    first_ns: AtomicU64,
    last_ns: AtomicU64,
}

impl Default for Seen {
    fn default() -> Self {
        Self { first_ns: AtomicU64::new(u64::MAX), last_ns: AtomicU64::new(0) }
    }
}

impl Seen {
    /// Notes that a subscriber has received messages.
    pub fn note(&self, now_ns: u64) {
        if self.first_ns.load(Ordering::Relaxed) > now_ns {
            self.first_ns.fetch_min(now_ns, Ordering::Relaxed);
        }
        if self.last_ns.load(Ordering::Relaxed) < now_ns {
            self.last_ns.fetch_max(now_ns, Ordering::Relaxed);
        }
    }

    /// From the first subscriber to the last, nanoseconds. `None` if nobody has received any.
    pub fn spread_ns(&self) -> Option<u64> {
        self.last_ns.load(Ordering::Relaxed).checked_sub(self.first_ns.load(Ordering::Relaxed))
    }
}

/// From what the frames of a batch can be made again, byte for byte.
#[derive(Clone, Copy, Debug)]
struct Recipe {
    first: u64,
    count: usize,
    size: usize,
    due_ns: u64,
    opcode: u8,
}

/// The feed of one target. One writer, the controller; workers read.
#[derive(Debug)]
pub struct Feed {
    /// The number in every payload of this run.
    pub run: u32,
    /// What the messages are about.
    pub keys: Keys,
    protocol: Protocol,
    form: Form,
    opcode: AtomicU8,
    head: AtomicU64,
    published: Mutex<Published>,
}

#[derive(Debug, Default)]
struct Published {
    recent: Recent,
    recipes: VecDeque<Recipe>,
}

impl Feed {
    /// An empty feed to subscribers who speak this protocol.
    pub fn new(run: u32, protocol: Protocol) -> Self {
        let (opcode, head) = (AtomicU8::new(frame::BINARY), AtomicU64::new(0));
        let (keys, form) = (Keys::default(), Form::default());
        Self { run, keys, protocol, form, opcode, head, published: Mutex::default() }
    }

    /// The same with messages of that form.
    pub fn of_form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// The same with messages about those keys.
    pub fn about(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }

    /// Sequence of the next message to be published.
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Makes the next `count` messages of `size` bytes and lets the workers expect them.
    pub fn append(&self, count: usize, size: usize, due_ns: u64) -> Arc<Batch> {
        let first = self.head();
        let recipe = Recipe { first, count, size, due_ns, opcode: self.opcode() };
        let bytes = self.frames(recipe);
        let after = self.protocol.around(size).1.len();
        let before = bytes.len() / count - size - after;
        let batch = Arc::new(Batch {
            first,
            count,
            due_ns,
            bytes,
            seen: Arc::default(),
            before,
            after,
            keys: self.keys,
        });
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.recent.push(Arc::clone(&batch));
        published.recipes.push_back(recipe);
        if published.recipes.len() > RECIPES_MAX {
            published.recipes.pop_front();
        }
        self.head.store(batch.end(), Ordering::Release);
        batch
    }

    fn frames(&self, recipe: Recipe) -> Vec<u8> {
        let Recipe { first, count, size, due_ns, opcode } = recipe;
        let (before, after) = self.protocol.around(size);
        let message_bytes = before.len() + size + after.len();
        let mut bytes = Vec::with_capacity(count * (message_bytes + FRAME_HEADER_BYTES_MAX));
        for sequence in first..first + count as u64 {
            frame::push_server_header(&mut bytes, opcode, message_bytes);
            bytes.extend_from_slice(&before);
            Payload { sequence, due_ns, run: self.run }.push_as(self.form, size, &mut bytes);
            bytes.extend_from_slice(after);
        }
        bytes
    }

    /// The frame of a message, made again. `None` if it was not published, or too long ago.
    pub fn frame_at(&self, sequence: u64) -> Option<Vec<u8>> {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let after = published.recipes.partition_point(|recipe| recipe.first <= sequence);
        let recipe = *published.recipes.get(after.checked_sub(1)?)?;
        drop(published);
        let is_in_it = sequence - recipe.first < recipe.count as u64;
        is_in_it.then(|| self.frames(Recipe { first: sequence, count: 1, ..recipe }))
    }

    /// The opcode with which frames are expected.
    pub fn opcode(&self) -> u8 {
        self.opcode.load(Ordering::Relaxed)
    }

    /// Learns from a frame that was checked the long way whether this server sends text or binary.
    pub fn expect_opcode(&self, opcode: u8) {
        self.opcode.store(opcode, Ordering::Relaxed);
    }
}

/// Where one subscriber stands in the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The message that it must receive next.
    pub sequence: u64,
    /// Bytes of that message's frame which have been received, and were right.
    pub frame_bytes: u32,
    /// Where somebody else publishes: the run whose messages come. It restarts with another number.
    pub run: u32,
}

impl Position {
    /// In front of a message.
    pub fn at(sequence: u64) -> Self {
        Self { sequence, frame_bytes: 0, run: 0 }
    }
}

/// Bytes that were received exactly as expected.
#[derive(Debug)]
pub struct Match<'a> {
    /// The batch that they belong to.
    pub batch: &'a Batch,
    /// How many bytes.
    pub bytes: usize,
    /// How many messages they completed.
    pub messages: u64,
}

/// One worker's copy of the recent batches.
#[derive(Debug, Default)]
pub struct FeedView {
    recent: Recent,
    end: u64,
}

impl FeedView {
    /// Catches up with the feed; one atomic load when there is nothing new.
    pub fn refresh(&mut self, feed: &Feed) {
        if feed.head() == self.end {
            return;
        }
        let published = feed.published.lock().unwrap_or_else(PoisonError::into_inner);
        let known = published.recent.batches.partition_point(|batch| batch.first < self.end);
        published.recent.batches.range(known..).cloned().for_each(|batch| self.recent.push(batch));
        drop(published);
        self.end = self.recent.batches.back().map_or(self.end, |batch| batch.end());
    }

    /// Compares bytes with what is expected at `position`, within one batch, and moves the position
    /// over what matches: part of a frame only if all bytes match up to there. `None` if nothing does.
    pub fn advance(&self, position: &mut Position, bytes: &[u8]) -> Option<Match<'_>> {
        let batch = self.find(position.sequence)?;
        let frame_bytes = batch.frame_bytes();
        let from = (position.sequence - batch.first) as usize * frame_bytes + position.frame_bytes as usize;
        let length = bytes.len().min(batch.bytes.len() - from);
        let matched = if batch.bytes[from..from + length] == bytes[..length] {
            length
        } else {
            let same = batch.bytes[from..].iter().zip(bytes).take_while(|(a, b)| a == b).count();
            let whole_end = (from + same) / frame_bytes * frame_bytes;
            whole_end.saturating_sub(from)
        };
        if matched == 0 {
            return None;
        }
        let end = from + matched;
        let sequence = batch.first + (end / frame_bytes) as u64;
        let messages = sequence - position.sequence;
        *position = Position { sequence, frame_bytes: (end % frame_bytes) as u32, ..*position };
        Some(Match { batch, bytes: matched, messages })
    }

    /// The batch of a message, if it is still kept.
    pub fn find(&self, sequence: u64) -> Option<&Batch> {
        let batches = &self.recent.batches;
        let newest = batches.back()?;
        if sequence >= newest.first {
            return (sequence < newest.end()).then_some(newest);
        }
        let at = batches.partition_point(|batch| batch.end() <= sequence);
        batches.get(at).filter(|batch| batch.first <= sequence).map(Arc::as_ref)
    }
}

/// The newest batches, as many as are kept.
#[derive(Debug, Default)]
struct Recent {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, batch: Arc<Batch>) {
        self.bytes += batch.bytes.len();
        self.batches.push_back(batch);
        while self.batches.len() > 2
            && (self.batches.len() > RETAINED_BATCHES_MAX || self.bytes > RETAINED_BYTES_MAX)
        {
            self.bytes -= self.batches.pop_front().map_or(0, |batch| batch.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed_of(batches: &[usize]) -> (Feed, FeedView, Vec<u8>) {
        let feed = Feed::new(1, Protocol::plain());
        let mut all = Vec::new();
        for &count in batches {
            all.extend_from_slice(&feed.append(count, 100, 5).bytes);
        }
        let mut view = FeedView::default();
        view.refresh(&feed);
        (feed, view, all)
    }

    #[test]
    fn the_published_bytes_match_in_every_split() {
        let (_, view, all) = feed_of(&[1, 3, 2]);
        for piece in [1, 50, 101, 102, 103, 250, all.len()] {
            let mut position = Position::at(0);
            let mut messages = 0;
            for mut chunk in all.chunks(piece) {
                while !chunk.is_empty() {
                    let matched = view.advance(&mut position, chunk).expect("expected bytes");
                    messages += matched.messages;
                    chunk = &chunk[matched.bytes..];
                }
            }
            assert_eq!((messages, position), (6, Position::at(6)), "pieces of {piece}");
        }
    }

    #[test]
    fn whole_frames_before_a_fault_match_and_the_faulty_one_does_not() {
        let (_, view, mut all) = feed_of(&[4]);
        all[250] ^= 1;
        let mut position = Position::at(0);
        assert_eq!(view.advance(&mut position, &all).map(|m| (m.bytes, m.messages)), Some((204, 2)));
        assert!(view.advance(&mut position, &all[204..]).is_none());
        assert_eq!(position, Position::at(2));
    }

    #[test]
    fn a_frame_can_be_made_again_long_after_its_batch_was_let_go() {
        let (feed, view, all) = feed_of(&[2]);
        feed.expect_opcode(frame::TEXT);
        (0..RETAINED_BATCHES_MAX).for_each(|_| drop(feed.append(3, 80, 9)));
        let mut late = FeedView::default();
        late.refresh(&feed);
        assert!(view.find(1).is_some() && late.find(1).is_none());
        assert_eq!(feed.frame_at(1).as_deref(), Some(&all[102..]));
        let newest = feed.frame_at(feed.head() - 1);
        assert_eq!(newest, late.find(feed.head() - 1).map(|batch| batch.bytes[2 * 82..].to_vec()));
        assert_eq!(feed.frame_at(feed.head()), None);
    }

    #[test]
    fn the_spread_of_a_batch_is_from_the_first_who_had_it_to_the_last() {
        let (_, view, _) = feed_of(&[1]);
        let batch = view.find(0).unwrap();
        assert_eq!(batch.seen.spread_ns(), None);
        [20, 10, 35, 30].into_iter().for_each(|now_ns| batch.seen.note(now_ns));
        assert_eq!(batch.seen.spread_ns(), Some(25));
    }

    #[test]
    fn a_brokers_envelope_surrounds_each_message() {
        let nats = Protocol { kind: crate::protocol::Kind::Nats, channel: "a.b".into() };
        let batch = Feed::new(1, nats).append(2, 100, 5);
        let frame = &batch.bytes[..batch.frame_bytes()];
        assert!(frame[2..].starts_with(b"MSG a.b 1 100\r\ntide ") && frame.ends_with(b"\r\n"));
        assert!(batch.payloads().all(|payload| Payload::parse(payload).is_some()));
    }

    #[test]
    fn old_batches_are_let_go() {
        let (feed, mut view, _) = feed_of(&[1; RETAINED_BATCHES_MAX + 10]);
        assert!(view.find(0).is_none() && view.find(10).is_some());
        assert!(view.find(feed.head()).is_none());
        feed.append(1, 100, 0);
        view.refresh(&feed);
        assert!(view.find(feed.head() - 1).is_some());
    }
}
