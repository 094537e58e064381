//! What publish requests carry: JSON in, checked messages out.
//!
//! Pure: bytes to values. `data` that is a string is the message itself; any other JSON value is sent as its own
//! text without the white space between tokens, digits and order of members as they were written.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::refusal::{Refusal, Refused};
use crate::config::limits::PUBLISH_BATCH_MAX;
use crate::model::ChannelName;

/// A text message for one or more channels.
#[derive(PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// Where it goes; at least one.
    pub channels: Vec<ChannelName>,
    /// What is sent.
    pub text: Cow<'a, str>,
}

/// What `/api/publish` asked for.
#[derive(PartialEq, Eq, Debug)]
pub struct PublishRequest<'a> {
    /// The message.
    pub message: Message<'a>,
    /// Whether `channels` was written, so that the reply is a list.
    pub wants_list: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishFields<'a> {
    #[serde(borrow, default)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    channels: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemFields<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchFields<'a> {
    #[serde(borrow)]
    messages: Vec<ItemFields<'a>>,
}

/// Reads the body of `/api/publish`.
///
/// # Errors
/// Bad JSON, fields other than the documented ones, bad channel names, more channels than a batch has messages.
pub fn parse_publish(body: &[u8]) -> Result<PublishRequest<'_>, Refused> {
    let fields: PublishFields = parse(body)?;
    let (names, wants_list) = match (fields.channel, fields.channels) {
        (Some(name), None) => (vec![name], false),
        (None, Some(names)) if !names.is_empty() => (names, true),
        _ => return Err(Refusal::Invalid.into()),
    };
    if names.len() > PUBLISH_BATCH_MAX {
        return Err(Refusal::BodyTooBig.into());
    }
    let mut channels = Vec::with_capacity(names.len());
    for (place, name) in names.iter().enumerate() {
        let index = wants_list.then_some(place);
        channels.push(ChannelName::parse(name).map_err(|_| Refused { refusal: Refusal::BadChannel, index })?);
    }
    Ok(PublishRequest { message: Message { channels, text: text_of(fields.data)? }, wants_list })
}

/// Reads the body of `/api/batch`: a list, or an object whose `messages` is the list. May give no message.
///
/// # Errors
/// As [`parse_publish`], with the place of the message to blame.
pub fn parse_batch(body: &[u8]) -> Result<Vec<Message<'_>>, Refused> {
    let is_list = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let items: Vec<ItemFields> = if is_list { parse(body)? } else { parse::<BatchFields>(body)?.messages };
    if items.len() > PUBLISH_BATCH_MAX {
        return Err(Refusal::BodyTooBig.into());
    }
    items.into_iter().enumerate().map(|(index, item)| item.check(index)).collect()
}

impl<'a> ItemFields<'a> {
    fn check(self, index: usize) -> Result<Message<'a>, Refused> {
        let blame = |refusal| Refused { refusal, index: Some(index) };
        let channel = ChannelName::parse(&self.channel).map_err(|_| blame(Refusal::BadChannel))?;
        Ok(Message { channels: vec![channel], text: text_of(self.data).map_err(blame)? })
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => Refusal::Invalid,
        Category::Syntax | Category::Eof | Category::Io => Refusal::BadJson,
    })
}

fn text_of(data: &RawValue) -> Result<Cow<'_, str>, Refusal> {
    let raw = data.get();
    if raw.starts_with('"') {
        return match unquoted(raw) {
            Some(text) => Ok(Cow::Borrowed(text)),
            None => serde_json::from_str(raw).map(Cow::Owned).map_err(|_| Refusal::BadJson),
        };
    }
    Ok(compact(raw))
}

/// The inside of a JSON string that has nothing escaped.
fn unquoted(raw: &str) -> Option<&str> {
    let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
    (!inside.contains('\\')).then_some(inside)
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

    fn text(body: &str) -> String {
        parse_publish(body.as_bytes()).unwrap().message.text.into_owned()
    }

    fn refusal(body: &str) -> Refusal {
        parse_publish(body.as_bytes()).unwrap_err().refusal
    }

    #[test]
    fn a_string_is_sent_as_it_is_and_any_other_value_as_compact_json() {
        assert_eq!(text(r#"{"channel":"a","data":"h\u00e9 \"x\"\n"}"#), "h\u{e9} \"x\"\n");
        assert_eq!(text(r#"{"channel":"a","data":"plain \t"}"#), "plain \t");
        assert_eq!(
            text(
                "{\"channel\":\"a\",\"data\":{ \"z\" : [1.10, 1e400,\n 12345678901234567890123],\"a b\\\" c\": \" x \"}}"
            ),
            r#"{"z":[1.10,1e400,12345678901234567890123],"a b\" c":" x "}"#
        );
        assert_eq!(text(r#"{"data":null,"channel":"a"}"#), "null");
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
            (r#"{"channel":"a","data":1,"key":2}"#, Refusal::Invalid),
            (r#"{"channel":7,"data":1}"#, Refusal::Invalid),
            ("[]", Refusal::Invalid),
            (r#"{"channel":"a b","data":1}"#, Refusal::BadChannel),
        ] {
            assert_eq!(refusal(body), expected, "{body}");
        }
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
        assert_eq!(parse_batch(wrong), Err(Refused { refusal: Refusal::BadChannel, index: Some(1) }));
    }

    #[test]
    fn c19_the_message_after_the_limit_is_too_much() {
        let batch = |count| format!("[{}]", vec![r#"{"channel":"a","data":1}"#; count].join(","));
        assert_eq!(parse_batch(batch(1000).as_bytes()).unwrap().len(), 1000);
        assert_eq!(parse_batch(batch(1001).as_bytes()).unwrap_err().refusal, Refusal::BodyTooBig);
        let channels = vec!["\"a\""; 1001].join(",");
        assert_eq!(refusal(&format!("{{\"channels\":[{channels}],\"data\":1}}")), Refusal::BodyTooBig);
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
