//! The NATS client protocol: lines that end with `\r\n`, and payloads of announced length.
//! Source: "NATS Client Protocol" in the reference documentation of NATS.

use super::Item;
use crate::wire::frame;
use crate::wire::handshake::excerpt;

/// Options that ask for nothing: no acknowledgements, no echo, no headers.
const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,\"headers\":false,\"lang\":\"loadtest\",\"version\":\"1\",\"protocol\":0}\r\n";
/// The longest line that a server sends: its `INFO` has a few hundred bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Number of the only subscription.
const SUBSCRIPTION: &str = "1";

/// Checks that a subject can be subscribed to and published to.
pub fn check_subject(subject: &str) -> Result<(), String> {
    let is_wrong =
        |character: char| character.is_whitespace() || character.is_control() || "*>".contains(character);
    if subject.split('.').any(str::is_empty) || subject.contains(is_wrong) {
        let cure = "give --channel names between dots, without white space, '*' and '>'";
        return Err(format!("'{}' is no NATS subject: {cure}", excerpt(subject.as_bytes())));
    }
    Ok(())
}

/// Connect, subscribe, and ask for a `PONG`: when it comes, the subscription stands.
pub fn subscribe(subject: &str) -> Vec<u8> {
    [CONNECT, format!("SUB {subject} {SUBSCRIPTION}\r\nPING\r\n").as_bytes()].concat()
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
    (format!("MSG {subject} {SUBSCRIPTION} {bytes}\r\n").into_bytes(), b"\r\n")
}

/// Takes one line, with its payload if it announces one. A message must be on `subject`, and of our subscription.
pub fn take(bytes: &[u8], subject: &str) -> Result<Option<(usize, Item)>, String> {
    let searched = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = searched.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() > LINE_BYTES_MAX {
            Err("a NATS line without an end".into())
        } else {
            Ok(None)
        };
    };
    let line = &bytes[..end];
    let (verb, rest) = line.split_at(line.iter().position(u8::is_ascii_whitespace).unwrap_or(end));
    let item = match verb.to_ascii_uppercase().as_slice() {
        b"MSG" => {
            let (start, size) = (end + 2, message_size(line, subject)?);
            let Some(trailer) = bytes.get(start + size..start + size + 2) else { return Ok(None) };
            if trailer != b"\r\n" {
                let trailer = excerpt(trailer);
                return Err(format!(
                    "a NATS message of {size} bytes is followed by '{trailer}', not by a line end"
                ));
            }
            return Ok(Some((start + size + 2, Item::Message(start..start + size))));
        }
        b"PING" => Item::Reply(b"PONG\r\n"),
        b"PONG" => Item::Joined,
        b"INFO" | b"+OK" => Item::Other,
        b"-ERR" => Item::Refused(format!("the NATS server says {}", excerpt(rest.trim_ascii()))),
        _ => return Err(format!("no NATS server: it says '{}'", excerpt(line))),
    };
    Ok(Some((end + 2, item)))
}

/// Checks `MSG SUBJECT SUBSCRIPTION [REPLY-TO] SIZE`, and returns the size.
fn message_size(line: &[u8], subject: &str) -> Result<usize, String> {
    let words: Vec<&[u8]> = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    let ([_, came_on, subscription, size] | [_, came_on, subscription, _, size]) = words[..] else {
        return Err(format!("a NATS message without subject, subscription and size: '{}'", excerpt(line)));
    };
    if came_on != subject.as_bytes() {
        let (came_on, subject) = (excerpt(came_on), excerpt(subject.as_bytes()));
        return Err(format!("a NATS message on the subject '{came_on}': subscribed was '{subject}'"));
    }
    if subscription != SUBSCRIPTION.as_bytes() {
        let subscription = excerpt(subscription);
        return Err(format!("a NATS message of subscription '{subscription}': ours is '{SUBSCRIPTION}'"));
    }
    let size = std::str::from_utf8(size).ok().and_then(|size| size.parse::<usize>().ok());
    let size = size.ok_or_else(|| format!("a NATS message without a size: '{}'", excerpt(line)))?;
    if size > frame::MESSAGE_BYTES_MAX {
        return Err(format!("a NATS message of {size} bytes, more than this tool takes"));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::noise::Noise;

    #[test]
    fn a_stream_comes_apart_at_every_split() {
        let stream = b"INFO {}\r\nPONG\r\nMSG a.b 1 3\r\nx\r\n\r\nPING\r\n-ERR 'no'\r\n";
        for split in 0..stream.len() {
            let (mut pending, mut items) = (Vec::new(), Vec::new());
            for piece in [&stream[..split], &stream[split..]] {
                pending.extend_from_slice(piece);
                while let Some((taken, item)) = take(&pending, "a.b").unwrap() {
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
        let long = [b"INFO ".as_slice(), &[b'x'; LINE_BYTES_MAX], b"\r\n"].concat();
        for wrong in [
            b"HELLO\r\n".as_slice(),
            b"MSG a 1 x\r\n",
            b"MSG a 1 18446744073709551615\r\n",
            b"MSG a 1\r\n",
            b"MSG a 1 reply more 3\r\n",
            &long,
        ] {
            assert!(take(wrong, "a").is_err(), "{}", excerpt(wrong));
        }
        let endless = [&[b'y'; 1000], b"\r\n".as_slice()].concat();
        let told = take(&endless, "a").unwrap_err();
        assert!(told.len() < 200, "an error is one line for a terminal: {told}");
    }

    #[test]
    fn a_message_is_of_our_subscription_and_ends_where_it_says() {
        let message = |bytes: &[u8]| take(bytes, "a.b");
        assert_eq!(message(b"MSG a.b 1 2\r\nhi\r\n"), Ok(Some((17, Item::Message(13..15)))));
        assert_eq!(message(b"msg  a.b\t1 reply.to 2\r\nhi\r\n"), Ok(Some((27, Item::Message(23..25)))));
        assert_eq!(message(b"MSG a.b 1 2\r\nhi\r"), Ok(None));
        for (wrong, named) in [
            (b"MSG a.c 1 2\r\nhi\r\n".as_slice(), ["'a.c'", "'a.b'"]),
            (b"MSG a.b 12 2\r\nhi\r\n", ["'12'", "'1'"]),
            (b"MSG a.b 1 2\r\nhiMSG a", ["2 bytes", "'MS'"]),
        ] {
            let error = message(wrong).unwrap_err();
            assert!(named.iter().all(|name| error.contains(name)), "{error}");
        }
    }

    #[test]
    fn noise_is_an_error_or_waits_for_little() {
        let pieces: [&[u8]; 8] = [
            b"INFO {\"server_id\":\"x\"}\r\n",
            b"PING\r\n",
            b"PONG\r\n",
            b"+OK\r\n",
            b"-ERR 'no'\r\n",
            b"MSG a.b 1 5\r\nhello\r\n",
            b"MSG a.b 1 reply 0\r\n\r\n",
            b"MSG a.b 1 67108865\r\n",
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
        let endless = vec![b'x'; LINE_BYTES_MAX + 1];
        assert!(take(&endless, "a.b").is_err(), "a line has an end");
        assert!(take(b"MSG a.b 1 67108865\r\n", "a.b").is_err(), "and so has a message");
    }
}
