//! How a message looks on a wire. One encoding serves every subscriber that reads it.
//!
//! `frame.rs` has WebSocket frames, in which every message crosses the bus. `envelope.rs` and `event.rs` have what is made
//! of one for those who read otherwise: the JSON of `tidegate.v1`, and events of a stream.

mod envelope;
mod event;
mod frame;
mod header;

pub use envelope::{DATA_DEPTH_MAX, append_envelope_frame};
pub use event::{
    append_close_event, append_comment, append_enveloped_event, append_event, append_id, append_last_chunk,
    append_notice_event, append_retry,
};
pub use frame::{
    FRAME_HEADER_BYTES_MAX, append_control_frame, append_data_frame, append_deflated_frame, data_of,
    last_control_frame, split_frame,
};

use super::channel::ChannelName;
use super::key::MessageKey;
use super::position::Position;
use super::publication::PayloadKind;

/// The ways in which a message is written for its subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Encoding {
    /// The payload in one WebSocket frame.
    Frame,
    /// The JSON of `tidegate.v1` in a text frame: channel, position, key and data.
    Envelope,
    /// An event of an event stream (SSE) that carries the payload; its id is the position.
    Event,
    /// An event of an event stream of several channels: its data is the JSON of `tidegate.v1`.
    EnvelopedEvent,
}

/// A message with all that an encoding may say of it.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// Its channel.
    pub channel: &'a ChannelName,
    /// Its place there.
    pub position: Position,
    /// Its key, if it has one.
    pub key: Option<&'a MessageKey>,
    /// Text or binary.
    pub kind: PayloadKind,
    /// What was published; with a key and nothing else, the key is deleted.
    pub payload: &'a [u8],
}
