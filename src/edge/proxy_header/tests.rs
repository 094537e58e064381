//! PROXY headers: every split, every truncation, every wrong byte.

use super::*;
use proptest::prelude::*;

/// A header of version 2; `family` as on the wire.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, body].concat()
}

fn tcp4() -> Vec<u8> {
    binary(0x21, 0x11, &[198, 51, 100, 7, 10, 0, 0, 1, 0x12, 0x67, 0x1f, 0x90])
}

fn tcp6() -> Vec<u8> {
    let addresses = ["2001:db9::5", "2001:db8::1"].map(|text| text.parse::<Ipv6Addr>().unwrap().octets());
    binary(0x21, 0x21, &[addresses.concat(), vec![0x12, 0x67, 0x1f, 0x90]].concat())
}

fn whole_headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let with_tlvs = |length: usize| {
        let mut body = tcp4()[BINARY_START_BYTES..].to_vec();
        body.resize(length, 0x04);
        binary(0x21, 0x11, &body)
    };
    vec![
        (b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 8080\r\n".to_vec(), Some("198.51.100.7:4711")),
        (b"PROXY TCP6 2001:db9::5 2001:db8::1 4711 8080\r\n".to_vec(), Some("[2001:db9::5]:4711")),
        (b"PROXY TCP6 ::ffff:198.51.100.7 ::1 65535 0\r\n".to_vec(), Some("198.51.100.7:65535")),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(), None),
        (tcp4(), Some("198.51.100.7:4711")),
        (tcp6(), Some("[2001:db9::5]:4711")),
        (with_tlvs(13), Some("198.51.100.7:4711")),
        (with_tlvs(PROXY_HEADER_BODY_BYTES_MAX), Some("198.51.100.7:4711")),
        (binary(0x20, 0x00, b""), None),
        (binary(0x20, 0x11, &[0; 12]), None),
        (binary(0x21, 0x00, b"tlvs"), None),
        (binary(0x21, 0x31, &[b'/'; 216]), None),
        (binary(0x21, 0x12, &[1; 12]), None),
    ]
}

#[test]
fn a21_headers_of_both_versions_name_the_client() {
    for (header, client) in whole_headers() {
        let client = client.map(|text| text.parse().unwrap());
        let complete = ProxyHeader::Complete { length: header.len(), client };
        for rest in [&b""[..], b"GET / HTTP/1.1\r\n", b"\n", b"PROXY "] {
            let bytes = [header.as_slice(), rest].concat();
            assert_eq!(read(&bytes), Ok(complete), "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn a21_every_beginning_of_a_header_needs_more() {
    for (header, _) in whole_headers() {
        for end in 0..header.len() {
            assert_eq!(read(&header[..end]), Ok(ProxyHeader::NeedMore), "{}", header[..end].escape_ascii());
        }
    }
}

#[test]
fn a21_what_is_no_header_is_refused_at_the_byte_that_says_so() {
    let too_long = [b"PROXY UNKNOWN ", [b'x'; 200].as_slice()].concat();
    let long_body = PROXY_HEADER_BODY_BYTES_MAX as u16 + 1;
    let [high, low] = long_body.to_be_bytes();
    for (bytes, refused_at) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), 1),
        (b"PROXY\tTCP4".to_vec(), 6),
        (b"PROXY TCP4\x00".to_vec(), 11),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n".to_vec(), 31),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n".to_vec(), 30),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n".to_vec(), 34),
        (b"PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), 33),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(), 24),
        (b"PROXY TCP6 1.1.1.1 ::1 1 2\r\n".to_vec(), 28),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n".to_vec(), 33),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n".to_vec(), 36),
        (b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), 32),
        (b"PROXY UNKNOWNS\r\n".to_vec(), 16),
        (too_long, TEXT_BYTES_MAX),
        (b"\r\n\r\nGET".to_vec(), 5),
        ([SIGNATURE, &[0x11]].concat(), 13),
        ([SIGNATURE, &[0x22]].concat(), 13),
        ([SIGNATURE, &[0x21, 0x13]].concat(), 14),
        ([SIGNATURE, &[0x21, 0x11, 0, 11]].concat(), 16),
        ([SIGNATURE, &[0x21, 0x21, 0, 35]].concat(), 16),
        ([SIGNATURE, &[0x21, 0x11, high, low]].concat(), 16),
    ] {
        for end in 0..refused_at {
            assert_eq!(read(&bytes[..end]), Ok(ProxyHeader::NeedMore), "{end} of {}", bytes.escape_ascii());
        }
        for end in refused_at..=bytes.len() {
            assert_eq!(read(&bytes[..end]), Err(MalformedProxyHeader), "{end} of {}", bytes.escape_ascii());
        }
    }
}

proptest! {
    #[test]
    fn a21_a_header_is_whole_at_one_byte_and_stays_what_it_is(
        mut bytes in prop::collection::vec(any::<u8>(), 0..600),
        start in 0..5_usize,
        patch in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let starts: [&[u8]; 5] =
            [b"", SIGNATURE, b"PROXY TCP4 1.2.3.4 5.6.7.8 9 ", &tcp4(), &[SIGNATURE, &[0x21, 0x11, 2]].concat()];
        bytes.splice(0..0, starts[start].iter().copied());
        if let Some((place, byte)) = patch && !bytes.is_empty() {
            let place = place.index(bytes.len().min(30));
            bytes[place] = byte;
        }
        let mut settled = None;
        for end in 0..=bytes.len() {
            let now = read(&bytes[..end]);
            match settled {
                None if now == Ok(ProxyHeader::NeedMore) => prop_assert!(end < BINARY_BYTES_MAX),
                None => settled = Some(now),
                Some(before) => prop_assert_eq!(now, before, "after {} bytes", end),
            }
            if let Ok(ProxyHeader::Complete { length, .. }) = now {
                prop_assert!(length <= end && length <= BINARY_BYTES_MAX);
            }
        }
    }
}
