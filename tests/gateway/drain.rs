//! G1 and G2: a planned end. Not ready first, messages to the last, closes spread, exit 0; a second signal hurries.

use crate::kit::{EndOnDrop, Flock, Standing, text_of};
use crate::support::{
    ConnectionEnd, Ended, Gateway, Opcode, PATIENCE, Signal, masked_frame, pause, wait_for, wait_until,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How one client of a drain fared.
#[derive(Clone, Default)]
struct Farewell {
    next: usize,
    closed_at: Option<Duration>,
    delay_ms: Option<u64>,
}

/// What a drain looked like from outside.
struct Drain {
    /// Since the signal.
    unready_at: Duration,
    farewells: Vec<Farewell>,
    published: Published,
    ended: Ended,
}

/// What its publisher saw.
struct Published {
    /// Messages of which it was told that somebody gets them.
    count: usize,
    /// Since the signal, when it had the answer to the first.
    first_at: Duration,
    /// And when it was told of no subscriber, refused, or left alone, if it was not stopped before.
    ended_at: Option<Duration>,
}

const CLIENTS: usize = 300;
const GRACE: Duration = Duration::from_secs(1);
const SPREAD: Duration = Duration::from_secs(3);

/// Drains a gateway of [`CLIENTS`] that is published to meanwhile.
fn drain() -> Drain {
    let mut gateway = Gateway::start(&["--drain-grace", "1s", "--drain-spread", "3s"]);
    let mut standing = Standing::open(&gateway);
    let mut flock = Flock::join(&gateway, "/ws/feed", CLIENTS);
    let mut farewells = vec![Farewell::default(); CLIENTS];
    let is_over = AtomicBool::new(false);
    let began = Instant::now();

    gateway.signal(Signal::Term);
    let unready_at = wait_for("/readyz to answer 503", PATIENCE, || {
        let reply = standing.get("/readyz");
        (reply.status == 503 && reply.text().contains("draining")).then(|| began.elapsed())
    });
    let open = standing.metric("tidegate_connections_open", &[]);
    assert!(open == CLIENTS as f64 || began.elapsed() > GRACE, "closed before it was announced");
    assert_eq!(standing.metric("tidegate_draining", &[]), 1.0);
    assert_eq!(standing.get("/livez").status, 200, "draining is no reason to be killed");

    let published = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut published = Published { count: 0, first_at: Duration::MAX, ended_at: None };
            while !is_over.load(Ordering::Relaxed) {
                let reply = standing.publish_unless_ended("feed", &published.count.to_string());
                let at = began.elapsed();
                // The gateway is gone soon after the last client.
                if reply.is_none_or(|reply| reply.status != 200 || reply.json()["subscribers"] == 0) {
                    published.ended_at = Some(at);
                    break;
                }
                published.first_at = published.first_at.min(at);
                published.count += 1;
                pause(Duration::from_millis(20));
            }
            published
        });
        let over = EndOnDrop(&is_over);
        let end = Instant::now() + PATIENCE;
        while farewells.iter().any(|farewell| farewell.closed_at.is_none()) {
            assert!(Instant::now() < end, "some were never told");
            let has_read = flock.read(|client, frame| {
                let farewell = &mut farewells[client];
                assert!(farewell.closed_at.is_none(), "{frame:?} after the close");
                if frame.opcode == Opcode::Close {
                    let (code, reason) = frame.close_code().expect("a code");
                    assert_eq!(code, 1012, "{reason}");
                    farewell.delay_ms =
                        reason.strip_prefix("draining;in=").and_then(|delay| delay.parse().ok());
                    farewell.closed_at = Some(began.elapsed());
                } else {
                    assert_eq!(text_of(frame), farewell.next.to_string(), "client {client}");
                    farewell.next += 1;
                }
            });
            if !has_read {
                pause(Duration::from_millis(2));
            }
        }
        drop(over);
        publisher.join().expect("the publisher")
    });
    let ended = gateway.wait_exit(PATIENCE).expect("the gateway ends once everybody has gone");
    Drain { unready_at, farewells, published, ended }
}

#[test]
fn g1_a_drain_is_announced_serves_on_spreads_the_closes_and_ends_with_exit_0() {
    // Stands for 15,000 clients over 110 s: the schedule is arithmetic on their number.
    for attempt in 1.. {
        let Drain { unready_at, farewells, published, ended } = drain();

        assert_eq!(ended.code, Some(0), "{}", ended.log);
        let mut closed_at: Vec<Duration> =
            farewells.iter().filter_map(|farewell| farewell.closed_at).collect();
        closed_at.sort();
        let delays: Vec<u64> =
            farewells.iter().map(|farewell| farewell.delay_ms.expect("`;in=` and a number")).collect();
        assert!(delays.iter().all(|delay| *delay < 5000), "{delays:?}");
        assert!(delays.iter().min() < delays.iter().max(), "delays differ");
        // However late this test sees it, nobody is closed before it is due.
        for (before, at) in closed_at.iter().enumerate() {
            let due = GRACE + SPREAD * before as u32 / CLIENTS as u32;
            assert!(*at + SPREAD / 10 >= due, "{before} were closed before {at:?}");
        }
        // Messages are taken as long as somebody is there, and reach the last to go.
        let most = farewells.iter().map(|farewell| farewell.next).max().unwrap_or_default();
        assert!(
            most > 0 && most + 2 >= published.count,
            "{most} of {} messages reached the last to go",
            published.count
        );
        assert!(
            published.ended_at.is_none_or(|at| at + SPREAD / 10 >= GRACE + SPREAD),
            "no more messages after {:?}",
            published.ended_at
        );
        let had_none = farewells.iter().filter(|farewell| farewell.next == 0).count();
        assert!(
            had_none == 0 || published.first_at > GRACE,
            "{had_none} did not get what was published in the grace"
        );

        // What a machine that is busy can bring about, though not every time.
        let mut quarters = [0; 4];
        for at in &closed_at {
            let quarter = (*at - closed_at[0]).as_millis() * 4 / SPREAD.as_millis();
            quarters[(quarter as usize).min(3)] += 1;
        }
        // A quarter in each quarter of the spread; less than twice that.
        let are_spread = quarters.iter().all(|count| (CLIENTS / 12..=CLIENTS / 2).contains(count));
        let was_told_first = unready_at <= closed_at[0];
        if are_spread && was_told_first && published.first_at <= GRACE {
            return;
        }
        assert!(
            attempt < 4,
            "{quarters:?}; not ready at {unready_at:?}, first closed at {:?}, first published to at {:?}",
            closed_at[0],
            published.first_at
        );
    }
}

#[test]
fn g1_an_empty_gateway_ends_at_once_and_an_interrupt_is_as_good() {
    for signal in [Signal::Term, Signal::Int] {
        let mut gateway = Gateway::start(&["--drain-grace", "100ms", "--drain-spread", "60s"]);
        gateway.signal(signal);
        let ended = gateway.wait_exit(PATIENCE).expect("nobody is there to wait for");
        assert_eq!(ended.code, Some(0), "{}", ended.log);
    }
}

#[test]
fn g1_who_is_alone_is_closed_as_the_grace_ends_however_long_the_spread() {
    let mut gateway = Gateway::start(&["--shards", "1", "--drain-grace", "100ms", "--drain-spread", "10m"]);
    let mut client = gateway.join("/");
    gateway.signal(Signal::Term);
    assert_eq!(client.wait_close(PATIENCE).0, 1012);
    drop(client);
    let ended = gateway.wait_exit(PATIENCE).expect("nobody is left to wait for");
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}

#[test]
fn g1_until_the_listeners_close_who_comes_is_served_and_later_refused() {
    // Long enough for whatever a machine does meanwhile: everybody waits for it.
    let mut gateway = Gateway::start(&["--drain-grace", "5s", "--drain-spread", "1s"]);
    let mut first = gateway.join("/ws/feed");
    let mut silent = gateway.raw();
    gateway.signal(Signal::Term);
    wait_for("/readyz to answer 503", PATIENCE, || {
        (gateway.admin().get("/readyz").status == 503).then_some(())
    });
    let mut second = gateway.join("/ws/feed");
    gateway.admin().publish("feed", "in the grace");
    assert_eq!(first.next_text(), "in the grace");
    assert_eq!(second.next_text(), "in the grace");

    for client in [&mut first, &mut second] {
        let (code, reason) = client.wait_close(PATIENCE);
        assert_eq!(code, 1012);
        assert!(reason.starts_with("draining;in="), "{reason}");
        client.raw.send(&masked_frame(Opcode::Close, &code.to_be_bytes()));
        assert_eq!(client.raw.wait_end(PATIENCE), ConnectionEnd::Fin);
    }
    wait_until("the listeners to be closed", PATIENCE, || {
        std::net::TcpStream::connect(gateway.clients).is_err()
    });
    // Who never said what it wants is told as well.
    let refusal = silent.response();
    assert_eq!(refusal.status, 503, "{refusal:?}");
    assert!(refusal.text().contains("draining"), "{}", refusal.text());
    drop(silent);
    assert_eq!(gateway.wait_exit(PATIENCE).expect("an end").code, Some(0));
}

#[test]
fn g2_a_second_signal_hurries() {
    const CLIENTS: usize = 50;
    let mut gateway = Gateway::start(&["--drain-grace", "10m", "--drain-spread", "10m"]);
    let mut flock = Flock::join(&gateway, "/", CLIENTS);
    gateway.signal(Signal::Term);
    wait_for("/readyz to answer 503", PATIENCE, || {
        (gateway.admin().get("/readyz").status == 503).then_some(())
    });
    assert_eq!(gateway.metric("tidegate_connections_open"), CLIENTS as f64);

    gateway.signal(Signal::Term);

    let mut told = 0;
    while told < CLIENTS {
        if !flock.read(|_, frame| {
            assert_eq!(frame.close_code().expect("a close").0, 1012);
            told += 1;
        }) {
            assert!(gateway.is_alive() || told == CLIENTS, "{told} were told");
            pause(Duration::from_millis(5));
        }
    }
    let ended = gateway.wait_exit(PATIENCE).expect("an end within seconds, not minutes");
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}

#[test]
fn g1_clients_that_never_answer_the_close_do_not_hold_the_end_up() {
    let mut gateway = Gateway::start(&["--drain-grace", "100ms", "--drain-spread", "200ms"]);
    let mut clients: Vec<_> = (0..20).map(|_| gateway.join("/")).collect();
    gateway.signal(Signal::Term);

    let ended = gateway.wait_exit(PATIENCE).expect("an end within seconds");

    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(!ended.log.contains("drain_cut"), "three seconds for each, then a reset:\n{}", ended.log);
    for client in &mut clients {
        client.raw.wait_end(PATIENCE);
    }
}
