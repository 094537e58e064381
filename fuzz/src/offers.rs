//! Lists in the header lines of an opening handshake: offers of extensions, and what Connection and Upgrade name.
//!
//! Input: a byte that chooses the header, then its lines. The verdict must be that of a reader which goes word by word.

use tidegate::config::limits::{EXTENSIONS_BYTES_MAX, EXTENSIONS_MAX};
use tidegate::config::{ChannelRule, Config};
use tidegate::edge::{Compression, Decision, Edge, HeadScanner, Scan};
use tidegate::model::{Pattern, RejectReason};

use super::input::Input;

/// Lines of one header in a head.
const LINES_MAX: usize = 12;
/// Lines of extensions that are looked at, and offers in them, empty ones too.
const OFFER_LINES_MAX: usize = 4;
const OFFERS_MAX: usize = 8;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let header = input.one_of(&["Sec-WebSocket-Extensions", "Connection", "Upgrade"]);
    let text = input.rest();
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b' '..=b'~' | 0x80..);
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect();
    if text.len() > 4096 || lines.len() > LINES_MAX || !text.iter().all(is_text) {
        return;
    }
    let names = |token: &str| {
        lines.iter().any(|line| {
            split(line, b',').iter().any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
        })
    };
    let expected = match header {
        "Connection" => names("upgrade").then_some(None).ok_or(RejectReason::NotWebSocket),
        "Upgrade" => names("websocket").then_some(None).ok_or(RejectReason::NotWebSocket),
        _ => agreement(&lines),
    };
    match (decide(header, &lines), expected) {
        (Decision::Respond { reject, .. }, Err(reason)) => assert_eq!(reject, Some(reason)),
        (Decision::Join { response, compression, .. }, Ok(agreement)) => {
            let response = String::from_utf8(response).expect("text");
            let mut answers =
                response.lines().filter_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
            assert_eq!(answers.next(), agreement.as_ref().map(|(answer, _)| answer.as_str()));
            assert_eq!(answers.next(), None);
            assert_eq!(compression, agreement.map_or(Compression::Declined, |(_, compression)| compression));
        }
        (decision, expected) => panic!("{decision:?}, not {expected:?}"),
    }
}

fn decide(header: &str, lines: &[&[u8]]) -> Decision {
    let mut head = b"GET /ws/news.eu HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        .to_vec();
    for (name, value) in [("Connection", "Upgrade"), ("Upgrade", "websocket")] {
        if name != header {
            head.extend(format!("{name}: {value}\r\n").bytes());
        }
    }
    for line in lines {
        head.extend([header.as_bytes(), b": ", line, b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    assert_eq!(HeadScanner::new().scan(&head), Ok(Scan::Complete(head.len())));
    let mut config = Config::default();
    let mut rule = ChannelRule::new(Pattern::parse("news.*").expect("a literal"));
    rule.compression = Some(true);
    config.channels.rules.push(rule);
    Edge::new(&config).decide(&head, false, false)
}

/// The answer and its meaning, if an offer is accepted.
fn agreement(lines: &[&[u8]]) -> Result<Option<(String, Compression)>, RejectReason> {
    let (mut offers, mut bytes) = (0, 0);
    for line in lines {
        offers += split(line, b',').iter().filter(|offer| !offer.is_empty()).count();
        bytes += line.len();
        if offers > EXTENSIONS_MAX || bytes > EXTENSIONS_BYTES_MAX {
            return Err(RejectReason::TooManyExtensions);
        }
    }
    let lines = lines.iter().filter(|line| !line.is_empty()).take(OFFER_LINES_MAX);
    let offers: Vec<Vec<u8>> = lines.flat_map(|line| split(line, b',')).take(OFFERS_MAX).collect();
    Ok(offers.iter().find_map(|offer| accepted(offer)))
}

fn accepted(offer: &[u8]) -> Option<(String, Compression)> {
    let words = split(offer, b';');
    let (name, parameters) = words.split_first()?;
    if name != b"permessage-deflate" {
        return None;
    }
    let mut seen: Vec<(String, Option<u8>)> = Vec::new();
    for parameter in parameters {
        let text = std::str::from_utf8(parameter).ok()?;
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name.trim_ascii(), Some(value.trim_ascii())),
            None => (text, None),
        };
        let bits = match value {
            Some(value) => {
                Some((8..=15).find(|bits| value == bits.to_string() || value == format!("\"{bits}\""))?)
            }
            None => None,
        };
        let is_known = match name {
            "server_no_context_takeover" | "client_no_context_takeover" => bits.is_none(),
            "server_max_window_bits" => bits.is_some(),
            "client_max_window_bits" => true,
            _ => false,
        };
        if !is_known || seen.iter().any(|(known, _)| known == name) {
            return None;
        }
        seen.push((name.to_owned(), bits));
    }
    let find = |name: &str| seen.iter().find(|(known, _)| known == name);
    let mut answer = "permessage-deflate; client_no_context_takeover".to_owned();
    let mut compression = Compression::Shared;
    if find("server_no_context_takeover").is_some() {
        answer.push_str("; server_no_context_takeover");
        compression = Compression::Unshared;
    }
    if let Some((_, Some(bits))) = find("server_max_window_bits") {
        answer.push_str(&format!("; server_max_window_bits={bits}"));
        if *bits < 15 {
            compression = Compression::Unshared;
        }
    }
    Some((answer, compression))
}

/// The parts of `list` without the blanks around them; a separator in a quoted string separates nothing.
fn split(list: &[u8], separator: u8) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = list.iter().copied();
    let mut is_quoted = false;
    while let Some(byte) = bytes.next() {
        let last = parts.len() - 1;
        match byte {
            byte if byte == separator && !is_quoted => parts.push(Vec::new()),
            b'\\' if is_quoted => {
                parts[last].push(byte);
                parts[last].extend(bytes.next());
            }
            byte => {
                is_quoted ^= byte == b'"';
                parts[last].push(byte);
            }
        }
    }
    parts.iter().map(|part| part.trim_ascii().to_vec()).collect()
}
