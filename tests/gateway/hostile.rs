//! Every input that a peer may try, held against the same oracles: memory by the bytes it sent, processor time by ordinary
//! messages of the same size, and nobody else notices (P8, P9, P10).

use crate::support::cost::{Cost, Meter, PROCESSOR_RATIO_MAX};
use crate::support::frame::{client_frame, masked_fragment};
use crate::support::{
    Gateway, Opcode, Oracles, PATIENCE, RawClient, RawOptions, WebSocketClient, masked_frame, wait_until,
};
use flate2::{Compress, Compression, FlushCompress};
use std::time::Instant;
use tidegate::model::json::has_endless_number;

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate";
const V1: &str = "Sec-WebSocket-Protocol: tidegate.v1";
/// What an ordinary command carries, several times.
const QUOTE: &str = r#"{"s":"EURUSD","b":1.07123,"a":1.07125}"#;
/// Payload of an ordinary message: what a person types, or a tick.
const ORDINARY_BYTES: usize = 64;
/// A channel's compressor.
const COMPRESSOR_BYTES: u64 = 436 * 1024;

/// One way to be a nuisance.
struct Input {
    name: &'static str,
    /// Sent by each connection, after its upgrade or instead of it.
    bytes: Vec<u8>,
    upgrades: bool,
    offers: bool,
    /// Commands of `tidegate.v1`.
    commands: bool,
    /// Bytes of one write.
    piece: usize,
    peers: usize,
    /// What its channel may cost beside the bytes, such as a compressor.
    channel_bytes: u64,
    /// Its work is bounded by another rule than that of its bytes.
    inflates_within_bounds: bool,
    /// Ends every connection with RST at once, rather than all of them in order afterwards.
    resets: bool,
}

impl Input {
    fn new(name: &'static str, bytes: Vec<u8>) -> Input {
        Input {
            name,
            bytes,
            upgrades: true,
            offers: false,
            commands: false,
            piece: usize::MAX,
            peers: 100,
            channel_bytes: 0,
            inflates_within_bounds: false,
            resets: false,
        }
    }

    /// Ordinary messages of as many bytes, plain, on as many connections, cut as finely; of a command another one.
    fn twin(&self) -> Input {
        let bytes = if self.commands {
            publish(&list_of(QUOTE, self.bytes.len()))
        } else {
            let message = masked_frame(Opcode::Text, &[b'm'; ORDINARY_BYTES]);
            message.repeat(self.bytes.len().div_ceil(message.len()))
        };
        Input { name: "ordinary", bytes, upgrades: true, offers: false, resets: false, ..*self }
    }

    /// Sends everything and says what it cost while all were there.
    #[track_caller]
    fn cost(&self, gateway: &Gateway) -> Cost {
        let connections = || gateway.metric("tidegate_connections");
        let (meter, others) = (Meter::before(gateway), connections());
        let mut peers = Vec::new();
        for index in 0..self.peers {
            let mut raw = if self.upgrades {
                let offer: &[&str] = match (self.offers, self.commands) {
                    (true, _) => &[OFFER],
                    (false, true) => &[V1],
                    (false, false) => &[],
                };
                // A channel for each: what is relayed goes to nobody.
                let target = format!("/ws/peer.{index}");
                WebSocketClient::join_with(gateway.clients, &target, RawOptions::default(), offer).raw
            } else {
                gateway.raw()
            };
            for piece in self.bytes.chunks(self.piece) {
                // The gateway may have ended it by now.
                if raw.try_send(piece).is_err() {
                    break;
                }
            }
            if self.resets {
                raw.reset();
            } else {
                peers.push(raw);
            }
        }
        let cost = meter.after(gateway);
        drop::<Vec<RawClient>>(peers);
        // Their channels go with them: nobody who comes later gets what they sent.
        wait_until("the peers are gone", PATIENCE, || connections() == others);
        cost
    }
}

/// Bytes without any meaning, the same in every run.
fn garbage(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn compressed(payload: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(payload.len() + 64);
    let mut context = Compress::new(Compression::default(), false);
    context.compress_vec(payload, &mut deflated, FlushCompress::Sync).expect("a valid stream");
    deflated.truncate(deflated.len() - 4);
    client_frame(0x80 | 0x40 | Opcode::Binary.bits(), Some([1, 2, 3, 4]), &deflated)
}

/// A command with this value.
fn publish(data: &str) -> Vec<u8> {
    let command = format!("{{\"type\":\"publish\",\"id\":1,\"channel\":\"peer.all\",\"data\":{data}}}");
    masked_frame(Opcode::Text, command.as_bytes())
}

/// A list of `item` of about `bytes` bytes, as JSON.
fn list_of(item: &str, bytes: usize) -> String {
    format!("[{}]", vec![item; bytes / (item.len() + 1)].join(","))
}

fn fragments(count: usize, payload: &[u8]) -> Vec<u8> {
    let first = masked_fragment(false, Opcode::Binary, payload);
    [first, masked_fragment(false, Opcode::Continuation, payload).repeat(count - 1)].concat()
}

/// The first `count` bytes of a message of 64 KiB.
fn begun(count: usize) -> Vec<u8> {
    let mut bytes = masked_frame(Opcode::Binary, &[b'h'; 65_000]);
    bytes.truncate(count);
    bytes
}

#[track_caller]
fn expect_bounded(gateway: &Gateway, inputs: &[Input]) {
    for input in inputs {
        let (mut cost, mut ordinary) = (Cost::default(), Cost::default());
        while !ordinary.is_telling() {
            ordinary.add(input.twin().cost(gateway));
            let round = input.cost(gateway);
            round.expect_bounded_memory(input.name, input.peers, input.channel_bytes);
            cost.add(round);
        }
        println!("{:<32} {cost:?} against {ordinary:?}", input.name);
        if !input.inflates_within_bounds {
            cost.expect_bounded_work(input.name, &ordinary);
        }
    }
}

#[test]
fn p8_p9_no_bytes_cost_far_more_than_messages_of_their_size() {
    let mut gateway = Gateway::start(&["--relay", "peer.*", "--client-rate", "0"]);
    let oracles = Oracles::before(&gateway);
    let head = b"GET / HTTP/1.1\r\nHost: localhost\r\n".to_vec();
    let line = [b"X-Padding: ".to_vec(), vec![b'p'; 1000], b"\r\n".to_vec()].concat();
    expect_bounded(
        &gateway,
        &[
            Input {
                upgrades: false,
                piece: 1,
                peers: 50,
                ..Input::new("heads byte by byte", [head.clone(), line.clone()].concat())
            },
            Input { upgrades: false, ..Input::new("huge heads", [head.clone(), line.repeat(20)].concat()) },
            Input { upgrades: false, ..Input::new("heads that stop", [head, line.repeat(15)].concat()) },
            Input { upgrades: false, ..Input::new("garbage for a head", garbage(4000)) },
            Input::new("garbage for frames", garbage(4000)),
            Input::new("empty fragments", fragments(8, b"")),
            Input::new("too many empty fragments", fragments(700, b"")),
            Input::new("tiny fragments", fragments(1000, b"x")),
            Input { piece: 7, peers: 50, ..Input::new("tiny fragments one by one", fragments(1000, b"x")) },
            Input { piece: 1, peers: 50, ..Input::new("messages byte by byte", begun(1000)) },
            Input::new("headers of messages", begun(8)),
            Input::new("half messages", begun(30_000)),
            Input::new("pings", masked_frame(Opcode::Ping, &[b'p'; 125]).repeat(200)),
            Input::new("empty pings", masked_frame(Opcode::Ping, b"").repeat(700)),
            Input::new("pongs", masked_frame(Opcode::Pong, b"").repeat(700)),
            Input::new("unmasked frames", client_frame(0x81, None, &[b'u'; 100]).repeat(40)),
            Input { resets: true, ..Input::new("resets", begun(4000)) },
        ],
    );
    oracles.check(&mut gateway);
}

/// Next to half way between two doubles, where reading it is most work; and another of its length.
const HARD: &str = "37183455065278704834e-327";
const EASY: &str = "37183455065278709999e-327";

#[test]
fn p9_b24_a_number_is_judged_by_its_digits_however_hard_it_is_to_read() {
    // The least of many: whatever else the machine does only adds.
    let least = |number| {
        let json = list_of(number, 60_000);
        let time = |_| {
            let start = Instant::now();
            assert!(!has_endless_number(&json));
            start.elapsed()
        };
        (0..50).map(time).min().expect("fifty")
    };
    let (hard, easy) = (least(HARD), least(EASY));
    assert!(hard <= easy * PROCESSOR_RATIO_MAX, "{hard:?} against {easy:?}");
}

#[test]
fn p8_p9_b24_no_command_costs_far_more_than_others_of_its_size() {
    const COMMAND_BYTES: usize = 60_000;
    let mut gateway = Gateway::start(&["--relay", "peer.*", "--client-rate", "0"]);
    let oracles = Oracles::before(&gateway);
    let command = |name, data: String| Input { commands: true, ..Input::new(name, publish(&data)) };
    let list = |item: &str| list_of(item, COMMAND_BYTES);
    let nested = format!("{}1{}", "[".repeat(15), "]".repeat(15));
    expect_bounded(
        &gateway,
        &[
            command("numbers that are hard to read", list(HARD)),
            command("digits", "7".repeat(COMMAND_BYTES)),
            command("an exponent", format!("1e-{}", "7".repeat(COMMAND_BYTES))),
            command("nested lists", list(&nested)),
            command("open brackets", "[".repeat(COMMAND_BYTES)),
            command("escapes", format!("\"{}\"", "\\u00e4".repeat(COMMAND_BYTES / 6))),
            command("keys", list("{\"\":0}")),
        ],
    );
    oracles.check(&mut gateway);
}

#[test]
fn p8_p9_b14_compressed_bytes_cost_no_more_than_others() {
    let mut gateway = Gateway::start(&["--relay", "peer.*", "--client-rate", "0", "--compression", "on"]);
    let oracles = Oracles::before(&gateway);
    let offering = |name, bytes| Input { offers: true, ..Input::new(name, bytes) };
    let bomb = compressed(&vec![0; 64 << 20]);
    expect_bounded(
        &gateway,
        &[
            offering("a bomb of 64 MiB", bomb[..30_000].to_vec()),
            // Each is a message to its channel, whose first one makes a compressor: BUDGETS has how many there may be. Up to
            // `--max-message` it may be any number of times what came, and costs what it is then.
            Input {
                channel_bytes: COMPRESSOR_BYTES,
                inflates_within_bounds: true,
                ..offering("bombs of 16 kB", compressed(&vec![0; 16_000]).repeat(20))
            },
            Input {
                channel_bytes: COMPRESSOR_BYTES,
                inflates_within_bounds: true,
                ..offering("bombs of 60 kB", compressed(&vec![0; 60_000]).repeat(20))
            },
            offering("garbage that is to inflate", client_frame(0xc2, Some([9; 4]), &garbage(4000))),
            offering("half a compressed message", compressed(&garbage(30_000))[..20_000].to_vec()),
        ],
    );
    oracles.check(&mut gateway);
}
