//! Requests that two readers may take for different numbers of requests: each hides a second one somewhere.

use crate::support::http::SAMPLE_KEY;
use crate::support::{Opcode, masked_frame};

/// One ambiguous connection.
pub struct Probe {
    /// For messages.
    pub what: &'static str,
    /// All that the client sends, at once.
    pub bytes: Vec<u8>,
    /// Answers that may come: more and the hidden request was answered.
    pub answers_max: usize,
}

/// The lines that ask for an upgrade.
fn upgrade_lines() -> String {
    format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {SAMPLE_KEY}\r\n"
    )
}

/// To the clients' port, named `host`.
pub fn ambiguous_requests(host: &str) -> Vec<Probe> {
    let hidden = format!("GET /favicon.svg HTTP/1.1\r\nHost: {host}\r\nX: y\r\n\r\n");
    let length = hidden.len();
    let upgrade = upgrade_lines();
    let chunk = format!("{length:x}\r\n{hidden}\r\n0\r\n\r\n");
    let of = |what, lines: &str, body: &str| Probe {
        what,
        bytes: format!("GET /ws/lobby HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n{body}").into_bytes(),
        answers_max: 1,
    };
    let plain = |what, lines: &str, body: &str| of(what, lines, body);
    let upgrading = |what, lines: &str, body: &str| of(what, &format!("{upgrade}{lines}"), body);
    let mut probes = vec![
        plain("a body of a GET", &format!("Content-Length: {length}\r\n"), &hidden),
        plain("a chunked body of a GET", "Transfer-Encoding: chunked\r\n", &chunk),
        plain(
            "a length and chunks",
            &format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", chunk.len()),
            &chunk,
        ),
        plain(
            "chunks and a length",
            &format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", chunk.len()),
            &chunk,
        ),
        plain(
            "a coding that is nearly chunked",
            &format!("Transfer-Encoding: xchunked\r\nContent-Length: {length}\r\n"),
            &hidden,
        ),
        plain("two codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", &chunk),
        plain("a list of codings", "Transfer-Encoding: identity, chunked\r\n", &chunk),
        plain(
            "a space before the colon",
            &format!("Transfer-Encoding : chunked\r\nContent-Length: {length}\r\n"),
            &hidden,
        ),
        plain("a tab before the coding", "Transfer-Encoding:\tchunked\r\n", &chunk),
        plain(
            "a vertical tab before the coding",
            &format!("Transfer-Encoding:\x0bchunked\r\nContent-Length: {length}\r\n"),
            &hidden,
        ),
        plain(
            "two lengths that differ",
            &format!("Content-Length: {length}\r\nContent-Length: 0\r\n"),
            &hidden,
        ),
        plain("a list of lengths", &format!("Content-Length: {length}, {length}\r\n"), &hidden),
        plain("a signed length", &format!("Content-Length: +{length}\r\n"), &hidden),
        plain("a hexadecimal length", &format!("Content-Length: 0x{length:x}\r\n"), &hidden),
        plain("a folded header", &format!("X: y\r\n Content-Length: {length}\r\n"), ""),
        plain("a bare carriage return", &format!("X: y\rContent-Length: {length}\r\n"), ""),
        plain(
            "a chunk with an extension",
            "Transfer-Encoding: chunked\r\n",
            &format!("{length:x};a=b\r\n{hidden}\r\n0\r\n\r\n"),
        ),
        plain(
            "a chunk with a huge size",
            "Transfer-Encoding: chunked\r\n",
            &format!("fffffffffffffffff\r\n{hidden}"),
        ),
        plain(
            "trailers",
            "Transfer-Encoding: chunked\r\n",
            &format!("1\r\na\r\n0\r\nContent-Length: {length}\r\n\r\n"),
        ),
        plain(
            "a body that the upgrade header names",
            &format!("Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: {length}\r\n"),
            &hidden,
        ),
        upgrading("an upgrade with a body", &format!("Content-Length: {length}\r\n"), &hidden),
        upgrading("an upgrade with chunks", "Transfer-Encoding: chunked\r\n", &chunk),
        upgrading(
            "an upgrade with both",
            &format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
            &chunk,
        ),
        upgrading("an upgrade with an empty body", "Content-Length: 0\r\n", ""),
        upgrading("an upgrade with a request behind it", "", &hidden),
    ];
    // The proxy that believes the header and not the answer opens a tunnel here: the next request is then the gateway's
    // to answer, unseen. Both answers are in order as long as the proxy counted both.
    let wrong = upgrade.replace("Version: 13", "Version: 777");
    probes
        .push(Probe { answers_max: 2, ..of("a refused upgrade with a request behind it", &wrong, &hidden) });
    probes.push(Probe {
        what: "two requests in one segment",
        bytes: format!("{hidden}{hidden}").into_bytes(),
        answers_max: 2,
    });
    let mut early = of("an upgrade with a frame behind it", &upgrade, "").bytes;
    early.extend(masked_frame(Opcode::Text, b"early"));
    early.extend(masked_frame(Opcode::Close, &[3, 232]));
    probes.push(Probe { what: "an upgrade with a frame behind it", bytes: early, answers_max: 1 });
    for version in ["1.0", "0.9", "1.2", "2.0"] {
        let text = format!(
            "GET /ws/lobby HTTP/{version}\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
        );
        probes.push(Probe {
            what: "an old or new version with chunks",
            bytes: text.into_bytes(),
            answers_max: 1,
        });
    }
    probes
}

/// To the admin port, named `host`: the hidden request would publish on the channel `hidden`.
pub fn ambiguous_publishes(host: &str) -> Vec<Probe> {
    let hidden = format!("POST /publish/hidden HTTP/1.1\r\nHost: {host}\r\nContent-Length: 6\r\n\r\nhidden");
    let length = hidden.len();
    let chunk = format!("{length:x}\r\n{hidden}\r\n0\r\n\r\n");
    let both = chunk.len();
    let of = |what, lines: String, body: &str| Probe {
        what,
        bytes: format!("POST /publish/open HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n{body}").into_bytes(),
        answers_max: 1,
    };
    let zero_first = format!("0\r\n\r\n{hidden}");
    vec![
        of("a length", format!("Content-Length: {length}\r\n"), &hidden),
        of("chunks", "Transfer-Encoding: chunked\r\n".to_owned(), &chunk),
        of(
            "a length over chunks",
            format!("Content-Length: {both}\r\nTransfer-Encoding: chunked\r\n"),
            &chunk,
        ),
        of(
            "a length over an end of chunks",
            format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", zero_first.len()),
            &zero_first,
        ),
        of(
            "a length of nothing under chunks",
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n".to_owned(),
            &chunk,
        ),
        of(
            "a space before the colon",
            format!("Transfer-Encoding : chunked\r\nContent-Length: {}\r\n", zero_first.len()),
            &zero_first,
        ),
        of(
            "a coding that is nearly chunked",
            format!("Transfer-Encoding: xchunked\r\nContent-Length: {}\r\n", zero_first.len()),
            &zero_first,
        ),
        of(
            "two codings",
            format!(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\nContent-Length: {}\r\n",
                zero_first.len()
            ),
            &zero_first,
        ),
        of(
            "two lengths, the first larger",
            format!("Content-Length: {length}\r\nContent-Length: 0\r\n"),
            &hidden,
        ),
        of(
            "two lengths, the second larger",
            format!("Content-Length: 0\r\nContent-Length: {length}\r\n"),
            &hidden,
        ),
        of("a list of lengths", format!("Content-Length: 0, {length}\r\n"), &hidden),
        of("a signed length", format!("Content-Length: +{length}\r\n"), &hidden),
        of("a folded length", format!("Content-Length:\r\n {length}\r\n"), &hidden),
        of(
            "a vertical tab before the coding",
            format!("Transfer-Encoding:\x0bchunked\r\nContent-Length: {}\r\n", zero_first.len()),
            &zero_first,
        ),
    ]
}
