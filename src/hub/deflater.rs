//! The shared compressor of a channel, at its home: a message is deflated once for every subscriber of the process.
//!
//! permessage-deflate (RFC 7692) lets a message refer to what was deflated before it. All subscribers get the same
//! sequence, so one compressor serves them, and a tick of 85 bytes shrinks to a third where by itself it hardly shrinks
//! at all. After an **epoch** the compressor starts afresh: its next message refers to nothing, and whoever has missed some
//! of the sequence gets on there. What is sent plain is not part of the sequence.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};

use crate::config::ChannelSettings;
use crate::config::limits::EPOCH_BYTES_MAX;
use crate::model::encoding::{FRAME_HEADER_BYTES_MAX, append_deflated_frame};
use crate::model::{Deflated, PayloadKind};

/// log2 of the window: the largest, which every client has that did not ask for less (RFC 7692 §7.1.2.1).
const WINDOW_BITS: u8 = 15;
/// Bytes that a reference reaches back at most.
const WINDOW_BYTES: usize = 1 << WINDOW_BITS;
/// What a flush ends with, and a message leaves out (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Room for what deflate adds to data that do not shrink, on top of the eighth that level 1 adds, which writes a byte in up
/// to nine bits: headers of blocks, and the flush.
const SLACK_BYTES: usize = 64;
/// Bytes by which the first message of an epoch may grow: as much as it takes to write short text without any repetition.
/// Small ticks would never begin an epoch otherwise, as they shrink only by what came before them.
const FIRST_GROWTH_BYTES_MAX: usize = 3;

/// One channel's compressor: 371 KiB, and up to a window more.
pub struct Deflater {
    context: Compress,
    level: Compression,
    min_bytes: usize,
    epoch_messages_max: u64,
    /// The newest payloads of the epoch, as the clients have them: a window of them, or two.
    history: Vec<u8>,
    messages: u64,
    bytes: usize,
    buffer: Vec<u8>,
}

impl Deflater {
    /// A compressor at the beginning of an epoch.
    pub fn new(settings: &ChannelSettings) -> Self {
        let level = Compression::new(settings.compression_level as u32);
        Self {
            context: Compress::new_with_window_bits(level, false, WINDOW_BITS),
            level,
            min_bytes: settings.compression_min_size as usize,
            epoch_messages_max: settings.compression_epoch,
            history: Vec::new(),
            messages: 0,
            bytes: 0,
            buffer: Vec::new(),
        }
    }

    /// Deflates the next message of the sequence; `None`: send it plain, it is not part of it.
    ///
    /// Plain is what is below the channel's threshold or does not shrink. Linear in the payload; 1.5 µs for a
    /// tick of 85 bytes at level 1, 10 µs at level 9.
    pub fn deflate(&mut self, kind: PayloadKind, payload: &[u8]) -> Option<Deflated> {
        if payload.len() < self.min_bytes || payload.is_empty() {
            return None;
        }
        if self.messages >= self.epoch_messages_max || self.bytes >= EPOCH_BYTES_MAX {
            self.begin_epoch();
        }
        let begins_epoch = self.messages == 0;
        let growth_max = if begins_epoch { FIRST_GROWTH_BYTES_MAX } else { 0 };
        let is_complete = self.compress(payload);
        let shrinks = self.buffer.len() < payload.len() + growth_max;
        if !is_complete {
            // zlib-rs miscounts the room that output left behind takes after a reset, and panics when none seems left.
            self.context = Compress::new_with_window_bits(self.level, false, WINDOW_BITS);
        }
        if !is_complete || !shrinks {
            self.forget_last();
            return None;
        }
        self.messages += 1;
        self.bytes += payload.len();
        self.remember(payload);
        let mut frame = Vec::with_capacity(self.buffer.len() + FRAME_HEADER_BYTES_MAX);
        append_deflated_frame(kind, &self.buffer, &mut frame);
        if self.buffer.capacity() > WINDOW_BYTES {
            self.buffer = Vec::new();
        }
        Some(Deflated { frame: Bytes::from(frame), begins_epoch })
    }

    fn begin_epoch(&mut self) {
        self.context.reset();
        self.history.clear();
        (self.messages, self.bytes) = (0, 0);
    }

    /// Deflates `payload` into the buffer; false if the compressor did not give all of it, which is not to happen.
    fn compress(&mut self, payload: &[u8]) -> bool {
        self.buffer.clear();
        self.buffer.reserve(payload.len() + payload.len() / 8 + SLACK_BYTES);
        let before = self.context.total_in();
        let outcome = self.context.compress_vec(payload, &mut self.buffer, FlushCompress::Sync);
        let is_complete = outcome.is_ok()
            && self.context.total_in() - before == payload.len() as u64
            && self.buffer.ends_with(&TAIL);
        self.buffer.truncate(self.buffer.len().saturating_sub(TAIL.len()));
        is_complete
    }

    /// Puts the compressor back to where it was before the last message: the clients do not have that one.
    fn forget_last(&mut self) {
        self.context.reset();
        let window = self.history.len().saturating_sub(WINDOW_BYTES);
        if self.messages > 0 && self.context.set_dictionary(&self.history[window..]).is_err() {
            self.begin_epoch();
        }
    }

    fn remember(&mut self, payload: &[u8]) {
        let excess = payload.len().saturating_sub(WINDOW_BYTES);
        if self.history.len() + payload.len() - excess > 2 * WINDOW_BYTES {
            self.history.drain(..self.history.len().saturating_sub(WINDOW_BYTES));
        }
        self.history.extend_from_slice(&payload[excess..]);
    }
}

impl std::fmt::Debug for Deflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflater").field("messages", &self.messages).field("bytes", &self.bytes).finish()
    }
}

#[cfg(test)]
mod tests;
