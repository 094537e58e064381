//! The scanner: limits at the byte, every split, one look per byte.

use proptest::prelude::*;

use super::*;
use crate::config::limits::{HEAD_BYTES_MAX, HEAD_LINE_BYTES_MAX, HEADERS_MAX};

/// Feeds `bytes` in pieces of the given lengths (the last one for the rest); the total on completion.
fn scan_in_pieces(bytes: &[u8], pieces: &[usize]) -> Result<Option<usize>, RejectReason> {
    let mut scanner = HeadScanner::new();
    let (mut rest, mut taken) = (bytes, 0);
    for piece in pieces.iter().copied().chain(std::iter::once(usize::MAX)) {
        let (now, later) = rest.split_at(piece.min(rest.len()));
        match scanner.scan(now)? {
            Scan::Complete(n) => return Ok(Some(taken + n)),
            Scan::NeedMore => taken += now.len(),
        }
        rest = later;
    }
    Ok(None)
}

/// Feeds `bytes` one at a time; the index of the byte that decided and what it decided.
fn scan_byte_by_byte(bytes: &[u8]) -> Option<(usize, Result<(), RejectReason>)> {
    let mut scanner = HeadScanner::new();
    for (index, byte) in bytes.iter().enumerate() {
        match scanner.scan(std::slice::from_ref(byte)) {
            Ok(Scan::NeedMore) => {}
            Ok(Scan::Complete(n)) => {
                assert_eq!(n, 1);
                return Some((index, Ok(())));
            }
            Err(reason) => return Some((index, Err(reason))),
        }
    }
    None
}

/// A head of exactly `size` bytes whose lines keep within their limit.
fn head_of(size: usize) -> Vec<u8> {
    let mut head = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    while head.len() < size {
        let line_bytes = (size - head.len() - 2).min(8000);
        head.extend_from_slice(b"x:");
        head.resize(head.len() + line_bytes - 4, b'y');
        head.extend_from_slice(b"\r\n");
        if size - head.len() == 2 {
            head.extend_from_slice(b"\r\n");
        }
    }
    assert_eq!(head.len(), size);
    head
}

#[test]
fn a2_a_head_is_refused_at_the_byte_that_crosses_the_limit() {
    let fits = head_of(HEAD_BYTES_MAX);
    assert_eq!(scan_byte_by_byte(&fits), Some((HEAD_BYTES_MAX - 1, Ok(()))));
    assert_eq!(outcome(&fits), Outcome::Served);
    let exceeds = head_of(HEAD_BYTES_MAX + 1);
    assert_eq!(scan_byte_by_byte(&exceeds), Some((HEAD_BYTES_MAX, Err(RejectReason::HeadTooBig))));
}

#[test]
fn a2_a_line_is_refused_at_the_byte_that_crosses_the_limit() {
    let request_line = |bytes: usize| {
        let path = "p".repeat(bytes - "GET / HTTP/1.1".len());
        format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
    };
    assert!(matches!(scan_byte_by_byte(&request_line(HEAD_LINE_BYTES_MAX)), Some((_, Ok(())))));
    assert_eq!(
        scan_byte_by_byte(&request_line(HEAD_LINE_BYTES_MAX + 1)),
        Some((HEAD_LINE_BYTES_MAX, Err(RejectReason::TargetTooLong)))
    );
    let header_line =
        |bytes: usize| format!("GET / HTTP/1.1\r\nHost:{}\r\n\r\n", "h".repeat(bytes - 5)).into_bytes();
    assert!(matches!(scan_byte_by_byte(&header_line(HEAD_LINE_BYTES_MAX)), Some((_, Ok(())))));
    assert_eq!(
        scan_byte_by_byte(&header_line(HEAD_LINE_BYTES_MAX + 1)),
        Some((16 + HEAD_LINE_BYTES_MAX, Err(RejectReason::HeadTooBig)))
    );
}

#[test]
fn a3_headers_are_counted_while_they_arrive() {
    for count in [HEADERS_MAX - 1, HEADERS_MAX] {
        // Five lines belong to the upgrade; it comes last.
        let filler = "x: y\r\n".repeat(count - 5);
        let request =
            String::from_utf8(upgrade("/", "")).unwrap().replacen("Host", &format!("{filler}Host"), 1);
        assert_eq!(outcome(request.as_bytes()), joins_lobby(), "{count}");
    }
    for count in [HEADERS_MAX + 1, 2000] {
        let request = format!("GET / HTTP/1.1\r\n{}Upgrade: websocket\r\n\r\n", "x: y\r\n".repeat(count - 1));
        let begin_of_line_too_many = 16 + 6 * HEADERS_MAX;
        assert_eq!(
            scan_byte_by_byte(request.as_bytes()),
            Some((begin_of_line_too_many, Err(RejectReason::TooManyHeaders))),
            "{count}"
        );
    }
}

#[test]
fn a4_no_byte_is_looked_at_twice() {
    let head = head_of(HEAD_BYTES_MAX);
    let mut scanner = HeadScanner::new();
    for (index, byte) in head.iter().enumerate() {
        assert_eq!(scanner.steps(), index as u64, "each call costs the bytes it is given");
        scanner.scan(std::slice::from_ref(byte)).unwrap();
    }
    assert!(!scanner.has_begun(), "ready for the next request");
    let (_, all_but_the_last) = head.split_last().unwrap();
    assert_eq!(scanner.scan(all_but_the_last), Ok(Scan::NeedMore));
    assert_eq!(scanner.steps(), all_but_the_last.len() as u64, "in one piece as well");
    assert!(scanner.has_begun());
}

#[test]
fn a22_garbage_is_refused_at_the_first_impossible_byte() {
    for (bytes, index) in [
        (&b"\x16\x03\x01\x02\x00"[..], 0),
        (b"\0", 0),
        (b"GET /\x80", 5),
        (b"GET / HTTP/1.1\n", 14),
        (b"\r\n\r\n", 2),
        (b"\rG", 1),
        (b"GET / HTTP/1.1\rX", 15),
    ] {
        assert_eq!(scan_byte_by_byte(bytes), Some((index, Err(RejectReason::RequestLine))), "{bytes:?}");
    }
}

/// Several bytes are looked at together: whatever stands beside it, each is judged as if it had come alone.
#[test]
fn a22_every_byte_is_judged_alike_wherever_it_stands() {
    let beside = [0, b'\t', b'\r', 0x1f, b' ', b'~', 0x7f, 0x80, 0x88, 0xff];
    for begin in [&b"GET /"[..], b"GET / HTTP/1.1\r\nHost: a\r\nx:"] {
        for (place, byte) in (0..20).flat_map(|place| (0..=255).map(move |byte| (place, byte))) {
            for next in beside {
                let line = [&vec![b'y'; place][..], &[byte, next], b"yyyyyyyyyyyyyyyyyyy\r\n\r\n"].concat();
                let head = [begin, &line].concat();
                let one_at_a_time = match scan_byte_by_byte(&head) {
                    Some((index, Ok(()))) => Ok(Some(index + 1)),
                    Some((_, Err(reason))) => Err(reason),
                    None => Ok(None),
                };
                assert_eq!(scan_in_pieces(&head, &[]), one_at_a_time, "{head:?}");
            }
        }
    }
}

#[test]
fn what_follows_a_head_is_left_alone() {
    let one = get("/", "");
    let two = [one.clone(), one.clone()].concat();
    let mut scanner = HeadScanner::new();
    assert_eq!(scanner.scan(&two), Ok(Scan::Complete(one.len())));
    assert_eq!(scanner.scan(&two[one.len()..]), Ok(Scan::Complete(one.len())));
    let blank_line_first = [b"\r\n".as_slice(), &one].concat();
    assert_eq!(scanner.scan(&blank_line_first), Ok(Scan::Complete(one.len() + 2)));
    assert_eq!(outcome(&blank_line_first), Outcome::Served);
}

/// A head out of pieces that matter to the scanner, whole or broken.
fn any_head() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        Just(b"GET / HTTP/1.1\r\n".to_vec()),
        Just(b"Host: a\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\n".to_vec()),
        Just(b" folded\r\n".to_vec()),
        Just(vec![b'x'; 3000]),
        Just(b"x:\r\n".repeat(40)),
        proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(fragment, 0..12).prop_map(|fragments| {
        let mut head = b"GET /path HTTP/1.1\r\nHost: a\r\n".to_vec();
        head.extend(fragments.concat());
        head
    })
}

proptest! {
    #[test]
    fn a4_any_split_gives_the_same_result(
        head in any_head(),
        pieces in proptest::collection::vec(0usize..4000, 0..20),
    ) {
        let whole = scan_in_pieces(&head, &[]);
        prop_assert_eq!(scan_in_pieces(&head, &pieces), whole);
        let one_at_a_time = match scan_byte_by_byte(&head) {
            None => Ok(None),
            Some((index, Ok(()))) => Ok(Some(index + 1)),
            Some((_, Err(reason))) => Err(reason),
        };
        prop_assert_eq!(one_at_a_time, whole);
    }

    #[test]
    fn a18_the_scanner_and_the_parser_see_the_same_end(head in any_head()) {
        if let Ok(Some(end)) = scan_in_pieces(&head, &[]) {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut request = httparse::Request::new(&mut headers);
            if let Ok(status) = request.parse(&head) {
                prop_assert_eq!(status, httparse::Status::Complete(end));
            }
        }
    }

    #[test]
    fn a22_no_bytes_bring_the_edge_down(bytes in proptest::collection::vec(any::<u8>(), 0..2000), early: bool) {
        let edge = edge();
        let _ = edge.decide(&bytes, early, early);
        let mut request = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
        request.extend(bytes);
        let _ = edge.decide(&request, early, early);
    }
}
