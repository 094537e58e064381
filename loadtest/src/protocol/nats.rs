//! The NATS client protocol: lines that end with `\r\n`, and payloads of announced length.
//! Source: "NATS Client Protocol" in the reference documentation of NATS.

use super::Item;
use crate::wire::frame;

/// Options that ask for nothing: no acknowledgements, no echo, no headers.
const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,\"headers\":false,\"lang\":\"loadtest\",\"version\":\"1\",\"protocol\":0}\r\n";
/// The longest line that a server sends: its `INFO` has a few hundred bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Connect, subscribe, and ask for a `PONG`: when it comes, the subscription stands.
pub fn subscribe(subject: &str) -> Vec<u8> {
    [CONNECT, format!("SUB {subject} 1\r\nPING\r\n").as_bytes()].concat()
}

/// Connect, and ask for a `PONG`.
pub fn introduce() -> Vec<u8> {
    [CONNECT, b"PING\r\n"].concat()
}

/// What stands around a published message.
pub fn publish_around(subject: &str, bytes: usize) -> (Vec<u8>, &'static [u8]) {
    (format!("PUB {subject} {bytes}\r\n").into_bytes(), b"\r\n")
}

/// What stands around a message that a subscriber receives.
pub fn around(subject: &str, bytes: usize) -> (Vec<u8>, &'static [u8]) {
    (format!("MSG {subject} 1 {bytes}\r\n").into_bytes(), b"\r\n")
}

/// Takes one line, with its payload if it announces one.
pub fn take(bytes: &[u8]) -> Result<Option<(usize, Item)>, String> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() > LINE_BYTES_MAX {
            Err("a NATS line without an end".into())
        } else {
            Ok(None)
        };
    };
    let line = String::from_utf8_lossy(&bytes[..end]);
    let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
    let item = match verb.to_ascii_uppercase().as_str() {
        "MSG" => {
            let size = rest.rsplit(' ').next().and_then(|size| size.parse::<usize>().ok());
            let size =
                size.ok_or_else(|| format!("a NATS message without a size: '{}'", line.escape_debug()))?;
            if size > frame::MESSAGE_BYTES_MAX {
                return Err(format!("a NATS message of {size} bytes, more than this tool takes"));
            }
            let total = end + 2 + size + 2;
            return Ok((bytes.len() >= total).then(|| (total, Item::Message(end + 2..end + 2 + size))));
        }
        "PING" => Item::Reply(b"PONG\r\n"),
        "PONG" => Item::Joined,
        "INFO" | "+OK" => Item::Other,
        "-ERR" => Item::Refused(format!("the NATS server says {}", rest.escape_debug())),
        _ => return Err(format!("no NATS server: it says '{}'", line.escape_debug())),
    };
    Ok(Some((end + 2, item)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_comes_apart_at_every_split() {
        let stream = b"INFO {}\r\nPONG\r\nMSG a.b 1 3\r\nx\r\n\r\nPING\r\n-ERR 'no'\r\n";
        for split in 0..stream.len() {
            let (mut pending, mut items) = (Vec::new(), Vec::new());
            for piece in [&stream[..split], &stream[split..]] {
                pending.extend_from_slice(piece);
                while let Some((taken, item)) = take(&pending).unwrap() {
                    items.push(match item {
                        Item::Message(range) => format!("{:?}", &pending[range]),
                        other => format!("{other:?}"),
                    });
                    pending.drain(..taken);
                }
            }
            assert_eq!(items.len(), 5, "split at {split}: {items:?}");
            assert_eq!((items[1].as_str(), items[2].as_str()), ("Joined", "[120, 13, 10]"));
        }
    }

    #[test]
    fn what_is_no_nats_is_refused() {
        assert!(take(b"HELLO\r\n").is_err() && take(b"MSG a 1 x\r\n").is_err());
        assert!(take(b"MSG a 1 18446744073709551615\r\n").is_err());
    }
}
