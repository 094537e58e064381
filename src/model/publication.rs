//! One message on its way from a publisher to a channel's home shard and from there to every subscriber.

use std::sync::Arc;

use bytes::Bytes;

use super::channel::ChannelName;
use super::encoding;
use super::id::Origin;
use super::idempotency::Idempotency;
use super::key::MessageKey;
use super::time::Time;

/// Whether a message travels as a WebSocket text or binary message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum PayloadKind {
    /// Valid UTF-8, checked by whoever made the publication.
    Text,
    /// Any bytes.
    Binary,
}

/// A message as its channel's shared compressor gave it: part of one sequence, of which a subscriber must get every
/// message since its epoch began (RFC 7692 §7.2.3.2 calls that context takeover).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deflated {
    /// The complete wire bytes of its unmasked frame, RSV1 set.
    pub frame: Bytes,
    /// It refers to nothing before it: whoever gets this one can inflate those that follow.
    pub begins_epoch: bool,
}

/// A message, encoded once before it crosses the bus. Cloning it shares the bytes.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Where it goes.
    pub channel: ChannelName,
    /// The complete wire bytes of its unmasked WebSocket frame.
    pub frame: Bytes,
    /// When the gateway took it, for the publish-to-write latency.
    pub accepted_at: Time,
    /// The client that sent it, if one did: it does not get its own message back.
    pub origin: Option<Origin>,
    /// Its deflated form, which the channel's home makes when some subscriber reads it so; without it the message
    /// goes to all of them as `frame`, which leaves their contexts as they are.
    pub deflated: Option<Arc<Deflated>>,
    /// What it is the newest state of, if anything. With a key and an empty payload it deletes that.
    pub key: Option<MessageKey>,
    /// From then on it is neither delivered nor replayed; [`Time::NEVER`] unless its publisher or its channel says so.
    pub expires_at: Time,
    /// Its sender, which `origin` names, wants to be told its number, under this id.
    pub acknowledge: Option<u64>,
    /// What its home knows it by if it comes again, on its way there.
    pub idempotency: Option<Box<Idempotency>>,
}

impl Publication {
    /// Encodes `payload` for `channel`. One allocation and one copy of the payload.
    pub fn encode(
        channel: ChannelName,
        kind: PayloadKind,
        payload: &[u8],
        accepted_at: Time,
        origin: Option<Origin>,
    ) -> Self {
        let mut frame = Vec::with_capacity(payload.len() + encoding::FRAME_HEADER_BYTES_MAX);
        encoding::append_data_frame(kind, payload, &mut frame);
        Self {
            channel,
            frame: Bytes::from(frame),
            accepted_at,
            origin,
            deflated: None,
            key: None,
            expires_at: Time::NEVER,
            acknowledge: None,
            idempotency: None,
        }
    }

    /// Bytes of its frames.
    pub fn bytes(&self) -> usize {
        self.frame.len() + self.deflated.as_ref().map_or(0, |deflated| deflated.frame.len())
    }
}
