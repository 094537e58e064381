//! What the gateway says in `tidegate.v1` besides messages: replies to commands, and notices (docs/PROTOCOL.md).
//!
//! Each function appends one JSON object without white space and line breaks; whoever calls puts it in a text frame or in
//! an event. Read `commands.rs` for what is replied to.

use std::io::Write as _;

use crate::model::{ChannelName, Pattern, Position, Receipt};

macro_rules! vocabulary {
    ($($(#[$doc:meta])* $variant:ident = $token:literal, $message:literal;)*) => {
        /// Why a command was not carried out, though it is one.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum CommandError { $($(#[$doc])* $variant),* }

        impl CommandError {
            /// Every member, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The token: a short lower-case word.
            pub const fn token(self) -> &'static str {
                match self { $(Self::$variant => $token),* }
            }

            /// Cause and cure, for the client: fixed text without a character to escape.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message),* }
            }
        }
    };
}

vocabulary! {
    /// Not a channel name.
    BadChannel = "bad_channel",
        "not a channel name: use 1 to 255 characters A-Z a-z 0-9 _ - . : without empty segments";
    /// Not a position.
    BadPosition = "bad_position",
        "not a position: send one as a message or a reply gave it, or subscribe without since";
    /// Not a message key.
    BadKey = "bad_key", "not a key: use 1 to 128 bytes without control characters";
    /// Longer than a message may last, or not at all.
    BadTtl = "bad_ttl", "not a time to live: use 1 to 2592000000 milliseconds, 30 days";
    /// Not an idempotency key.
    BadIdempotencyKey = "bad_idempotency_key", "not an idempotency key: use 1 to 128 printable ASCII characters";
    /// Another message was published under the idempotency key.
    IdempotencyConflict = "idempotency_conflict",
        "another message was published under this idempotency key within 5 min: use a new key for a new message";
    /// The channel is subscribed to already.
    AlreadySubscribed = "already_subscribed", "the channel is subscribed to already: unsubscribe from it first";
    /// The channel is not subscribed to.
    NotSubscribed = "not_subscribed", "the channel is not subscribed to: subscribe to it first";
    /// As many channels as one connection may have.
    ChannelLimit = "channel_limit",
        "one connection has at most 128 channels: unsubscribe from some, or use more connections";
    /// Not a pattern.
    BadPattern = "bad_pattern",
        "not a pattern: * stands for one segment and a last > for the rest, each alone in its segment";
    /// As many patterns as one connection, or one shard, may have.
    PatternLimit = "pattern_limit",
        "as many patterns as one connection (--max-patterns) or the gateway may have: unsubscribe from some";
    /// A pattern with a place to begin or a rate.
    PatternIsLive = "pattern_is_live",
        "a pattern gives what comes from now on: subscribe to a channel for since, snapshot and max_rate";
    /// The operator does not let clients do that.
    NotAllowed = "not_allowed", "this channel does not allow it: the operator can, with --relay";
    /// Text where the channel takes binary alone.
    TypeUnsupported = "type_unsupported", "this channel takes only binary messages: publish there over HTTP";
    /// Memory is short.
    Memory = "memory", "the gateway is short of memory and did not take it: send it again later";
}

/// What became of `since`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recovery {
    /// Everything that came after it: this many messages come first.
    Replayed(u64),
    /// Not everything after it is there any more: what comes goes on after the position of the reply.
    Impossible,
}

/// What a channel keeps for those who come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Most messages.
    pub messages: u64,
    /// Oldest message, in milliseconds.
    pub age_ms: u64,
}

/// A subscription that was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribed<'a> {
    /// Of the command; none if the channel was named when the client connected.
    pub id: Option<u64>,
    /// Which channel.
    pub channel: &'a ChannelName,
    /// What the next message follows.
    pub position: Position,
    /// What became of `since`, if it was given.
    pub recovery: Option<Recovery>,
    /// Messages of the snapshot, which come first, if one was asked for and is given.
    pub snapshot: Option<u64>,
    /// What the channel keeps.
    pub window: Window,
}

/// Appends the reply to a `subscribe`.
pub fn append_subscribed(reply: &Subscribed<'_>, out: &mut Vec<u8>) {
    // A `Vec` takes everything; names, positions and words of ours have nothing to escape. So below.
    out.extend_from_slice(b"{\"type\":\"subscribed\"");
    if let Some(id) = reply.id {
        let _ = write!(out, ",\"id\":{id}");
    }
    let _ = write!(out, ",\"channel\":\"{}\",\"position\":\"{}\"", reply.channel, reply.position);
    let _ = match reply.recovery {
        Some(Recovery::Replayed(count)) => write!(out, ",\"recovered\":true,\"replayed\":{count}"),
        Some(Recovery::Impossible) => write!(out, ",\"recovered\":false"),
        None => Ok(()),
    };
    if let Some(count) = reply.snapshot {
        let _ = write!(out, ",\"snapshot\":{count}");
    }
    let Window { messages, age_ms } = reply.window;
    let _ = write!(out, ",\"window\":{{\"messages\":{messages},\"age_ms\":{age_ms}}}}}");
}

/// Appends the reply to a `subscribe` with a pattern, or says that one is in force that was named at connect.
pub fn append_followed(id: Option<u64>, pattern: &Pattern, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"subscribed\"");
    if let Some(id) = id {
        let _ = write!(out, ",\"id\":{id}");
    }
    let _ = write!(out, ",\"channel\":\"{pattern}\"}}");
}

/// Appends the reply to an `unsubscribe` with a pattern.
pub fn append_unfollowed(id: u64, pattern: &Pattern, out: &mut Vec<u8>) {
    let _ = write!(out, "{{\"type\":\"unsubscribed\",\"id\":{id},\"channel\":\"{pattern}\"}}");
}

/// Appends that a pattern which was named at connect is not taken.
pub fn append_pattern_refused(pattern: &Pattern, error: CommandError, out: &mut Vec<u8>) {
    let (token, message) = (error.token(), error.message());
    let _ = write!(
        out,
        "{{\"type\":\"error\",\"channel\":\"{pattern}\",\"error\":\"{token}\",\"message\":\"{message}\"}}"
    );
}

/// Appends the notice that `channel` matches `pattern` and is not given, as the connection has no room for it.
pub fn append_overmatched(pattern: &Pattern, channel: &ChannelName, out: &mut Vec<u8>) {
    let _ = write!(out, "{{\"type\":\"overmatched\",\"channel\":\"{channel}\",\"pattern\":\"{pattern}\"}}");
}

/// Appends the reply to an `unsubscribe`: no message of the channel comes behind it.
pub fn append_unsubscribed(id: u64, channel: &ChannelName, out: &mut Vec<u8>) {
    let _ = write!(out, "{{\"type\":\"unsubscribed\",\"id\":{id},\"channel\":\"{channel}\"}}");
}

/// Appends the reply to a `publish`: the message has this position, and perhaps had it already.
pub fn append_published(id: u64, channel: &ChannelName, receipt: &Receipt, out: &mut Vec<u8>) {
    let Receipt { position, is_duplicate, .. } = receipt;
    let duplicate = if *is_duplicate { ",\"duplicate\":true" } else { "" };
    let _ = write!(
        out,
        "{{\"type\":\"published\",\"id\":{id},\"channel\":\"{channel}\",\"position\":\"{position}\"{duplicate}}}"
    );
}

/// Appends the reply to a `ping`, with the id that it had, if any.
pub fn append_pong(id: Option<u64>, out: &mut Vec<u8>) {
    let _ = match id {
        Some(id) => write!(out, "{{\"type\":\"pong\",\"id\":{id}}}"),
        None => write!(out, "{{\"type\":\"pong\"}}"),
    };
}

/// Appends the reply to a command that was not carried out.
pub fn append_error(id: u64, error: CommandError, out: &mut Vec<u8>) {
    let (token, message) = (error.token(), error.message());
    let _ = write!(out, "{{\"type\":\"error\",\"id\":{id},\"error\":\"{token}\",\"message\":\"{message}\"}}");
}

/// What a subscriber is not given of a channel, and is told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// It was too far behind: it goes on after `position`.
    Skipped {
        /// Messages left out.
        count: u64,
        /// What the next message follows.
        position: Position,
    },
    /// Newer ones of the same keys come instead.
    Conflated {
        /// Messages left out.
        count: u64,
    },
    /// Their time was over before they could be delivered.
    Expired {
        /// Messages left out.
        count: u64,
    },
}

impl Notice {
    /// The word that it is known by: its `type`, and with `gw.` in front of it the type of its event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skipped { .. } => "skipped",
            Self::Conflated { .. } => "conflated",
            Self::Expired { .. } => "expired",
        }
    }
}

/// The word that [`append_draining`] is known by, as [`Notice::name`].
pub const DRAINING: &str = "draining";

/// Appends `notice` of `channel`.
pub fn append_notice(notice: Notice, channel: &ChannelName, out: &mut Vec<u8>) {
    let name = notice.name();
    let (Notice::Skipped { count, .. } | Notice::Conflated { count } | Notice::Expired { count }) = notice;
    let _ = write!(out, "{{\"type\":\"{name}\",\"channel\":\"{channel}\",\"count\":{count}");
    if let Notice::Skipped { position, .. } = notice {
        let _ = write!(out, ",\"position\":\"{position}\"");
    }
    out.push(b'}');
}

/// Appends the notice that the connection is closed in `in_ms` milliseconds, as the gateway is being stopped.
pub fn append_draining(in_ms: u64, out: &mut Vec<u8>) {
    let _ = write!(out, "{{\"type\":\"{DRAINING}\",\"in_ms\":{in_ms}}}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Offset};
    use serde_json::{Value, json};

    const POSITION: Position = Position { epoch: Epoch(0xab), offset: Offset(42) };

    fn channel() -> ChannelName {
        ChannelName::parse("prices.eu:x_-").unwrap()
    }

    /// What `append` appended, which is one line of JSON behind what was there.
    fn appended(append: impl FnOnce(&mut Vec<u8>)) -> Value {
        let mut out = b"before".to_vec();
        append(&mut out);
        let text = std::str::from_utf8(out.strip_prefix(b"before").unwrap()).unwrap();
        assert!(!text.contains(['\n', '\r']), "{text}");
        let tree: Value = serde_json::from_str(text).unwrap();
        assert_eq!(text.len(), tree.to_string().len(), "{text}");
        tree
    }

    #[test]
    fn a_subscription_says_what_became_of_everything_that_was_asked() {
        let channel = channel();
        let plain = Subscribed {
            id: Some((1 << 53) - 1),
            channel: &channel,
            position: POSITION,
            recovery: None,
            snapshot: None,
            window: Window { messages: 100, age_ms: 60_000 },
        };
        let window = json!({"messages": 100, "age_ms": 60_000});
        assert_eq!(
            appended(|out| append_subscribed(&plain, out)),
            json!({"type": "subscribed", "id": 9_007_199_254_740_991_u64, "channel": "prices.eu:x_-",
                "position": "00000000000000ab-42", "window": window})
        );
        let unasked = appended(|out| append_subscribed(&Subscribed { id: None, ..plain }, out));
        assert_eq!((unasked.get("id"), &unasked["type"]), (None, &json!("subscribed")));
        let asked = |recovery, snapshot| {
            let tree = appended(|out| append_subscribed(&Subscribed { recovery, snapshot, ..plain }, out));
            (tree["recovered"].clone(), tree["replayed"].clone(), tree["snapshot"].clone())
        };
        assert_eq!(asked(Some(Recovery::Replayed(0)), None), (json!(true), json!(0), Value::Null));
        assert_eq!(
            asked(Some(Recovery::Replayed(u64::MAX)), Some(0)),
            (json!(true), json!(u64::MAX), json!(0))
        );
        assert_eq!(asked(Some(Recovery::Impossible), Some(7)), (json!(false), Value::Null, json!(7)));
    }

    #[test]
    fn replies_carry_the_id_of_their_command() {
        let channel = channel();
        let receipt = Receipt { position: POSITION, subscribers: 2, is_duplicate: false };
        assert_eq!(
            appended(|out| append_unsubscribed(2, &channel, out)),
            json!({"type": "unsubscribed", "id": 2, "channel": "prices.eu:x_-"})
        );
        assert_eq!(
            appended(|out| append_published(3, &channel, &receipt, out)),
            json!({"type": "published", "id": 3, "channel": "prices.eu:x_-", "position": "00000000000000ab-42"})
        );
        let again = Receipt { is_duplicate: true, ..receipt };
        assert_eq!(appended(|out| append_published(4, &channel, &again, out))["duplicate"], true);
        assert_eq!(appended(|out| append_pong(Some(4), out)), json!({"type": "pong", "id": 4}));
        assert_eq!(appended(|out| append_pong(None, out)), json!({"type": "pong"}));
    }

    #[test]
    fn what_is_said_of_a_pattern_names_it() {
        let pattern = Pattern::parse("prices.*").unwrap();
        let said = json!({"type": "subscribed", "id": 1, "channel": "prices.*"});
        assert_eq!(appended(|out| append_followed(Some(1), &pattern, out)), said);
        let said = json!({"type": "subscribed", "channel": "prices.*"});
        assert_eq!(appended(|out| append_followed(None, &pattern, out)), said);
        let said = json!({"type": "unsubscribed", "id": 2, "channel": "prices.*"});
        assert_eq!(appended(|out| append_unfollowed(2, &pattern, out)), said);
        let said = json!({"type": "overmatched", "channel": "prices.eu:x_-", "pattern": "prices.*"});
        assert_eq!(appended(|out| append_overmatched(&pattern, &channel(), out)), said);
        let refused = appended(|out| append_pattern_refused(&pattern, CommandError::PatternLimit, out));
        assert_eq!((&refused["channel"], &refused["error"]), (&json!("prices.*"), &json!("pattern_limit")));
        assert_eq!((&refused["type"], refused.get("id")), (&json!("error"), None));
    }

    #[test]
    fn j8_every_error_is_a_token_and_a_fixed_text() {
        let mut tokens = Vec::new();
        for error in CommandError::ALL {
            let (token, message) = (error.token(), error.message());
            assert_eq!(
                appended(|out| append_error(5, *error, out)),
                json!({"type": "error", "id": 5, "error": token, "message": message})
            );
            assert!(token.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
            assert!(message.is_ascii() && message.len() < 120, "{message}");
            tokens.push(token);
        }
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), CommandError::ALL.len());
    }

    #[test]
    fn notices_say_of_which_channel_and_how_many() {
        let channel = channel();
        let notice = |notice| appended(|out| append_notice(notice, &channel, out));
        assert_eq!(
            notice(Notice::Skipped { count: 9, position: POSITION }),
            json!({"type": "skipped", "channel": "prices.eu:x_-", "count": 9, "position": "00000000000000ab-42"})
        );
        assert_eq!(
            notice(Notice::Conflated { count: 1 }),
            json!({"type": "conflated", "channel": "prices.eu:x_-", "count": 1})
        );
        assert_eq!(
            notice(Notice::Expired { count: u64::MAX }),
            json!({"type": "expired", "channel": "prices.eu:x_-", "count": u64::MAX})
        );
        assert_eq!(appended(|out| append_draining(1834, out)), json!({"type": "draining", "in_ms": 1834}));
    }
}
