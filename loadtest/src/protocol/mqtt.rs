//! The parts of MQTT 3.1.1 (OASIS standard) that a subscriber and a publisher of QoS 0 need.

use super::Item;

/// Packet identifier of the only subscription.
const PACKET_ID: [u8; 2] = [0, 1];

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

/// Takes one control packet.
pub fn take(bytes: &[u8]) -> Result<Option<(usize, Item)>, String> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let Some((length, length_bytes)) = take_length(&bytes[1..])? else { return Ok(None) };
    let (start, end) = (1 + length_bytes, 1 + length_bytes + length);
    let Some(body) = bytes.get(start..end) else { return Ok(None) };
    let item = match (first >> 4, body) {
        (2, [_, 0]) => Item::Other,
        (2, [_, code]) => {
            Item::Refused(format!("the MQTT broker refuses the connection: code {code} (§3.2.2.3)"))
        }
        (3, [high, low, ..]) => {
            let topic = usize::from(u16::from_be_bytes([*high, *low]));
            let quality = first >> 1 & 3;
            let at = start + 2 + topic + if quality > 0 { 2 } else { 0 };
            if at > end {
                return Err("an MQTT PUBLISH whose topic is longer than itself".into());
            }
            Item::Message(at..end)
        }
        (9, [_, _, 0..=2]) => Item::Joined,
        (9, _) => Item::Refused("the MQTT broker refuses the subscription (§3.9.3)".into()),
        (13, []) => Item::Other,
        _ => return Err(format!("an unexpected MQTT packet of type {}", first >> 4)),
    };
    Ok(Some((end, item)))
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

    #[test]
    fn what_we_publish_is_what_we_take_at_every_length() {
        for bytes in [0, 1, 100, 121, 122, 16_000, 2_100_000] {
            let (head, _) = around("news.a", bytes);
            let whole = [head.clone(), vec![7; bytes]].concat();
            let expected = (whole.len(), Item::Message(head.len()..whole.len()));
            assert_eq!(take(&whole), Ok(Some(expected)));
            assert_eq!(take(&whole[..whole.len() - 1]), Ok(None));
        }
    }

    #[test]
    fn answers_are_understood() {
        assert_eq!(take(&[0x20, 2, 0, 0]), Ok(Some((4, Item::Other))));
        assert!(matches!(take(&[0x20, 2, 0, 5]), Ok(Some((4, Item::Refused(_))))));
        assert_eq!(take(&[0x90, 3, 0, 1, 0]), Ok(Some((5, Item::Joined))));
        assert!(matches!(take(&[0x90, 3, 0, 1, 0x80]), Ok(Some((5, Item::Refused(_))))));
        assert!(take(&[0x30, 3, 0, 9, b'a']).is_err());
        assert!(take(&[0xF0, 0xFF, 0xFF, 0xFF, 0xFF]).is_err());
    }
}
