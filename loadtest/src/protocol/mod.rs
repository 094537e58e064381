//! What subscribers speak once they are connected: messages as they are, or a broker's protocol inside
//! WebSocket messages, or events over HTTP.
//!
//! A protocol says what a subscriber sends first, what surrounds each published message in a frame (so
//! that frames can still be compared byte for byte), and how bytes that did not match come apart.

mod mqtt;
mod nats;
pub mod v1;

use clap::ValueEnum;

use crate::wire::frame;

/// The protocol of a run, with what it needs to know of it.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// Which one.
    pub kind: Kind,
    /// Channel, subject or topic.
    pub channel: String,
}

/// The protocols that subscribers can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A WebSocket message is a message
    Plain,
    /// The WebSocket subprotocol tidegate.v1: each message in an envelope of JSON
    V1,
    /// NATS inside binary WebSocket messages, as nats-server's websocket listener has it
    Nats,
    /// MQTT 3.1.1 inside binary WebSocket messages, as brokers' websocket listeners have it
    Mqtt,
    /// Server-Sent Events over HTTP; the same as --sse
    #[value(hide = true)]
    Sse,
}

impl Kind {
    /// Whether only texts reach a subscriber as they are.
    pub fn wants_text(self) -> bool {
        matches!(self, Self::V1 | Self::Sse)
    }
}

/// One thing that came out of a broker's byte stream. Ranges are into the bytes that were read.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// A published message.
    Message(std::ops::Range<usize>),
    /// The subscription stands.
    Joined,
    /// The broker wants this back.
    Reply(&'static [u8]),
    /// Nothing that matters here.
    Other,
    /// The broker refuses; its own words or ours.
    Refused(String),
}

impl Protocol {
    /// This protocol on that channel, subject or topic.
    ///
    /// # Errors
    /// One line that says why the protocol has no such subject or topic.
    pub fn new(kind: Kind, channel: String) -> Result<Self, String> {
        match kind {
            Kind::Nats => nats::check_subject(&channel)?,
            Kind::Mqtt => mqtt::check_topic_name(&channel)?,
            Kind::Plain | Kind::V1 | Kind::Sse => {}
        }
        Ok(Self { kind, channel })
    }

    /// Messages as they are.
    pub fn plain() -> Self {
        Self { kind: Kind::Plain, channel: String::new() }
    }

    /// Value of `Sec-WebSocket-Protocol` to ask for.
    pub fn subprotocol(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Mqtt => Some("mqtt"),
            Kind::V1 => Some(v1::SUBPROTOCOL),
            Kind::Plain | Kind::Nats | Kind::Sse => None,
        }
    }

    /// Whether frames contain a broker's protocol rather than messages.
    pub fn is_broker(&self) -> bool {
        matches!(self.kind, Kind::Nats | Kind::Mqtt)
    }

    /// The first bytes of a subscriber, unframed. Empty where connecting is subscribing.
    /// `number` makes client identifiers unique.
    pub fn subscribe(&self, number: u64) -> Vec<u8> {
        match self.kind {
            Kind::Nats => nats::subscribe(&self.channel),
            Kind::Mqtt => mqtt::subscribe(&self.channel, number),
            Kind::Plain | Kind::V1 | Kind::Sse => Vec::new(),
        }
    }

    /// The first bytes of a publisher, unframed.
    pub fn introduce(&self, number: u64) -> Vec<u8> {
        match self.kind {
            Kind::Nats => nats::introduce(),
            Kind::Mqtt => mqtt::connect(number),
            Kind::Plain | Kind::V1 | Kind::Sse => Vec::new(),
        }
    }

    /// What a publisher sends for a message, unframed.
    pub fn publish(&self, message: &[u8]) -> Vec<u8> {
        let (before, after) = match self.kind {
            Kind::Nats => nats::publish_around(&self.channel, message.len()),
            Kind::Mqtt => mqtt::around(&self.channel, message.len()),
            Kind::Plain | Kind::V1 | Kind::Sse => Default::default(),
        };
        [&before, message, after].concat()
    }

    /// What surrounds a message of so many bytes in the frame of a subscriber.
    pub fn around(&self, bytes: usize) -> (Vec<u8>, &'static [u8]) {
        match self.kind {
            Kind::Nats => nats::around(&self.channel, bytes),
            Kind::Mqtt => mqtt::around(&self.channel, bytes),
            Kind::Plain | Kind::V1 | Kind::Sse => Default::default(),
        }
    }

    /// Takes the first complete item from a broker's byte stream: its length, and what it is. `None` if
    /// it is not complete.
    ///
    /// # Errors
    /// The stream is not this protocol, or delivers what was not subscribed to.
    pub fn take(&self, bytes: &[u8]) -> Result<Option<(usize, Item)>, String> {
        match self.kind {
            Kind::Nats => nats::take(bytes, &self.channel),
            Kind::Mqtt => mqtt::take(bytes, &self.channel),
            Kind::Plain | Kind::V1 | Kind::Sse => Ok(None),
        }
    }

    /// The opcode with which a client of this protocol sends.
    pub fn opcode(&self, is_text: bool) -> u8 {
        if is_text && !self.is_broker() { frame::TEXT } else { frame::BINARY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_that_the_protocol_cannot_name_is_refused() {
        let longest = "x".repeat(65_535);
        let too_long = format!("{longest}x");
        for (kind, channel, is_right) in [
            (Kind::Nats, "a.b-c", true),
            (Kind::Nats, "", false),
            (Kind::Nats, "a b", false),
            (Kind::Nats, "a\r\nPUB x 0\r\n", false),
            (Kind::Nats, "a.*", false),
            (Kind::Nats, "a.>", false),
            (Kind::Nats, "a..b", false),
            (Kind::Nats, "a.", false),
            (Kind::Mqtt, "a/b c", true),
            (Kind::Mqtt, &longest, true),
            (Kind::Mqtt, &too_long, false),
            (Kind::Mqtt, "", false),
            (Kind::Mqtt, "a/+", false),
            (Kind::Mqtt, "a/#", false),
            (Kind::Mqtt, "a\0", false),
            (Kind::Plain, "a b*", true),
        ] {
            let protocol = Protocol::new(kind, channel.to_owned());
            assert_eq!(protocol.is_ok(), is_right, "{kind:?} '{}'", channel.escape_debug());
            let told = protocol.map_or_else(|error| error, |_| String::new());
            assert!(told.len() < 300 && !told.contains('\n'), "{told}");
        }
    }
}
