//! What one connection says while a message is under way: the protocol, and what inflates in front of it.

use super::inflate::Unpacker;
use super::inflater::Inflater;
use super::websocket::{Event, SessionLimits, WebSocket};
use crate::model::CloseReason;

/// The inbound half of one connection while a message is under way: the protocol, and in front of it, where compression was
/// agreed, what inflates.
#[derive(Debug)]
pub struct Inbound {
    websocket: WebSocket,
    limits: SessionLimits,
    unpacker: Option<Box<Unpacker>>,
}

impl Inbound {
    /// A connection at a message boundary; whether it `may_compress`.
    pub fn new(limits: SessionLimits, may_compress: bool) -> Self {
        let unpacker = may_compress.then(Box::default);
        Self { websocket: WebSocket::new(limits), limits, unpacker }
    }

    /// Whether the client may compress.
    pub fn may_compress(&self) -> bool {
        self.unpacker.is_some()
    }

    /// As [`WebSocket::on_close_sent`].
    pub fn on_close_sent(&mut self) {
        self.websocket.on_close_sent();
    }

    /// As [`WebSocket::is_at_rest`].
    pub fn is_at_rest(&self) -> bool {
        self.websocket.is_at_rest() && self.unpacker.as_ref().is_none_or(|unpacker| unpacker.is_at_rest())
    }

    /// As [`WebSocket::is_mid_message`].
    pub fn is_mid_message(&self) -> bool {
        self.websocket.is_mid_message()
            || self.unpacker.as_ref().is_some_and(|unpacker| !unpacker.is_at_rest())
    }

    /// As [`WebSocket::is_in_data_message`].
    pub fn is_in_data_message(&self) -> bool {
        self.websocket.is_in_data_message()
            || self.unpacker.as_ref().is_some_and(|unpacker| unpacker.is_in_message())
    }

    /// Bytes of memory held beyond itself, the message under way included.
    pub fn memory_bytes(&self) -> usize {
        let unpacker = self.unpacker.as_ref().map_or(0, |unpacker| unpacker.memory_bytes());
        self.websocket.memory_bytes() + unpacker
    }

    /// Bytes that certainly end no more than the present frame.
    pub fn frame_bytes_left(&self) -> usize {
        let compressed = self.unpacker.as_ref().map_or(0, |unpacker| unpacker.payload_left());
        self.websocket.payload_left().max(compressed) as usize
    }

    /// As [`WebSocket::handle_bytes`]. Linear in the input and in what it inflates to.
    ///
    /// # Errors
    /// The same, and those of a compressed message that does not inflate, or to too much.
    pub fn handle_bytes(
        &mut self,
        mut input: &[u8],
        inflater: &mut Inflater,
        own: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), CloseReason> {
        let Some(unpacker) = &mut self.unpacker else {
            return self.websocket.handle_bytes(input, own, events);
        };
        let bytes_max = self.limits.max_message;
        // Stored, a message is a little longer than plain: five bytes for each block, of which few are below 512.
        let compressed_max = bytes_max + bytes_max / 64 + 64;
        loop {
            if unpacker.passes_on() {
                let (passed, rest) = input.split_at(unpacker.pass(input));
                if !passed.is_empty() || rest.is_empty() {
                    self.websocket.handle_bytes(passed, own, events)?;
                }
                if matches!(events.last(), Some(Event::Closed { .. })) {
                    return Ok(());
                }
                input = rest;
            }
            if input.is_empty() {
                return Ok(());
            }
            let (taken, message) = unpacker.gather(input, compressed_max)?;
            input = input.get(taken..).unwrap_or_default();
            match message {
                Some(message) => {
                    let (frame, start) = message.finish(bytes_max, inflater)?;
                    self.websocket.handle_bytes(frame.get(start..).unwrap_or_default(), own, events)?;
                }
                None => unpacker.advance(bytes_max, inflater)?,
            }
        }
    }
}
