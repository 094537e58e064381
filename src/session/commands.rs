//! What clients say in `tidegate.v1`: the text of a frame in, a checked command out (docs/PROTOCOL.md).
//!
//! Strict, so that nobody else who reads the same frame understands another command (GUARANTEES B24): keys are from a
//! closed list for each type, in these letters and each once; nothing is nested deeper than [`COMMAND_DEPTH_MAX`]; no number
//! is beyond a double. What is wrong beyond that but has an id is answered, and the connection goes on.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::value::RawValue;

use super::replies::CommandError;
use crate::config::limits::{COMMAND_DEPTH_MAX, DURATION_MAX, DURATION_MIN, SUBSCRIBER_RATE_MAX};
use crate::model::json::{self, ObjectError};
use crate::model::{ChannelName, IdempotencyKey, MessageKey, Pattern, SubscribeRequest};

/// Largest id: the largest whole number that every reader of JSON keeps, 2^53 - 1.
pub const COMMAND_ID_MAX: u64 = (1 << 53) - 1;

/// What a client wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// To get a channel's messages.
    Subscribe {
        /// Of the command: the reply carries it.
        id: u64,
        /// What exactly.
        request: SubscribeRequest,
    },
    /// To get them no longer.
    Unsubscribe {
        /// Of the command.
        id: u64,
        /// Which channel.
        channel: ChannelName,
    },
    /// To get the messages of every channel that matches.
    Follow {
        /// Of the command.
        id: u64,
        /// Which channels.
        pattern: Pattern,
    },
    /// To get them no longer.
    Unfollow {
        /// Of the command.
        id: u64,
        /// Which channels.
        pattern: Pattern,
    },
    /// To send a message.
    Publish {
        /// Of the command.
        id: u64,
        /// The message.
        message: ClientMessage<'a>,
    },
    /// To hear something.
    Ping {
        /// Of the command, if it has one.
        id: Option<u64>,
    },
    /// Something that cannot be: answer it with an error.
    Refused {
        /// Of the command.
        id: u64,
        /// Why.
        error: CommandError,
    },
}

/// A text message of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientMessage<'a> {
    /// Where it goes.
    pub channel: ChannelName,
    /// What is sent: `data` as it was written, or what `text` stands for. With a key and nothing here, the key is deleted.
    pub payload: Cow<'a, str>,
    /// What it is the newest state of.
    pub key: Option<MessageKey>,
    /// How long it lasts, if it says so.
    pub ttl: Option<Duration>,
    /// What it is known by if it is sent again.
    pub idempotency_key: Option<IdempotencyKey>,
}

macro_rules! keys {
    ($($variant:ident = $name:literal, $kind:literal;)*) => {
        /// A key that some command has. Case matters.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[expect(missing_docs, reason = "each is the key of its name")]
        pub enum Key { $($variant),* }

        impl Key {
            const ALL: [Self; NAMES.len()] = [$(Self::$variant),*];

            const fn twice(self) -> &'static str {
                match self { $(Self::$variant => concat!($name, ": twice")),* }
            }

            const fn missing(self) -> &'static str {
                match self { $(Self::$variant => concat!($name, ": missing")),* }
            }

            const fn kind(self) -> &'static str {
                match self { $(Self::$variant => concat!($name, ": not ", $kind)),* }
            }
        }

        const NAMES: [&str; [$($name),*].len()] = [$($name),*];
    };
}

keys! {
    Type = "type", "subscribe, unsubscribe, publish or ping";
    Id = "id", "a whole number of 0 to 9007199254740991";
    Channel = "channel", "a string";
    Since = "since", "a string";
    Snapshot = "snapshot", "true or false";
    MaxRate = "max_rate", "a whole number of 1 to 1000";
    Data = "data", "a value";
    Text = "text", "a string";
    Key = "key", "a string";
    TtlMs = "ttl_ms", "a whole number of 1 to 2592000000";
    IdempotencyKey = "idempotency_key", "a string";
}

/// Why a text is no command at all: who sends such a thing does not know what it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadCommand {
    /// It is no JSON.
    Syntax,
    /// It is no object.
    NoObject,
    /// It is nested deeper than [`COMMAND_DEPTH_MAX`].
    TooDeep,
    /// It has a number beyond a double.
    EndlessNumber,
    /// It has a key that its type does not.
    Unknown,
    /// It has this key twice.
    Twice(Key),
    /// It lacks this key.
    Missing(Key),
    /// The value of this key is of another kind.
    Kind(Key),
    /// It has both `data` and `text`.
    Both,
    /// It has neither `data` nor `text`, and no key to delete.
    Nothing,
}

impl BadCommand {
    /// What to say of it in a close frame: fixed text, as what was sent is never sent back (GUARANTEES J8).
    pub const fn text(self) -> &'static str {
        match self {
            Self::Syntax => "not JSON",
            Self::NoObject => "not an object",
            Self::TooDeep => "nested more than 16 deep",
            Self::EndlessNumber => "a number beyond a double",
            Self::Unknown => "a key that this command does not have; case matters",
            Self::Twice(key) => key.twice(),
            Self::Missing(key) => key.missing(),
            Self::Kind(key) => key.kind(),
            Self::Both => "data and text: one of the two",
            Self::Nothing => "data or text: missing, and no key to delete",
        }
    }
}

/// Reads the command in `text`, the whole text of one message. Linear; takes no stack for what is nested.
///
/// # Errors
/// [`BadCommand`]; close the connection.
pub fn parse(text: &[u8]) -> Result<Command<'_>, BadCommand> {
    let members = Members::read(text)?;
    let kind = json::string(members.need(Key::Type)?).ok_or(BadCommand::Kind(Key::Type))?;
    match &*kind {
        "subscribe" => subscribe(&members),
        "unsubscribe" => unsubscribe(&members),
        "publish" => publish(&members),
        "ping" => {
            members.allow(&[Key::Id])?;
            Ok(Command::Ping { id: members.number(Key::Id)? })
        }
        _ => Err(BadCommand::Kind(Key::Type)),
    }
}

fn subscribe<'a>(members: &Members<'a>) -> Result<Command<'a>, BadCommand> {
    members.allow(&[Key::Id, Key::Channel, Key::Since, Key::Snapshot, Key::MaxRate])?;
    let id = members.id()?;
    let channel = members.need_text(Key::Channel)?;
    let since = members.text(Key::Since)?;
    let wants_snapshot = match members.value(Key::Snapshot).map(RawValue::get) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(BadCommand::Kind(Key::Snapshot)),
    };
    let rate_max = match members.number(Key::MaxRate)?.map(u16::try_from) {
        None => 0,
        Some(Ok(rate @ 1..=SUBSCRIBER_RATE_MAX)) => rate,
        Some(_) => return Err(BadCommand::Kind(Key::MaxRate)),
    };
    if Pattern::is_meant_by(&channel) {
        let is_live = since.is_none() && !wants_snapshot && rate_max == 0;
        return Ok(match Pattern::parse(&channel) {
            Ok(pattern) if is_live => Command::Follow { id, pattern },
            Ok(_) => Command::Refused { id, error: CommandError::PatternIsLive },
            Err(_) => Command::Refused { id, error: CommandError::BadPattern },
        });
    }
    let Ok(channel) = ChannelName::parse(&channel) else {
        return Ok(Command::Refused { id, error: CommandError::BadChannel });
    };
    let Ok(since) = since.map(|since| since.parse()).transpose() else {
        return Ok(Command::Refused { id, error: CommandError::BadPosition });
    };
    Ok(Command::Subscribe { id, request: SubscribeRequest { channel, since, wants_snapshot, rate_max } })
}

fn unsubscribe<'a>(members: &Members<'a>) -> Result<Command<'a>, BadCommand> {
    members.allow(&[Key::Id, Key::Channel])?;
    let id = members.id()?;
    let channel = members.need_text(Key::Channel)?;
    if Pattern::is_meant_by(&channel) {
        return Ok(match Pattern::parse(&channel) {
            Ok(pattern) => Command::Unfollow { id, pattern },
            Err(_) => Command::Refused { id, error: CommandError::BadPattern },
        });
    }
    Ok(match ChannelName::parse(&channel) {
        Ok(channel) => Command::Unsubscribe { id, channel },
        Err(_) => Command::Refused { id, error: CommandError::BadChannel },
    })
}

fn publish<'a>(members: &Members<'a>) -> Result<Command<'a>, BadCommand> {
    members.allow(&[
        Key::Id,
        Key::Channel,
        Key::Data,
        Key::Text,
        Key::Key,
        Key::TtlMs,
        Key::IdempotencyKey,
    ])?;
    let id = members.id()?;
    let channel = members.need_text(Key::Channel)?;
    let key = members.text(Key::Key)?;
    let payload = match (members.value(Key::Data), members.text(Key::Text)?) {
        (Some(data), None) => Cow::Borrowed(data.get()),
        (None, Some(text)) => text,
        (Some(_), Some(_)) => return Err(BadCommand::Both),
        (None, None) if key.is_some() => Cow::Borrowed(""),
        (None, None) => return Err(BadCommand::Nothing),
    };
    let ttl = members.number(Key::TtlMs)?.map(Duration::from_millis);
    let idempotency_key = members.text(Key::IdempotencyKey)?;
    let Ok(channel) = ChannelName::parse(&channel) else {
        return Ok(Command::Refused { id, error: CommandError::BadChannel });
    };
    let Ok(key) = key.map(|key| MessageKey::parse(&key)).transpose() else {
        return Ok(Command::Refused { id, error: CommandError::BadKey });
    };
    if ttl.is_some_and(|ttl| !(DURATION_MIN..=DURATION_MAX).contains(&ttl)) {
        return Ok(Command::Refused { id, error: CommandError::BadTtl });
    }
    let named = |key: Cow<'_, str>| IdempotencyKey::parse(&key).ok_or(CommandError::BadIdempotencyKey);
    let idempotency_key = match idempotency_key.map(named).transpose() {
        Ok(idempotency_key) => idempotency_key,
        Err(error) => return Ok(Command::Refused { id, error }),
    };
    Ok(Command::Publish { id, message: ClientMessage { channel, payload, key, ttl, idempotency_key } })
}

/// The values of a command, each as its own text.
struct Members<'a> {
    values: [Option<&'a RawValue>; NAMES.len()],
}

impl<'a> Members<'a> {
    fn read(text: &'a [u8]) -> Result<Self, BadCommand> {
        let values = json::members(text, &NAMES).map_err(|error| match error {
            ObjectError::Syntax => BadCommand::Syntax,
            ObjectError::NoObject => BadCommand::NoObject,
            ObjectError::Unknown => BadCommand::Unknown,
            ObjectError::Twice(place) => {
                Key::ALL.get(place).map_or(BadCommand::Unknown, |key| BadCommand::Twice(*key))
            }
        })?;
        for value in values.iter().flatten().map(|value| value.get()) {
            if json::depth_of(value) >= COMMAND_DEPTH_MAX {
                return Err(BadCommand::TooDeep);
            }
            if json::has_endless_number(value) {
                return Err(BadCommand::EndlessNumber);
            }
        }
        Ok(Self { values })
    }

    /// Refuses every key but the type and `allowed`.
    fn allow(&self, allowed: &[Key]) -> Result<(), BadCommand> {
        let is_fine = |key: &Key| *key == Key::Type || allowed.contains(key) || self.value(*key).is_none();
        Key::ALL.iter().all(is_fine).then_some(()).ok_or(BadCommand::Unknown)
    }

    fn value(&self, key: Key) -> Option<&'a RawValue> {
        self.values.get(key as usize).copied().flatten()
    }

    fn need(&self, key: Key) -> Result<&'a RawValue, BadCommand> {
        self.value(key).ok_or(BadCommand::Missing(key))
    }

    fn text(&self, key: Key) -> Result<Option<Cow<'a, str>>, BadCommand> {
        self.value(key).map(|value| json::string(value).ok_or(BadCommand::Kind(key))).transpose()
    }

    fn need_text(&self, key: Key) -> Result<Cow<'a, str>, BadCommand> {
        json::string(self.need(key)?).ok_or(BadCommand::Kind(key))
    }

    /// A whole number, written without sign, point and exponent.
    fn number(&self, key: Key) -> Result<Option<u64>, BadCommand> {
        let number = |value: &RawValue| {
            value.get().parse().ok().filter(|number| *number <= COMMAND_ID_MAX).ok_or(BadCommand::Kind(key))
        };
        self.value(key).map(number).transpose()
    }

    fn id(&self) -> Result<u64, BadCommand> {
        self.number(Key::Id)?.ok_or(BadCommand::Missing(Key::Id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Offset, Position};
    use proptest::prelude::*;

    fn name(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    fn published(text: &str) -> ClientMessage<'_> {
        match parse(text.as_bytes()) {
            Ok(Command::Publish { message, .. }) => message,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn subscribing_names_a_channel_and_perhaps_where_and_how() {
        let parsed = |text: &str| parse(text.as_bytes()).map(|command| format!("{command:?}"));
        let expected = |request| Ok(format!("{:?}", Command::Subscribe { id: 1, request }));
        assert_eq!(
            parsed(r#"{"type":"subscribe","id":1,"channel":"a"}"#),
            expected(SubscribeRequest::live(name("a")))
        );
        let full = SubscribeRequest {
            channel: name("prices.eu"),
            since: Some(Position { epoch: Epoch(0xab), offset: Offset(42) }),
            wants_snapshot: true,
            rate_max: 1000,
        };
        let text = r#" {"max_rate":1000, "snapshot":true,"since":"00000000000000ab-42","channel":"prices\u002eeu",
            "id":1,"t\u0079pe":"subscrib\u0065"} "#;
        assert_eq!(parsed(text), expected(full));
        assert_eq!(
            parsed(r#"{"type":"subscribe","id":1,"channel":"a","snapshot":false}"#),
            expected(SubscribeRequest::live(name("a")))
        );
    }

    #[test]
    fn what_is_published_is_data_as_written_or_a_text() {
        let message =
            published(r#"{"type":"publish","id":1,"channel":"a","data": { "b" : [1.10, "\ud800"] } }"#);
        assert_eq!(message.payload, r#"{ "b" : [1.10, "\ud800"] }"#);
        assert_eq!((message.key, message.ttl, message.idempotency_key), (None, None, None));
        let message = published(
            r#"{"type":"publish","id":0,"channel":"a","text":"h\u00e9\n","key":"BTC","ttl_ms":2592000000,
            "idempotency_key":"k\u00311"}"#,
        );
        assert_eq!(message.payload, "h\u{e9}\n");
        assert_eq!(message.key.as_ref().map(MessageKey::as_str), Some("BTC"));
        assert_eq!(message.ttl, Some(DURATION_MAX));
        assert_eq!(message.idempotency_key.as_ref().map(IdempotencyKey::as_str), Some("k11"));
        assert_eq!(published(r#"{"type":"publish","id":1,"channel":"a","data":null}"#).payload, "null");
        assert_eq!(published(r#"{"type":"publish","id":1,"channel":"a","data":""}"#).payload, "\"\"");
        let deletes = published(r#"{"type":"publish","id":1,"channel":"a","key":"BTC"}"#);
        assert_eq!((&*deletes.payload, deletes.key.is_some()), ("", true));
    }

    #[test]
    fn a_channel_with_wildcards_is_a_pattern() {
        let pattern = Pattern::parse("prices.*").unwrap();
        assert_eq!(
            parse(br#"{"type":"subscribe","id":1,"channel":"prices.*","snapshot":false}"#),
            Ok(Command::Follow { id: 1, pattern: pattern.clone() })
        );
        let text = br#"{"type":"unsubscribe","id":2,"channel":"prices.\u002a"}"#;
        assert_eq!(parse(text), Ok(Command::Unfollow { id: 2, pattern }));
    }

    #[test]
    fn only_a_ping_needs_no_id() {
        assert_eq!(parse(br#"{"type":"ping"}"#), Ok(Command::Ping { id: None }));
        assert_eq!(parse(br#"{"type":"ping","id":0}"#), Ok(Command::Ping { id: Some(0) }));
        let leave = Command::Unsubscribe { id: 7, channel: name("a") };
        assert_eq!(parse(br#"{"type":"unsubscribe","id":7,"channel":"a"}"#), Ok(leave));
        for command in [r#""subscribe""#, r#""unsubscribe""#, r#""publish","data":1"#] {
            let text = format!("{{\"type\":{command},\"channel\":\"a\"}}");
            assert_eq!(parse(text.as_bytes()), Err(BadCommand::Missing(Key::Id)), "{text}");
        }
    }

    #[test]
    fn what_has_an_id_and_cannot_be_is_answered() {
        use CommandError::{
            BadChannel, BadIdempotencyKey, BadKey, BadPattern, BadPosition, BadTtl, PatternIsLive,
        };
        let long_key =
            format!(r#"{{"type":"publish","id":5,"channel":"a","data":1,"key":"{}"}}"#, "k".repeat(129));
        for (text, error) in [
            (r#"{"type":"subscribe","id":5,"channel":""}"#, BadChannel),
            (r#"{"type":"subscribe","id":5,"channel":"a b","since":"x"}"#, BadChannel),
            (r#"{"type":"subscribe","id":5,"channel":"prices*"}"#, BadPattern),
            (r#"{"type":"unsubscribe","id":5,"channel":">.a"}"#, BadPattern),
            (r#"{"type":"publish","id":5,"channel":"prices.*","data":1}"#, BadChannel),
            (r#"{"type":"subscribe","id":5,"channel":">","since":"00000000000000ab-42"}"#, PatternIsLive),
            (r#"{"type":"subscribe","id":5,"channel":">","snapshot":true}"#, PatternIsLive),
            (r#"{"type":"subscribe","id":5,"channel":"a.*","max_rate":4}"#, PatternIsLive),
            (r#"{"type":"subscribe","id":5,"channel":"a","since":""}"#, BadPosition),
            (r#"{"type":"subscribe","id":5,"channel":"a","since":"00000000000000AB-42"}"#, BadPosition),
            (r#"{"type":"unsubscribe","id":5,"channel":"a..b"}"#, BadChannel),
            (r#"{"type":"publish","id":5,"channel":".","data":1}"#, BadChannel),
            (r#"{"type":"publish","id":5,"channel":"a","data":1,"key":""}"#, BadKey),
            (r#"{"type":"publish","id":5,"channel":"a","data":1,"idempotency_key":""}"#, BadIdempotencyKey),
            (
                r#"{"type":"publish","id":5,"channel":"a","data":1,"idempotency_key":"\u00e4"}"#,
                BadIdempotencyKey,
            ),
            (r#"{"type":"publish","id":5,"channel":"a","key":"\u0000"}"#, BadKey),
            (&long_key, BadKey),
            (r#"{"type":"publish","id":5,"channel":"a","data":1,"ttl_ms":0}"#, BadTtl),
            (r#"{"type":"publish","id":5,"channel":"a","data":1,"ttl_ms":2592000001}"#, BadTtl),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(Command::Refused { id: 5, error }), "{text}");
        }
    }

    #[test]
    fn b24_what_could_be_understood_in_two_ways_is_no_command() {
        use {BadCommand as B, Key as K};
        for (text, expected) in [
            ("", B::Syntax),
            ("ping", B::Syntax),
            (r#"{"type":"ping"}{"type":"ping"}"#, B::Syntax),
            (r#"{"type":"ping",}"#, B::Syntax),
            (r#"{"type":"ping","id":01}"#, B::Syntax),
            (r#"{"type":"ping","id":NaN}"#, B::Syntax),
            (r#"{"type":"ping","\ud800":1}"#, B::Syntax),
            ("{\"type\":\"ping\u{0}\"}", B::Syntax),
            (r#"["ping",1]"#, B::NoObject),
            (r#""ping""#, B::NoObject),
            ("1e999", B::NoObject),
            ("{}", B::Missing(K::Type)),
            (r#"{"type":"ping","type":"ping"}"#, B::Twice(K::Type)),
            (r#"{"type":"ping","id":1,"i\u0064":1}"#, B::Twice(K::Id)),
            (r#"{"type":"publish","id":1,"channel":"a","data":1,"data":1}"#, B::Twice(K::Data)),
            (r#"{"type":"publish","id":1,"channel":"a","data":1,"ttl_ms":1,"ttl_ms":1}"#, B::Twice(K::TtlMs)),
            (r#"{"Type":"ping"}"#, B::Unknown),
            (r#"{"type":"ping","ID":1}"#, B::Unknown),
            (r#"{"type":"ping","":1}"#, B::Unknown),
            (r#"{"type":"ping","__proto__":{}}"#, B::Unknown),
            (r#"{"type":"ping","channel":"a"}"#, B::Unknown),
            (r#"{"type":"unsubscribe","id":1,"channel":"a","since":"x"}"#, B::Unknown),
            (r#"{"type":"subscribe","id":1,"channel":"a","data":1}"#, B::Unknown),
            (r#"{"type":"publish","id":1,"channel":"a","data":1,"snapshot":true}"#, B::Unknown),
            (r#"{"type":"Ping"}"#, B::Kind(K::Type)),
            (r#"{"type":"\ud800"}"#, B::Kind(K::Type)),
            (r#"{"type":null}"#, B::Kind(K::Type)),
            (r#"{"type":["ping"]}"#, B::Kind(K::Type)),
            (r#"{"type":"ping","id":null}"#, B::Kind(K::Id)),
            (r#"{"type":"ping","id":-1}"#, B::Kind(K::Id)),
            (r#"{"type":"ping","id":-0}"#, B::Kind(K::Id)),
            (r#"{"type":"ping","id":1.0}"#, B::Kind(K::Id)),
            (r#"{"type":"ping","id":1e2}"#, B::Kind(K::Id)),
            (r#"{"type":"ping","id":"1"}"#, B::Kind(K::Id)),
            (r#"{"type":"ping","id":9007199254740992}"#, B::Kind(K::Id)),
            (r#"{"type":"ping","id":1e999}"#, B::EndlessNumber),
            (r#"{"type":"publish","id":1,"channel":"a","data":{"b":[-1E999]}}"#, B::EndlessNumber),
            (r#"{"type":"subscribe","id":1}"#, B::Missing(K::Channel)),
            (r#"{"type":"subscribe","id":1,"channel":7}"#, B::Kind(K::Channel)),
            (r#"{"type":"subscribe","id":1,"channel":"\ud800"}"#, B::Kind(K::Channel)),
            (r#"{"type":"subscribe","id":1,"channel":"a","since":null}"#, B::Kind(K::Since)),
            (r#"{"type":"subscribe","id":1,"channel":"a b","since":7}"#, B::Kind(K::Since)),
            (r#"{"type":"subscribe","id":1,"channel":"a","snapshot":1}"#, B::Kind(K::Snapshot)),
            (r#"{"type":"subscribe","id":1,"channel":"a","max_rate":0}"#, B::Kind(K::MaxRate)),
            (r#"{"type":"subscribe","id":1,"channel":"a","max_rate":1001}"#, B::Kind(K::MaxRate)),
            (r#"{"type":"subscribe","id":1,"channel":"a","max_rate":65537}"#, B::Kind(K::MaxRate)),
            (r#"{"type":"publish","id":1,"channel":"a","data":1,"text":"a"}"#, B::Both),
            (r#"{"type":"publish","id":1,"channel":"a"}"#, B::Nothing),
            (r#"{"type":"publish","id":1,"channel":"a","text":1}"#, B::Kind(K::Text)),
            (r#"{"type":"publish","id":1,"channel":"a","text":"\ud800"}"#, B::Kind(K::Text)),
            (r#"{"type":"publish","id":1,"channel":"a","data":1,"key":1}"#, B::Kind(K::Key)),
            (r#"{"type":"publish","id":1,"channel":"a","data":1,"ttl_ms":-1}"#, B::Kind(K::TtlMs)),
            (
                r#"{"type":"publish","id":1,"channel":"","data":1,"idempotency_key":1}"#,
                B::Kind(K::IdempotencyKey),
            ),
            (r#"{"type":"subscribe","id":1,"channel":"a","idempotency_key":"k"}"#, B::Unknown),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(expected), "{text}");
        }
        assert_eq!(parse(b"{\"type\":\"ping\xff\"}"), Err(B::Syntax));
    }

    #[test]
    fn b24_a_command_is_at_most_sixteen_deep_and_depth_costs_no_stack() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            for (inner, is_fine) in [(15, true), (16, false), (127, false), (100_000, false)] {
                let data = format!("{}1{}", open.repeat(inner), close.repeat(inner));
                let text = format!("{{\"type\":\"publish\",\"id\":1,\"channel\":\"a\",\"data\":{data}}}");
                let parsed = parse(text.as_bytes()).map(|_| ());
                assert_eq!(parsed, is_fine.then_some(()).ok_or(BadCommand::TooDeep), "{inner}");
                assert!(parse(data.as_bytes()).is_err());
                assert_eq!(parse(open.repeat(inner).as_bytes()), Err(BadCommand::Syntax));
            }
        }
    }

    #[test]
    fn j8_what_is_said_of_a_bad_command_fits_a_close_frame() {
        let of_keys = Key::ALL
            .iter()
            .flat_map(|key| [BadCommand::Twice(*key), BadCommand::Missing(*key), BadCommand::Kind(*key)]);
        let others = [
            BadCommand::Syntax,
            BadCommand::NoObject,
            BadCommand::TooDeep,
            BadCommand::EndlessNumber,
            BadCommand::Unknown,
            BadCommand::Both,
            BadCommand::Nothing,
        ];
        for bad in of_keys.chain(others) {
            let text = format!("bad_message; {}", bad.text());
            assert!(text.is_ascii() && text.len() <= 123, "{text}");
        }
        assert_eq!(BadCommand::Kind(Key::Snapshot).text(), "snapshot: not true or false");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text);
        }
    }
}
