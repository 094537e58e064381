//! Received bytes of one connection: compared with the feed where possible, parsed where not.

use std::io::Write;

use super::connection::{Connection, Detour, Handshake};
use crate::feed::FeedView;
use crate::stats::{Latencies, Stats};
use crate::target::Target;
use crate::verify::{self, Gaps, SEQUENCE_UNKNOWN};
use crate::wire::frame::{self, Event, FrameReader};
use crate::wire::handshake;

/// What one worker knows about one target.
#[derive(Debug)]
pub struct Desk {
    /// The recent batches.
    pub view: FeedView,
    /// Counts since the start.
    pub stats: Stats,
    /// Latencies since they were last taken.
    pub latencies: Latencies,
}

/// The connection is over; the text says why.
#[derive(Debug)]
pub struct Ended(pub String);

impl Desk {
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
        self.stats.reads += 1;
        while !bytes.is_empty() {
            let taken = match connection.detour.take() {
                None => self.compare(target, connection, bytes, now_ns)?,
                Some(mut detour) => match detour.as_mut() {
                    Detour::Frames(reader) => {
                        let (taken, event) =
                            reader.read(bytes).map_err(|violation| protocol_error(violation.0))?;
                        let at_rest = reader.is_at_rest();
                        if let Some(event) = event {
                            self.handle(target, connection, gaps, event, now_ns)?;
                        }
                        if !at_rest {
                            connection.detour = Some(detour);
                        }
                        taken
                    }
                    Detour::Handshake(handshake) => {
                        match self.upgrade(target, connection, handshake, bytes, now_ns)? {
                            Some(taken) => taken,
                            None => {
                                connection.detour = Some(detour);
                                bytes.len()
                            }
                        }
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
        let mut matched = self.view.advance(&mut connection.position, bytes);
        if matched.is_none() {
            self.view.refresh(&target.feed);
            matched = self.view.advance(&mut connection.position, bytes);
        }
        if let Some(matched) = matched {
            if matched.messages > 0 {
                self.stats.tally.delivered += matched.messages;
                self.stats.sequence_sum = self.stats.sequence_sum.wrapping_add(matched.messages);
                self.latencies
                    .delivery
                    .saturating_record_n(now_ns.saturating_sub(matched.due_ns), matched.messages);
            }
            return Ok(matched.bytes);
        }
        let mut reader = FrameReader::default();
        if before.frame_bytes > 0 {
            let part = self.view.received_part(before);
            let part = part.ok_or_else(|| Ended("a subscriber fell too far behind to be checked".into()))?;
            reader.read(part).map_err(|violation| protocol_error(violation.0))?;
            connection.position.frame_bytes = 0;
        }
        self.stats.detours += 1;
        connection.detour = Some(Box::new(Detour::Frames(reader)));
        Ok(0)
    }

    fn handle(
        &mut self,
        target: &Target,
        connection: &mut Connection,
        gaps: &mut Gaps,
        event: Event,
        now_ns: u64,
    ) -> Result<(), Ended> {
        match event {
            Event::Message(opcode, message) => {
                let sequence = &mut connection.position.sequence;
                let before = *sequence;
                let run = target.publishes.then_some(target.feed.run);
                let payload = verify::judge(&message, run, sequence, gaps, &mut self.stats.tally);
                self.stats.sequence_sum = self.stats.sequence_sum.wrapping_add(sequence.wrapping_sub(before));
                if let Some(payload) = payload {
                    target.feed.expect_opcode(opcode);
                    self.latencies.delivery.saturating_record(now_ns.saturating_sub(payload.due_ns));
                }
                Ok(())
            }
            Event::Ping(payload) => {
                self.stats.pings += 1;
                let pong = frame::client_frame(frame::PONG, &payload, now_ns as u32 | 1);
                match connection.stream.write(&pong) {
                    Ok(written) if written == pong.len() => Ok(()),
                    _ => Err(Ended("a pong could not be sent: the server does not read".into())),
                }
            }
            Event::Pong => Ok(()),
            Event::Close(code, reason) => {
                let code = code.map_or_else(|| "no code".to_owned(), |code| code.to_string());
                Err(Ended(format!("the server closed a connection: {code} {reason}")))
            }
        }
    }

    /// Takes a piece of the answer; `Some(n)` when the connection is upgraded with `n` bytes used.
    fn upgrade(
        &mut self,
        target: &Target,
        connection: &mut Connection,
        handshake: &mut Handshake,
        bytes: &[u8],
        now_ns: u64,
    ) -> Result<Option<usize>, Ended> {
        let earlier = handshake.answer.len();
        let answer = if earlier == 0 {
            bytes
        } else {
            handshake.answer.extend_from_slice(bytes);
            &handshake.answer
        };
        let Some(head_bytes) = handshake::check_response(answer, &handshake.key).map_err(Ended)? else {
            if earlier == 0 {
                handshake.answer.extend_from_slice(bytes);
            }
            return Ok(None);
        };
        connection.is_upgraded = true;
        self.stats.upgraded += 1;
        self.latencies.handshake.saturating_record(now_ns.saturating_sub(handshake.started_ns));
        if connection.stalled {
            self.stats.stalled += 1;
        } else {
            connection.position.sequence =
                if target.publishes { target.feed.head() } else { SEQUENCE_UNKNOWN };
            self.stats.live += 1;
            self.stats.sequence_sum = self.stats.sequence_sum.wrapping_add(connection.position.sequence);
        }
        Ok(Some(head_bytes - earlier))
    }
}

fn protocol_error(rule: &str) -> Ended {
    Ended(format!("the server broke RFC 6455: {rule}"))
}
