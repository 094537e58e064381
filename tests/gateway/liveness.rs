//! Pings (D1) and dead peers (D2) over real sockets. D5 and D6 are about arithmetic and spread: they are unit tests of
//! `src/clock/wheel.rs` and `src/session/liveness.rs`.

use crate::kit::{EndOnDrop, Flock, Standing};
use crate::support::{Gateway, Opcode, PATIENCE, masked_frame, pause};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn d1_d2_who_answers_pings_stays_and_who_does_not_is_closed_with_4105() {
    let mut gateway = Gateway::start(&["--ping-interval", "400ms", "--pong-timeout", "5s"]);
    let mut standing = Standing::open(&gateway);
    let mut dead: Vec<_> = (0..3).map(|_| gateway.join("/ws/feed")).collect();
    let mut alive = gateway.join("/ws/feed");

    let mut answered = 0;
    let mut payloads = Vec::new();
    while answered < 8 {
        let frame = alive.next_frame();
        assert_eq!(frame.opcode, Opcode::Ping, "{frame:?} {:?}", frame.close_code());
        alive.raw.send(&masked_frame(Opcode::Pong, &frame.payload));
        payloads.push(frame.payload);
        answered += 1;
    }

    for client in &mut dead {
        // Its pings are read too late and never answered.
        let close = loop {
            let frame = client.next_frame();
            if frame.opcode == Opcode::Close {
                break frame.close_code();
            }
        };
        assert_eq!(close, Some((4105, "ping_timeout".to_owned())));
    }
    payloads.dedup();
    assert_eq!(payloads.len(), 8, "every ping has a payload of its own");
    assert!(standing.metric("tidegate_ping_round_trip_seconds_count", &[]) >= 7.0);
    standing.publish("feed", "still here");
    loop {
        let frame = alive.next_frame();
        if frame.opcode == Opcode::Text {
            assert_eq!(frame.payload, b"still here");
            break;
        }
        alive.raw.send(&masked_frame(Opcode::Pong, &frame.payload));
    }
    let labels = ["reason=\"ping_timeout\"", "code=\"4105\"", "by=\"us\""];
    standing.wait_metric("tidegate_closed_total", &labels, |closed| closed == 3.0);
    assert!(gateway.is_alive());
}

#[test]
fn d2_dead_peers_are_given_up_and_leave_nothing_behind() {
    const DEAD: usize = 100;
    let mut gateway = Gateway::start(&["--ping-interval", "500ms", "--pong-timeout", "500ms"]);
    let dead: Vec<_> = (0..DEAD).map(|_| gateway.join("/")).collect();
    let mut standing = Standing::open(&gateway);

    // Nothing is read and nothing answered, not even the close: ping, pong timeout, three seconds, reset.
    let labels = ["reason=\"ping_timeout\"", "by=\"us\""];
    standing.wait_metric("tidegate_closed_total", &labels, |closed| closed == DEAD as f64);

    standing.wait_metric("tidegate_connections", &[], |connections| connections == 0.0);
    assert!(standing.turns_in_a_quiet_second() < 50.0);
    assert!(gateway.is_alive());
    drop(dead);
}

#[test]
fn d1_pings_of_clients_that_came_together_are_spread() {
    const CLIENTS: usize = 200;
    const TENTHS: usize = 45;
    let gateway = Gateway::start(&["--ping-interval", "2s", "--pong-timeout", "10s"]);
    for attempt in 1.. {
        // Anew each time: who stays is spread after some rounds, however it began.
        let mut flock = Flock::join(&gateway, "/", CLIENTS);
        let began = Instant::now();
        let mut tenths = [0; TENTHS];
        loop {
            let tenth = (began.elapsed().as_millis() / 100) as usize;
            let Some(pings) = tenths.get_mut(tenth) else { break };
            let has_read = flock.read(|_, frame| {
                assert_eq!(frame.opcode, Opcode::Ping, "{frame:?} {:?}", frame.close_code());
                *pings += 1;
            });
            if !has_read {
                pause(Duration::from_millis(2));
            }
        }

        assert_eq!(flock.connected(), CLIENTS, "who answers stays");
        // Some 450 pings in 4.5 seconds: a tenth of a second holds ten of them, and a busy machine holds some back.
        let (all, busiest) = (tenths.iter().sum::<usize>(), tenths.iter().max().copied().unwrap_or_default());
        if all >= CLIENTS * 3 / 2 && busiest < CLIENTS / 2 {
            return;
        }
        // A machine that holds half of them back does not do so every time.
        assert!(attempt < 5, "{tenths:?}");
    }
}

#[test]
fn an_idle_client_is_reaped_when_that_is_asked_for_and_pongs_do_not_count() {
    let gateway =
        Gateway::start(&["--ping-interval", "300ms", "--pong-timeout", "10s", "--idle-timeout", "5s"]);
    let mut standing = Standing::open(&gateway);
    let mut quiet = gateway.join("/ws/quiet");
    let mut lively = Flock::join(&gateway, "/ws/lively", 1);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                standing.publish("lively", "news");
                lively.read(|_, _| {});
                pause(Duration::from_millis(50));
            }
        });
        let _end = EndOnDrop(&is_over);
        let (code, reason) = quiet.wait_close(PATIENCE);
        assert_eq!((code, reason.as_str()), (1000, "idle"));
    });
    assert_eq!(lively.connected(), 1, "who gets messages is not idle");
}
