//! The objects of publish requests: keys from a closed list, each at most once, in any order.
//!
//! `src/model/json.rs` reads them, strictly (GUARANTEES B24); here is what is said of what is wrong.

use serde_json::value::RawValue;

use super::refusal::{Refusal, Refused};
use crate::model::json::{self, ObjectError};

/// A key that some request has. Case matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::enum_variant_names, reason = "they are named as they are written")]
pub enum Key {
    /// `channel`
    Channel,
    /// `channels`
    Channels,
    /// `data`
    Data,
    /// `messages`
    Messages,
    /// `key`
    Key,
    /// `ttl_ms`
    TtlMs,
    /// `idempotency_key`
    IdempotencyKey,
}

impl Key {
    const fn name(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Channels => "channels",
            Self::Data => "data",
            Self::Messages => "messages",
            Self::Key => "key",
            Self::TtlMs => "ttl_ms",
            Self::IdempotencyKey => "idempotency_key",
        }
    }
}

/// What is wrong with a request that is valid JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// It is no object.
    NoObject,
    /// It has a key that this request does not.
    Unknown,
    /// It has this key twice.
    Twice(Key),
    /// It lacks this key.
    Missing(Key),
    /// The value of this key is of another kind.
    Kind(Key),
    /// It has both `channel` and `channels`.
    Both,
}

impl Wrong {
    /// What to say of it: fixed text, as what was sent is never sent back (GUARANTEES J8).
    pub const fn text(self) -> &'static str {
        use Key::{Channel, Channels, Data, IdempotencyKey, Messages, TtlMs};
        match self {
            Self::NoObject => "not an object",
            Self::Unknown => "a key that this request does not have; case matters",
            Self::Twice(Channel) => "channel: twice",
            Self::Twice(Channels) => "channels: twice",
            Self::Twice(Data) => "data: twice",
            Self::Twice(Messages) => "messages: twice",
            Self::Twice(Key::Key) => "key: twice",
            Self::Twice(TtlMs) => "ttl_ms: twice",
            Self::Twice(IdempotencyKey) => "idempotency_key: twice",
            Self::Missing(Channel) => "channel: missing",
            Self::Missing(Channels) => "channels: missing",
            Self::Missing(Data) => "data: missing",
            Self::Missing(Messages) => "messages: missing",
            Self::Missing(Key::Key) => "key: missing",
            Self::Missing(TtlMs) => "ttl_ms: missing",
            Self::Missing(IdempotencyKey) => "idempotency_key: missing",
            Self::Kind(Channel) => "channel: not a string",
            Self::Kind(Channels) => "channels: not a list of one or more strings",
            Self::Kind(Data) => "data: not a string",
            Self::Kind(Messages) => "messages: not a list",
            Self::Kind(Key::Key) => "key: not a string",
            Self::Kind(TtlMs) => "ttl_ms: not a whole number",
            Self::Kind(IdempotencyKey) => "idempotency_key: not a string",
            Self::Both => "channel and channels: one of the two",
        }
    }
}

impl From<Wrong> for Refused {
    fn from(wrong: Wrong) -> Self {
        Self { detail: Some(wrong.text()), ..Refusal::Invalid.into() }
    }
}

/// The values of the keys of one object, each as its own text.
#[derive(Default)]
pub struct Object<'a> {
    /// Of `channel`.
    pub channel: Option<&'a RawValue>,
    /// Of `channels`.
    pub channels: Option<&'a RawValue>,
    /// Of `data`.
    pub data: Option<&'a RawValue>,
    /// Of `messages`.
    pub messages: Option<&'a RawValue>,
    /// Of `key`.
    pub key: Option<&'a RawValue>,
    /// Of `ttl_ms`.
    pub ttl_ms: Option<&'a RawValue>,
    /// Of `idempotency_key`.
    pub idempotency_key: Option<&'a RawValue>,
}

impl<'a> Object<'a> {
    /// Reads `json`, an object with keys of `known`. Linear; takes no stack for what is nested.
    ///
    /// # Errors
    /// `BadJson`, or `Invalid` with what is [`Wrong`].
    pub fn read<const N: usize>(json: &'a [u8], known: &[Key; N]) -> Result<Self, Refused> {
        let values = json::members(json, &known.map(Key::name)).map_err(|error| match error {
            ObjectError::Syntax => Refusal::BadJson.into(),
            ObjectError::NoObject => Refused::from(Wrong::NoObject),
            ObjectError::Unknown => Wrong::Unknown.into(),
            ObjectError::Twice(place) => {
                known.get(place).map_or(Wrong::Unknown, |key| Wrong::Twice(*key)).into()
            }
        })?;
        let mut object = Self::default();
        for (key, value) in known.iter().zip(values) {
            *object.place(*key) = value;
        }
        Ok(object)
    }

    fn place(&mut self, key: Key) -> &mut Option<&'a RawValue> {
        match key {
            Key::Channel => &mut self.channel,
            Key::Channels => &mut self.channels,
            Key::Data => &mut self.data,
            Key::Messages => &mut self.messages,
            Key::Key => &mut self.key,
            Key::TtlMs => &mut self.ttl_ms,
            Key::IdempotencyKey => &mut self.idempotency_key,
        }
    }
}
