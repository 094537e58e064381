//! permessage-deflate over real sockets: the handshake, what is deflated, and what it saves (A20, B16).

use crate::inflater::Inflater;
use crate::support::{Frame, Gateway, Opcode, Oracles, PATIENCE, RawOptions, WebSocketClient, masked_frame};
use flate2::{Compress, Compression, FlushCompress};

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";

/// A reader of `target` that has a context of its own.
struct Reader {
    client: WebSocketClient,
    inflater: Inflater,
    deflated: usize,
    bytes: usize,
}

impl Reader {
    fn join(gateway: &Gateway, target: &str, extra: &[&str]) -> Self {
        let client = WebSocketClient::join_with(gateway.clients, target, RawOptions::default(), extra);
        Self { client, inflater: Inflater::new(), deflated: 0, bytes: 0 }
    }

    fn next_text(&mut self) -> String {
        let Frame { fin, rsv, opcode, payload } = self.client.next_frame();
        assert!(fin && opcode == Opcode::Text, "{opcode:?}");
        self.bytes += payload.len();
        let payload = match rsv {
            0 => payload,
            4 => {
                self.deflated += 1;
                self.inflater.inflate(&payload).expect("a message that inflates")
            }
            other => panic!("reserved bits {other}"),
        };
        String::from_utf8(payload).expect("text in UTF-8")
    }
}

fn tick(number: usize) -> String {
    format!("{{\"symbol\":\"ACME\",\"number\":{number:06},\"price\":{}}}", 10_000 + number * 7919 % 9000)
}

#[test]
fn b16_messages_are_deflated_once_for_all_shards_and_read_by_whoever_agreed() {
    let mut gateway = Gateway::start(&["--shards", "2", "--compression", "on", "--compression-epoch", "16"]);
    let oracles = Oracles::before(&gateway);
    let mut readers: Vec<Reader> = (0..8).map(|_| Reader::join(&gateway, "/ws/prices", &[OFFER])).collect();
    let mut plain = Reader::join(&gateway, "/ws/prices", &[]);
    let wide = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover";
    let mut unshared = Reader::join(&gateway, "/ws/prices", &[wide]);
    for number in 0..48 {
        if number == 20 {
            readers.push(Reader::join(&gateway, "/ws/prices", &[OFFER]));
        }
        gateway.admin().post("/publish/prices", "text/plain", tick(number).as_bytes());
        for reader in readers.iter_mut().chain([&mut plain, &mut unshared]) {
            assert_eq!(reader.next_text(), tick(number));
        }
    }

    // A shard's first message may come before its home has heard of readers there.
    assert!(readers[..8].iter().all(|reader| reader.deflated >= 32), "from an epoch on, everything");
    assert!((16..=28).contains(&readers[8].deflated), "{} after the epoch it joined in", readers[8].deflated);
    assert_eq!((plain.deflated, unshared.deflated), (0, 0));
    assert!(readers[0].bytes * 2 < plain.bytes, "{} of {} bytes", readers[0].bytes, plain.bytes);
    assert!((32.0..=48.0).contains(&gateway.metric("tidegate_deflated_total")), "once a message");
    let (before, after) = (
        gateway.metric("tidegate_deflate_input_bytes_total"),
        gateway.metric("tidegate_deflate_output_bytes_total"),
    );
    assert!(after * 2.0 < before, "{after} of {before} bytes");
    let everyone = readers.into_iter().chain([plain, unshared]);
    everyone.for_each(|reader| reader.client.close());
    oracles.check(&mut gateway);
}

#[test]
fn a20_no_offer_keeps_a_client_from_its_channel() {
    let mut gateway = Gateway::start(&["--compression", "on"]);
    let oracles = Oracles::before(&gateway);
    for offer in [
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; x=\"",
        "x; y, ;;,",
        "permessage-deflate;",
    ] {
        let line = format!("Sec-WebSocket-Extensions: {offer}");
        let mut reader = Reader::join(&gateway, "/ws/prices", &[&line]);
        gateway.admin().post("/publish/prices", "text/plain", tick(1).as_bytes());
        assert_eq!((reader.next_text(), reader.deflated), (tick(1), 0), "{offer}");
        reader.client.close();
    }
    oracles.check(&mut gateway);
}

/// A masked frame of a compressed message.
fn compressed_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(payload.len() + 100);
    let mut context = Compress::new(Compression::default(), false);
    context.compress_vec(payload, &mut deflated, FlushCompress::Sync).expect("a valid stream");
    deflated.truncate(deflated.len() - 4);
    let mut frame = masked_frame(opcode, &deflated);
    frame[0] |= 0x40;
    frame
}

#[test]
fn what_clients_compress_reaches_the_others_whole() {
    let mut gateway = Gateway::start(&["--compression", "on", "--relay", "chat"]);
    let oracles = Oracles::before(&gateway);
    let mut sender = Reader::join(&gateway, "/ws/chat", &[OFFER]);
    let mut compressed = Reader::join(&gateway, "/ws/chat", &[OFFER]);
    let mut plain = Reader::join(&gateway, "/ws/chat", &[]);
    for number in 0..20 {
        let text = tick(number).repeat(1 + number * 10);
        sender.client.raw.send(&compressed_frame(Opcode::Text, text.as_bytes()));
        sender.client.send_text(&tick(number));
        for reader in [&mut compressed, &mut plain] {
            assert_eq!(reader.next_text(), text);
            assert_eq!(reader.next_text(), tick(number));
        }
    }
    assert_eq!((compressed.deflated, plain.deflated), (40, 0));
    [sender, compressed, plain].into_iter().for_each(|reader| reader.client.close());
    oracles.check(&mut gateway);
}

#[test]
fn b14_bombs_and_misused_bits_end_the_connection_with_their_reason() {
    let mut gateway = Gateway::start(&["--compression", "on", "--relay", "chat"]);
    let oracles = Oracles::before(&gateway);
    let mut ping = masked_frame(Opcode::Ping, b"x");
    ping[0] |= 0x40;
    for (frame, code, token) in [
        (compressed_frame(Opcode::Binary, &vec![0; 64 << 20]), 1009, "msg_too_big"),
        (compressed_frame(Opcode::Binary, &vec![0; 65_537]), 1009, "msg_too_big"),
        (ping, 1002, "rsv"),
    ] {
        let mut client = Reader::join(&gateway, "/ws/chat", &[OFFER]).client;
        client.raw.send(&frame);
        assert_eq!(client.wait_close(PATIENCE), (code, token.to_owned()));
        client.raw.wait_end(PATIENCE);
    }
    let mut declined = Reader::join(&gateway, "/ws/chat", &[]).client;
    declined.raw.send(&compressed_frame(Opcode::Text, b"nothing was agreed"));
    assert_eq!(declined.wait_close(PATIENCE), (1002, "rsv".to_owned()));
    declined.raw.wait_end(PATIENCE);
    oracles.check(&mut gateway);
}

#[test]
fn what_the_conformance_suite_hears_is_deflated_by_the_compressor_of_channels() {
    let mut gateway = Gateway::start(&["--echo", "--compression", "on", "--compression-epoch", "8"]);
    let oracles = Oracles::before(&gateway);
    let wide = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover";
    for (extra, deflated) in [(&[OFFER][..], 40), (&[OFFER][..], 40), (&[wide][..], 0), (&[][..], 0)] {
        let mut client = Reader::join(&gateway, "/ws/echo", extra);
        for number in 0..40 {
            if extra.is_empty() {
                client.client.send_text(&tick(number));
            } else {
                client.client.raw.send(&compressed_frame(Opcode::Text, tick(number).as_bytes()));
            }
            assert_eq!(client.next_text(), tick(number));
        }
        assert_eq!(client.deflated, deflated, "{extra:?}");
        client.client.close();
    }
    oracles.check(&mut gateway);
}
