//! What has been published to one target, as the exact bytes that every subscriber must receive.
//!
//! The controller appends a `Batch` before it publishes it; each worker thread keeps a `FeedView` and
//! compares what arrives with it: one memcmp, the strictest check there is and the cheapest. What does
//! not match (a ping, a fragmented frame, a fault) goes through the parser and `verify.rs` instead.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::payload::Payload;
use crate::protocol::Protocol;
use crate::wire::frame;

/// Published bytes that are kept for comparison; a subscriber further behind is checked by checksum.
const RETAINED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Batches kept for comparison.
const RETAINED_BATCHES_MAX: usize = 1024;

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
    /// Bytes in front of a message in its frame.
    before: usize,
    /// Bytes behind it.
    after: usize,
    first_seen_ns: AtomicU64,
    last_seen_ns: AtomicU64,
}

impl Batch {
    /// Bytes of one frame.
    pub fn frame_bytes(&self) -> usize {
        self.bytes.len() / self.count
    }

    /// The messages without their frame headers.
    pub fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.frame_bytes()).map(|frame| &frame[self.before..frame.len() - self.after])
    }

    /// Notes that a subscriber has received messages of this batch.
    pub fn seen(&self, now_ns: u64) {
        if self.first_seen_ns.load(Ordering::Relaxed) > now_ns {
            self.first_seen_ns.fetch_min(now_ns, Ordering::Relaxed);
        }
        if self.last_seen_ns.load(Ordering::Relaxed) < now_ns {
            self.last_seen_ns.fetch_max(now_ns, Ordering::Relaxed);
        }
    }

    /// From the first subscriber that received of it to the last, nanoseconds. `None` if nobody has.
    pub fn spread_ns(&self) -> Option<u64> {
        let last = self.last_seen_ns.load(Ordering::Relaxed);
        last.checked_sub(self.first_seen_ns.load(Ordering::Relaxed))
    }

    fn end(&self) -> u64 {
        self.first + self.count as u64
    }
}

/// The feed of one target. One writer, the controller; workers read.
#[derive(Debug)]
pub struct Feed {
    /// The number in every payload of this run.
    pub run: u32,
    protocol: Protocol,
    opcode: AtomicU8,
    head: AtomicU64,
    batches: Mutex<VecDeque<Arc<Batch>>>,
}

impl Feed {
    /// An empty feed to subscribers who speak this protocol.
    pub fn new(run: u32, protocol: Protocol) -> Self {
        let (opcode, head) = (AtomicU8::new(frame::BINARY), AtomicU64::new(0));
        Self { run, protocol, opcode, head, batches: Mutex::default() }
    }

    /// Sequence of the next message to be published.
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Makes the next `count` messages of `size` bytes and lets the workers expect them.
    pub fn append(&self, count: usize, size: usize, due_ns: u64) -> Arc<Batch> {
        let first = self.head();
        let (before, after) = self.protocol.around(size);
        let message_bytes = before.len() + size + after.len();
        let mut bytes = Vec::with_capacity(count * (message_bytes + 10));
        for sequence in first..first + count as u64 {
            frame::push_server_header(&mut bytes, self.opcode(), message_bytes);
            bytes.extend_from_slice(&before);
            Payload { sequence, due_ns, run: self.run }.push(size, &mut bytes);
            bytes.extend_from_slice(after);
        }
        let before = bytes.len() / count - size - after.len();
        let (first_seen_ns, last_seen_ns) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
        let after = after.len();
        let batch =
            Arc::new(Batch { first, count, due_ns, bytes, before, after, first_seen_ns, last_seen_ns });
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.push_back(Arc::clone(&batch));
        trim(&mut batches);
        self.head.store(batch.end(), Ordering::Release);
        batch
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
    batches: VecDeque<Arc<Batch>>,
    end: u64,
}

impl FeedView {
    /// Catches up with the feed; one atomic load when there is nothing new.
    pub fn refresh(&mut self, feed: &Feed) {
        if feed.head() == self.end {
            return;
        }
        let batches = feed.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let known = batches.partition_point(|batch| batch.first < self.end);
        self.batches.extend(batches.range(known..).cloned());
        drop(batches);
        trim(&mut self.batches);
        self.end = self.batches.back().map_or(self.end, |batch| batch.end());
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
        *position = Position { sequence, frame_bytes: (end % frame_bytes) as u32 };
        Some(Match { batch, bytes: matched, messages })
    }

    /// The part of the frame at `position` that was received already, for the parser to begin with.
    pub fn received_part(&self, position: Position) -> Option<&[u8]> {
        let batch = self.find(position.sequence)?;
        let from = (position.sequence - batch.first) as usize * batch.frame_bytes();
        Some(&batch.bytes[from..from + position.frame_bytes as usize])
    }

    /// The batch of a message, if it is still kept.
    pub fn find(&self, sequence: u64) -> Option<&Batch> {
        let newest = self.batches.back()?;
        if sequence >= newest.first {
            return (sequence < newest.end()).then_some(newest);
        }
        let at = self.batches.partition_point(|batch| batch.end() <= sequence);
        self.batches.get(at).filter(|batch| batch.first <= sequence).map(Arc::as_ref)
    }
}

fn trim(batches: &mut VecDeque<Arc<Batch>>) {
    let mut bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
    while batches.len() > 2 && (batches.len() > RETAINED_BATCHES_MAX || bytes > RETAINED_BYTES_MAX) {
        bytes -= batches.pop_front().map_or(0, |batch| batch.bytes.len());
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
            let mut position = Position { sequence: 0, frame_bytes: 0 };
            let mut messages = 0;
            for mut chunk in all.chunks(piece) {
                while !chunk.is_empty() {
                    let matched = view.advance(&mut position, chunk).expect("expected bytes");
                    messages += matched.messages;
                    chunk = &chunk[matched.bytes..];
                }
            }
            assert_eq!(
                (messages, position),
                (6, Position { sequence: 6, frame_bytes: 0 }),
                "pieces of {piece}"
            );
        }
    }

    #[test]
    fn whole_frames_before_a_fault_match_and_the_faulty_one_does_not() {
        let (_, view, mut all) = feed_of(&[4]);
        all[250] ^= 1;
        let mut position = Position { sequence: 0, frame_bytes: 0 };
        assert_eq!(view.advance(&mut position, &all).map(|m| (m.bytes, m.messages)), Some((204, 2)));
        assert!(view.advance(&mut position, &all[204..]).is_none());
        assert_eq!(position, Position { sequence: 2, frame_bytes: 0 });
    }

    #[test]
    fn what_was_received_of_an_interrupted_frame_is_known() {
        let (_, view, all) = feed_of(&[2]);
        let mut position = Position { sequence: 0, frame_bytes: 0 };
        assert!(view.advance(&mut position, &all[..110]).is_some());
        assert_eq!(view.received_part(position), Some(&all[102..110]));
    }

    #[test]
    fn the_spread_of_a_batch_is_from_the_first_who_had_it_to_the_last() {
        let (_, view, _) = feed_of(&[1]);
        let batch = view.find(0).unwrap();
        assert_eq!(batch.spread_ns(), None);
        [20, 10, 35, 30].into_iter().for_each(|now_ns| batch.seen(now_ns));
        assert_eq!(batch.spread_ns(), Some(25));
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
