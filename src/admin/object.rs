//! The objects of publish requests: keys from a closed list, each at most once, in any order.
//!
//! Values are kept as their own text and read later, so that what is wrong can be said with its key, and however deep a
//! value is it costs no stack. Two readers of one request must not be able to understand it differently: a key that
//! comes twice, or in other letters, is refused, never the last or the first taken (GUARANTEES B24).

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::refusal::{Refusal, Refused};

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
    pub fn read(json: &'a [u8], known: &[Key]) -> Result<Self, Refused> {
        let whole: &RawValue = serde_json::from_slice(json).map_err(|_| Refusal::BadJson)?;
        if !whole.get().starts_with('{') {
            return Err(Wrong::NoObject.into());
        }
        let mut wrong = None;
        let members = Members { known, wrong: &mut wrong };
        let result = members.deserialize(&mut serde_json::Deserializer::from_str(whole.get()));
        // Without a word of ours a key has half a surrogate pair: but for that the text was found to be JSON.
        result.map_err(|_| wrong.map_or(Refusal::BadJson.into(), Refused::from))
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

/// Reads the members of an object; what is wrong with them goes to `wrong`, past the parser's own words.
struct Members<'k> {
    known: &'k [Key],
    wrong: &'k mut Option<Wrong>,
}

impl<'a> DeserializeSeed<'a> for Members<'_> {
    type Value = Object<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Object<'a>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Members<'_> {
    type Value = Object<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<Object<'a>, A::Error> {
        let mut object = Object::default();
        while let Some(Name(name)) = members.next_key()? {
            let key = match &*name {
                "channel" => Some(Key::Channel),
                "channels" => Some(Key::Channels),
                "data" => Some(Key::Data),
                "messages" => Some(Key::Messages),
                "key" => Some(Key::Key),
                "ttl_ms" => Some(Key::TtlMs),
                "idempotency_key" => Some(Key::IdempotencyKey),
                _ => None,
            };
            let Some(key) = key.filter(|key| self.known.contains(key)) else {
                *self.wrong = Some(Wrong::Unknown);
                return Err(A::Error::custom("unknown"));
            };
            if object.place(key).replace(members.next_value()?).is_some() {
                *self.wrong = Some(Wrong::Twice(key));
                return Err(A::Error::custom("twice"));
            }
        }
        Ok(object)
    }
}

/// A key, borrowed unless something in it is escaped.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
