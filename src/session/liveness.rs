//! When to ping a connection and when to give it up: 16 bytes a connection, no timer of its own.
//!
//! A ping is due after `ping_interval` of silence, give or take a fifth (FAULTS D1). Within that fifth every
//! connection is drawn towards a place of its own in the interval, its *phase*: whatever made many of them speak or
//! connect at once, their pings spread over the whole interval again within a few rounds (FAULTS D6). The first ping
//! goes straight to that place: it comes after 0.2 to 1.2 intervals of silence. The owner writes down what it hears and
//! calls [`Liveness::check`] when the deadline comes up; deadlines only ever move away, so none need be cancelled.

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
    /// When a byte last arrived.
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
    /// `phase` places its pings within the interval: evenly distributed values make even traffic, so a counter times
    /// an odd constant near 2^16 / 1.618 is even better than random bits. The two lowest bits do not matter.
    pub fn new(now: Time, phase: u16) -> Self {
        let now = Stamp::at_or_after(now);
        Self { pinged: 0, heard: now, message: now, phase_and_stage: phase & !STAGE_MASK }
    }

    /// Any byte arrived.
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

    /// A pong arrived, which is also a sign of life. Gives the round trip if it answers our last ping, once.
    pub fn on_pong(&mut self, payload: &[u8], now: Time) -> Option<Duration> {
        self.on_heard(now);
        if self.stage() != Stage::Heard {
            return None;
        }
        let sent = self.open(payload).filter(|sent| *sent <= now)?;
        if Stamp::at_or_after(sent).low() != self.pinged {
            return None;
        }
        self.set_stage(Stage::Answered);
        Some(now.since(sent))
    }

    /// When something is to be done if nothing more is heard. Hearing something moves it away, so an entry armed for
    /// it (or for what [`Liveness::check`] said, after a ping) never comes up too late.
    pub fn next_deadline(&self, rules: &LivenessRules) -> Time {
        let life = match self.stage() {
            Stage::Waiting => self.pinged_at().after(rules.pong_timeout),
            Stage::Unpinged | Stage::Heard | Stage::Answered => self.ping_due(rules),
        };
        life.min(self.idle_due(rules))
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
        self.pinged = Stamp::at_or_after(now).low();
        self.set_stage(Stage::Waiting);
        Verdict::Ping { payload: self.seal(now), next: self.next_look(now, rules) }
    }

    /// How long nothing has arrived.
    pub fn silent_for(&self, now: Time) -> Duration {
        now.since(self.heard.time())
    }

    /// The deadline as far as it can be known at `now`: a ping that is answered at once makes the next one due
    /// within four fifths of an interval, which may be before its own time-out.
    fn next_look(&self, now: Time, rules: &LivenessRules) -> Time {
        let deadline = self.next_deadline(rules);
        if self.stage() == Stage::Waiting {
            deadline.min(now.after(rules.ping_interval * 4 / 5))
        } else {
            deadline
        }
    }

    /// When a ping is due: an interval after the last sign of life, moved towards this connection's place in the
    /// interval by two fifths of the way, which is a fifth of the interval at most.
    fn ping_due(&self, rules: &LivenessRules) -> Time {
        let interval = u64::try_from(rules.ping_interval.as_millis()).unwrap_or(u64::MAX / 4).max(1);
        let heard = self.heard.millis();
        let place = ((u128::from(interval) * u128::from(self.phase())) >> PHASE_BITS) as u64;
        // From `heard` to the next time this place comes round, below one interval.
        let ahead = (place + interval - heard % interval) % interval;
        let silence = if self.stage() == Stage::Unpinged {
            let fifth = interval / 5;
            if ahead < fifth { ahead + interval } else { ahead }
        } else if ahead < interval / 2 {
            interval + ahead * 2 / 5
        } else {
            interval - (interval - ahead) * 2 / 5
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
