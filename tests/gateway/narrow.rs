//! Lines of 1 Mbit/s (B21): what a client asks for and what it is asked passes the messages that are on their way to it, and who
//! is slow for its line alone is not taken for dead.
//!
//! The gateway runs in a network namespace of its own, whose loopback is shaped by `tc` towards some addresses; the test is in it
//! too. The kernel's own queue in front of such a line is as long as the send buffer lets it be. Time is told in bytes,
//! which such a line carries at one pace: so a machine that is busy with something else makes no difference.

use crate::kit::Standing;
use crate::support::{Frame, Gateway, Opcode, RawOptions, WebSocketClient, masked_frame};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Of messages of these sizes, one a line, each is sent so many that they make such a backlog: 10.5 s of the line.
const SIZES: [usize; 3] = [900, 16_000, 64_000];
const BACKLOG_BYTES: usize = 1280 * 1024;
/// Of that, what is published in one request.
const BATCH_BYTES: usize = 700_000;
/// What 1 Mbit/s are.
const LINE_BYTES_PER_SECOND: f64 = 125_000.0;
/// Pings of the gateway, and replies to other pings, that a client may be sent in front of an answer.
const OWN_BYTES_MAX: usize = 1024;
/// The kernel looks at its limit before it begins a segment and then takes all that this has room for.
const SEGMENT_BYTES_MAX: usize = 64 * 1024;
/// Of these a client says nothing, so that it is pinged: behind the backlog that would come too late.
const SILENT_BYTES: usize = 400_000;
/// Pings of a client, and bytes between the answer of one and the next.
const PINGS: usize = 3;
const BETWEEN_BYTES: usize = 20_000;

/// The client of line `number` comes from here, and what goes there is shaped.
fn address(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2 + number as u8))
}

/// Commands that shape what goes to each line, with packets as on Ethernet.
fn shaping() -> String {
    let mut commands = vec![
        "ip link set lo mtu 1500 up".to_owned(),
        "tc qdisc add dev lo root handle 1: htb default 99".to_owned(),
        "tc class add dev lo parent 1: classid 1:99 htb rate 10gbit quantum 60000".to_owned(),
    ];
    for number in 0..SIZES.len() {
        let class = 1 + number;
        commands.push(format!("tc class add dev lo parent 1: classid 1:{class} htb rate 1mbit burst 4k"));
        commands.push(format!(
            "tc filter add dev lo parent 1: protocol ip u32 match ip dst {}/32 flowid 1:{class}",
            address(number)
        ));
    }
    commands.join(" && ")
}

/// What one client saw.
#[derive(Debug, Default)]
struct Seen {
    /// Bytes of frames.
    bytes: usize,
    messages: usize,
    /// Pings of the gateway, which it has answered.
    pings: usize,
    /// Bytes from each of its own pings to the answer, that of frames under way included.
    before_pongs: Vec<usize>,
    /// Of the bytes, what had come when it began to read.
    at_first: usize,
    took: Duration,
}

/// Reads until `is_enough`, answers pings, and looks that messages of `size` bytes come in order and nothing else does.
fn read_until(
    client: &mut WebSocketClient,
    size: usize,
    seen: &mut Seen,
    mut is_enough: impl FnMut(&Frame, &Seen) -> bool,
) {
    loop {
        let frame = client.next_frame();
        let header = if frame.payload.len() < 126 { 2 } else { 4 };
        seen.bytes += header + frame.payload.len();
        match frame.opcode {
            Opcode::Text => {
                let number = format!("{:07}", seen.messages);
                assert!(
                    frame.payload.starts_with(number.as_bytes()),
                    "message {number} of {size} bytes was due"
                );
                assert_eq!(frame.payload.len(), size);
                seen.messages += 1;
            }
            Opcode::Ping => {
                seen.pings += 1;
                client.raw.send(&masked_frame(Opcode::Pong, &frame.payload));
            }
            Opcode::Pong => {}
            _ => panic!("of messages of {size} bytes: {frame:?} {:?}", frame.close_code()),
        }
        if is_enough(&frame, seen) {
            return;
        }
        assert!(seen.messages < BACKLOG_BYTES / size, "the backlog ended before: {seen:?}");
    }
}

/// Takes the backlog of messages of `size` bytes and asks on the way.
fn follow(mut client: WebSocketClient, size: usize) -> Seen {
    let (mut seen, start) = (Seen::default(), Instant::now());
    client.raw.sip_what_is_there();
    seen.at_first = client.raw.received().len();
    let count = BACKLOG_BYTES / size;
    read_until(&mut client, size, &mut seen, |_, seen| seen.bytes >= SILENT_BYTES);
    assert!(seen.pings > 0, "messages of {size} bytes: {seen:?}");
    for ping in 0..PINGS {
        let from = seen.bytes;
        read_until(&mut client, size, &mut seen, |_, seen| seen.bytes >= from + BETWEEN_BYTES);
        // What has come already does not count: it was read late.
        client.raw.sip_what_is_there();
        let before = seen.bytes + client.raw.received().len();
        let payload = ping.to_string().into_bytes();
        client.raw.send(&masked_frame(Opcode::Ping, &payload));
        read_until(&mut client, size, &mut seen, |frame, _| {
            frame.opcode == Opcode::Pong && frame.payload == payload
        });
        seen.before_pongs.push(seen.bytes.saturating_sub(before));
    }
    read_until(&mut client, size, &mut seen, |_, seen| seen.messages == count);
    seen.took = start.elapsed();
    seen
}

/// Message `message` for line `number`, as a batch has it.
fn in_batch(number: usize, size: usize, message: usize) -> String {
    format!("{{\"channel\":\"size.{number}\",\"data\":\"{message:07}{}\"}}", "x".repeat(size - 7))
}

/// Clients on shaped lines of a gateway with this `--send-buffer`, each behind its backlog. Says what each of [`SIZES`] saw;
/// nothing where there can be no such lines.
fn on_shaped_lines(send_buffer: usize) -> Vec<Seen> {
    let send_buffer = format!("{}KiB", send_buffer / 1024);
    let liveness = ["--ping-interval", "1s", "--pong-timeout", "6s", "--user-timeout", "0"];
    let lag = ["--max-lag-bytes", "4MiB", "--max-lag-age", "10m", "--send-buffer", &send_buffer];
    let arguments = [&["--shards", "1"], &liveness[..], &lag[..]].concat();
    let Some(gateway) = Gateway::start_apart("--net", &shaping(), &arguments) else { return Vec::new() };
    let namespace = File::open(format!("/proc/{}/ns/net", gateway.id())).expect("the gateway is alive");
    // This thread alone, and those that it starts.
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("who may make one may enter it");

    let join = |number| {
        let options = RawOptions { receive_buffer: None, source: Some(address(number)) };
        WebSocketClient::join_with(gateway.clients, &format!("/ws/size.{number}"), options, &[])
    };
    let clients: Vec<_> = (0..SIZES.len()).map(join).collect();
    let mut standing = Standing::open(&gateway);
    // At once: who is pinged meanwhile does not answer yet.
    for (number, size) in SIZES.into_iter().enumerate() {
        let messages: Vec<usize> = (0..BACKLOG_BYTES / size).collect();
        for some in messages.chunks(BATCH_BYTES / size) {
            let messages: Vec<String> = some.iter().map(|message| in_batch(number, size, *message)).collect();
            let body = format!("[{}]", messages.join(","));
            standing.send_post("/api/batch", "application/json", body.as_bytes());
            assert_eq!(standing.response().status, 200);
        }
    }
    std::thread::scope(|scope| {
        let follow = |(client, size)| scope.spawn(move || follow(client, size));
        let following: Vec<_> = clients.into_iter().zip(SIZES).map(follow).collect();
        following.into_iter().map(|thread| thread.join().expect("it followed")).collect()
    })
}

/// What is in front of an answer is what the kernel has taken, twice what it is asked for as it does its accounts and what the
/// segment has that it was on, and the rest of one message: not the backlog, and not the others of one write.
#[track_caller]
fn expect_pings_pass_the_backlog(send_buffer: usize) {
    for (seen, size) in on_shaped_lines(send_buffer).iter().zip(SIZES) {
        println!("messages of {size} bytes: {seen:?}");
        // Else this shows nothing.
        let fastest =
            (BACKLOG_BYTES - 2 * send_buffer).saturating_sub(seen.at_first) as f64 / LINE_BYTES_PER_SECOND;
        assert!(seen.took.as_secs_f64() > 0.9 * fastest, "the line is too fast: {seen:?}");
        let in_front_max = 2 * send_buffer + size.min(SEGMENT_BYTES_MAX) + size + OWN_BYTES_MAX;
        // One of three may find this test late.
        let late = seen.before_pongs.iter().filter(|bytes| **bytes > in_front_max).count();
        assert!(late <= 1, "messages of {size} bytes, at most {in_front_max} bytes in front: {seen:?}");
    }
}

#[test]
fn b21_on_a_line_of_a_megabit_pings_pass_the_backlog_and_nobody_is_taken_for_dead() {
    expect_pings_pass_the_backlog(64 * 1024);
}

#[test]
fn b21_a_smaller_send_buffer_brings_the_answer_to_a_ping_sooner() {
    // At 1 Mbit/s 0.52 s, and the rest of a message.
    expect_pings_pass_the_backlog(32 * 1024);
}
