//! What publish requests carry: JSON in, checked messages out.
//!
//! Pure: bytes to values. Keys are those of `object.rs`, each once. `data` that is a string is the message itself; any other JSON value is sent as its own
//! text without the white space between tokens, digits and order of members as they were written.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::value::RawValue;

use super::object::{Key, Object, Wrong};
use super::refusal::{Refusal, Refused};
use super::terms;
use crate::config::limits::PUBLISH_BATCH_MAX;
use crate::feeds::Terms;
use crate::model::json::string;
use crate::model::{ChannelName, IdempotencyKey};

/// A text message for one or more channels.
#[derive(PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// Where it goes; at least one.
    pub channels: Vec<ChannelName>,
    /// What is sent; empty where a key is deleted.
    pub text: Cow<'a, str>,
    /// Its key, how long it lasts, and what it is known by if it is published again.
    pub terms: Terms,
}

/// The keys that every message may have.
const OF_MESSAGES: [Key; 5] = [Key::Channel, Key::Data, Key::Key, Key::TtlMs, Key::IdempotencyKey];
/// Keys of a message to one channel or several.
const OF_PUBLISHES: [Key; 6] =
    [Key::Channel, Key::Data, Key::Key, Key::TtlMs, Key::IdempotencyKey, Key::Channels];

/// What `/api/publish` asked for.
#[derive(PartialEq, Eq, Debug)]
pub struct PublishRequest<'a> {
    /// The message.
    pub message: Message<'a>,
    /// Whether `channels` was written, so that the reply is a list.
    pub wants_list: bool,
}

/// Reads the body of `/api/publish`.
///
/// # Errors
/// Bad JSON, keys other than the documented ones, bad channel names, more channels than a batch has messages.
pub fn parse_publish(body: &[u8]) -> Result<PublishRequest<'_>, Refused> {
    let object = Object::read(body, &OF_PUBLISHES)?;
    let (names, wants_list) = match (object.channel, object.channels) {
        (Some(name), None) => (vec![text(Key::Channel, name)?], false),
        (None, Some(names)) => (texts(Key::Channels, names)?, true),
        (Some(_), Some(_)) => return Err(Wrong::Both.into()),
        (None, None) => return Err(Wrong::Missing(Key::Channel).into()),
    };
    if names.len() > PUBLISH_BATCH_MAX {
        return Err(Refusal::BodyTooBig.into());
    }
    let mut channels = Vec::with_capacity(names.len());
    for (place, name) in names.iter().enumerate() {
        let index = wants_list.then_some(place);
        let blame = |_| Refused { index, ..Refusal::BadChannel.into() };
        channels.push(ChannelName::parse_for_publishing(name).map_err(blame)?);
    }
    Ok(PublishRequest { message: message_to(channels, &object)?, wants_list })
}

/// Reads the body of `/api/batch`: a list, or an object whose `messages` is the list. May give no message.
///
/// # Errors
/// As [`parse_publish`], with the place of the message to blame.
pub fn parse_batch(body: &[u8]) -> Result<Vec<Message<'_>>, Refused> {
    let is_list = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let items: Vec<&RawValue> = if is_list {
        serde_json::from_slice(body).map_err(|_| Refusal::BadJson)?
    } else {
        let list = Object::read(body, &[Key::Messages])?.messages;
        let list = list.ok_or(Wrong::Missing(Key::Messages))?;
        serde_json::from_str(list.get()).map_err(|_| Wrong::Kind(Key::Messages))?
    };
    if items.len() > PUBLISH_BATCH_MAX {
        return Err(Refusal::BodyTooBig.into());
    }
    let items = items.into_iter().enumerate();
    items.map(|(index, item)| parse_item(item).map_err(|refused| refused.of(index))).collect()
}

fn parse_item(item: &RawValue) -> Result<Message<'_>, Refused> {
    let object = Object::read(item.get().as_bytes(), &OF_MESSAGES)?;
    let name = text(Key::Channel, object.channel.ok_or(Wrong::Missing(Key::Channel))?)?;
    let channel = ChannelName::parse_for_publishing(&name).map_err(|_| Refusal::BadChannel)?;
    message_to(vec![channel], &object)
}

/// The message of `object`. Without data, but with a key, it deletes that key.
fn message_to<'a>(channels: Vec<ChannelName>, object: &Object<'a>) -> Result<Message<'a>, Refused> {
    let key = object.key.map(|key| Ok::<_, Refused>(terms::key(&text(Key::Key, key)?)?)).transpose()?;
    let ttl = object.ttl_ms.map(millis).transpose()?;
    let text = match object.data {
        None if key.is_some() => Cow::Borrowed(""),
        data => text_of(data.ok_or(Wrong::Missing(Key::Data))?)?,
    };
    let idempotency_key = object.idempotency_key.map(idempotency_key).transpose()?;
    Ok(Message { channels, text, terms: Terms { key, ttl, idempotency_key } })
}

fn idempotency_key(value: &RawValue) -> Result<IdempotencyKey, Refused> {
    let key = text(Key::IdempotencyKey, value)?;
    IdempotencyKey::parse(&key).ok_or(Refusal::BadIdempotencyKey.into())
}

fn millis(value: &RawValue) -> Result<Duration, Refused> {
    let digits = value.get();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Wrong::Kind(Key::TtlMs).into());
    }
    let millis = digits.parse().map_err(|_| Refusal::BadTtl)?;
    Ok(terms::ttl(Duration::from_millis(millis))?)
}

fn text_of(data: &RawValue) -> Result<Cow<'_, str>, Refused> {
    match data.get().starts_with('"') {
        true => string(data).ok_or(Refusal::BadJson.into()),
        false => Ok(compact(data.get())),
    }
}

/// The value of `key`, which is a string.
fn text(key: Key, value: &RawValue) -> Result<Cow<'_, str>, Refused> {
    string(value).ok_or(Wrong::Kind(key).into())
}

/// The values of `key`, which is a list of strings with at least one.
fn texts(key: Key, value: &RawValue) -> Result<Vec<Cow<'_, str>>, Refused> {
    let items: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|_| Wrong::Kind(key))?;
    if items.is_empty() {
        return Err(Wrong::Kind(key).into());
    }
    items.into_iter().map(|item| text(key, item)).collect()
}

/// Valid JSON without white space between tokens.
fn compact(raw: &str) -> Cow<'_, str> {
    if !raw.contains([' ', '\t', '\n', '\r']) {
        return Cow::Borrowed(raw);
    }
    let (mut is_in_string, mut is_escaped) = (false, false);
    let keep = |character: &char| {
        let keeps = is_in_string || !matches!(character, ' ' | '\t' | '\n' | '\r');
        if *character == '"' && !is_escaped {
            is_in_string = !is_in_string;
        }
        is_escaped = *character == '\\' && !is_escaped;
        keeps
    };
    Cow::Owned(raw.chars().filter(keep).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn published(body: &str) -> String {
        parse_publish(body.as_bytes()).unwrap().message.text.into_owned()
    }

    fn refusal(body: &str) -> Refusal {
        parse_publish(body.as_bytes()).unwrap_err().refusal
    }

    #[test]
    fn a_string_is_sent_as_it_is_and_any_other_value_as_compact_json() {
        assert_eq!(published(r#"{"channel":"a","data":"h\u00e9 \"x\"\n"}"#), "h\u{e9} \"x\"\n");
        assert_eq!(published(r#"{"channel":"a","data":"plain \t"}"#), "plain \t");
        assert_eq!(
            published(
                "{\"channel\":\"a\",\"data\":{ \"z\" : [1.10, 1e400,\n 12345678901234567890123],\"a b\\\" c\": \" x \"}}"
            ),
            r#"{"z":[1.10,1e400,12345678901234567890123],"a b\" c":" x "}"#
        );
        assert_eq!(published(r#"{"data":null,"channel":"a"}"#), "null");
    }

    #[test]
    fn wrong_requests_are_told_apart_from_wrong_json() {
        for (body, expected) in [
            ("", Refusal::BadJson),
            ("{", Refusal::BadJson),
            (r#"{"channel":"a","data":1}x"#, Refusal::BadJson),
            (r#"{"channel":"a","data":"\ud800"}"#, Refusal::BadJson),
            (r#"{"channel":"a"}"#, Refusal::Invalid),
            (r#"{"data":1}"#, Refusal::Invalid),
            (r#"{"channel":"a","channels":["b"],"data":1}"#, Refusal::Invalid),
            (r#"{"channels":[],"data":1}"#, Refusal::Invalid),
            (r#"{"channel":"a","data":1,"id":2}"#, Refusal::Invalid),
            (r#"{"channel":"a","data":1,"key":""}"#, Refusal::BadKey),
            (r#"{"channel":"a","data":1,"key":"\n"}"#, Refusal::BadKey),
            (r#"{"channel":"a","data":1,"ttl_ms":0}"#, Refusal::BadTtl),
            (r#"{"channel":"a","data":1,"idempotency_key":""}"#, Refusal::BadIdempotencyKey),
            (r#"{"channel":"a","data":1,"idempotency_key":"\u00e4"}"#, Refusal::BadIdempotencyKey),
            (r#"{"channel":"a","data":1,"idempotency_key":1}"#, Refusal::Invalid),
            (r#"{"channel":"a","data":1,"ttl_ms":2592000001}"#, Refusal::BadTtl),
            (r#"{"channel":"a","data":1,"ttl_ms":99999999999999999999}"#, Refusal::BadTtl),
            (r#"{"channel":7,"data":1}"#, Refusal::Invalid),
            ("[]", Refusal::Invalid),
            (r#"{"channel":"a b","data":1}"#, Refusal::BadChannel),
            (r#"{"channel":"$occupancy.a","data":1}"#, Refusal::BadChannel),
            (r#"{"channels":["a","$occupancy.b.c"],"data":1}"#, Refusal::BadChannel),
        ] {
            assert_eq!(refusal(body), expected, "{body}");
        }
    }

    #[test]
    fn a_message_has_a_key_and_a_time_to_live_and_without_data_deletes_its_key() {
        fn read(body: &str) -> Message<'_> {
            parse_publish(body.as_bytes()).unwrap().message
        }
        let message = read(r#"{"channel":"a","key":"B\u0054C","ttl_ms":1500,"data":1}"#);
        assert_eq!(message.text, "1");
        let key = crate::model::MessageKey::parse("BTC").ok();
        let ttl = Some(Duration::from_millis(1500));
        assert_eq!(message.terms, Terms { key: key.clone(), ttl, ..Terms::default() });
        for body in [r#"{"channel":"a","key":"BTC"}"#, r#"{"channel":"a","key":"BTC","data":""}"#] {
            let message = read(body);
            assert_eq!((&*message.text, &message.terms.key), ("", &key), "{body}");
        }
        let batch = br#"[{"channel":"a","key":"BTC"},{"channel":"a","key":"BTC","data":2,"ttl_ms":1}]"#;
        let batch = parse_batch(batch).unwrap();
        assert!(batch.iter().all(|message| message.terms.key == key));
        assert_eq!((&*batch[0].text, &*batch[1].text), ("", "2"));
    }

    #[test]
    fn a_batch_comes_as_a_list_or_as_messages_and_names_the_one_to_blame() {
        let list = r#" [{"channel":"a","data":"1"},{"channel":"b","data":2}]"#;
        let object = format!("{{\"messages\":{list}}}");
        let messages = parse_batch(list.as_bytes()).unwrap();
        assert_eq!(messages[1].text, "2");
        assert_eq!(parse_batch(object.as_bytes()).unwrap(), messages);
        assert_eq!(parse_batch(b"[]"), Ok(vec![]));
        let wrong = br#"[{"channel":"a","data":"1"},{"channel":"","data":2}]"#;
        assert_eq!(parse_batch(wrong), Err(Refused::from(Refusal::BadChannel).of(1)));
    }

    #[test]
    fn an_object_is_not_taken_from_a_list_of_its_values() {
        assert_eq!(refusal(r#"["a",null,1]"#), Refusal::Invalid);
        for body in [r#"[["a",1]]"#, r#"{"messages":[["a",1]]}"#] {
            assert_eq!(
                parse_batch(body.as_bytes()).map_err(|refused| refused.refusal),
                Err(Refusal::Invalid)
            );
        }
    }

    #[test]
    fn c19_the_message_after_the_limit_is_too_much() {
        let batch = |count| format!("[{}]", vec![r#"{"channel":"a","data":1}"#; count].join(","));
        assert_eq!(parse_batch(batch(1000).as_bytes()).unwrap().len(), 1000);
        assert_eq!(parse_batch(batch(1001).as_bytes()).unwrap_err().refusal, Refusal::BodyTooBig);
        let channels = vec!["\"a\""; 1001].join(",");
        assert_eq!(refusal(&format!("{{\"channels\":[{channels}],\"data\":1}}")), Refusal::BodyTooBig);
    }

    #[test]
    fn b24_every_wrong_key_is_named() {
        use {Key as K, Wrong as W};
        let publish = |body: &str| parse_publish(body.as_bytes()).unwrap_err();
        let invalid = |wrong: Wrong| Refused::from(wrong);
        let bad_json = || Refused::from(Refusal::BadJson);
        for (body, expected) in [
            (r#"{"channel":"a"}"#, invalid(W::Missing(K::Data))),
            (r#"{"data":1}"#, invalid(W::Missing(K::Channel))),
            ("{}", invalid(W::Missing(K::Channel))),
            (r#"{"channel":"a","channel":"a","data":1}"#, invalid(W::Twice(K::Channel))),
            (r#"{"channel":"a","data":1,"data":2}"#, invalid(W::Twice(K::Data))),
            (r#"{"channel":"a","d\u0061ta":1,"data":2}"#, invalid(W::Twice(K::Data))),
            (r#"{"channels":["a"],"data":1,"channels":["a"]}"#, invalid(W::Twice(K::Channels))),
            (r#"{"channel":"a","channels":["b"],"data":1}"#, invalid(W::Both)),
            (r#"{"Channel":"a","data":1}"#, invalid(W::Unknown)),
            (r#"{"channel":"a","Data":1}"#, invalid(W::Unknown)),
            (r#"{"channel":"a","DATA":1,"data":1}"#, invalid(W::Unknown)),
            (r#"{"channel":"a","data":1,"":1}"#, invalid(W::Unknown)),
            (r#"{"channel":"a","data":1,"__proto__":{}}"#, invalid(W::Unknown)),
            (r#"{"channel":"a","data":1,"messages":[]}"#, invalid(W::Unknown)),
            (r#"{"channel":null,"data":1}"#, invalid(W::Kind(K::Channel))),
            (r#"{"channel":["a"],"data":1}"#, invalid(W::Kind(K::Channel))),
            (r#"{"channel":1e999,"data":1}"#, invalid(W::Kind(K::Channel))),
            (r#"{"channel":"a","key":1}"#, invalid(W::Kind(K::Key))),
            (r#"{"channel":"a","key":"a","key":"b"}"#, invalid(W::Twice(K::Key))),
            (r#"{"channel":"a","data":1,"ttl_ms":1.0}"#, invalid(W::Kind(K::TtlMs))),
            (r#"{"channel":"a","data":1,"ttl_ms":"1"}"#, invalid(W::Kind(K::TtlMs))),
            (r#"{"channel":"a","data":1,"ttl_ms":1,"ttl_ms":1}"#, invalid(W::Twice(K::TtlMs))),
            (r#"{"channel":"a","ttl_ms":1}"#, invalid(W::Missing(K::Data))),
            (r#"{"channel":"\ud800","data":1}"#, invalid(W::Kind(K::Channel))),
            (r#"{"channels":"a","data":1}"#, invalid(W::Kind(K::Channels))),
            (r#"{"channels":["a",1e999],"data":1}"#, invalid(W::Kind(K::Channels))),
            (r#"{"channels":[],"data":1}"#, invalid(W::Kind(K::Channels))),
            (r#""channel""#, invalid(W::NoObject)),
            ("1e999", invalid(W::NoObject)),
            (r#"{"channel":"a","data":1,"\ud800":1}"#, bad_json()),
            (r#"{"channel":"a","data":1e}"#, bad_json()),
            (r#"{"channel":"a","data":01}"#, bad_json()),
            (r#"{"channel":"a","data":NaN}"#, bad_json()),
            (r#"{"channel":"a","data":1,}"#, bad_json()),
            (r#"{"channel":"a" "data":1}"#, bad_json()),
            (r#"{'channel':"a","data":1}"#, bad_json()),
            (r#"{channel:"a","data":1}"#, bad_json()),
            ("{\"channel\":\"a\",\"data\":\"\u{0}\"}", bad_json()),
        ] {
            assert_eq!(publish(body), expected, "{body}");
        }
        for (body, index, wrong) in [
            (r#"[{"channel":"a","data":1},{"channel":"a"}]"#, 1, W::Missing(K::Data)),
            (r#"[{"channel":"a","data":1,"channel":"b"}]"#, 0, W::Twice(K::Channel)),
            (r#"[{"channel":"a","data":1},[]]"#, 1, W::NoObject),
            (r#"[{"channels":["a"],"data":1}]"#, 0, W::Unknown),
            (r#"{"messages":[{"channel":7,"data":1}]}"#, 0, W::Kind(K::Channel)),
        ] {
            assert_eq!(parse_batch(body.as_bytes()), Err(Refused::from(wrong).of(index)), "{body}");
        }
        for (body, wrong) in [
            (r#"{"messages":{}}"#, W::Kind(K::Messages)),
            (r#"{"messages":[],"messages":[]}"#, W::Twice(K::Messages)),
            ("{}", W::Missing(K::Messages)),
            (r#"{"channel":"a","data":1}"#, W::Unknown),
        ] {
            assert_eq!(parse_batch(body.as_bytes()), Err(Refused::from(wrong)), "{body}");
        }
    }

    #[test]
    fn b24_depth_costs_no_stack_and_what_is_published_goes_out_as_it_is() {
        for depth in [16, 17, 127, 128, 129, 100_000] {
            for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
                let data = format!("{}1e999{}", open.repeat(depth), close.repeat(depth));
                assert_eq!(published(&format!(r#"{{"channel":"a","data":{data}}}"#)), data);
            }
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            assert_eq!(refusal(&open), Refusal::BadJson, "{depth} without an end");
            assert_eq!(refusal(&format!("{open}{close}")), Refusal::Invalid, "{depth} instead of a request");
            let channel = format!(r#"{{"channel":{open}{close},"data":1}}"#);
            assert_eq!(refusal(&channel), Refusal::Invalid, "{depth} instead of a name");
            let key = format!(r#"{{"{open}":{open}{close}}}"#);
            assert_eq!(refusal(&key), Refusal::Invalid, "{depth} under a key that nobody knows");
            let batch = format!("{open}{close}");
            assert_eq!(parse_batch(batch.as_bytes()), Err(Refused::from(Wrong::NoObject).of(0)), "{depth}");
        }
    }

    proptest! {
        #[test]
        fn compacting_changes_nothing_but_white_space(value in ".*", key in ".*") {
            let value = serde_json::json!({ key: [value, 1.5, null, true] });
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(compact(&pretty), serde_json::to_string(&value).unwrap());
        }

        #[test]
        fn no_bytes_make_the_parsers_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_publish(&body);
            let _ = parse_batch(&body);
        }
    }
}
