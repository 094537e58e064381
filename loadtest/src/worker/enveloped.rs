//! Messages that come in something: events of a stream, and the envelopes of tidegate.v1.

use super::connection::{Connection, Inside};
use super::receive::{Desk, Ended};
use crate::payload::Payload;
use crate::protocol::v1::{self, Said};
use crate::target::Target;
use crate::verify::Gaps;
use crate::wire::frame;
use crate::wire::sse::{EventReader, chunk_length};

impl Desk {
    /// Takes events, or a part of one. Returns bytes taken.
    pub(super) fn take_events(
        &mut self,
        target: &Target,
        connection: &mut Connection,
        gaps: &mut Gaps,
        reader: &mut EventReader,
        mut bytes: &[u8],
        now_ns: u64,
    ) -> Result<usize, Ended> {
        let mut is_whole = false;
        if reader.is_between_chunks() {
            let taken = self.recognise(target, connection, bytes, now_ns);
            if taken > 0 {
                return Ok(taken);
            }
            if let Some(length) = chunk_length(bytes) {
                (bytes, is_whole) = (&bytes[..length], true);
            }
        }
        self.stats.detours += 1;
        let before = self.mark(connection);
        let judge = |data: &[u8]| {
            self.judge(target, connection, gaps, frame::TEXT, data, now_ns);
            Ok(())
        };
        reader.read(bytes, judge).map_err(Ended)?;
        if is_whole && reader.is_between_chunks() {
            self.learn(connection, before, bytes);
        }
        Ok(bytes.len())
    }

    /// Takes a message out of its envelope.
    pub(super) fn open_envelope(
        &mut self,
        target: &Target,
        connection: &mut Connection,
        gaps: &mut Gaps,
        inside: &mut Inside,
        text: &[u8],
        now_ns: u64,
    ) -> Result<(), Ended> {
        let Said::Message(payload, key) = v1::read(text, &target.protocol.channel).map_err(Ended)? else {
            return Ok(());
        };
        if inside.held.is_some() {
            self.hold(target, inside, &payload);
            return Ok(());
        }
        let ours = Payload::parse(&payload).filter(|payload| payload.run == target.feed.run);
        if let Some(sequence) = ours.map(|payload| payload.sequence).filter(|_| target.publishes)
            && key != target.feed.keys.name(sequence)
        {
            return Err(Ended(format!("the server gave message {sequence} the key {key:?}")));
        }
        self.judge(target, connection, gaps, frame::TEXT, &payload, now_ns);
        Ok(())
    }
}
