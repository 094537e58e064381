//! Received bytes of one connection: compared with the feed where possible, parsed where not.

use std::io::Write;
use std::sync::Arc;

use super::Begin;
use super::connection::{Connection, Detour, Handshake, Inside, Joining};
use super::held::Held;
use super::inflating::{Contexts, Inflating};
use super::learned::Learned;
use crate::feed::{FeedView, Match};
use crate::protocol::{Item, Kind};
use crate::stats::{Latencies, Stats};
use crate::target::Target;
use crate::verify::{self, Expected, Gaps, SEQUENCE_UNKNOWN, joining_at, owed};
use crate::wire::frame::{self, Event, FrameReader};
use crate::wire::{deflate, handshake, sse};

/// A longer latency of a feed that is not ours is that of another clock.
const FOREIGN_LATENCY_NS_MAX: u64 = 60_000_000_000;

/// What is said of a subscriber whose half-received frame can no longer be made again.
const TOO_FAR_BEHIND: &str =
    "fell more publications behind than this tool can check: publish less, or to fewer";

/// What one worker knows about one target.
#[derive(Debug)]
pub struct Desk {
    /// The recent batches.
    pub view: FeedView,
    /// Counts since the start.
    pub stats: Stats,
    /// Latencies since they were last taken.
    pub latencies: Latencies,
    /// What subscribers with compression share.
    pub(super) contexts: Contexts,
    /// What messages look like on the wire, as far as the first who received them has shown.
    pub(super) learned: Learned,
    /// Where connections begin.
    pub begin: Option<Arc<Begin>>,
}

/// The connection is over; the text says why.
#[derive(Debug)]
pub struct Ended(pub String);

impl Desk {
    /// Nothing known and nothing counted yet.
    pub fn new() -> Self {
        Self {
            view: FeedView::default(),
            stats: Stats::default(),
            latencies: Latencies::new(),
            contexts: Contexts::default(),
            learned: Learned::default(),
            begin: None,
        }
    }

    /// Takes the bytes that one `recv` returned.
    ///
    /// # Errors
    /// Why the connection must be dropped.
    pub fn receive(
        &mut self,
        target: &Target,
        connection: &mut Connection,
        gaps: &mut Gaps,
        mut bytes: &[u8],
        now_ns: u64,
    ) -> Result<(), Ended> {
        self.stats.bytes += bytes.len() as u64;
        self.stats.wire_bytes += bytes.len() as u64;
        self.stats.reads += 1;
        while !bytes.is_empty() {
            let taken = match connection.detour.take() {
                None => self.compare(target, connection, bytes, now_ns)?,
                Some(mut detour) => match detour.as_mut() {
                    Detour::Frames(inside) => {
                        let (was_at_rest, before) = (inside.reader.is_at_rest(), self.mark(connection));
                        let (taken, event) =
                            inside.reader.read(bytes).map_err(|violation| protocol_error(violation.0))?;
                        if let Some(event) = event {
                            self.handle(target, connection, gaps, inside, event, now_ns)?;
                            if was_at_rest && target.protocol.kind == Kind::V1 {
                                self.learn(connection, before, &bytes[..taken]);
                            }
                        }
                        if !inside.is_at_rest() {
                            connection.detour = Some(detour);
                        }
                        taken
                    }
                    Detour::Inflating(inflating) => {
                        let taken = self.inflate(target, connection, gaps, inflating, bytes, now_ns)?;
                        connection.detour = Some(detour);
                        taken
                    }
                    Detour::Events(reader) => {
                        let taken = self.take_events(target, connection, gaps, reader, bytes, now_ns)?;
                        connection.detour = Some(detour);
                        taken
                    }
                    Detour::Handshake(handshake) => {
                        let taken = match self.open(target, connection, handshake, bytes, now_ns)? {
                            Some((taken, next)) => {
                                connection.detour = next.map(Box::new);
                                taken
                            }
                            None => {
                                connection.detour = Some(detour);
                                bytes.len()
                            }
                        };
                        self.stats.wire_bytes -= taken as u64;
                        taken
                    }
                },
            };
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Compares with what is expected; on the first difference starts the parser. Returns bytes taken.
    fn compare(
        &mut self,
        target: &Target,
        connection: &mut Connection,
        bytes: &[u8],
        now_ns: u64,
    ) -> Result<usize, Ended> {
        let before = connection.position;
        if connection.stalled {
            connection.detour = Some(Box::new(Detour::Frames(Inside::default())));
            return Ok(0);
        }
        if target.protocol.kind == Kind::V1 {
            let taken = self.recognise(target, connection, bytes, now_ns);
            if taken == 0 {
                self.stats.detours += 1;
                connection.detour = Some(Box::new(Detour::Frames(Inside::default())));
            }
            return Ok(taken);
        }
        let mut matched = self.view.advance(&mut connection.position, bytes);
        if matched.is_none() {
            self.view.refresh(&target.feed);
            matched = self.view.advance(&mut connection.position, bytes);
        }
        if let Some(matched) = matched {
            let taken = matched.bytes;
            count(&mut self.stats, &mut self.latencies, &matched, now_ns);
            return Ok(taken);
        }
        let mut reader = FrameReader::default();
        if before.frame_bytes > 0 {
            let frame = target.feed.frame_at(before.sequence);
            let part = frame.as_ref().and_then(|frame| frame.get(..before.frame_bytes as usize));
            let part = part.ok_or_else(|| Ended(format!("a subscriber {TOO_FAR_BEHIND}")))?;
            reader.read(part).map_err(|violation| protocol_error(violation.0))?;
            connection.position.frame_bytes = 0;
        }
        self.stats.detours += 1;
        connection.detour = Some(Box::new(Detour::Frames(Inside { reader, ..Inside::default() })));
        Ok(0)
    }

    /// Deals with something complete that the server said.
    pub(super) fn handle(
        &mut self,
        target: &Target,
        connection: &mut Connection,
        gaps: &mut Gaps,
        inside: &mut Inside,
        event: Event,
        now_ns: u64,
    ) -> Result<(), Ended> {
        match event {
            Event::Message(_, message) if target.protocol.is_broker() => {
                inside.pending.extend_from_slice(&message);
                self.take_items(target, connection, gaps, inside, now_ns)
            }
            Event::Message(_, message) if target.protocol.kind == Kind::V1 => {
                self.open_envelope(target, connection, gaps, inside, &message, now_ns)
            }
            Event::Message(_, message) if inside.held.is_some() => {
                self.hold(target, inside, &message);
                Ok(())
            }
            Event::Message(opcode, message) => {
                self.judge(target, connection, gaps, opcode, &message, now_ns);
                Ok(())
            }
            // Where none was agreed the reader takes it for a violation.
            Event::Deflated(..) => Ok(()),
            Event::Ping(payload) => {
                self.stats.pings += 1;
                let pong = frame::client_frame(frame::PONG, &payload, now_ns as u32 | 1);
                send(connection, &pong)
            }
            Event::Pong => Ok(()),
            Event::Close(code, reason) => {
                let code = code.map_or_else(|| "no code".to_owned(), |code| code.to_string());
                Err(Ended(format!("the server closed a connection: {code} {}", reason.escape_debug())))
            }
        }
    }

    /// Takes apart what a broker sent inside of WebSocket messages.
    fn take_items(
        &mut self,
        target: &Target,
        connection: &mut Connection,
        gaps: &mut Gaps,
        inside: &mut Inside,
        now_ns: u64,
    ) -> Result<(), Ended> {
        let mut used = 0;
        while let Some((taken, item)) = target.protocol.take(&inside.pending[used..]).map_err(Ended)? {
            match item {
                // What comes before the subscription stands is not owed, nor counted.
                Item::Message(_) if inside.joining.is_some() => {}
                Item::Message(range) => {
                    let message = &inside.pending[used + range.start..used + range.end];
                    self.judge(target, connection, gaps, frame::BINARY, message, now_ns);
                }
                Item::Joined => {
                    if let Some(joining) = inside.joining.take() {
                        self.join(target, connection, joining, now_ns);
                    }
                }
                Item::Reply(reply) => {
                    send(connection, &frame::client_frame(frame::BINARY, reply, now_ns as u32 | 1))?;
                }
                Item::Other => {}
                Item::Refused(cause) => return Err(Ended(cause)),
            }
            used += taken;
        }
        inside.pending.drain(..used);
        Ok(())
    }

    /// Counts a message that could not be compared byte for byte.
    pub(super) fn judge(
        &mut self,
        target: &Target,
        connection: &mut Connection,
        gaps: &mut Gaps,
        opcode: u8,
        message: &[u8],
        now_ns: u64,
    ) {
        if connection.stalled {
            return;
        }
        if target.publishes {
            self.view.refresh(&target.feed);
        }
        let position = &mut connection.position;
        let before = owed(position.sequence);
        let due = self.view.find(before).and_then(|batch| batch.payload(before));
        let expected = Expected { run: target.publishes.then_some(target.feed.run), due };
        let payload = verify::judge(message, expected, position, gaps, &mut self.stats.tally);
        let moved = owed(position.sequence).wrapping_sub(before);
        self.stats.sequence_sum = self.stats.sequence_sum.wrapping_add(moved);
        let Some(payload) = payload else { return };
        self.stats.payload_bytes += message.len() as u64;
        target.feed.expect_opcode(opcode);
        let latency_ns = now_ns.checked_sub(payload.due_ns);
        // Another machine's clock says nothing here.
        if let Some(latency_ns) = latency_ns.filter(|&ns| target.publishes || ns < FOREIGN_LATENCY_NS_MAX) {
            self.latencies.delivery.saturating_record(latency_ns);
        }
        if target.publishes
            && let Some(batch) = self.view.find(payload.sequence)
        {
            batch.seen.note(now_ns);
        }
    }

    /// Takes a piece of the answer; `Some` when the connection is open: the bytes used, and what comes next.
    fn open(
        &mut self,
        target: &Target,
        connection: &mut Connection,
        handshake: &mut Handshake,
        bytes: &[u8],
        now_ns: u64,
    ) -> Result<Option<(usize, Option<Detour>)>, Ended> {
        let earlier = handshake.answer.len();
        handshake.answer.extend_from_slice(bytes);
        if target.protocol.kind == Kind::Sse {
            let Some((head_bytes, reader)) = sse::check_response(&handshake.answer).map_err(Ended)? else {
                return Ok(None);
            };
            self.join(target, connection, handshake.joining, now_ns);
            return Ok(Some((head_bytes - earlier, Some(Detour::Events(reader)))));
        }
        let subprotocol = target.protocol.subprotocol();
        let (answer, offers) = (&handshake.answer, target.compression);
        let checked = handshake::check_response(answer, &handshake.key, subprotocol, offers);
        let Some(head_bytes) = checked.map_err(Ended)? else { return Ok(None) };
        let mut next = None;
        if offers {
            let terms = deflate::check_answer(&answer[..head_bytes]).map_err(Ended)?;
            next = Some(Detour::Inflating(Inflating::begin(self.contexts.first(terms))));
        }
        if target.protocol.is_broker() {
            let greeting = target.protocol.subscribe(connection.position.sequence);
            send(connection, &frame::client_frame(frame::BINARY, &greeting, now_ns as u32 | 1))?;
            next = Some(Detour::Frames(Inside { joining: Some(handshake.joining), ..Inside::default() }));
        } else if connection.stalled && target.feed.keys.count > 0 {
            self.join(target, connection, handshake.joining, now_ns);
            let held = Some(Box::new(Held::new(target.feed.keys, now_ns)));
            next = Some(Detour::Frames(Inside { held, ..Inside::default() }));
        } else {
            self.join(target, connection, handshake.joining, now_ns);
        }
        Ok(Some((head_bytes - earlier, next)))
    }

    /// From here on the subscriber counts, and must receive whatever is published.
    fn join(&mut self, target: &Target, connection: &mut Connection, joining: Joining, now_ns: u64) {
        connection.is_upgraded = true;
        self.stats.upgraded += 1;
        self.latencies.handshake.saturating_record(now_ns.saturating_sub(joining.started_ns));
        if connection.stalled {
            self.stats.stalled += 1;
        } else {
            connection.position.sequence = match (&self.begin, target.publishes, joining.midway) {
                (Some(begin), ..) => begin.sequence,
                (None, true, false) => target.feed.head(),
                (None, true, true) => joining_at(target.feed.head()),
                (None, false, _) => SEQUENCE_UNKNOWN,
            };
            self.stats.live += 1;
            self.stats.sequence_sum =
                self.stats.sequence_sum.wrapping_add(owed(connection.position.sequence));
        }
    }
}

/// Counts what was received exactly as expected.
pub(super) fn count(stats: &mut Stats, latencies: &mut Latencies, matched: &Match<'_>, now_ns: u64) {
    if matched.messages > 0 {
        matched.batch.seen.note(now_ns);
        stats.tally.delivered += matched.messages;
        stats.payload_bytes += matched.messages * matched.batch.payload_bytes() as u64;
        stats.sequence_sum = stats.sequence_sum.wrapping_add(matched.messages);
        let latency_ns = now_ns.saturating_sub(matched.batch.due_ns);
        latencies.delivery.saturating_record_n(latency_ns, matched.messages);
    }
}

/// Sends a few bytes at once; there is always room for them unless the server does not read.
fn send(connection: &mut Connection, bytes: &[u8]) -> Result<(), Ended> {
    match connection.stream.write(bytes) {
        Ok(written) if written == bytes.len() => Ok(()),
        _ => Err(Ended("an answer could not be sent: the server does not read".into())),
    }
}

pub(super) fn protocol_error(rule: &str) -> Ended {
    Ended(format!("the server broke RFC 6455: {rule}"))
}
