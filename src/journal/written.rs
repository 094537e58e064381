//! A further strip of a journal: every entry once more in another encoding, written when the first subscriber needs it.

use super::entry::Entry;
use super::lane::Lane;
use crate::model::encoding::{append_envelope_frame, append_enveloped_event, append_event, data_of};
use crate::model::{ChannelName, Encoding, Epoch, Labelled, Position};

/// The entries of a journal in one encoding, in step with it: index for index.
#[derive(Debug)]
pub(super) struct Written {
    /// The bytes.
    pub(super) lane: Lane,
    encoding: Encoding,
    channel: ChannelName,
    epoch: Epoch,
    buffer: Vec<u8>,
}

impl Written {
    /// An empty strip in `encoding` for the stream `epoch` of `channel`.
    pub(super) fn new(encoding: Encoding, channel: ChannelName, epoch: Epoch) -> Self {
        Self { lane: Lane::default(), encoding, channel, epoch, buffer: Vec::new() }
    }

    /// Adds `entry`, whose frame is `frame`. Linear in its bytes.
    pub(super) fn push(&mut self, entry: &Entry, frame: &[u8]) {
        let Some((kind, payload)) = data_of(frame) else {
            debug_assert!(false, "every entry is a data frame");
            return self.lane.push_copy(&[]);
        };
        let position = Position { epoch: self.epoch, offset: entry.offset };
        let message = Labelled { channel: &self.channel, position, key: entry.key(), kind, payload };
        self.buffer.clear();
        match self.encoding {
            Encoding::Frame => self.buffer.extend_from_slice(frame),
            Encoding::Envelope => append_envelope_frame(&message, &mut self.buffer),
            Encoding::Event => append_event(&message, &mut self.buffer),
            Encoding::EnvelopedEvent => append_enveloped_event(&message, &mut self.buffer),
        }
        self.lane.push_copy(&self.buffer);
        if self.buffer.capacity() > super::strip::WHOLE_BYTES_MIN {
            self.buffer = Vec::new();
        }
    }

    /// Bytes of memory held. Constant time.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.lane.memory_bytes() + self.buffer.capacity()
    }
}
