//! One seed: a gateway with random limits, sources that publish, followers of every dialect, and what happens to them in
//! random order; then the judgement.
//!
//! A third of the seeds are calm: nobody is cut while something is under way, so that every message can be accounted for
//! exactly. In the others connections end at any moment.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tidegate::bus::{Full, Outcome, Publish};
use tidegate::config::{ChannelSettings, LagPolicy, Retain};
use tidegate::model::{
    ChannelName, Epoch, MessageKey, Offset, Pattern, PayloadKind, Position, Publication, Time,
};

use super::super::ledger::{MessageId, RELAY_PUBLISHERS_FROM, frame_bytes, payload};
use super::super::wire::Wire;
use super::super::world::{Setup, World, homed};
use super::follower::{Ask, Follower, Pace, Tongue};
use super::judge::{Rest, Sums, judge_plain, judge_told};
use super::matched::judge_matched;
use super::truth::{Channel, Entry, Moment, Stream, Truth};

/// The channel of plain followers.
const PLAIN: usize = 0;

/// Open followers at a time.
const FOLLOWERS_MAX: usize = 10;

/// What happened in some seeds.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    sums: Sums,
    published: u64,
    followers: u64,
    exact: u64,
    slow_consumers: u64,
}

impl Tally {
    /// Adds those of another seed.
    pub fn add(&mut self, other: &Self) {
        self.sums.add(&other.sums);
        self.published += other.published;
        self.followers += other.followers;
        self.exact += other.exact;
        self.slow_consumers += other.slow_consumers;
    }

    /// Whether everything that can happen did.
    pub fn is_everything(&self) -> bool {
        let Sums { conflated, expired, skipped, own, recovered, replayed, unrecovered, .. } = self.sums;
        let Sums { snapshot_messages, named, unnamed, unfollowed, .. } = self.sums;
        let left_out = [conflated, expired, skipped, own, self.slow_consumers];
        let others = [recovered, replayed, unrecovered, snapshot_messages, self.exact];
        let of_patterns = [named, unnamed, unfollowed];
        left_out.iter().chain(&others).chain(&of_patterns).all(|count| *count > 0)
    }
}

/// A message that a source is to send.
#[derive(Clone, Copy, Debug)]
struct Draft {
    channel: usize,
    key: Option<u32>,
    is_deletion: bool,
    ttl: Option<Duration>,
    length: usize,
}

/// What sends messages over the bus, in its own order.
#[derive(Debug, Default)]
struct Source {
    sequence: u64,
    drafts: VecDeque<Draft>,
}

/// A run under way.
struct Run {
    world: World,
    truth: Truth,
    followers: Vec<Follower>,
    sources: Vec<Source>,
    random: SmallRng,
    is_calm: bool,
    keys: u32,
    sequence: u64,
    published: u64,
}

fn one_of<T: Copy>(random: &mut SmallRng, choices: &[T]) -> T {
    choices[random.random_range(0..choices.len())]
}

fn settings(random: &mut SmallRng, is_calm: bool) -> ChannelSettings {
    let on_lag =
        one_of(random, &[LagPolicy::Disconnect, LagPolicy::Skip, LagPolicy::Conflate, LagPolicy::Conflate]);
    let lags: &[u64] = match on_lag {
        LagPolicy::Disconnect if is_calm => &[1 << 30],
        _ => &[600, 2000, 6000, 100_000],
    };
    let conflate_enter = one_of(random, &[1, 200, 800, 3000]);
    ChannelSettings {
        history_messages: one_of(random, &[0, 0, 3, 20, 100]),
        history_bytes: one_of(random, &[500, 3000, 20_000]),
        history_age: one_of(random, &[Duration::from_secs(2), Duration::from_secs(20)]),
        on_lag,
        max_lag_bytes: one_of(random, lags),
        max_lag_age: if is_calm { Duration::from_secs(3600) } else { Duration::from_secs(4) },
        relay: random.random_bool(0.4),
        compression: random.random_bool(0.3),
        compression_min_size: 0,
        compression_epoch: one_of(random, &[1, 5, 64]),
        conflate_enter,
        conflate_leave: conflate_enter / 2,
        retain: one_of(random, &[Retain::Window, Retain::LatestPerKey]),
        ttl: one_of(random, &[Duration::ZERO, Duration::ZERO, Duration::from_millis(700)]),
        ..ChannelSettings::default()
    }
}

fn setup(seed: u64, random: &mut SmallRng, is_calm: bool) -> Setup {
    let mut setup = Setup::new(seed);
    setup.shards = random.random_range(1..=4);
    setup.lane_capacity = one_of(random, &[2, 8, 64]);
    setup.config.write_budget = one_of(random, &[1, 4, 64]);
    setup.config.batch_window = one_of(random, &[Duration::ZERO, Duration::ZERO, Duration::from_millis(5)]);
    setup.config.ping_interval = Duration::from_secs(if is_calm { 7200 } else { 5 });
    setup.config.pong_timeout = Duration::from_secs(2);
    setup.config.client_rate = 1_000_000;
    let channels = random.random_range(1..=3);
    setup.channels = (0..channels)
        .map(|index| {
            let home = random.random_range(0..setup.shards);
            let mut settings = settings(random, is_calm);
            if index == PLAIN {
                settings.ttl = Duration::ZERO;
            }
            (format!("{}.f{index}", homed(home, setup.shards)), settings)
        })
        .collect();
    setup
}

impl Run {
    fn new(seed: u64, traces: bool) -> Self {
        let mut random = SmallRng::seed_from_u64(seed ^ 0x6665_6564);
        let is_calm = seed.is_multiple_of(3);
        let setup = setup(seed, &mut random, is_calm);
        let mut truth = Truth::default();
        for (name, settings) in &setup.channels {
            let name = ChannelName::parse(name).expect("a valid name");
            truth.channels.push(Channel { name, settings: *settings, streams: Vec::new() });
        }
        let mut world = World::new(setup);
        world.traces = traces;
        for channel in &truth.channels {
            world.trace(|| format!("{}: {:?}", channel.name, channel.settings));
        }
        let sources = (0..random.random_range(1..=3)).map(|_| Source::default()).collect();
        let keys = one_of(&mut random, &[1, 3, 8]);
        Self {
            world,
            truth,
            followers: Vec::new(),
            sources,
            random,
            is_calm,
            keys,
            sequence: 0,
            published: 0,
        }
    }

    fn now(&self) -> Moment {
        Moment { turn: self.world.step, time: self.world.now() }
    }

    fn turn(&mut self, shard: usize) -> bool {
        let is_awake = self.world.turn(shard);
        let now = self.now();
        self.truth.absorb(now);
        for follower in self.followers.iter_mut().filter(|follower| follower.shard == shard) {
            follower.mark(now);
        }
        is_awake
    }

    fn settle(&mut self) {
        loop {
            let mut has_moved = false;
            for shard in 0..self.world.shards.len() {
                while self.turn(shard) {
                    has_moved = true;
                }
            }
            for number in 0..self.followers.len() {
                let follower = &mut self.followers[number];
                has_moved |= follower.arrive();
                if follower.pace == Pace::Healthy {
                    has_moved |= follower.read(usize::MAX, &mut self.truth);
                }
            }
            for source in 0..self.sources.len() {
                has_moved |= self.source_works(source);
            }
            if !has_moved {
                return;
            }
        }
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.world.now().after(duration);
        self.settle();
        while self.world.now() < end {
            let wakes = self.world.shards.iter().filter_map(|shard| shard.host.borrow().asleep_until);
            let next = wakes.min().unwrap_or(Time::NEVER).min(end);
            self.world.clock.set(next.max(self.world.now().after(Duration::from_nanos(1))));
            self.settle();
        }
    }

    /// Nothing is under way: not even to a slow reader's socket.
    fn settle_for_good(&mut self) {
        loop {
            self.settle();
            let is_waiting = self.world.total(|counters| counters.outbox.get()) > 0
                || self.sources.iter().any(|source| !source.drafts.is_empty())
                || !self.truth.sent.is_empty();
            if !is_waiting {
                // A batch window may still hold something back.
                self.run_for(Duration::from_millis(6));
                return;
            }
            self.run_for(Duration::from_millis(1));
        }
    }

    fn draft(&mut self) -> Draft {
        let channel = self.random.random_range(0..self.truth.channels.len());
        let key = self.random.random_bool(0.75).then(|| self.random.random_range(0..self.keys));
        let ttl = self
            .random
            .random_bool(0.25)
            .then(|| Duration::from_millis(one_of(&mut self.random, &[1, 20, 100, 1000, 5000])));
        let is_deletion = key.is_some() && self.random.random_bool(0.1);
        // A plain follower cannot say which deletion an empty message is: none of those that it may get expires.
        let ttl = ttl.filter(|_| !is_deletion || channel != PLAIN);
        let length = match self.random.random_range(0..20) {
            0..15 => self.random.random_range(0..120),
            15..19 => self.random.random_range(100..900),
            _ => self.random.random_range(900..3000),
        };
        Draft { channel, key, is_deletion, ttl, length }
    }

    /// Notes that a message goes out, and gives its payload.
    fn send(&mut self, id: MessageId, draft: Draft, sender: Option<usize>) -> Vec<u8> {
        let Draft { channel, key, is_deletion, ttl, length } = draft;
        let bytes = if is_deletion { Vec::new() } else { payload(channel, id, length) };
        let default = self.truth.channels[channel].settings.ttl;
        let entry = Entry {
            id,
            channel,
            key: key.map(|key| format!("k{key}")),
            is_deletion,
            bytes: frame_bytes(bytes.len()),
            taken: self.now(),
            known: self.now(),
            ttl: ttl.or((!default.is_zero()).then_some(default)),
            sender,
            successor: None,
        };
        self.world.trace(|| format!("{id:?} goes out: {draft:?} by {sender:?}"));
        self.truth.sent.insert(id, entry);
        self.published += 1;
        bytes
    }

    fn source_works(&mut self, number: usize) -> bool {
        let Some(draft) = self.sources[number].drafts.front().copied() else { return false };
        let id = MessageId { publisher: number as u32, sequence: self.sources[number].sequence };
        let bytes = self.send(id, draft, None);
        let channel = &self.truth.channels[draft.channel];
        let kind = if id.sequence.is_multiple_of(2) { PayloadKind::Text } else { PayloadKind::Binary };
        let now = self.world.now();
        let mut publication = Publication::encode(channel.name.clone(), kind, &bytes, now, None);
        let entry = &self.truth.sent[&id];
        publication.key = entry.key.as_ref().map(|key| MessageKey::parse(key).expect("a key"));
        publication.expires_at = entry.ttl.map_or(Time::NEVER, |ttl| now.after(ttl));
        let receipts = Arc::clone(&self.truth.receipts);
        let on_receipt = Box::new(move |outcome: Outcome| {
            let receipt = outcome.expect("no key to be known by");
            receipts.lock().expect("one thread").push((id, receipt));
        });
        let frame_bytes = publication.frame.len() as i64;
        match self.world.bus.publish(Publish { publication, on_receipt: Some(on_receipt) }) {
            Ok(()) => {
                self.world.memory.add(frame_bytes);
                self.sources[number].drafts.pop_front();
                self.sources[number].sequence += 1;
                true
            }
            Err(Full(_)) => {
                self.truth.sent.remove(&id);
                self.published -= 1;
                false
            }
        }
    }

    /// Where a client may want to begin, having read so far once.
    fn since(&mut self, channel: usize) -> Option<Position> {
        let streams = &self.truth.channels[channel].streams;
        let choice = self.random.random_range(0..20);
        let stream = if choice == 0 { streams.first() } else { streams.last() }?;
        let head = stream.head();
        let back = one_of(&mut self.random, &[0, 1, 3, 10, 50]);
        let offset =
            if choice == 1 { head + 2 } else { head.saturating_sub(self.random.random_range(0..=back)) };
        Some(Position { epoch: stream.epoch, offset: Offset(offset) })
    }

    fn ask(&mut self, channel: usize, needs_position: bool, snapshot: bool) -> Ask {
        let since = if self.random.random_bool(0.5) { self.since(channel) } else { None };
        let nowhere = Position { epoch: Epoch(7), offset: Offset(1) };
        let since = since.or(needs_position.then_some(nowhere));
        Ask { channel, since, snapshot, at: self.now(), is_settled: false }
    }

    fn connect(&mut self) {
        let follows = self.random.random_bool(0.2);
        let is_settled = follows || self.random.random_bool(0.3);
        if is_settled {
            self.settle_for_good();
        }
        let tongue = one_of(
            &mut self.random,
            &[Tongue::Plain, Tongue::V1, Tongue::V1, Tongue::Events, Tongue::Enveloped],
        );
        let tongue = if follows { Tongue::V1 } else { tongue };
        let all = self.truth.channels.len();
        let count = match tongue {
            Tongue::Plain | Tongue::Events => 1,
            Tongue::V1 if follows => 0,
            Tongue::V1 => self.random.random_range(0..=all),
            Tongue::Enveloped => self.random.random_range(1..=all),
        };
        let first = if tongue == Tongue::Plain { PLAIN } else { self.random.random_range(0..all) };
        let snapshot = self.random.random_bool(0.4);
        let is_slow = self.random.random_bool(0.5);
        let needs_position = tongue == Tongue::Plain && (self.is_calm || snapshot || is_slow);
        let asks: Vec<Ask> = (0..count)
            .map(|index| self.ask((first + index) % all, needs_position, snapshot))
            .map(|ask| Ask { is_settled, ..ask })
            .collect();
        let capacity = if is_slow { one_of(&mut self.random, &[1, 60, 600, 3000]) } else { usize::MAX };
        let number = self.followers.len();
        let wire = Wire::new(number, capacity);
        if is_slow && self.random.random_bool(0.2) {
            wire.borrow_mut().write_max = one_of(&mut self.random, &[1, 7, 100]);
        }
        let is_websocket = matches!(tongue, Tongue::Plain | Tongue::V1);
        let offer = (is_websocket && self.random.random_bool(0.3)).then_some("permessage-deflate");
        let shard = self.random.random_range(0..self.world.shards.len());
        self.world.trace(|| {
            format!("follower {number} ({tongue:?}) on shard {shard}, room {capacity}, asks for {asks:?}")
        });
        let mut follower =
            Follower::new(number, shard, tongue, std::rc::Rc::clone(&wire), asks, offer, &self.truth);
        if is_slow {
            follower.pace = Pace::Slow;
            follower.is_slow = true;
        }
        self.world.shards[shard].host.borrow_mut().connect(wire);
        self.followers.push(follower);
        if is_settled {
            self.settle();
        }
        if follows {
            self.follow(number);
        }
    }

    /// A follower asks for a pattern that it does not have, when nothing is under way.
    fn follow(&mut self, number: usize) {
        let pattern = one_of(&mut self.random, &[">", ">", "*.*", "*.f0", "*.f1"]);
        let pattern = Pattern::parse(pattern).expect("a pattern");
        self.settle_for_good();
        let now = self.now();
        let follower = &mut self.followers[number];
        if follower.pending() > 0 || follower.is_over || follower.held().patterns.contains(&pattern) {
            return;
        }
        self.world.trace(|| format!("follower {number} follows {pattern:?}"));
        follower.follow(pattern, now);
        self.settle_for_good();
    }

    /// A follower of patterns says something once all that it said before was answered.
    fn speak_of_patterns(&mut self, number: usize) {
        let held = self.followers[number].held();
        let all = 0..self.truth.channels.len();
        let unnamed: Vec<usize> =
            all.filter(|it| held.named(*it).is_none() && held.matches(*it, &self.truth)).collect();
        // What is given up while a slow reader lacks some of it cannot be accounted for exactly.
        let may_give_up = !self.is_calm || !self.followers[number].is_slow;
        match self.random.random_range(0..10) {
            _ if self.followers[number].pending() > 0 => {}
            0..3 if !unnamed.is_empty() => {
                let channel = one_of(&mut self.random, &unnamed);
                self.world.trace(|| format!("follower {number} names {channel}"));
                self.followers[number].name(channel, &self.truth);
            }
            3..6 if !held.names.is_empty() => {
                let (channel, _) = one_of(&mut self.random, &held.names);
                if may_give_up || held.matches(channel, &self.truth) {
                    self.world.trace(|| format!("follower {number} names {channel} no more"));
                    self.give_up(|run| run.followers[number].unname(channel, &run.truth));
                }
            }
            6..8 if may_give_up && !held.patterns.is_empty() => {
                let index = self.random.random_range(0..held.patterns.len());
                let pattern = held.patterns[index].clone();
                self.world.trace(|| format!("follower {number} follows {pattern:?} no more"));
                self.give_up(|run| run.followers[number].unfollow(pattern));
            }
            8 => self.follow(number),
            _ => self.followers[number].ping(),
        }
    }

    /// Does what gives something up; in calm seeds when nothing is under way.
    fn give_up(&mut self, what: impl FnOnce(&mut Self)) {
        if self.is_calm {
            self.settle_for_good();
        }
        what(self);
        if self.is_calm {
            self.settle();
        }
    }

    /// A client of `tidegate.v1` says something.
    fn speak(&mut self, number: usize) {
        let is_of_patterns = self.followers[number].is_of_patterns;
        if is_of_patterns && self.random.random_bool(0.6) {
            return self.speak_of_patterns(number);
        }
        let follower = &self.followers[number];
        let channels = follower.channels();
        let all = self.truth.channels.len();
        let other = (0..all).find(|channel| !is_of_patterns && !channels.contains(channel));
        let relays = (0..all).find(|channel| self.truth.channels[*channel].settings.relay);
        match (self.random.random_range(0..10), other, relays) {
            (0..3, Some(channel), _) => {
                let snapshot = self.random.random_bool(0.5);
                let ask = self.ask(channel, false, snapshot);
                self.world.trace(|| format!("follower {number} subscribes: {ask:?}"));
                self.followers[number].subscribe(ask, &self.truth);
            }
            (3, ..) if !channels.is_empty() && (!self.is_calm || !follower.is_slow) => {
                let channel = one_of(&mut self.random, &channels);
                self.world.trace(|| format!("follower {number} unsubscribes from {channel}"));
                self.give_up(|run| run.followers[number].unsubscribe(channel, &run.truth));
            }
            (4..9, _, Some(channel)) if !follower.is_slow => {
                let draft = self.draft();
                let is_deletion = draft.is_deletion && channel != PLAIN;
                let draft = Draft { channel, is_deletion, ..draft };
                let id =
                    MessageId { publisher: RELAY_PUBLISHERS_FROM + number as u32, sequence: self.sequence };
                self.sequence += 1;
                let bytes = self.send(id, draft, Some(number));
                let name = self.truth.channels[channel].name.as_str();
                let mut json = serde_json::json!({"type": "publish", "channel": name});
                if let Some(key) = draft.key {
                    json["key"] = format!("k{key}").into();
                }
                if let Some(ttl) = draft.ttl {
                    json["ttl_ms"] = (ttl.as_millis() as u64).into();
                }
                if !draft.is_deletion {
                    json["text"] = String::from_utf8(bytes).expect("text").into();
                }
                self.followers[number].publish(id, &json);
            }
            _ => self.followers[number].ping(),
        }
    }

    /// A follower goes, one way or another.
    fn part(&mut self, number: usize) {
        if self.is_calm {
            if self.followers[number].is_slow {
                return;
            }
            self.settle_for_good();
        }
        let now = self.now();
        let follower = &mut self.followers[number];
        // Who has published waits for the answer: the truth hangs on it.
        if !follower.is_open() || follower.pending() > 0 {
            return;
        }
        follower.ended = Some((now, self.is_calm));
        if self.random.random_bool(0.7) {
            self.world.trace(|| format!("follower {number} resets"));
            follower.reset(&mut self.truth);
        } else {
            self.world.trace(|| format!("follower {number} ends its side"));
            follower.finish();
        }
        if self.is_calm {
            self.settle();
        }
    }

    fn step(&mut self) {
        let number = self.random.random_range(0..self.followers.len().max(1));
        let open: Vec<usize> =
            (0..self.followers.len()).filter(|one| !self.followers[*one].is_over).collect();
        let someone = if open.is_empty() { None } else { Some(one_of(&mut self.random, &open)) };
        match (self.random.random_range(0..1000), someone) {
            (0..400, _) => {
                let shard = self.random.random_range(0..self.world.shards.len());
                self.turn(shard);
            }
            (400..600, Some(number)) => {
                let count = match self.followers[number].pace {
                    Pace::Healthy => usize::MAX,
                    Pace::Slow => self.random.random_range(0..400),
                    Pace::Stalled => 0,
                };
                self.followers[number].arrive();
                self.followers[number].read(count, &mut self.truth);
            }
            (600..840, _) => {
                let source = number % self.sources.len();
                if self.random.random_bool(0.8) {
                    let draft = self.draft();
                    self.sources[source].drafts.push_back(draft);
                }
                self.source_works(source);
            }
            (840..870, _) if open.len() < FOLLOWERS_MAX => self.connect(),
            (870..935, Some(number)) => {
                let follower = &self.followers[number];
                if follower.is_open() && follower.tongue == Tongue::V1 {
                    self.speak(number);
                }
            }
            (935..950, Some(number)) => {
                let follower = &mut self.followers[number];
                if follower.is_slow {
                    follower.pace = if follower.pace == Pace::Slow { Pace::Stalled } else { Pace::Slow };
                }
            }
            (950..960, Some(number)) => self.part(number),
            (960..980, _) => {
                let millis = self.random.random_range(0..30);
                self.world.clock.set(self.world.now().after(Duration::from_millis(millis)));
            }
            (980..990, _) => self.settle(),
            (990..1000, _) => {
                // Now and then so long that channels which nobody names are let go.
                let most = if self.random.random_bool(0.1) { 14_000 } else { 1500 };
                let duration = Duration::from_millis(self.random.random_range(0..most));
                self.world.trace(|| format!("{duration:?} pass"));
                self.run_for(duration);
            }
            _ => {}
        }
    }

    /// Everybody reads on, and everything arrives.
    fn recover(&mut self) {
        for follower in &mut self.followers {
            follower.pace = Pace::Healthy;
            let mut wire = follower.wire.borrow_mut();
            wire.write_max = usize::MAX;
            wire.set_capacity(usize::MAX);
        }
        self.settle_for_good();
    }

    fn judge(&mut self) -> Result<Tally, String> {
        self.truth.finish()?;
        let (mut sums, now) = (Sums::default(), self.now());
        let unsubscribed = if self.is_calm { Rest::Nothing } else { Rest::Unknown };
        let mut is_exact = self.is_calm;
        let mut slow_consumers = 0;
        for follower in &self.followers {
            let about = |fault: String| {
                format!(
                    "follower {} ({:?}, slow {}): {fault}",
                    follower.number, follower.tongue, follower.is_slow
                )
            };
            if let Some(fault) = &follower.fault {
                return Err(about(fault.clone()));
            }
            let was_cut = !follower.is_open() && !follower.has_left;
            if was_cut && (!follower.is_slow || self.is_calm) {
                return Err(about(format!("was closed: {:?}, {:?}", follower.status, follower.close)));
            }
            if follower.is_open() && follower.pending() > 0 {
                return Err(about(format!("{} commands were not answered", follower.pending())));
            }
            slow_consumers +=
                u64::from(follower.close.as_ref().is_some_and(|it| it.contains("slow_consumer")));
            let ended = match follower.ended {
                Some((at, true)) => (at, Rest::Nothing),
                _ if follower.is_open() => (now, Rest::Nothing),
                _ => (now, Rest::Unknown),
            };
            is_exact &= ended.1 == Rest::Nothing;
            for channel in follower.unanswered() {
                let heads = self.truth.channels[channel].streams.iter().map(Stream::head);
                sums.moved.1 += heads.max().unwrap_or(0);
            }
            if follower.is_of_patterns {
                judge_matched(&self.truth, follower, ended, unsubscribed, &mut sums).map_err(about)?;
            } else if follower.is_told() {
                judge_told(&self.truth, follower, ended, unsubscribed, &mut sums).map_err(about)?;
            } else {
                judge_plain(&self.truth, follower, ended, &mut sums).map_err(about)?;
            }
        }
        self.check_counters(&sums, is_exact)?;
        let followers = self.followers.len() as u64;
        Ok(Tally { sums, published: self.published, followers, exact: u64::from(is_exact), slow_consumers })
    }

    fn check_counters(&self, sums: &Sums, is_exact: bool) -> Result<(), String> {
        let count = |counter: fn(&tidegate::metrics::ShardCounters) -> u64| self.world.total(counter);
        let (skipped, conflated, expired, own) = (
            count(|it| it.skipped.get()),
            count(|it| it.conflated.get()),
            count(|it| it.expired.get()),
            count(|it| it.stepped_over.get()),
        );
        let delivered = count(|it| it.delivered.get());
        let seen: u64 = self.followers.iter().map(|follower| follower.messages).sum();
        if delivered != seen || seen != sums.delivered {
            return Err(format!("{delivered} deliveries counted, {seen} came, {} judged", sums.delivered));
        }
        let moved = delivered + skipped + conflated + expired + own;
        let left_out = skipped + conflated + expired;
        // Why one is left out may change between what a follower is told and what is counted; that it is does not.
        let is_well = if is_exact {
            let told = sums.skipped + sums.conflated + sums.expired;
            sums.moved == (moved, moved)
                && left_out == sums.missing
                && own == sums.own
                && told <= sums.missing
        } else {
            (sums.moved.0..=sums.moved.1).contains(&moved) && left_out >= sums.missing
        };
        let published = count(|it| it.published.get());
        if !is_well || published != self.published {
            return Err(format!(
                "accounts (exact: {is_exact}): {published} of {} published, {delivered} delivered, {skipped} skipped, {conflated} conflated, {expired} expired, {own} own; {sums:?}",
                self.published
            ));
        }
        let resumes =
            (count(|it| it.recovered.get()), count(|it| it.replayed.get()), count(|it| it.unrecovered.get()));
        let snapshots = count(|it| it.snapshots.get());
        let are_equal =
            resumes == (sums.recovered, sums.replayed, sums.unrecovered) && snapshots == sums.snapshots;
        if is_exact && !are_equal {
            return Err(format!("{resumes:?} resumes, {snapshots} snapshots; {sums:?}"));
        }
        Ok(())
    }

    /// Everybody goes; what is left is what channels retain.
    fn check_empty(&mut self) -> Result<(), String> {
        for follower in self.followers.iter_mut().filter(|follower| !follower.is_over) {
            follower.finish();
        }
        self.run_for(Duration::from_secs(90));
        let count = |counter: fn(&tidegate::metrics::ShardCounters) -> u64| self.world.total(counter);
        for (name, value) in [
            ("connections", count(|it| it.connections.get())),
            ("open", count(|it| it.open.get())),
            ("subscriptions", count(|it| it.subscriptions.get())),
            ("lagging", count(|it| it.lagging.get())),
            ("outbox", count(|it| it.outbox.get())),
        ] {
            if value != 0 {
                return Err(format!("{name} is {value} when all are gone"));
            }
        }
        if self.truth.channels.iter().any(Channel::keeps_states) {
            return Ok(());
        }
        let journals = count(|it| it.journal_bytes.get()) + count(|it| it.channels.get());
        let memory = self.world.memory.used();
        if journals + memory != 0 {
            return Err(format!("{journals} of journals, {memory} of memory are left"));
        }
        Ok(())
    }
}

/// Runs one seed; what is wrong, if anything is.
pub fn run(seed: u64, steps: u64, traces: bool) -> Result<Tally, String> {
    let mut run = Run::new(seed, traces);
    run.connect();
    for _ in 0..steps {
        run.step();
    }
    run.world.trace(|| "all recover".to_owned());
    run.recover();
    if run.world.traces {
        for follower in &run.followers {
            println!("follower {} {:?}", follower.number, follower.close);
            for note in &follower.notes {
                println!("   {note:?}");
            }
        }
    }
    let tally = run.judge()?;
    run.check_empty()?;
    Ok(tally)
}
