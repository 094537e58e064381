//! Received bytes of a subscriber with compression: compared with what others in its context received, else inflated.

use std::rc::Rc;

use super::connection::Connection;
use super::inflating::{Inflating, Step};
use super::receive::{Desk, Ended, count, protocol_error};
use crate::feed::Match;
use crate::payload::Payload;
use crate::target::Target;
use crate::verify::Gaps;
use crate::wire::deflate::RSV1;
use crate::wire::frame::Event;

impl Desk {
    /// Takes one frame of a subscriber that agreed on compression, or a part of one. Returns bytes taken.
    pub(super) fn inflate(
        &mut self,
        target: &Target,
        connection: &mut Connection,
        gaps: &mut Gaps,
        inflating: &mut Inflating,
        bytes: &[u8],
        now_ns: u64,
    ) -> Result<usize, Ended> {
        if inflating.inside.is_at_rest() && !connection.stalled {
            if let Some(step) = inflating.context.step_of_frame(bytes) {
                self.follow(target, connection, gaps, inflating, &step, now_ns);
                return Ok(step.frame_bytes());
            }
            let taken =
                if bytes[0] & RSV1 == 0 { self.compare_whole(target, connection, bytes, now_ns) } else { 0 };
            if taken > 0 {
                return Ok(taken);
            }
        }
        let (taken, event) =
            inflating.inside.reader.read(bytes).map_err(|violation| protocol_error(violation.0))?;
        match event {
            None => {}
            Some(Event::Deflated(..)) if connection.stalled => {}
            Some(Event::Deflated(opcode, data)) => {
                let step = match inflating.context.step_of_data(opcode, &data) {
                    Some(step) => step,
                    None => self.take_step(target, inflating, opcode, &data)?,
                };
                self.follow(target, connection, gaps, inflating, &step, now_ns);
            }
            Some(event) => self.handle(target, connection, gaps, &mut inflating.inside, event, now_ns)?,
        }
        Ok(taken)
    }

    /// Inflates a message as the first of its context.
    fn take_step(
        &mut self,
        target: &Target,
        inflating: &Inflating,
        opcode: u8,
        data: &[u8],
    ) -> Result<Rc<Step>, Ended> {
        if target.publishes {
            self.view.refresh(&target.feed);
        }
        self.stats.inflated += 1;
        let view = &self.view;
        let is_expected = |message: &[u8]| {
            let sequence = Payload::parse(message).filter(|_| target.publishes)?.sequence;
            (view.find(sequence)?.payload(sequence)? == message).then_some(sequence)
        };
        let step = self.contexts.take_step(&inflating.context, opcode, data, is_expected);
        step.map_err(protocol_error)
    }

    /// Moves a subscriber on by a compressed message.
    fn follow(
        &mut self,
        target: &Target,
        connection: &mut Connection,
        gaps: &mut Gaps,
        inflating: &mut Inflating,
        step: &Step,
        now_ns: u64,
    ) {
        self.stats.deflated += 1;
        inflating.context = step.leads_from(&inflating.context);
        let is_next = step.expected == Some(connection.position.sequence);
        let Some(batch) = self.view.find(connection.position.sequence).filter(|_| is_next) else {
            return self.judge(target, connection, gaps, step.opcode, &step.message, now_ns);
        };
        connection.position.sequence += 1;
        let matched = Match { batch, bytes: step.frame_bytes(), messages: 1 };
        count(&mut self.stats, &mut self.latencies, &matched, now_ns);
    }

    /// Compares whole plain frames with what is expected. Returns bytes taken, 0 if the first is another or is not whole.
    fn compare_whole(
        &mut self,
        target: &Target,
        connection: &mut Connection,
        bytes: &[u8],
        now_ns: u64,
    ) -> usize {
        self.view.refresh(&target.feed);
        let mut position = connection.position;
        match self.view.advance(&mut position, bytes) {
            Some(matched) if position.frame_bytes == 0 => {
                connection.position = position;
                let taken = matched.bytes;
                count(&mut self.stats, &mut self.latencies, &matched, now_ns);
                taken
            }
            _ => 0,
        }
    }
}
