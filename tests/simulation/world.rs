//! One gateway of 1 to 4 shards in one thread, its clients and publishers, and the clock: driven step by step.
//!
//! `settle` runs until nothing moves at the present moment; `run_for` lets time pass from deadline to deadline.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tidegate::bus::{Answer, Bus, Order, Page, Question, Wake};
use tidegate::config::{ChannelRule, ChannelSettings, Config};
use tidegate::metrics::{MemoryBudget, ShardCounters};
use tidegate::model::{Blame, ChannelName, CloseReason, Pattern, ShardId, Time};
use tidegate::net::ConnectionBudget;
use tidegate::shard::{Shard, ShardParts};

use super::client::{Client, Reader, Snapshot};
use super::ledger::Ledger;
use super::oracle::{check_delivery, check_empty};
use super::publisher::Publisher;
use super::reactor::{Host, HostRef, SimReactor};
use super::wire::Wire;

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// One shard and what the driver holds of it.
pub struct SimShard {
    pub shard: Shard<SimReactor>,
    pub host: HostRef,
    pub counters: Arc<ShardCounters>,
}

/// What a world starts with.
pub struct Setup {
    pub seed: u64,
    pub shards: usize,
    pub lane_capacity: usize,
    pub max_connections: usize,
    /// Budget of memory in bytes; 0: none.
    pub memory: u64,
    pub config: Config,
    /// Names and settings; a name may be given by [`homed`].
    pub channels: Vec<(String, ChannelSettings)>,
}

impl Setup {
    /// One shard, roomy lanes, one channel `c` with default settings.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            shards: 1,
            lane_capacity: 64,
            max_connections: 100_000,
            memory: 0,
            config: Config::default(),
            channels: vec![("c".to_owned(), ChannelSettings::default())],
        }
    }
}

/// A channel name that is homed at `home` of `shards`.
pub fn homed(home: usize, shards: usize) -> String {
    all_homed(home, shards).next().expect("homes are spread")
}

/// Channel names that are homed at `home` of `shards`.
pub fn all_homed(home: usize, shards: usize) -> impl Iterator<Item = String> {
    let is_there = move |name: &String| {
        ChannelName::parse(name).is_ok_and(|name| ShardId::home_of(&name, shards).index() == home)
    };
    (0..).map(|index| format!("h{index}")).filter(is_there)
}

/// Everything.
pub struct World {
    pub shards: Vec<SimShard>,
    pub bus: Bus,
    pub clock: Rc<Cell<Time>>,
    pub started: Time,
    pub budget: ConnectionBudget,
    pub memory: MemoryBudget,
    pub clients: Vec<Client>,
    pub publishers: Vec<Publisher>,
    pub ledger: Ledger,
    pub random: SmallRng,
    pub step: u64,
    /// A drain was ordered.
    pub is_draining: bool,
    /// Connections may end without a close frame for causes outside the model.
    pub ends_freely: bool,
    /// Print what happens.
    pub traces: bool,
    joining: Vec<usize>,
}

impl World {
    /// A gateway without clients.
    pub fn new(setup: Setup) -> Self {
        let Setup { seed, shards, lane_capacity, max_connections, memory, mut config, channels } = setup;
        let mut ledger = Ledger::default();
        for (name, settings) in channels {
            let mut rule = ChannelRule::new(Pattern::parse(&name).expect("a plain name"));
            rule.history_messages = Some(settings.history_messages);
            rule.history_bytes = Some(settings.history_bytes);
            rule.history_age = Some(settings.history_age);
            rule.on_lag = Some(settings.on_lag);
            rule.max_lag_bytes = Some(settings.max_lag_bytes);
            rule.max_lag_age = Some(settings.max_lag_age);
            rule.relay = Some(settings.relay);
            rule.compression = Some(settings.compression);
            rule.compression_level = Some(settings.compression_level);
            rule.compression_min_size = Some(settings.compression_min_size);
            rule.compression_epoch = Some(settings.compression_epoch);
            rule.message_type = Some(settings.message_type);
            rule.conflate_enter = Some(settings.conflate_enter);
            rule.conflate_leave = Some(settings.conflate_leave);
            rule.retain = Some(settings.retain);
            rule.keys_per_channel = Some(settings.keys_per_channel);
            rule.ttl = Some(settings.ttl);
            config.channels.rules.push(rule);
            ledger.add_channel(ChannelName::parse(&name).expect("a valid name"), settings);
        }
        let started = Time::from_millis(1000 + seed % 5000);
        let clock = Rc::new(Cell::new(started));
        let wakers = (0..shards).map(|_| Box::new(NoWake) as Box<dyn Wake>).collect();
        let bus = Bus::new(wakers, lane_capacity);
        let budget = ConnectionBudget::new(max_connections).with_address_limits(&config);
        let memory = MemoryBudget::new(memory);
        let config = Arc::new(config);
        let sim_shard = |index: usize| {
            let seed = seed.wrapping_mul(31).wrapping_add(index as u64);
            let host = Host::new(seed);
            let counters = Arc::new(ShardCounters::default());
            let parts = ShardParts {
                id: ShardId(index as u16),
                config: Arc::clone(&config),
                bus: bus.clone(),
                counters: Arc::clone(&counters),
                budget: budget.clone(),
                memory: memory.clone(),
                seed,
            };
            let reactor = SimReactor { host: Rc::clone(&host), clock: Rc::clone(&clock) };
            SimShard { shard: Shard::new(parts, reactor), host, counters }
        };
        Self {
            shards: (0..shards).map(sim_shard).collect(),
            bus,
            clock,
            started,
            budget,
            memory,
            clients: Vec::new(),
            publishers: Vec::new(),
            ledger,
            random: SmallRng::seed_from_u64(seed ^ 0x7469_6465),
            step: 0,
            is_draining: false,
            ends_freely: false,
            traces: false,
            joining: Vec::new(),
        }
    }

    pub fn now(&self) -> Time {
        self.clock.get()
    }

    /// Says what happens, when a seed is replayed.
    pub fn trace(&self, what: impl FnOnce() -> String) {
        if self.traces {
            println!("{:>7} {:>9} ms  {}", self.step, self.now().as_millis(), what());
        }
    }

    /// A client of `channels` connects to `shard`; `capacity` is its send buffer.
    pub fn connect(&mut self, shard: usize, channels: &[usize], reader: Reader, capacity: usize) -> usize {
        self.connect_offering(shard, channels, reader, capacity, None)
    }

    /// The same with an offer of extensions.
    pub fn connect_offering(
        &mut self,
        shard: usize,
        channels: &[usize],
        reader: Reader,
        capacity: usize,
        offer: Option<&str>,
    ) -> usize {
        let number = self.clients.len();
        let wire = Wire::new(number, capacity);
        let mut client = Client::new(number, Rc::clone(&wire), channels.to_vec(), offer, &self.ledger);
        client.reader = reader;
        self.shards[shard].host.borrow_mut().connect(wire);
        self.clients.push(client);
        self.joining.push(number);
        self.trace(|| {
            format!(
                "client {number} connects to shard {shard}, {channels:?}, {reader:?}, {capacity}, {offer:?}"
            )
        });
        number
    }

    /// A healthy client, upgraded and settled.
    pub fn join(&mut self, shard: usize, channels: &[usize]) -> usize {
        let number = self.connect(shard, channels, Reader::Healthy, usize::MAX);
        self.settle();
        assert_eq!(self.clients[number].status, Some(101));
        number
    }

    /// A healthy client that offers permessage-deflate with `parameters`, upgraded and settled.
    pub fn join_offering(&mut self, shard: usize, channels: &[usize], parameters: &str) -> usize {
        let offer = format!("permessage-deflate{parameters}");
        let number = self.connect_offering(shard, channels, Reader::Healthy, usize::MAX, Some(&offer));
        self.settle();
        assert_eq!(self.clients[number].status, Some(101));
        number
    }

    /// Runs a turn of one shard; false if it sleeps.
    pub fn turn(&mut self, index: usize) -> bool {
        self.step += 1;
        match self.shards[index].shard.turn() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return false,
            Err(error) => panic!("the shard's loop broke: {error}"),
        }
        for id in self.ledger.absorb_receipts() {
            if let Some(publisher) = self.publishers.get_mut(id.publisher as usize) {
                publisher.on_receipt();
            }
        }
        let accepted: Vec<usize> = self.ledger.channels.iter().map(|log| log.order.len()).collect();
        let (clients, step) = (&mut self.clients, self.step);
        self.joining.retain(|number| {
            let client = &mut clients[*number];
            let has_answer = client.wire.borrow().taken > 0;
            if has_answer {
                client.joined = Some(Snapshot { step, accepted: accepted.clone() });
            }
            !has_answer && client.end.is_none()
        });
        true
    }

    /// One client's step of its own accord.
    pub fn client_works(&mut self, number: usize) {
        self.step += 1;
        let now = self.now();
        self.clients[number].work(now, &mut self.ledger, &mut self.random);
    }

    /// One publisher's step.
    pub fn publisher_works(&mut self, number: usize) -> bool {
        self.step += 1;
        let (now, step) = (self.now(), self.step);
        self.publishers[number].work(&self.bus, &self.memory, &mut self.ledger, now, step)
    }

    /// Publishes one message of `length` bytes and settles.
    pub fn publish(&mut self, channel: usize, length: usize) {
        let number = self.publishers.len();
        self.publishers.push(Publisher::new(number as u32));
        self.publishers[number].enqueue(channel, length);
        self.settle();
    }

    /// Has a client relay a message.
    pub fn relay(&mut self, number: usize, length: usize) {
        self.step += 1;
        let (now, step) = (self.now(), self.step);
        let is_text = step % 2 == 0;
        self.clients[number].relay(length, is_text, step, now, &mut self.ledger);
    }

    /// Runs until nothing moves at the present moment. Slow readers stay as they are.
    pub fn settle(&mut self) {
        loop {
            let mut has_moved = false;
            for index in 0..self.shards.len() {
                while self.turn(index) {
                    has_moved = true;
                }
            }
            let now = self.now();
            for client in &mut self.clients {
                has_moved |= client.catch_up(now, &mut self.ledger);
            }
            for number in 0..self.publishers.len() {
                has_moved |= self.publisher_works(number);
            }
            if !has_moved {
                return;
            }
        }
    }

    /// Lets `duration` pass, from deadline to deadline.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now().after(duration);
        self.settle();
        while self.now() < end {
            let wakes = self.shards.iter().filter_map(|shard| shard.host.borrow().asleep_until);
            let next = wakes.min().unwrap_or(Time::NEVER).min(end);
            self.clock.set(next.max(self.now().after(Duration::from_nanos(1))));
            self.settle();
        }
    }

    /// Asks every shard whose lane has room what its channels retain, and holds that against the bound (GUARANTEES C9).
    pub fn check_memory(&mut self) -> Result<(), String> {
        let rows = Arc::new(Mutex::new(Vec::new()));
        for index in 0..self.shards.len() {
            let rows = Arc::clone(&rows);
            let on_answer = Box::new(move |answer| {
                if let Answer::Channels(Page { rows: channels, next: None }) = answer {
                    rows.lock().expect("one thread").extend(channels);
                }
            });
            let _ = self.bus.order(
                ShardId(index as u16),
                Order::Ask(Question::Channels { from_place: 0, limit: 100 }, on_answer),
            );
            self.turn(index);
        }
        for row in rows.lock().expect("one thread").iter() {
            let Some(log) = self.ledger.channels.iter().find(|log| log.name == row.channel) else { continue };
            let settings = &log.settings;
            let history = if settings.history_messages == 0 { 0 } else { settings.history_bytes };
            let bound = history.max(settings.max_lag_bytes) + self.ledger.largest;
            if row.retained_bytes > bound {
                return Err(format!(
                    "{} retains {} of {bound} bytes",
                    row.channel.as_str(),
                    row.retained_bytes
                ));
            }
        }
        Ok(())
    }

    /// A counter, summed over the shards.
    pub fn total(&self, counter: impl Fn(&ShardCounters) -> u64) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.wrapping_add(counter(&shard.counters)))
    }

    /// Connections that ended for `reason`.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        let both = |counters: &ShardCounters| {
            counters.closed_total(reason, Blame::Peer) + counters.closed_total(reason, Blame::Us)
        };
        self.total(both)
    }

    /// A number below `end`.
    pub fn pick(&mut self, end: usize) -> usize {
        self.random.random_range(0..end.max(1))
    }

    /// Slow readers read on; those that never read are left to their fate.
    pub fn recover(&mut self) {
        for client in self.clients.iter_mut().filter(|client| client.reader != Reader::Dead) {
            client.wire.borrow_mut().set_capacity(usize::MAX);
        }
        loop {
            self.settle();
            let now = self.now();
            let mut has_moved = false;
            for client in self.clients.iter_mut().filter(|client| client.reader != Reader::Dead) {
                has_moved |= client.read(usize::MAX, now, &mut self.ledger);
            }
            let wakes = self.shards.iter().filter_map(|shard| shard.host.borrow().asleep_until).min();
            let is_waiting = self.publishers.iter().any(Publisher::is_busy)
                || self.total(|counters| counters.outbox.get()) > 0;
            if is_waiting && !has_moved {
                self.clock.set(wakes.unwrap_or(now).max(now.after(Duration::from_millis(1))));
            } else if !has_moved {
                return;
            }
        }
    }

    /// Everybody leaves, each in its own way; then history runs out.
    pub fn leave_all(&mut self) {
        let now = self.now();
        for client in self.clients.iter_mut().filter(|client| client.end.is_none() && !client.has_left) {
            match self.random.random_range(0..4) {
                0 => client.leave_politely(),
                1 => client.finish(),
                _ => client.reset(now, &self.ledger),
            }
        }
        self.run_for(Duration::from_secs(90));
    }

    /// The end of a scenario: all that was owed arrived, and nothing is left of anybody.
    pub fn expect_all_well(mut self) {
        self.recover();
        check_delivery(&self).expect("delivery");
        self.leave_all();
        check_empty(&mut self).expect("nothing is left");
    }

    /// Hands messages of these lengths to the channel's home together, without a turn; whether it took them.
    pub fn publish_together(&mut self, channel: usize, lengths: &[usize]) -> bool {
        let number = self.publishers.len();
        self.publishers.push(Publisher::new(number as u32));
        for length in lengths {
            self.publishers[number].enqueue(channel, *length);
        }
        self.step += 1;
        let when = (self.now(), self.step);
        let home = ShardId::home_of(&self.ledger.channels[channel].name, self.shards.len());
        self.publishers[number].work_together(&self.bus, &self.memory, &mut self.ledger, home, when)
    }

    /// Hands messages of these lengths to the bus, in one go and without a turn.
    pub fn hand_over(&mut self, channel: usize, lengths: &[usize]) {
        let number = self.publishers.len();
        self.publishers.push(Publisher::new(number as u32));
        for length in lengths {
            self.publishers[number].enqueue(channel, *length);
        }
        while self.publisher_works(number) {}
    }
}
