//! The whole process stopped and continued (D4), as a debugger, a frozen container or a paused machine does it. The
//! arithmetic is in `src/shard/freeze.rs`, the simulation in `tests/simulation/cases_clock.rs`.

use crate::kit::{Flock, Standing};
use crate::support::http::upgrade_request;
use crate::support::{Gateway, PATIENCE, pause};
use std::process::Command;
use std::time::{Duration, Instant};

fn send(gateway: &Gateway, signal: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {}", gateway.id())]).status();
    assert!(sent.expect("a shell").success());
}

#[test]
fn d4_a_stopped_process_closes_only_the_dead_once_it_goes_on() {
    const ALIVE: usize = 100;
    let mut gateway = Gateway::start(&[
        "--ping-interval",
        "400ms",
        "--pong-timeout",
        "6s",
        "--handshake-timeout",
        "8s",
        "--shards",
        "1",
    ]);
    let mut standing = Standing::open(&gateway);
    let mut alive = Flock::join(&gateway, "/ws/feed", ALIVE);
    // Pings are under way all the time from here on; so is a head that has not begun.
    let end = Instant::now() + PATIENCE;
    while standing.metric("tidegate_pongs_total", &[]) < 2.0 * ALIVE as f64 {
        assert!(Instant::now() < end, "pings are answered");
        alive.read(|_, _| {});
    }
    let dead: Vec<_> = (0..5).map(|_| gateway.join("/ws/feed")).collect();
    let mut silent = gateway.raw();
    standing.wait_metric("tidegate_accepted_total", &[], |accepted| accepted >= ALIVE as f64 + 6.0);

    send(&gateway, "STOP");
    // The clients stand still with it: nothing is read or answered until it goes on. Longer than every time-out.
    pause(Duration::from_secs(10));
    send(&gateway, "CONT");
    silent.send(&upgrade_request("/ws/feed", &gateway.clients.to_string(), &[]));
    assert_eq!(silent.response().status, 101, "it had its time for a head, but not from us");
    drop(silent);

    let labels = ["reason=\"ping_timeout\"", "by=\"us\""];
    let end = Instant::now() + PATIENCE;
    while standing.metric("tidegate_closed_total", &labels) < dead.len() as f64 {
        assert!(Instant::now() < end, "who is really dead goes a round later");
        alive.read(|_, _| {});
    }
    assert_eq!(standing.metric("tidegate_closed_total", &labels), dead.len() as f64);
    assert_eq!(alive.connected(), ALIVE);
    assert!(standing.metric("tidegate_freeze_total", &[]) >= 1.0);
    assert!(gateway.log().contains("event=\"freeze\""), "{}", gateway.log());
    standing.publish("feed", "still here");
    let mut heard = [false; ALIVE];
    let mut count = 0;
    while count < ALIVE {
        assert!(Instant::now() < end + PATIENCE, "{count} of {ALIVE} heard it");
        alive.read(|number, frame| {
            if frame.payload == b"still here" && !std::mem::replace(&mut heard[number], true) {
                count += 1;
            }
        });
    }
    assert!(gateway.is_alive());
}
