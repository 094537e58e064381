//! Events of an event stream (SSE), each a chunk of an HTTP/1.1 body (docs/PROTOCOL.md).
//!
//! The format is that of the HTML standard (§9.2), the chunks are those of RFC 9112 §7.1. What was published stands in
//! `data` lines alone, cut at every line break, so that nothing in it can be taken for another field or event.

use std::io::Write as _;

use super::envelope::{append_base64, append_envelope, expected_bytes};
use super::header::append_behind_header;
use super::{Labelled, PayloadKind};
use crate::model::Position;

/// What a chunk has besides a text, about.
const AROUND_BYTES: usize = 48;

/// Bytes of a position in an id, about.
const POSITION_BYTES: usize = 30;

/// Appends the chunk of an event that carries the payload of `message`; its id is the position. Linear in the payload.
pub fn append_event(message: &Labelled<'_>, out: &mut Vec<u8>) {
    append_chunk(expected_bytes(message), out, |out| {
        let _ = writeln!(out, "id: {}", message.position);
        match message.kind {
            PayloadKind::Binary => {
                out.extend_from_slice(b"event: binary\ndata: ");
                append_base64(message.payload, out);
            }
            PayloadKind::Text => append_data(message.payload, out),
        }
        out.extend_from_slice(b"\n\n");
    });
}

/// Appends the chunk of an event whose data is the envelope of `message`. Linear in the payload.
pub fn append_enveloped_event(message: &Labelled<'_>, out: &mut Vec<u8>) {
    append_chunk(expected_bytes(message), out, |out| {
        out.extend_from_slice(b"data: ");
        append_envelope(message, out, append_lines);
        out.extend_from_slice(b"\n\n");
    });
}

/// Appends the chunk of a comment, which readers pass over: a sign of life.
pub fn append_comment(out: &mut Vec<u8>) {
    out.extend_from_slice(b"3\r\n:\n\n\r\n");
}

/// Appends the chunk of the event `gw.NAME` whose data is `json`. Linear.
///
/// `name` is a word of ours: nothing is escaped in it.
pub fn append_notice_event(name: &str, json: &[u8], out: &mut Vec<u8>) {
    append_chunk(AROUND_BYTES + json.len(), out, |out| {
        let _ = writeln!(out, "event: gw.{name}");
        append_data(json, out);
        out.extend_from_slice(b"\n\n");
    });
}

/// Appends the chunk of the event `gw.close`, the last one: `text` is the token of why, perhaps `;` and more, and a
/// reader is to come back after `retry_ms` milliseconds.
pub fn append_close_event(text: &str, retry_ms: u64, out: &mut Vec<u8>) {
    append_chunk(AROUND_BYTES + text.len(), out, |out| {
        let _ = writeln!(out, "event: gw.close\nretry: {retry_ms}");
        append_data(text.as_bytes(), out);
        out.extend_from_slice(b"\n\n");
    });
}

/// Appends the last chunk, which ends the body.
pub fn append_last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

/// Appends the chunk of an id without an event: a position for each channel, in their order, nothing where there is none.
/// A reader keeps it and hands it in with `Last-Event-ID` when it comes back. Linear.
pub fn append_id(positions: &[Option<Position>], out: &mut Vec<u8>) {
    append_chunk(AROUND_BYTES + POSITION_BYTES * positions.len(), out, |out| {
        out.extend_from_slice(b"id: ");
        for (place, position) in positions.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            if let Some(position) = position {
                let _ = write!(out, "{position}");
            }
        }
        out.extend_from_slice(b"\n\n");
    });
}

/// Appends the chunk that tells a reader to wait `ms` milliseconds before it comes back, whenever the stream ends.
pub fn append_retry(ms: u64, out: &mut Vec<u8>) {
    append_chunk(AROUND_BYTES, out, |out| {
        let _ = write!(out, "retry: {ms}\n\n");
    });
}

fn append_chunk(expected: usize, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    append_behind_header(expected, append_chunk_header, out, write);
    out.extend_from_slice(b"\r\n");
}

fn append_chunk_header(length: usize, out: &mut Vec<u8>) {
    let _ = write!(out, "{length:x}\r\n");
}

/// Appends `text` as `data` lines, without the end of the last.
fn append_data(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(if text.is_empty() { b"data:" } else { b"data: " });
    append_lines(text, out);
}

/// Appends `text`, each of whose lines but the first begins a `data` line.
fn append_lines(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(length) = text.iter().position(|byte| matches!(byte, b'\r' | b'\n'))
        && let Some((line, rest)) = text.split_at_checked(length)
    {
        out.extend_from_slice(line);
        out.extend_from_slice(b"\ndata: ");
        text = match rest {
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
            [] => rest,
        };
    }
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChannelName, Epoch, MessageKey, Offset};
    use data_encoding::BASE64;
    use proptest::prelude::*;

    /// What a reader of an event stream makes of it.
    #[derive(Default, PartialEq, Eq, Debug)]
    struct Stream {
        /// Type, data and last id of each event.
        events: Vec<(String, String, String)>,
        last_id: String,
        retry_ms: Option<u64>,
        comments: usize,
        is_ended: bool,
    }

    /// The lengths of the chunks of `body`, their content, and whether the last one came (RFC 9112 §7.1).
    fn dechunk(mut body: &[u8]) -> (Vec<usize>, Vec<u8>, bool) {
        let (mut lengths, mut content) = (Vec::new(), Vec::new());
        while !body.is_empty() {
            let digits = body.windows(2).position(|pair| pair == b"\r\n").expect("a line of a length");
            let length = std::str::from_utf8(&body[..digits]).unwrap();
            let length = usize::from_str_radix(length, 16).unwrap();
            body = &body[digits + 2..];
            if length == 0 {
                assert_eq!(body, b"\r\n");
                return (lengths, content, true);
            }
            lengths.push(length);
            content.extend_from_slice(&body[..length]);
            assert_eq!(&body[length..length + 2], b"\r\n");
            body = &body[length + 2..];
        }
        (lengths, content, false)
    }

    /// Reads a body as a browser does: HTML standard §9.2.6, sign by sign.
    fn read(body: &[u8]) -> Stream {
        let (_, content, is_ended) = dechunk(body);
        let text = String::from_utf8(content).expect("UTF-8");
        let mut stream = Stream { is_ended, ..Stream::default() };
        let (mut event, mut data, mut id) = (String::new(), String::new(), String::new());
        let mut line = String::new();
        let mut signs = text.chars().peekable();
        while let Some(sign) = signs.next() {
            match sign {
                '\r' => drop(signs.next_if_eq(&'\n')),
                '\n' => {}
                other => {
                    line.push(other);
                    continue;
                }
            }
            let whole = std::mem::take(&mut line);
            if whole.is_empty() {
                stream.last_id = id.clone();
                let (event, mut data) = (std::mem::take(&mut event), std::mem::take(&mut data));
                if data.pop() == Some('\n') {
                    let event = if event.is_empty() { "message".to_owned() } else { event };
                    stream.events.push((event, data, stream.last_id.clone()));
                }
                continue;
            }
            let (field, value) = whole.split_once(':').unwrap_or((&whole, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => stream.comments += 1,
                "event" => event = value.to_owned(),
                "data" => data.extend(value.chars().chain(['\n'])),
                "id" if !value.contains('\0') => id = value.to_owned(),
                "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                    stream.retry_ms = value.parse().ok();
                }
                other => panic!("a field nobody writes: {other:?}"),
            }
        }
        assert!(event.is_empty() && data.is_empty() && line.is_empty(), "an event without an end");
        stream
    }

    fn position(epoch: u64, offset: u64) -> Position {
        Position { epoch: Epoch(epoch), offset: Offset(offset) }
    }

    fn event(kind: PayloadKind, payload: &[u8]) -> String {
        let channel = ChannelName::parse("a").unwrap();
        let mut out = Vec::new();
        let message = Labelled { channel: &channel, position: position(0xab, 42), key: None, kind, payload };
        append_event(&message, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// What a payload reads like after its way through `data` lines.
    fn with_plain_breaks(text: &str) -> String {
        text.replace("\r\n", "\n").replace('\r', "\n")
    }

    #[test]
    fn an_event_is_one_chunk_with_the_position_as_id() {
        let chunk = |event: &str| format!("{:x}\r\n{event}\r\n", event.len());
        for (payload, lines) in [
            ("hello", "data: hello\n"),
            ("", "data:\n"),
            (" a", "data:  a\n"),
            ("a\r\nb\rc\nd", "data: a\ndata: b\ndata: c\ndata: d\n"),
            ("a\n", "data: a\ndata: \n"),
            ("\n\rid: 9\n\nevent: gw.close", "data: \ndata: \ndata: id: 9\ndata: \ndata: event: gw.close\n"),
            ("a\0b", "data: a\0b\n"),
        ] {
            let expected = chunk(&format!("id: 00000000000000ab-42\n{lines}\n"));
            assert_eq!(event(PayloadKind::Text, payload.as_bytes()), expected, "{payload:?}");
        }
        let binary = chunk("id: 00000000000000ab-42\nevent: binary\ndata: AP8=\n\n");
        assert_eq!(event(PayloadKind::Binary, &[0, 0xff]), binary);
    }

    #[test]
    fn notices_ids_and_ends_are_events_of_their_own() {
        let mut out = Vec::new();
        append_retry(2500, &mut out);
        append_comment(&mut out);
        append_id(&[Some(position(1, 2)), None, Some(position(3, u64::MAX))], &mut out);
        append_notice_event("skipped", br#"{"type":"skipped"}"#, &mut out);
        let mut stream = read(&out);
        let id = "0000000000000001-2,,0000000000000003-18446744073709551615";
        assert_eq!((stream.retry_ms, stream.comments, &stream.last_id[..]), (Some(2500), 1, id));
        assert_eq!(stream.events, [("gw.skipped".into(), r#"{"type":"skipped"}"#.into(), id.into())]);
        assert!(!stream.is_ended);

        append_id(&[None], &mut out);
        append_close_event("draining;in=1834", 1834, &mut out);
        append_last_chunk(&mut out);
        stream = read(&out);
        assert_eq!((stream.retry_ms, &stream.last_id[..], stream.is_ended), (Some(1834), "", true));
        assert_eq!(stream.events[1], ("gw.close".into(), "draining;in=1834".into(), String::new()));
        assert!(String::from_utf8(out).unwrap().ends_with("\r\n0\r\n\r\n"));
    }

    #[test]
    fn e15_chunks_of_every_length_around_a_longer_header_are_whole() {
        let channel = ChannelName::parse("a").unwrap();
        // In Miri, which interprets what is done for each byte, not the long ones.
        let longest = if cfg!(miri) { 256 } else { 65_536 };
        let (mut out, mut payloads) = (Vec::new(), Vec::new());
        for limit in [16_usize, 126, 256, 4096, 65_536].into_iter().filter(|limit| *limit <= longest) {
            for length in limit.saturating_sub(110)..limit + 2 {
                payloads.push("x".repeat(length));
                payloads.push("\n".repeat(length));
            }
        }
        for payload in &payloads {
            let message = Labelled {
                channel: &channel,
                position: position(1, 1),
                key: None,
                kind: PayloadKind::Text,
                payload: payload.as_bytes(),
            };
            append_event(&message, &mut out);
        }
        let (lengths, ..) = dechunk(&out);
        for edge in [0xff, 0x100, 0xfff, 0x1000, 0xffff, 0x1_0000].into_iter().filter(|edge| *edge <= longest)
        {
            assert!(lengths.contains(&edge), "{edge:#x}");
        }
        let events = read(&out).events;
        assert_eq!(events.len(), payloads.len());
        assert!(events.iter().zip(&payloads).all(|((_, data, _), payload)| data == payload));
    }

    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            "(\r|\n|\r\n|[ :a\0]|data: |id: |event: |retry: 1|\u{feff}){0,12}",
            "(\\{\"a\":|[\\[\\]{}1,\"\r\n ]){0,12}",
            "([ \r\n\t]|\r\n){0,3}\\{([ \r\n])\"a\"([\r\n]):1([ \r\n])\\}([ \r\n\t]|\r\n){0,3}",
            any::<String>(),
        ]
    }

    proptest! {
        #[test]
        fn e13_what_was_published_comes_back_and_forges_nothing(
            messages in proptest::collection::vec(
                (texts(), proptest::collection::vec(any::<u8>(), 0..80), any::<(bool, u64, u64)>()), 1..6),
        ) {
            let channel = ChannelName::parse("a").unwrap();
            let (mut out, mut expected) = (Vec::new(), Vec::new());
            for (text, bytes, (is_binary, epoch, offset)) in &messages {
                let position = position(*epoch, *offset);
                let (kind, payload) = match is_binary {
                    true => (PayloadKind::Binary, &bytes[..]),
                    false => (PayloadKind::Text, text.as_bytes()),
                };
                append_event(&Labelled { channel: &channel, position, key: None, kind, payload }, &mut out);
                expected.push(match is_binary {
                    true => ("binary".to_owned(), BASE64.encode(bytes), position.to_string()),
                    false => ("message".to_owned(), with_plain_breaks(text), position.to_string()),
                });
            }
            let stream = read(&out);
            prop_assert_eq!(&stream.events, &expected);
            for ((name, data, _), (_, bytes, _)) in stream.events.iter().zip(&messages) {
                prop_assert!(name == "message" || BASE64.decode(data.as_bytes()).as_ref() == Ok(bytes));
            }
            prop_assert_eq!((stream.retry_ms, stream.comments), (None, 0));
        }

        #[test]
        fn e13_envelopes_come_back_and_forge_nothing(
            text in texts(),
            key in proptest::option::of("[^\\p{Cc}]{1,30}"),
            is_binary in any::<bool>(),
        ) {
            let channel = ChannelName::parse("prices.eu").unwrap();
            let key = key.map(|key| MessageKey::parse(&key).unwrap());
            let kind = if is_binary { PayloadKind::Binary } else { PayloadKind::Text };
            let position = position(0xab, 42);
            let message =
                Labelled { channel: &channel, position, key: key.as_ref(), kind, payload: text.as_bytes() };
            let mut out = Vec::new();
            append_enveloped_event(&message, &mut out);
            let mut plain = Vec::new();
            append_envelope(&message, &mut plain, |json, out| out.extend_from_slice(json));

            let stream = read(&out);
            prop_assert_eq!(stream.events.len(), 1);
            let (name, data, id) = &stream.events[0];
            prop_assert_eq!((&name[..], &id[..]), ("message", ""));
            // Line breaks of a value of JSON are white space between its tokens.
            prop_assert_eq!(data, &with_plain_breaks(std::str::from_utf8(&plain).unwrap()));
            let tree: serde_json::Value = serde_json::from_str(data).unwrap();
            prop_assert_eq!(tree["key"].as_str(), key.as_ref().map(MessageKey::as_str));
        }

        #[test]
        fn e13_ids_notices_and_ends_come_back(
            positions in proptest::collection::vec(proptest::option::of(any::<(u64, u64)>()), 1..20),
            json in texts(),
            token in "[a-z_]{1,12}(;in=[0-9]{1,4})?",
            retry_ms in any::<u64>(),
        ) {
            let positions: Vec<Option<Position>> =
                positions.into_iter().map(|place| place.map(|(epoch, offset)| position(epoch, offset))).collect();
            let mut out = Vec::new();
            append_id(&positions, &mut out);
            append_notice_event("skipped", json.as_bytes(), &mut out);
            append_close_event(&token, retry_ms, &mut out);
            append_last_chunk(&mut out);
            let stream = read(&out);
            let read_back: Vec<Option<Position>> =
                stream.last_id.split(',').map(|item| item.parse().ok()).collect();
            prop_assert_eq!(read_back, positions);
            let id = stream.last_id;
            prop_assert_eq!(stream.events, [
                ("gw.skipped".to_owned(), with_plain_breaks(&json), id.clone()),
                ("gw.close".to_owned(), token, id),
            ]);
            prop_assert_eq!((stream.retry_ms, stream.is_ended), (Some(retry_ms), true));
        }
    }
}
