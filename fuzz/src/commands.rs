//! Commands of `tidegate.v1`, against the same text as a tree of values; and what they publish, once around through the
//! envelope that subscribers get.
//!
//! Input: the text of one message.

use std::time::Duration;

use serde_json::Value;
use tidegate::config::limits::{COMMAND_DEPTH_MAX, DURATION_MAX, SUBSCRIBER_RATE_MAX};
use tidegate::model::encoding::{append_envelope_frame, data_of};
use tidegate::model::{
    ChannelName, Epoch, IdempotencyKey, Labelled, MessageKey, Offset, PayloadKind, Position,
};
use tidegate::session::commands::{COMMAND_ID_MAX, ClientMessage, Command, parse};

/// How the names begin that serde_json's values keep for themselves.
const PRIVATE: &[u8] = b"$serde_json::private";

/// Runs the target.
pub fn run(text: &[u8]) {
    // An object with a member of such a name is something else to the tree, and to nobody else.
    if text.windows(PRIVATE.len()).any(|part| part == PRIVATE) {
        return;
    }
    match (serde_json::from_slice::<Value>(text), parse(text)) {
        (Ok(tree), Ok(command)) => check(&tree, &command),
        (Ok(tree), Err(_)) => {
            // A key may stand twice, which the tree does not tell. Written anew it stands once, and so do numbers, which are
            // read again: to the tree a number is not always what it wrote.
            let written = tree.to_string();
            let tree: Value = serde_json::from_str(&written).expect("what was written");
            if let Ok(command) = parse(written.as_bytes()) {
                check(&tree, &command);
            } else {
                assert!(!is_command(&tree), "{written}");
            }
        }
        (Err(error), Ok(command)) => {
            // What is published goes on as it came: its strings are not read as characters.
            let error = error.to_string();
            let is_expected = ["surrogate", "hex escape", "code point", "out of range"];
            assert!(is_expected.iter().any(|part| error.contains(part)), "{error}");
            match &command {
                Command::Publish { message, .. } => go_around(message),
                Command::Refused { .. } => {}
                _ => panic!("{command:?}"),
            }
        }
        (Err(_), Err(_)) => {}
    }
}

fn check(tree: &Value, command: &Command<'_>) {
    assert!(is_command(tree), "{tree}");
    let kind = tree["type"].as_str();
    let channel = tree["channel"].as_str().map(ChannelName::parse);
    let since = tree["since"].as_str().map(str::parse::<Position>);
    let key = tree["key"].as_str().map(MessageKey::parse);
    let ttl = tree["ttl_ms"].as_u64().map(Duration::from_millis);
    let idempotency_key = tree["idempotency_key"].as_str().map(IdempotencyKey::parse);
    let (expected_id, expected_kind) = match command {
        Command::Subscribe { id, request } => {
            assert_eq!(channel, Some(Ok(request.channel.clone())));
            assert_eq!(since, request.since.map(Ok));
            assert_eq!(tree["snapshot"].as_bool().unwrap_or(false), request.wants_snapshot);
            assert_eq!(tree["max_rate"].as_u64().unwrap_or(0), u64::from(request.rate_max));
            (Some(*id), Some("subscribe"))
        }
        Command::Unsubscribe { id, channel: left } => {
            assert_eq!(channel, Some(Ok(left.clone())));
            (Some(*id), Some("unsubscribe"))
        }
        Command::Follow { id, pattern } | Command::Unfollow { id, pattern } => {
            assert_eq!(tree["channel"].as_str(), Some(pattern.as_str()));
            assert!(matches!(channel, Some(Err(_))), "no channel has wildcards");
            let is_follow = matches!(command, Command::Follow { .. });
            (Some(*id), Some(if is_follow { "subscribe" } else { "unsubscribe" }))
        }
        Command::Publish { id, message } => {
            assert_eq!(channel, Some(Ok(message.channel.clone())));
            assert_eq!(key, message.key.clone().map(Ok));
            assert_eq!(ttl, message.ttl);
            assert_eq!(idempotency_key, message.idempotency_key.clone().map(Some));
            match (tree.get("data"), tree["text"].as_str()) {
                (Some(data), _) => {
                    assert_eq!(serde_json::from_str::<Value>(&message.payload).ok().as_ref(), Some(data));
                }
                (None, text) => assert_eq!(text.unwrap_or_default(), message.payload),
            }
            go_around(message);
            (Some(*id), Some("publish"))
        }
        Command::Ping { id } => (*id, Some("ping")),
        Command::Refused { id, .. } => {
            let is_bad = matches!(channel, Some(Err(_)))
                || matches!(since, Some(Err(_)))
                || matches!(key, Some(Err(_)))
                || idempotency_key == Some(None)
                || ttl.is_some_and(|ttl| ttl.is_zero() || ttl > DURATION_MAX);
            assert!(is_bad, "{tree}");
            (Some(*id), kind)
        }
    };
    assert_eq!((tree["id"].as_u64(), kind), (expected_id, expected_kind));
}

/// The message as a subscriber reads it is the one that was published.
fn go_around(message: &ClientMessage<'_>) {
    let labelled = Labelled {
        channel: &message.channel,
        position: Position { epoch: Epoch(1), offset: Offset(1) },
        key: message.key.as_ref(),
        kind: PayloadKind::Text,
        payload: message.payload.as_bytes(),
    };
    let mut frame = Vec::new();
    append_envelope_frame(&labelled, &mut frame);
    let (kind, envelope) = data_of(&frame).expect("a frame of data");
    assert_eq!(kind, PayloadKind::Text);
    // Whatever is published, nobody loses the envelope around it.
    let tree: Value = serde_json::from_slice(envelope).expect("a tree");
    assert_eq!(tree["channel"].as_str(), Some(message.channel.as_str()));
    assert_eq!(tree["key"].as_str(), message.key.as_ref().map(MessageKey::as_str));
    match (tree.get("data"), tree["text"].as_str()) {
        (Some(data), None) => {
            assert_eq!(serde_json::from_str::<Value>(&message.payload).ok().as_ref(), Some(data));
        }
        (None, Some(text)) => assert_eq!(text, message.payload),
        (None, None) => assert!(message.payload.is_empty() && message.key.is_some()),
        (Some(_), Some(_)) => panic!("data and text: {tree}"),
    }
}

/// Whether the tree is a command, names and positions in it aside.
fn is_command(tree: &Value) -> bool {
    let Some(fields) = tree.as_object() else { return false };
    let is_whole = |value: &Value, least: u64, most: u64| {
        value.as_u64().is_some_and(|number| (least..=most).contains(&number))
    };
    let (needed, allowed): (&[&str], &[&str]) = match tree["type"].as_str() {
        Some("subscribe") => (&["id", "channel"], &["since", "snapshot", "max_rate"]),
        Some("unsubscribe") => (&["id", "channel"], &[]),
        Some("publish") => (&["id", "channel"], &["data", "text", "key", "ttl_ms", "idempotency_key"]),
        Some("ping") => (&[], &["id"]),
        _ => return false,
    };
    let publishes = tree["type"] == "publish";
    let contents = ["data", "text"].iter().filter(|name| fields.contains_key(**name)).count();
    needed.iter().all(|name| fields.contains_key(*name))
        && (!publishes || contents == 1 || (contents == 0 && fields.contains_key("key")))
        && depth(tree) <= COMMAND_DEPTH_MAX
        && fields.iter().all(|(name, value)| match name.as_str() {
            "type" => true,
            other if !needed.contains(&other) && !allowed.contains(&other) => false,
            "id" | "ttl_ms" => is_whole(value, 0, COMMAND_ID_MAX),
            "max_rate" => is_whole(value, 1, u64::from(SUBSCRIBER_RATE_MAX)),
            "snapshot" => value.is_boolean(),
            "data" => true,
            _ => value.is_string(),
        })
}

fn depth(tree: &Value) -> usize {
    match tree {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
