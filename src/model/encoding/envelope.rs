//! The JSON of `tidegate.v1` around a message, in a text frame (docs/PROTOCOL.md).

use std::io::Write as _;

use data_encoding::BASE64;
use serde::de::IgnoredAny;

use super::frame::append_text_header;
use super::header::append_behind_header;
use super::{Labelled, PayloadKind};
use crate::model::json::{append_string, depth_of, has_half_pair, has_huge_number};

/// Arrays and objects in each other, at most, for a payload to travel as JSON: with the envelope around it, as many as
/// serde_json and others read unless told otherwise. A deeper one travels as text.
pub const DATA_DEPTH_MAX: usize = 126;

/// What an envelope has around channel, key and payload, about.
const AROUND_BYTES: usize = 90;

/// Appends one unmasked text frame that carries `message` in its envelope to `out`. Linear in the payload.
pub fn append_envelope_frame(message: &Labelled<'_>, out: &mut Vec<u8>) {
    append_behind_header(expected_bytes(message), append_text_header, out, |out| {
        append_envelope(message, out, |json, out| out.extend_from_slice(json));
    });
}

/// Bytes that the envelope of `message` has, about.
pub(super) fn expected_bytes(message: &Labelled<'_>) -> usize {
    let payload = match message.kind {
        PayloadKind::Text => message.payload.len(),
        PayloadKind::Binary => BASE64.encode_len(message.payload.len()),
    };
    let key = message.key.map_or(0, |key| key.as_str().len());
    AROUND_BYTES + message.channel.as_str().len() + key + payload
}

/// Appends the envelope of `message`; a payload that is JSON goes through `append_json`. Everything else of it has no line
/// breaks.
pub(super) fn append_envelope(
    message: &Labelled<'_>,
    out: &mut Vec<u8>,
    append_json: impl FnOnce(&[u8], &mut Vec<u8>),
) {
    // The alphabet of channel names has nothing to escape.
    let _ = write!(out, "{{\"channel\":\"{}\",\"position\":\"{}\"", message.channel, message.position);
    if let Some(key) = message.key {
        out.extend_from_slice(b",\"key\":");
        append_string(key.as_str(), out);
    }
    let text = match message.kind {
        _ if message.key.is_some() && message.payload.is_empty() => return out.push(b'}'),
        PayloadKind::Text => std::str::from_utf8(message.payload).ok(),
        PayloadKind::Binary => None,
    };
    match text {
        Some(json) if is_data(json) => {
            out.extend_from_slice(b",\"data\":");
            append_json(message.payload, out);
        }
        Some(text) => {
            out.extend_from_slice(b",\"text\":");
            append_string(text, out);
        }
        None => {
            out.extend_from_slice(b",\"base64\":\"");
            append_base64(message.payload, out);
            out.push(b'"');
        }
    }
    out.push(b'}');
}

/// Appends `bytes` in base64: the standard alphabet, padded (RFC 4648 §4).
pub(super) fn append_base64(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + BASE64.encode_len(bytes.len()), 0);
    if let Some(room) = out.get_mut(start..) {
        BASE64.encode_mut(bytes, room);
    }
}

/// Whether `text` is one value of JSON that every reader can hold: one that cannot would lose the envelope with it.
fn is_data(text: &str) -> bool {
    let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
    // Counting is many times faster than following, and enough but for few.
    let opened = || text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    is_json
        && (opened() <= DATA_DEPTH_MAX || depth_of(text) <= DATA_DEPTH_MAX)
        && !has_huge_number(text)
        && !has_half_pair(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::json::{members, string};
    use crate::model::{ChannelName, Epoch, MessageKey, Offset, Position};
    use proptest::prelude::*;
    use tungstenite::protocol::Role;
    use tungstenite::{Message, WebSocket};

    const POSITION: Position = Position { epoch: Epoch(0xab), offset: Offset(42) };

    fn labelled<'a>(
        channel: &'a ChannelName,
        key: Option<&'a MessageKey>,
        kind: PayloadKind,
        payload: &'a [u8],
    ) -> Labelled<'a> {
        Labelled { channel, position: POSITION, key, kind, payload }
    }

    /// The texts of frames, as tungstenite reads them.
    fn texts(frames: &[u8]) -> Vec<String> {
        struct Memory<'a>(&'a [u8]);
        impl std::io::Read for Memory<'_> {
            fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
                self.0.read(room)
            }
        }
        impl std::io::Write for Memory<'_> {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut socket = WebSocket::from_raw_socket(Memory(frames), Role::Client, None);
        std::iter::from_fn(|| socket.read().ok())
            .map(|message| match message {
                Message::Text(text) => text.to_string(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn envelope(key: Option<&str>, kind: PayloadKind, payload: &[u8]) -> String {
        let channel = ChannelName::parse("prices.eu").unwrap();
        let key = key.map(|key| MessageKey::parse(key).unwrap());
        let mut frames = Vec::new();
        append_envelope_frame(&labelled(&channel, key.as_ref(), kind, payload), &mut frames);
        let mut texts = texts(&frames);
        assert_eq!(texts.len(), 1);
        texts.remove(0)
    }

    /// Behind channel and position of [`envelope`].
    fn rest(key: Option<&str>, kind: PayloadKind, payload: &[u8]) -> String {
        let envelope = envelope(key, kind, payload);
        let start = r#"{"channel":"prices.eu","position":"00000000000000ab-42""#;
        envelope.strip_prefix(start).unwrap_or_else(|| panic!("{envelope}")).to_owned()
    }

    #[test]
    fn a_payload_is_data_or_text_or_base64_by_what_it_is() {
        use PayloadKind::{Binary, Text};
        for (key, kind, payload, expected) in [
            (None, Text, r#"{"a": [1.10,1e300]} "#, r#","data":{"a": [1.10,1e300]} }"#),
            (None, Text, r#"{"a":[1,1e999]}"#, r#","text":"{\"a\":[1,1e999]}"}"#),
            (None, Text, r#""\ud83d\ude00""#, r#","data":"\ud83d\ude00"}"#),
            (None, Text, r#""\ud800""#, r#","text":"\"\\ud800\""}"#),
            (None, Text, "null", r#","data":null}"#),
            (Some("BTC"), Text, "1", r#","key":"BTC","data":1}"#),
            (Some("a\"\\\u{e9}"), Text, "x", ",\"key\":\"a\\\"\\\\\u{e9}\",\"text\":\"x\"}"),
            (None, Text, "1 2", r#","text":"1 2"}"#),
            (None, Text, "{\"a\":\"\n\"}", r#","text":"{\"a\":\"\n\"}"}"#),
            (None, Text, "\u{feff}1", ",\"text\":\"\u{feff}1\"}"),
            (None, Text, "a\0", r#","text":"a\u0000"}"#),
            (None, Text, "", r#","text":""}"#),
            (None, Binary, "", r#","base64":""}"#),
            (None, Binary, "1", r#","base64":"MQ=="}"#),
            (Some("k"), Text, "", r#","key":"k"}"#),
            (Some("k"), Binary, "", r#","key":"k"}"#),
        ] {
            assert_eq!(rest(key, kind, payload.as_bytes()), expected, "{payload:?}");
        }
        assert_eq!(rest(None, Text, b"\"\xff\""), r#","base64":"Iv8i"}"#);
    }

    #[test]
    fn what_is_too_deep_for_its_readers_is_text() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let deepest = envelope(None, PayloadKind::Text, nested(DATA_DEPTH_MAX).as_bytes());
        let tree: serde_json::Value = serde_json::from_str(&deepest).unwrap();
        assert!(tree["data"].is_array());
        for depth in [DATA_DEPTH_MAX + 1, 100_000] {
            let deep = nested(depth);
            let tree: serde_json::Value =
                serde_json::from_str(&envelope(None, PayloadKind::Text, deep.as_bytes())).unwrap();
            assert_eq!(tree["text"], deep);
        }
        let wide = format!("[{}]", vec!["[]"; 10_000].join(","));
        assert_eq!(rest(None, PayloadKind::Text, wide.as_bytes()), format!(",\"data\":{wide}}}"));
    }

    /// A number of so many bytes.
    fn number(length: usize) -> String {
        format!("0.{}", "7".repeat(length - 2))
    }

    #[test]
    fn e15_envelopes_of_every_length_around_a_longer_header_are_read_by_others() {
        let channel = ChannelName::parse("a").unwrap();
        let around = {
            let mut frame = Vec::new();
            append_envelope_frame(&labelled(&channel, None, PayloadKind::Text, b""), &mut frame);
            frame.len() - 2
        };
        let mut frames = Vec::from(&b"\x81\x02{}"[..]);
        let mut payloads = Vec::new();
        // In Miri, which interprets what is done for each byte, not the long ones.
        let longest = if cfg!(miri) { 126 } else { 65_536 };
        for limit in [126, 65_536].into_iter().filter(|limit| *limit <= longest) {
            for length in limit - around - 40..=limit - around + 2 {
                // As JSON, as text, and as text that grows when it is escaped.
                payloads.push(number(length));
                payloads.push("x".repeat(length));
                payloads.push(format!("{}\0\0", "x".repeat(length.saturating_sub(10))));
            }
        }
        for payload in &payloads {
            append_envelope_frame(
                &labelled(&channel, None, PayloadKind::Text, payload.as_bytes()),
                &mut frames,
            );
        }
        let texts = texts(&frames);
        assert_eq!(texts.len(), 1 + payloads.len());
        let lengths: Vec<usize> = texts.iter().map(String::len).collect();
        for edge in [125, 126, 65_535, 65_536].into_iter().filter(|edge| *edge <= longest) {
            assert!(lengths.contains(&edge), "{edge}");
        }
        for (text, payload) in texts.iter().skip(1).zip(&payloads) {
            let [data, text] = members(text.as_bytes(), &["channel", "position", "data", "text"])
                .map(|[_, _, data, text]| [data, text])
                .unwrap();
            assert_eq!(data.is_some(), payload.starts_with('0'), "{payload}");
            let read = data.map_or_else(|| string(text.unwrap()).unwrap(), |data| data.get().into());
            assert_eq!(read, *payload);
        }
    }

    #[test]
    fn an_envelope_takes_one_allocation_and_one_for_the_word_that_it_is_no_json() {
        let channel = ChannelName::parse("prices.eu").unwrap();
        let key = MessageKey::parse("BTC").unwrap();
        for (kind, payload, most) in [
            (PayloadKind::Text, number(1000).into_bytes(), 1),
            (PayloadKind::Text, vec![b'x'; 100_000], 2),
            (PayloadKind::Binary, vec![0; 1000], 1),
        ] {
            let message = labelled(&channel, Some(&key), kind, &payload);
            let count = allocation_counter::measure(|| append_envelope_frame(&message, &mut Vec::new()));
            assert_eq!(count.count_total, most, "{kind:?}");
        }
    }

    /// The largest number in `tree`, signs aside; 0 if there is none.
    fn largest(tree: &serde_json::Value) -> f64 {
        match tree {
            serde_json::Value::Number(number) => number.as_f64().map_or(0.0, f64::abs),
            serde_json::Value::Array(items) => items.iter().map(largest).fold(0.0, f64::max),
            serde_json::Value::Object(fields) => fields.values().map(largest).fold(0.0, f64::max),
            _ => 0.0,
        }
    }

    fn kinds() -> impl Strategy<Value = (PayloadKind, Vec<u8>)> {
        prop_oneof![
            ".*".prop_map(|text| (PayloadKind::Text, text.into_bytes())),
            r#"[\[\]{}":,1e\\ \r\n]{0,12}"#.prop_map(|text| (PayloadKind::Text, text.into_bytes())),
            r#"\["(\\u(d[89cd]|00)[0-9a-f]{2}){0,3}",-?1(e30[78]|e[0-9]{1,4}|[0-9]{308})\]"#
                .prop_map(|text| (PayloadKind::Text, text.into_bytes())),
            any::<(String, i32)>().prop_map(|pair| (
                PayloadKind::Text,
                serde_json::json!({ "a": pair }).to_string().into_bytes()
            )),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| (PayloadKind::Binary, bytes)),
        ]
    }

    proptest! {
        #[test]
        fn e15_what_was_published_is_read_back_by_others(
            (kind, payload) in kinds(),
            key in proptest::option::of("[^\\p{Cc}]{1,30}"),
            channel in "[a-z:_-]{1,9}(\\.[A-Z0-9]{1,9}){0,3}",
        ) {
            let channel = ChannelName::parse(&channel).unwrap();
            let key = key.map(|key| MessageKey::parse(&key).unwrap());
            let mut frames = Vec::new();
            append_envelope_frame(&labelled(&channel, key.as_ref(), kind, &payload), &mut frames);
            let texts = texts(&frames);
            prop_assert_eq!(texts.len(), 1);
            // Also by a reader that makes values of it: whatever is published, nobody loses the envelope.
            prop_assert!(serde_json::from_str::<serde_json::Value>(&texts[0]).is_ok(), "{}", texts[0]);
            let names = ["channel", "position", "key", "data", "text", "base64"];
            let [name, position, read_key, data, text, base64] = members(texts[0].as_bytes(), &names).unwrap();
            let read = |value: Option<&serde_json::value::RawValue>| {
                value.map(|value| string(value).unwrap().into_owned())
            };
            let (name, position, read_key) = (read(name), read(position), read(read_key));
            prop_assert_eq!(name.as_deref(), Some(channel.as_str()));
            prop_assert_eq!(position.unwrap().parse(), Ok(POSITION));
            prop_assert_eq!(read_key.as_deref(), key.as_ref().map(MessageKey::as_str));
            prop_assert_eq!(
                [data.is_some(), text.is_some(), base64.is_some()].into_iter().filter(|is| *is).count(),
                usize::from(key.is_none() || !payload.is_empty())
            );
            let back = match (data, read(text), read(base64)) {
                (Some(_), ..) => {
                    // With its white space, which a raw value leaves out at its ends.
                    let start = texts[0].find(",\"data\":").unwrap() + ",\"data\":".len();
                    prop_assert!(serde_json::from_slice::<IgnoredAny>(&payload).is_ok());
                    texts[0].as_bytes()[start..texts[0].len() - 1].to_owned()
                }
                (_, Some(text), _) => {
                    let tree = serde_json::from_slice::<serde_json::Value>(&payload);
                    prop_assert!(tree.is_err() || largest(&tree.unwrap()) >= 1e308, "{}", text);
                    text.into_bytes()
                }
                (.., Some(base64)) => BASE64.decode(base64.as_bytes()).unwrap(),
                _ => Vec::new(),
            };
            prop_assert_eq!(back, payload);
        }
    }
}
