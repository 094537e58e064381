//! The parts of MQTT 3.1.1 (OASIS standard) that a subscriber and a publisher of QoS 0 need.

use super::Item;
use crate::wire::frame;
use crate::wire::handshake::excerpt;

/// Packet identifier of the only subscription.
const PACKET_ID: [u8; 2] = [0, 1];

/// Checks that a topic can be subscribed to and published to (§4.7), and its length written (§1.5.3).
pub fn check_topic_name(topic: &str) -> Result<(), String> {
    if topic.is_empty() || topic.len() > usize::from(u16::MAX) || topic.contains(['+', '#', '\0']) {
        let cure = "give --channel 1 to 65,535 bytes without '+', '#' and NUL";
        return Err(format!("'{}' is no MQTT topic: {cure}", excerpt(topic.as_bytes())));
    }
    Ok(())
}

/// CONNECT (§3.1): clean session, no keep-alive.
pub fn connect(number: u64) -> Vec<u8> {
    let mut body = Vec::from(b"\0\x04MQTT\x04\x02\0\0".as_slice());
    push_text(&mut body, &format!("loadtest-{}-{number:x}", std::process::id()));
    packet(0x10, &body)
}

/// CONNECT and SUBSCRIBE (§3.8): a client may go on without waiting for the CONNACK (§3.1.4).
pub fn subscribe(topic: &str, number: u64) -> Vec<u8> {
    let mut body = PACKET_ID.to_vec();
    push_text(&mut body, topic);
    body.push(0);
    [connect(number), packet(0x82, &body)].concat()
}

/// What stands in front of a message in PUBLISH (§3.3); both ways look alike.
pub fn around(topic: &str, bytes: usize) -> (Vec<u8>, &'static [u8]) {
    let mut head = vec![0x30];
    push_length(&mut head, 2 + topic.len() + bytes);
    push_text(&mut head, topic);
    (head, b"")
}

/// Takes one control packet. A message must be on `topic`, and as a subscriber of QoS 0 gets it.
pub fn take(bytes: &[u8], topic: &str) -> Result<Option<(usize, Item)>, String> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let Some((length, length_bytes)) = take_length(&bytes[1..])? else { return Ok(None) };
    if length > frame::MESSAGE_BYTES_MAX {
        return Err(format!("an MQTT packet of {length} bytes, more than this tool takes"));
    }
    let (start, end) = (1 + length_bytes, 1 + length_bytes + length);
    let Some(body) = bytes.get(start..end) else { return Ok(None) };
    let item = match (first, body) {
        (0x20, [_, 0]) => Item::Other,
        (0x20, [_, code]) => {
            Item::Refused(format!("the MQTT broker refuses the connection: code {code} (§3.2.2.3)"))
        }
        // All but RETAIN, with which a subscription may begin.
        (0x30 | 0x31, _) => Item::Message(start + check_topic(body, topic)?..end),
        (0x32..=0x3F, _) => {
            return Err(format!(
                "an MQTT PUBLISH with the flags {:04b}: a subscriber of QoS 0 gets no DUP and no other QoS (§3.3.1)",
                first & 0xF
            ));
        }
        (0x90, [0, 1, 0..=2]) => Item::Joined,
        (0x90, [0, 1, ..]) => Item::Refused("the MQTT broker refuses the subscription (§3.9.3)".into()),
        (0x90, _) => return Err("an MQTT SUBACK to something else than our SUBSCRIBE (§3.8.4)".into()),
        (0xD0, []) => Item::Other,
        _ => {
            return Err(format!(
                "an unexpected MQTT packet of type {}, flags {:04b}",
                first >> 4,
                first & 0xF
            ));
        }
    };
    Ok(Some((end, item)))
}

/// Checks the topic in front of a message, and returns the bytes that it takes.
fn check_topic(body: &[u8], topic: &str) -> Result<usize, String> {
    let named = body
        .split_first_chunk()
        .and_then(|(length, rest)| rest.get(..usize::from(u16::from_be_bytes(*length))));
    let named = named.ok_or("an MQTT PUBLISH whose topic is longer than itself")?;
    if named != topic.as_bytes() {
        let (named, topic) = (excerpt(named), excerpt(topic.as_bytes()));
        return Err(format!("an MQTT message on the topic '{named}': subscribed was '{topic}'"));
    }
    Ok(2 + named.len())
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    push_length(&mut out, body.len());
    out.extend_from_slice(body);
    out
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Remaining length (§2.2.3): seven bits a byte, the lowest first.
fn push_length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let more = length >= 128;
        out.push((length & 0x7F) as u8 | u8::from(more) << 7);
        length >>= 7;
        if !more {
            return;
        }
    }
}

fn take_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut length = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((length, index + 1)));
        }
    }
    if bytes.len() >= 4 { Err("an MQTT length of more than four bytes (§2.2.3)".into()) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::noise::Noise;

    #[test]
    fn what_we_publish_is_what_we_take_at_every_length() {
        for bytes in [0, 1, 100, 121, 122, 16_000, 2_100_000] {
            let (head, _) = around("news.a", bytes);
            let whole = [head.clone(), vec![7; bytes]].concat();
            let expected = (whole.len(), Item::Message(head.len()..whole.len()));
            assert_eq!(take(&whole, "news.a"), Ok(Some(expected)));
            assert_eq!(take(&whole[..whole.len() - 1], "news.a"), Ok(None));
        }
    }

    #[test]
    fn answers_are_understood() {
        assert_eq!(take(&[0x20, 2, 0, 0], "news.a"), Ok(Some((4, Item::Other))));
        assert!(matches!(take(&[0x20, 2, 0, 5], "news.a"), Ok(Some((4, Item::Refused(_))))));
        assert_eq!(take(&[0x90, 3, 0, 1, 0], "news.a"), Ok(Some((5, Item::Joined))));
        assert!(matches!(take(&[0x90, 3, 0, 1, 0x80], "news.a"), Ok(Some((5, Item::Refused(_))))));
        assert!(take(&[0x30, 3, 0, 9, b'a'], "news.a").is_err());
        assert!(take(&[0xF0, 0xFF, 0xFF, 0xFF, 0xFF], "news.a").is_err());
    }

    #[test]
    fn a_message_is_on_our_topic_and_of_quality_0() {
        let publish = |first: u8, topic: &[u8]| {
            let body = [&(topic.len() as u16).to_be_bytes(), topic, b"hi"].concat();
            take(&packet(first, &body), "news.a")
        };
        for first in [0x30, 0x31] {
            assert_eq!(publish(first, b"news.a"), Ok(Some((12, Item::Message(10..12)))));
        }
        for flags in [2, 4, 6, 8, 10] {
            let error = publish(0x30 | flags, b"news.a").unwrap_err();
            assert!(error.contains(&format!("flags {flags:04b}")), "{error}");
        }
        for topic in ["news.b", "news.ab", "news.", ""] {
            let error = publish(0x30, topic.as_bytes()).unwrap_err();
            assert!(error.contains(&format!("'{topic}'")) && error.contains("'news.a'"), "{error}");
        }
    }

    #[test]
    fn what_no_broker_says_to_us_is_refused() {
        for wrong in [
            [0x21, 2, 0, 0].as_slice(),
            &[0x92, 3, 0, 1, 0],
            &[0x90, 3, 0, 2, 0],
            &[0xD0, 1, 0],
            &[0x30, 0],
            &[0x30, 0xFF, 0xFF, 0xFF, 0x7F],
        ] {
            assert!(take(wrong, "news.a").is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn noise_is_an_error_or_waits_for_little() {
        let message = [around("a.b", 5).0, b"hello".to_vec()].concat();
        let pieces: [&[u8]; 6] = [
            &[0x20, 2, 0, 0],
            &[0x90, 3, 0, 1, 0],
            &[0xD0, 0],
            &message,
            &[0x30, 0xFF, 0xFF, 0xFF, 0x7F],
            &[0x30, 2, 0xFF, 0xFF],
        ];
        let mut noise = Noise::new(0x5EED);
        for _ in 0..20_000 {
            let stream = noise.stream(&pieces);
            let mut rest = stream.as_slice();
            while let Ok(Some((taken, item))) = take(rest, "a.b") {
                assert!(taken > 0 && taken <= rest.len());
                if let Item::Message(range) = item {
                    assert!(range.start <= range.end && range.end <= taken);
                }
                rest = &rest[taken..];
            }
            if let Err(error) = take(rest, "a.b") {
                assert!(error.len() < 1500 && !error.contains(['\r', '\n']), "{error}");
            }
            for end in 0..rest.len() {
                let _ = take(&rest[..end], "a.b");
            }
        }
        assert!(
            take(&[0x30, 0x81, 0x80, 0x80, 0x20], "a.b").is_err(),
            "64 MiB and a byte are refused by the head"
        );
    }
}
