//! When to ping a connection and when to give it up: 16 bytes a connection, no timer of its own.
//!
//! A ping is due after `ping_interval` of silence, give or take a fifth (GUARANTEES D1). Within that fifth every
//! connection is drawn towards a place of its own in the interval, its *phase*: whatever made many of them speak or
//! connect at once, their pings spread over the whole interval again within a few rounds (GUARANTEES D6). The first
//! ping goes straight to that place: it comes after 0.2 to 1.2 intervals of silence. The owner writes down what it hears
//! and calls [`Liveness::check`] when the deadline comes up; deadlines only ever move away, so none need be cancelled.

use std::time::Duration;

use crate::model::{CloseReason, Time};

/// How patient to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LivenessRules {
    /// Silence after which a ping is sent, give or take a fifth. At least a millisecond.
    pub ping_interval: Duration,
    /// Silence after a ping that ends the connection.
    pub pong_timeout: Duration,
    /// Time without any application message in either direction that ends the connection; zero: never.
    pub idle_timeout: Duration,
}

/// What to do about a connection whose deadline came up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing yet: look again then.
    Wait(Time),
    /// Send a ping with this payload, look again at `next`.
    Ping {
        /// Comes back in the pong: give that to [`Liveness::on_pong`].
        payload: [u8; 8],
        /// The deadline for a sign of life, or an earlier one.
        next: Time,
    },
    /// End it: [`CloseReason::PingTimeout`] or [`CloseReason::Idle`].
    Dead(CloseReason),
}

/// How far the present exchange of ping and pong has come.
///
/// ```text
///   Unpinged ──ping──► Waiting ──heard──► Heard
///                        ▲ │               │ │
///                        │ └──────pong─────┼─┴─pong─► Answered
///                        └──────ping───────┴─────────────┘
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// No ping has been sent.
    Unpinged,
    /// A ping is out and nothing was heard since.
    Waiting,
    /// A ping is out; something was heard, its pong was not.
    Heard,
    /// The pong of the last ping is in.
    Answered,
}

/// What is known of one connection's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Liveness {
    /// When the last ping was sent, in milliseconds of which the low 32 bits are kept: it is at most 1.2 ping
    /// intervals after `heard` while it is waited for, so the rest follows from that.
    pinged: u32,
    /// When a sign of life last arrived.
    heard: Stamp,
    /// When an application message last went either way.
    message: Stamp,
    /// The phase in the upper 14 bits, the stage in the lower two.
    phase_and_stage: u16,
}

const STAGE_BITS: u32 = 2;
const STAGE_MASK: u16 = (1 << STAGE_BITS) - 1;
const PHASE_BITS: u32 = u16::BITS - STAGE_BITS;

impl Liveness {
    /// A connection that was established at `now` and counts as heard of and talking.
    ///
    /// `phase` places its pings within the interval; take it from [`Phases`], or at random if more crowding is fine.
    /// Its two lowest bits do not matter.
    pub fn new(now: Time, phase: u16) -> Self {
        let now = Stamp::at_or_after(now);
        Self { pinged: 0, heard: now, message: now, phase_and_stage: phase & !STAGE_MASK }
    }

    /// A sign of life arrived: anything but a pong that we did not ask for, which a peer can send without reading what
    /// it is sent (GUARANTEES B12).
    pub fn on_heard(&mut self, now: Time) {
        self.heard = Stamp::at_or_after(now);
        if self.stage() == Stage::Waiting {
            self.set_stage(Stage::Heard);
        }
    }

    /// An application message went either way.
    pub fn on_message(&mut self, now: Time) {
        self.message = Stamp::at_or_after(now);
    }

    /// A pong arrived. Gives the round trip if it answers our last ping, once; then it is a sign of life as well.
    pub fn on_pong(&mut self, payload: &[u8], now: Time) -> Option<Duration> {
        if !matches!(self.stage(), Stage::Waiting | Stage::Heard) {
            return None;
        }
        let sent = self.open(payload).filter(|sent| *sent <= now)?;
        if Stamp::at_or_after(sent).low() != self.pinged {
            return None;
        }
        self.on_heard(now);
        self.set_stage(Stage::Answered);
        Some(now.since(sent))
    }

    /// When something is to be done if nothing more is heard.
    pub fn next_deadline(&self, rules: &LivenessRules) -> Time {
        let life = match self.stage() {
            Stage::Waiting => self.pinged_at().after(rules.pong_timeout),
            Stage::Unpinged | Stage::Heard | Stage::Answered => self.ping_due(rules),
        };
        life.min(self.idle_due(rules))
    }

    /// When to look again, as far as it can be known at `now`: a ping that is answered at once makes the next one due
    /// within four fifths of an interval, which may be before its own time-out. An entry armed for this is never too
    /// late; one armed for [`Liveness::next_deadline`] is if pongs may take longer than that.
    pub fn next_look(&self, now: Time, rules: &LivenessRules) -> Time {
        let deadline = self.next_deadline(rules);
        if self.stage() == Stage::Waiting {
            deadline.min(now.after(rules.ping_interval / 5 * 4))
        } else {
            deadline
        }
    }

    /// What to do at `now`. May be called at any time; before the deadline it says to wait.
    pub fn check(&mut self, now: Time, rules: &LivenessRules) -> Verdict {
        if now < self.next_deadline(rules) {
            return Verdict::Wait(self.next_look(now, rules));
        }
        if now >= self.idle_due(rules) {
            return Verdict::Dead(CloseReason::Idle);
        }
        if self.stage() == Stage::Waiting {
            return Verdict::Dead(CloseReason::PingTimeout);
        }
        self.ping(now, rules)
    }

    /// As [`Liveness::check`] when the silence may be our own doing: a pong that is overdue is asked for once more, and
    /// idleness begins anew.
    pub fn check_leniently(&mut self, now: Time, rules: &LivenessRules) -> Verdict {
        self.on_message(now);
        if self.stage() == Stage::Waiting && now >= self.next_deadline(rules) {
            return self.ping(now, rules);
        }
        self.check(now, rules)
    }

    /// How long no sign of life has arrived.
    pub fn silent_for(&self, now: Time) -> Duration {
        now.since(self.heard.time())
    }

    fn ping(&mut self, now: Time, rules: &LivenessRules) -> Verdict {
        self.pinged = Stamp::at_or_after(now).low();
        self.set_stage(Stage::Waiting);
        Verdict::Ping { payload: self.seal(now), next: self.next_look(now, rules) }
    }

    /// When a ping is due: an interval after the last sign of life, moved towards this connection's place in the
    /// interval by a fifth of the interval at most.
    fn ping_due(&self, rules: &LivenessRules) -> Time {
        let interval = u64::try_from(rules.ping_interval.as_millis()).unwrap_or(u64::MAX / 4).max(1);
        let heard = self.heard.millis();
        let place = ((u128::from(interval) * u128::from(self.phase())) >> PHASE_BITS) as u64;
        // From `heard` to the next time this place comes round, below one interval.
        let ahead = (place + interval - heard % interval) % interval;
        let silence = if self.stage() == Stage::Unpinged {
            if ahead < interval / 5 { interval + ahead } else { ahead }
        } else if ahead < interval / 2 {
            interval + shift(ahead, interval)
        } else {
            interval - shift(interval - ahead, interval)
        };
        Time::from_millis(heard.saturating_add(silence))
    }

    fn idle_due(&self, rules: &LivenessRules) -> Time {
        if rules.idle_timeout.is_zero() {
            return Time::NEVER;
        }
        self.message.time().after(rules.idle_timeout)
    }

    /// When the ping was sent that is being waited for.
    fn pinged_at(&self) -> Time {
        let silence = self.pinged.wrapping_sub(self.heard.low());
        Time::from_millis(self.heard.millis() + u64::from(silence))
    }

    /// The payload of a ping sent at `now`: the moment, to the nanosecond, mixed with this connection's phase.
    fn seal(&self, now: Time) -> [u8; 8] {
        (now.as_nanos() ^ self.key()).to_be_bytes()
    }

    /// The moment in a payload; any 8 bytes give one.
    fn open(&self, payload: &[u8]) -> Option<Time> {
        let word = u64::from_be_bytes(payload.try_into().ok()?);
        Some(Time::from_nanos(word ^ self.key()))
    }

    /// A connection's key tells its own payloads from another's that was pinged in the same millisecond.
    fn key(&self) -> u64 {
        u64::from(self.phase()).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    const fn phase(&self) -> u16 {
        self.phase_and_stage >> STAGE_BITS
    }

    const fn stage(&self) -> Stage {
        match self.phase_and_stage & STAGE_MASK {
            0 => Stage::Unpinged,
            1 => Stage::Waiting,
            2 => Stage::Heard,
            _ => Stage::Answered,
        }
    }

    const fn set_stage(&mut self, stage: Stage) {
        self.phase_and_stage = self.phase_and_stage & !STAGE_MASK | stage as u16;
    }
}

/// How far a ping is moved towards its place if that is `distance` away, at most half an interval.
///
/// All the way if it is close, as it is for whoever answers pings and is silent otherwise: the time that an answer
/// takes then adds no disorder. Else as much of the way as spends one fifth of the interval on the farthest.
const fn shift(distance: u64, interval: u64) -> u64 {
    let close = interval / 50;
    if distance <= close { distance } else { close + (distance - close) * 3 / 8 }
}

/// Phases for one connection after the other, spread evenly however many there are: a step of the golden section
/// each. Random ones would crowd half as much again (`d6_a_mass_connect_does_not_become_a_mass_ping`).
#[derive(Clone, Copy, Debug)]
pub struct Phases(u16);

impl Phases {
    /// Begins at `start`: random bits, so that shards and restarts differ.
    pub const fn starting_at(start: u16) -> Self {
        Self(start)
    }

    /// The phase of the next connection. All 65,536 come before one comes again.
    pub const fn next_phase(&mut self) -> u16 {
        self.0 = self.0.wrapping_add(40_503);
        self.0
    }
}

/// A moment in whole milliseconds, rounded up so that no deadline is early: 40 bits, which last for 34 years.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp([u8; 5]);

impl Stamp {
    fn at_or_after(time: Time) -> Self {
        let [_, _, _, bytes @ ..] = time.as_nanos().div_ceil(1_000_000).to_be_bytes();
        Self(bytes)
    }

    const fn millis(self) -> u64 {
        let Self([a, b, c, d, e]) = self;
        u64::from_be_bytes([0, 0, 0, a, b, c, d, e])
    }

    const fn low(self) -> u32 {
        let Self([_, bytes @ ..]) = self;
        u32::from_be_bytes(bytes)
    }

    const fn time(self) -> Time {
        Time::from_millis(self.millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: LivenessRules = LivenessRules {
        ping_interval: Duration::from_secs(25),
        pong_timeout: Duration::from_secs(10),
        idle_timeout: Duration::ZERO,
    };

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    /// A number without pattern for every `index`.
    fn scrambled(index: u64) -> u64 {
        let word = (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 20
    }

    /// Runs into the next ping and gives its moment and payload.
    fn next_ping(liveness: &mut Liveness, rules: &LivenessRules) -> (Time, [u8; 8]) {
        let mut now = liveness.next_deadline(rules);
        loop {
            match liveness.check(now, rules) {
                Verdict::Ping { payload, next } => {
                    assert!(next > now);
                    return (now, payload);
                }
                Verdict::Wait(next) => {
                    assert!(next > now);
                    now = next;
                }
                Verdict::Dead(reason) => panic!("{reason} at {now:?}"),
            }
        }
    }

    #[test]
    fn a_connection_costs_sixteen_bytes() {
        assert!(size_of::<Liveness>() <= 16);
    }

    #[test]
    fn d1_silence_is_met_with_a_ping_within_the_interval_and_a_fifth() {
        for phase in (0..=u16::MAX).step_by(61) {
            let established = at(scrambled(phase.into()) % 100_000_000);
            let mut liveness = Liveness::new(established, phase);
            let (mut now, mut payload) = next_ping(&mut liveness, &RULES);
            let first = now.since(established);
            assert!(first >= Duration::from_secs(5) && first <= Duration::from_secs(30), "{first:?}");
            for round in 0..20 {
                let heard = now.after(Duration::from_millis(scrambled(round) % 9_000));
                assert!(liveness.on_pong(&payload, heard).is_some());
                (now, payload) = next_ping(&mut liveness, &RULES);
                let silence = now.since(heard);
                assert!(
                    silence >= Duration::from_secs(20) && silence <= Duration::from_secs(30),
                    "{silence:?}"
                );
            }
        }
    }

    #[test]
    fn d1_who_talks_is_not_pinged() {
        let mut liveness = Liveness::new(at(0), 0);
        let (_, payload) = next_ping(&mut liveness, &RULES);
        let mut now = at(30_000);
        liveness.on_pong(&payload, now);
        for _ in 0..100 {
            now = now.after(Duration::from_secs(19));
            assert!(matches!(liveness.check(now, &RULES), Verdict::Wait(_)));
            liveness.on_heard(now);
        }
    }

    #[test]
    fn d2_who_answers_no_ping_is_dead_after_the_pong_timeout() {
        let mut liveness = Liveness::new(at(0), 77);
        let (now, _) = next_ping(&mut liveness, &RULES);
        let deadline = now.after(RULES.pong_timeout);
        assert_eq!(liveness.next_deadline(&RULES), deadline);
        let just_before = Time::from_nanos(deadline.as_nanos() - 1);
        assert_eq!(liveness.check(just_before, &RULES), Verdict::Wait(deadline));
        assert_eq!(liveness.check(deadline, &RULES), Verdict::Dead(CloseReason::PingTimeout));
    }

    #[test]
    fn d4_an_overdue_pong_is_asked_for_once_more_and_waited_for_as_long() {
        let rules = LivenessRules { idle_timeout: Duration::from_secs(60), ..RULES };
        let mut liveness = Liveness::new(at(0), 77);
        let (now, first) = next_ping(&mut liveness, &rules);
        let just_before = now.after(rules.pong_timeout - Duration::from_millis(1));
        assert!(matches!(liveness.check_leniently(just_before, &rules), Verdict::Wait(_)), "it has time");
        let woke = now.after(Duration::from_secs(100));
        let Verdict::Ping { payload, .. } = liveness.check_leniently(woke, &rules) else { panic!("lenient") };
        assert_ne!(payload, first);
        let deadline = liveness.next_deadline(&rules);
        assert_eq!(deadline, woke.after(rules.pong_timeout));
        let mut alive = liveness;
        assert_eq!(liveness.check(deadline, &rules), Verdict::Dead(CloseReason::PingTimeout));
        assert!(alive.on_pong(&payload, woke.after(Duration::from_millis(3))).is_some());
        assert!(matches!(alive.check(deadline, &rules), Verdict::Wait(_)));
    }

    #[test]
    fn no_deadline_is_early_by_a_part_of_a_millisecond() {
        let moment = Time::from_nanos(5_000_000_001);
        let rules = LivenessRules { idle_timeout: Duration::from_secs(1), ..RULES };
        let mut liveness = Liveness::new(moment, 0);
        assert!(liveness.next_deadline(&rules) >= moment.after(rules.idle_timeout));
        let moment = Time::from_nanos(60_000_000_001);
        assert!(matches!(liveness.check(moment, &RULES), Verdict::Ping { .. }));
        assert!(liveness.next_deadline(&RULES) >= moment.after(RULES.pong_timeout));
    }

    #[test]
    fn d2_anything_heard_counts_as_life() {
        let mut liveness = Liveness::new(at(0), 77);
        let (now, _) = next_ping(&mut liveness, &RULES);
        liveness.on_heard(now.after(Duration::from_secs(9)));
        let Verdict::Wait(next) = liveness.check(now.after(RULES.pong_timeout), &RULES) else {
            panic!("it spoke");
        };
        assert!(next >= now.after(Duration::from_secs(29)));
    }

    #[test]
    fn d2_a_round_trip_is_that_of_our_own_last_ping_and_counts_once() {
        let mut liveness = Liveness::new(at(0), 1000);
        let mut other = Liveness::new(at(0), 2000);
        let (first_at, first) = next_ping(&mut liveness, &RULES);
        let now = first_at.after(Duration::from_millis(40));
        assert!(matches!(other.check(first_at.after(RULES.ping_interval), &RULES), Verdict::Ping { .. }));
        assert_eq!(other.on_pong(&first, now), None, "another connection's payload");
        for foreign in [&b""[..], b"12345678", &[0; 8], &first[..7], &[first.as_slice(), b"9"].concat()] {
            assert_eq!(liveness.on_pong(foreign, now), None);
        }
        assert_eq!(liveness.on_pong(&first, now), Some(Duration::from_millis(40)));
        assert_eq!(liveness.on_pong(&first, now), None, "a second time");
        let (second_at, second) = next_ping(&mut liveness, &RULES);
        let now = second_at.after(Duration::from_micros(300));
        assert_eq!(liveness.on_pong(&first, now), None, "that was the ping before");
        assert_eq!(liveness.on_pong(&second, now), Some(Duration::from_micros(300)), "finer than a stamp");
    }

    #[test]
    fn b12_a_pong_before_any_ping_is_no_round_trip_and_no_sign_of_life() {
        let mut liveness = Liveness::new(at(5), 9);
        let payload = liveness.seal(at(0));
        assert_eq!(liveness.on_pong(&payload, at(7)), None);
        assert_eq!(liveness.silent_for(at(9)), Duration::from_millis(4));
    }

    #[test]
    fn b12_pongs_that_echo_nothing_keep_nobody_alive_and_a_late_echo_does() {
        let mut liveness = Liveness::new(at(0), 77);
        let (pinged, payload) = next_ping(&mut liveness, &RULES);
        let deadline = pinged.after(RULES.pong_timeout);
        for foreign in [&b""[..], b"12345678", &[0; 8], &payload[..7], &[0xff; 125]] {
            assert_eq!(liveness.on_pong(foreign, pinged.after(Duration::from_secs(5))), None);
            assert_eq!(liveness.next_deadline(&RULES), deadline);
        }
        let mut late = liveness;
        assert_eq!(liveness.check(deadline, &RULES), Verdict::Dead(CloseReason::PingTimeout));
        let just_before = Time::from_nanos(deadline.as_nanos() - 1_000_000);
        assert!(late.on_pong(&payload, just_before).is_some());
        assert!(matches!(late.check(deadline, &RULES), Verdict::Wait(_)));
        // The same once more says nothing new.
        assert_eq!(late.on_pong(&payload, deadline), None);
        assert_eq!(late.silent_for(deadline), Duration::from_millis(1));
    }

    #[test]
    fn idle_timeout_ends_who_answers_pings_but_says_nothing() {
        let rules = LivenessRules { idle_timeout: Duration::from_secs(60), ..RULES };
        let mut liveness = Liveness::new(at(0), 30_000);
        liveness.on_message(at(20_000));
        let mut now = at(0);
        let end = loop {
            match liveness.check(now, &rules) {
                Verdict::Wait(next) => now = next,
                Verdict::Ping { payload, next } => {
                    liveness.on_pong(&payload, now);
                    now = next;
                }
                Verdict::Dead(reason) => break (now, reason),
            }
        };
        assert_eq!(end, (at(80_000), CloseReason::Idle));
        assert!(matches!(liveness.check(end.0, &RULES), Verdict::Wait(_) | Verdict::Ping { .. }), "off");
    }

    /// An entry armed for what was said last must not come up after the time that hearing something made due.
    #[test]
    fn no_deadline_comes_up_too_late_even_if_pongs_may_take_longer_than_an_interval() {
        let rules = LivenessRules {
            ping_interval: Duration::from_secs(5),
            pong_timeout: Duration::from_secs(60),
            ..RULES
        };
        for phase in (0..=u16::MAX).step_by(257) {
            let mut liveness = Liveness::new(at(0), phase);
            let mut armed = liveness.next_deadline(&rules);
            for round in 0..200 {
                let now = armed;
                armed = match liveness.check(now, &rules) {
                    Verdict::Wait(next) | Verdict::Ping { next, .. } => next,
                    Verdict::Dead(reason) => panic!("{reason}"),
                };
                assert!(armed > now);
                if round % 3 != 0 {
                    liveness.on_heard(now.after(Duration::from_millis(1)));
                }
                assert!(armed <= liveness.next_deadline(&rules));
            }
        }
    }

    #[test]
    fn milliseconds_beyond_32_bits_change_nothing() {
        let wrap = 1 << 32;
        for start in [wrap - 60_000, wrap - 25_000, wrap - 5_000, wrap - 1, wrap, 3 * wrap - 20_000] {
            let mut liveness = Liveness::new(at(start), 12_345);
            let mut heard = at(start);
            for _ in 0..10 {
                let (now, payload) = next_ping(&mut liveness, &RULES);
                assert!(now.since(heard) <= Duration::from_secs(30));
                assert_eq!(liveness.next_deadline(&RULES), now.after(RULES.pong_timeout));
                heard = now.after(Duration::from_millis(7));
                assert_eq!(liveness.on_pong(&payload, heard), Some(Duration::from_millis(7)));
            }
            let (now, _) = next_ping(&mut liveness, &RULES);
            let verdict = liveness.check(now.after(RULES.pong_timeout), &RULES);
            assert_eq!(verdict, Verdict::Dead(CloseReason::PingTimeout));
        }
    }

    #[test]
    fn d5_extreme_rules_and_moments_neither_panic_nor_spin() {
        for ping_interval in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            for now in [Time::ZERO, at(1 << 40), Time::from_nanos(u64::MAX - 1)] {
                let rules =
                    LivenessRules { ping_interval, pong_timeout: Duration::MAX, idle_timeout: Duration::MAX };
                let mut liveness = Liveness::new(now, u16::MAX);
                liveness.check(now, &rules);
                liveness.on_pong(&[0xff; 8], now);
                liveness.check(now.after(Duration::from_secs(1)), &rules);
                liveness.next_deadline(&rules);
            }
        }
    }

    const CONNECTIONS: u64 = 19_000;
    const BIN_MS: u64 = 10;

    fn counted() -> Vec<u16> {
        let mut phases = Phases::starting_at(4711);
        (0..CONNECTIONS).map(|_| phases.next_phase()).collect()
    }

    fn random() -> Vec<u16> {
        (0..CONNECTIONS).map(|index| scrambled(index) as u16).collect()
    }

    /// Pings per bin from `from` to `until`, of clients that connect within a second, answer within 80 ms and all
    /// speak at `chorus`; deadlines come up on multiples of `tick_ms`.
    fn pings(phases: &[u16], tick_ms: u64, chorus: Time, (from, until): (Time, Time)) -> Vec<u32> {
        let mut bins = vec![0; ((until.as_millis() - from.as_millis()) / BIN_MS) as usize];
        for (index, phase) in (0..).zip(phases) {
            let established = at(index * 1000 / CONNECTIONS);
            let mut liveness = Liveness::new(established, *phase);
            let mut chorus = Some(chorus);
            let mut due = liveness.next_deadline(&RULES);
            loop {
                let now = at(due.as_millis().next_multiple_of(tick_ms));
                if now >= until {
                    break;
                }
                if let Some(moment) = chorus.take_if(|moment| *moment <= now) {
                    liveness.on_heard(moment);
                }
                due = match liveness.check(now, &RULES) {
                    Verdict::Wait(next) => next,
                    Verdict::Ping { payload, .. } => {
                        if now >= from {
                            bins[((now.as_millis() - from.as_millis()) / BIN_MS) as usize] += 1;
                        }
                        let answer = 1 + scrambled(index ^ now.as_millis()) % 80;
                        assert!(
                            liveness.on_pong(&payload, now.after(Duration::from_millis(answer))).is_some()
                        );
                        liveness.next_deadline(&RULES)
                    }
                    Verdict::Dead(reason) => panic!("{reason}"),
                };
            }
        }
        bins
    }

    /// The busiest bin against what a bin holds if 19,000 connections are pinged evenly every 25 s.
    fn crowding(bins: &[u32]) -> f64 {
        let even = CONNECTIONS as f64 * BIN_MS as f64 / 25_000.0;
        f64::from(bins.iter().copied().max().unwrap_or(0)) / even
    }

    #[test]
    fn d6_a_mass_connect_does_not_become_a_mass_ping() {
        let ten_minutes = (at(0), at(600_000));
        let scattered = pings(&random(), 1, Time::NEVER, ten_minutes);
        assert!(crowding(&scattered) <= 3.0, "random phases: {}", crowding(&scattered));
        let total = f64::from(scattered.iter().sum::<u32>());
        assert!(total > CONNECTIONS as f64 * 22.0, "a ping every 25 s, less the first interval: {total}");
        let even = pings(&counted(), 1, Time::NEVER, ten_minutes);
        assert!(crowding(&even) <= 1.5, "counted phases: {}", crowding(&even));
        let ticks = pings(&counted(), 16, Time::NEVER, ten_minutes);
        assert!(crowding(&ticks) <= 2.5, "on the ticks of a wheel: {}", crowding(&ticks));
    }

    #[test]
    fn d6_a_chorus_of_clients_is_spread_out_again() {
        let chorus = at(100_000);
        let round = pings(&counted(), 1, chorus, (chorus, at(135_000)));
        assert!(crowding(&round) <= 4.0, "within two fifths of an interval: {}", crowding(&round));
        let later = pings(&counted(), 1, chorus, (at(260_000), at(500_000)));
        assert!(crowding(&later) <= 1.5, "six rounds later: {}", crowding(&later));
    }
}
