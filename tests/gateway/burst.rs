//! Readiness and its traps over real sockets: C16 (slots that change hands fast), C17 (input beyond the budget of a
//! turn), C18 for what comes in; what goes out in short writes is in `slow.rs`.

use crate::kit::{Standing, connect, send_with_end};
use crate::support::frame::{close_payload, masked_fragment};
use crate::support::http::upgrade_request;
use crate::support::{Gateway, Message, Opcode, Oracles, PATIENCE, Response, masked_frame};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

/// A plain socket that has upgraded on `chat`.
#[track_caller]
fn upgraded(gateway: &Gateway) -> TcpStream {
    let mut stream = connect(gateway.clients);
    stream.set_read_timeout(Some(PATIENCE)).expect("a time above zero");
    stream
        .write_all(&upgrade_request("/ws/chat", &gateway.clients.to_string(), &[]))
        .expect("a new connection");
    let (mut received, mut buffer) = (Vec::new(), [0; 1024]);
    while Response::parse(&received, false).is_none() {
        let count = stream.read(&mut buffer).expect("an answer");
        assert!(count > 0, "the gateway ended the connection before its answer");
        received.extend_from_slice(&buffer[..count]);
    }
    stream
}

#[test]
fn c16_the_last_words_of_short_lives_are_all_heard_and_belong_to_their_speaker() {
    const LIVES: usize = 400;
    let mut gateway = Gateway::start(&["--relay", "chat"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut listener = gateway.join("/ws/chat");

    // Data and FIN in one segment: the event says readable and closed at once, and the slot is free a turn later.
    for life in 0..LIVES {
        let mut stream = upgraded(&gateway);
        let mut words = masked_frame(Opcode::Text, life.to_string().as_bytes());
        if life % 2 == 0 {
            words.extend(masked_frame(Opcode::Close, &close_payload(1000, "")));
        }
        send_with_end(&mut stream, &words);
        if life % 3 == 0 {
            // Some stay for the gateway's end; the others are gone before it knows.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
        }
    }

    let mut heard = BTreeSet::new();
    for _ in 0..LIVES {
        let text = listener.next_text();
        assert!(heard.insert(text.parse::<usize>().expect("a number")), "{text} was heard twice");
    }
    assert_eq!(heard.len(), LIVES);
    standing.wait_metric("tidegate_shard_connections", &[], |connections| connections == 2.0);
    assert_eq!(standing.closed("internal") + standing.closed("unmasked"), 0.0);
    listener.close();
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn c16_slots_that_change_hands_between_kinds_of_clients_serve_each_what_is_its() {
    const ROUNDS: usize = 60;
    let mut gateway = Gateway::start(&["--relay", "chat", "--shards", "1"]);
    let oracles = Oracles::before(&gateway);
    for round in 0..ROUNDS {
        // Three that go in three ways while a publish is on its way to them, and three that take their slots.
        let mut gone: Vec<_> = (0..3).map(|_| gateway.join("/ws/old")).collect();
        gateway.admin().publish("old", "not for the next");
        gone.remove(0).raw.reset();
        gone[0].raw.half_close();
        gone[1].raw.send(&masked_frame(Opcode::Close, &close_payload(1000, "")));
        let mut next: Vec<_> = (0..3).map(|_| gateway.join("/ws/new")).collect();
        gateway.admin().publish("new", &round.to_string());
        next.iter_mut().for_each(|client| assert_eq!(client.next_text(), round.to_string()));
        next.into_iter().for_each(|client| client.close());
    }
    oracles.check(&mut gateway);
}

#[test]
fn c17_input_beyond_the_budget_of_a_turn_is_read_to_the_end_without_new_traffic() {
    const MESSAGES: usize = 200;
    const BYTES: usize = 10_000;
    let mut gateway = Gateway::start(&["--relay", "chat", "--max-lag-bytes", "16MiB"]);
    let oracles = Oracles::before(&gateway);
    let mut listener = gateway.join("/ws/chat");
    let mut stream = upgraded(&gateway);
    let content = |number: usize| format!("{number}:").repeat(BYTES).split_at(BYTES).0.to_owned();
    let burst: Vec<u8> =
        (0..MESSAGES).flat_map(|number| masked_frame(Opcode::Text, content(number).as_bytes())).collect();

    // Two megabytes and the end, in one go: thirty budgets. Nothing follows that could wake anybody.
    let writer = std::thread::spawn(move || {
        send_with_end(&mut stream, &burst);
        stream
    });

    for number in 0..MESSAGES {
        assert!(listener.next_text() == content(number), "message {number} changed or is out of order");
    }
    drop(writer.join().expect("the writer"));
    listener.close();
    oracles.check(&mut gateway);
}

#[test]
fn c17_messages_that_end_exactly_at_the_budget_are_not_left_lying() {
    const BUDGET: usize = 64 * 1024;
    let gateway = Gateway::start(&["--relay", "chat", "--max-message", "256KiB", "--receive-buffer", "1MiB"]);
    let mut listener = gateway.join("/ws/chat");
    let mut sender = gateway.join("/ws/chat");
    // A header of 8 bytes up to 64 KiB, of 14 from there on; one byte around each multiple of the budget.
    for around in [BUDGET, 2 * BUDGET, 3 * BUDGET] {
        for wire in [around - 1, around, around + 1] {
            let header = if wire - 8 <= 65_535 { 8 } else { 14 };
            let payload: Vec<u8> = (0..wire - header).map(|at| (at % 251) as u8).collect();
            let frame = masked_frame(Opcode::Binary, &payload);
            assert_eq!(frame.len(), wire);
            sender.raw.send(&frame);
            assert!(listener.next_message() == Message::Binary(payload), "{wire} bytes");
        }
    }
}

#[test]
fn c18_a_message_in_many_pieces_arrives_as_one() {
    const BYTES: usize = 600_000;
    let gateway = Gateway::start(&["--relay", "chat", "--max-message", "1MiB", "--max-lag-bytes", "4MiB"]);
    let mut listener = gateway.join("/ws/chat");
    let mut sender = gateway.join("/ws/chat");
    let payload: Vec<u8> = (0..BYTES).map(|at| (at % 253) as u8).collect();

    // Fragments of odd sizes, each sent in two halves that cut header and mask anywhere.
    let mut at = 0;
    let mut size = 1;
    while at < BYTES {
        let end = (at + size).min(BYTES);
        let opcode = if at == 0 { Opcode::Binary } else { Opcode::Continuation };
        let frame = masked_fragment(end == BYTES, opcode, &payload[at..end]);
        let (head, tail) = frame.split_at(1 + size % 6);
        sender.raw.send(head);
        sender.raw.send(tail);
        at = end;
        size = size * 3 + 1;
    }

    assert!(listener.next_message() == Message::Binary(payload));
}
