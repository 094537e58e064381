//! Bodies of `/api/publish` and `/api/batch`, against the same body as a tree of values.
//!
//! Input: a byte that chooses which of the two, then the body.

use serde_json::{Map, Value};
use tidegate::admin::{Message, parse_batch, parse_publish};
use tidegate::config::limits::PUBLISH_BATCH_MAX;
use tidegate::model::{ChannelName, MessageKey};

use super::input::Input;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let is_batch = input.byte() % 2 == 1;
    let body = input.rest();
    let messages = read(is_batch, body);
    match (serde_json::from_slice::<Value>(body), messages) {
        (Ok(tree), Some(messages)) => check(is_batch, &tree, &messages),
        (Ok(tree), None) => {
            // A field may stand twice, which the tree does not tell. Written anew it stands once.
            let written = tree.to_string();
            let messages = read(is_batch, written.as_bytes());
            assert_eq!(messages.is_some(), expected(is_batch, &tree).is_some(), "{written}");
        }
        (Err(error), Some(_)) => {
            // What is sent on as it came is not read as numbers, characters and levels.
            let error = error.to_string();
            let is_expected = ["recursion limit", "out of range", "surrogate", "hex escape", "code point"];
            assert!(is_expected.iter().any(|part| error.contains(part)), "{error}");
        }
        (Err(_), None) => {}
    }
}

fn read(is_batch: bool, body: &[u8]) -> Option<Vec<Message<'_>>> {
    if is_batch {
        parse_batch(body).ok()
    } else {
        parse_publish(body).ok().map(|request| vec![request.message])
    }
}

fn check(is_batch: bool, tree: &Value, messages: &[Message<'_>]) {
    let expected = expected(is_batch, tree).expect("a tree that says what was read");
    assert_eq!(messages.len(), expected.len());
    for (message, (channels, data)) in messages.iter().zip(expected) {
        let names: Vec<&str> = message.channels.iter().map(ChannelName::as_str).collect();
        assert_eq!(names, channels);
        match data {
            None => assert_eq!(message.text, ""),
            Some(Value::String(text)) => assert_eq!(message.text, *text),
            Some(other) => {
                assert_eq!(serde_json::from_str::<Value>(&message.text).ok().as_ref(), Some(other));
                assert_eq!(blanks_between_tokens(&message.text), 0, "{}", message.text);
            }
        }
    }
}

/// What every message may have beside its channels.
const OF_MESSAGES: [&str; 4] = ["data", "key", "ttl_ms", "idempotency_key"];

/// The data of a message, nothing where a key is deleted; `None` if its fields are not `channels` and those that it may have.
fn data_of<'t>(fields: &'t Map<String, Value>, channels: &[&str]) -> Option<Option<&'t Value>> {
    let is_known = |name: &&str| OF_MESSAGES.contains(name) || channels.contains(name);
    if !fields.keys().all(|name| is_known(&name.as_str())) {
        return None;
    }
    if let Some(key) = fields.get("key") {
        MessageKey::parse(key.as_str()?).ok()?;
    }
    if let Some(ttl) = fields.get("ttl_ms") {
        ttl.as_u64().filter(|ttl| (1..=30 * 24 * 3_600_000).contains(ttl))?;
    }
    if let Some(key) = fields.get("idempotency_key") {
        let key = key.as_str()?;
        let is_key = (1..=128).contains(&key.len()) && key.bytes().all(|byte| (32..127).contains(&byte));
        is_key.then_some(())?;
    }
    let data = fields.get("data");
    (data.is_some() || fields.contains_key("key")).then_some(data)
}

/// Channels and data of each message, or `None` if the tree is to be refused.
fn expected(is_batch: bool, tree: &Value) -> Option<Vec<(Vec<&str>, Option<&Value>)>> {
    if !is_batch {
        let fields = tree.as_object()?;
        let data = data_of(fields, &["channel", "channels"])?;
        let channels = match (fields.get("channel"), fields.get("channels")) {
            (Some(channel), None) => vec![channel.as_str()?],
            (None, Some(channels)) => {
                channels.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?
            }
            _ => return None,
        };
        let is_good = !channels.is_empty() && channels.len() <= PUBLISH_BATCH_MAX;
        return (is_good && are_names(&channels)).then_some(vec![(channels, data)]);
    }
    let items = match tree {
        Value::Array(items) => items,
        Value::Object(fields) if fields.len() == 1 => fields.get("messages")?.as_array()?,
        _ => return None,
    };
    let item = |item: &'_ Value| -> Option<()> {
        let fields = item.as_object()?;
        data_of(fields, &["channel"])?;
        are_names(&[fields.get("channel")?.as_str()?]).then_some(())
    };
    if items.len() > PUBLISH_BATCH_MAX || !items.iter().all(|value| item(value).is_some()) {
        return None;
    }
    Some(
        items
            .iter()
            .map(|item| (vec![item["channel"].as_str().unwrap_or_default()], item.get("data")))
            .collect(),
    )
}

fn are_names(channels: &[&str]) -> bool {
    channels.iter().all(|channel| ChannelName::parse_for_publishing(channel).is_ok())
}

/// Blanks outside of strings, in valid JSON.
fn blanks_between_tokens(json: &str) -> usize {
    let mut count = 0;
    let mut signs = json.chars();
    while let Some(sign) = signs.next() {
        match sign {
            ' ' | '\t' | '\r' | '\n' => count += 1,
            '"' => loop {
                match signs.next() {
                    Some('\\') => drop(signs.next()),
                    Some('"') | None => break,
                    Some(_) => {}
                }
            },
            _ => {}
        }
    }
    count
}
