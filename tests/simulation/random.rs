//! One seed: a gateway with random limits, random clients and publishers, random interleaving; then the oracle.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use tidegate::config::{ChannelSettings, LagPolicy, MessageType};

use super::client::{Reader, Tamper};
use super::oracle::{check_delivery, check_empty};
use super::publisher::Publisher;
use super::world::{Setup, World, homed};

fn one_of<T: Copy>(random: &mut SmallRng, choices: &[T]) -> T {
    choices[random.random_range(0..choices.len())]
}

fn settings(random: &mut SmallRng) -> ChannelSettings {
    ChannelSettings {
        history_messages: one_of(random, &[0, 0, 3, 50]),
        history_bytes: one_of(random, &[500, 20_000]),
        history_age: Duration::from_secs(20),
        on_lag: one_of(random, &[LagPolicy::Disconnect, LagPolicy::Skip]),
        max_lag_bytes: one_of(random, &[600, 5000, 5000, 100_000, 1 << 20]),
        max_lag_age: Duration::from_secs(10),
        relay: random.random_bool(0.4),
        compression: random.random_bool(0.5),
        compression_level: random.random_range(1..=9),
        compression_min_size: one_of(random, &[0, 32, 200]),
        compression_epoch: one_of(random, &[1, 2, 5, 64]),
        message_type: MessageType::Any,
        ..ChannelSettings::default()
    }
}

fn setup(seed: u64, random: &mut SmallRng) -> Setup {
    let shards = random.random_range(1..=4);
    let mut setup = Setup::new(seed);
    setup.shards = shards;
    setup.lane_capacity = one_of(random, &[2, 3, 8, 64]);
    setup.max_connections = one_of(random, &[12, 1000, 1000]);
    setup.config.write_budget = one_of(random, &[1, 2, 4, 64]);
    setup.config.accepts_per_turn = one_of(random, &[1, 2, 64]);
    setup.config.batch_window = one_of(random, &[Duration::ZERO, Duration::ZERO, Duration::from_millis(5)]);
    setup.config.ping_interval = Duration::from_secs(5);
    setup.config.pong_timeout = Duration::from_secs(2);
    let channels = random.random_range(1..=4);
    setup.channels = (0..channels)
        .map(|index| {
            let home = random.random_range(0..shards);
            (format!("{}.c{index}", homed(home, shards)), settings(random))
        })
        .collect();
    setup
}

fn length(random: &mut SmallRng) -> usize {
    match random.random_range(0..100) {
        0..70 => random.random_range(0..150),
        70..94 => random.random_range(100..3000),
        94..99 => random.random_range(3000..20_000),
        _ => random.random_range(60_000..200_000),
    }
}

fn connect(world: &mut World, random: &mut SmallRng) {
    let count = one_of(random, &[1, 1, 1, 2, 3]).min(world.ledger.channels.len());
    let first = random.random_range(0..world.ledger.channels.len());
    let channels: Vec<usize> =
        (0..count).map(|index| (first + index) % world.ledger.channels.len()).collect();
    let (reader, capacity) = match random.random_range(0..10) {
        0..5 => (Reader::Healthy, usize::MAX),
        5..8 => (Reader::Slow, one_of(random, &[1, 50, 1000, 5000])),
        8 => (Reader::Stalled, one_of(random, &[200, 1000, 100_000])),
        _ => (Reader::Dead, one_of(random, &[200, 1000])),
    };
    let shard = random.random_range(0..world.shards.len());
    let offer = one_of(
        random,
        &[
            None,
            Some("permessage-deflate"),
            Some("permessage-deflate; client_max_window_bits"),
            Some("permessage-deflate; server_no_context_takeover"),
            Some("permessage-deflate; server_max_window_bits=10"),
        ],
    );
    let number = world.connect_offering(shard, &channels, reader, capacity, offer);
    if random.random_bool(0.2) && reader != Reader::Healthy {
        world.clients[number].wire.borrow_mut().write_max = one_of(random, &[1, 7, 100]);
    }
}

/// Something that a client does on its own.
fn stir(world: &mut World, random: &mut SmallRng) {
    let number = random.random_range(0..world.clients.len());
    let client = &world.clients[number];
    if !client.is_open() || client.tamper.is_some() {
        return;
    }
    let is_witness = !client.witnesses.is_empty();
    let may_relay = client.channels.len() == 1 && world.ledger.channels[client.channels[0]].settings.relay;
    match random.random_range(0..20) {
        0..10 if may_relay && !is_witness => {
            let length = length(random).min(60_000);
            world.trace(|| format!("client {number} relays {length} bytes"));
            world.relay(number, length);
        }
        10 if !may_relay && !is_witness && random.random_bool(0.2) => {
            world.trace(|| format!("client {number} relays where it may not"));
            world.relay(number, 30);
        }
        11..15 => world.clients[number].ping(),
        15 | 16 if !is_witness => {
            world.trace(|| format!("client {number} closes"));
            world.clients[number].leave_politely();
            if random.random_bool(0.3) {
                world.clients[number].finish();
            }
        }
        17 if !is_witness => {
            world.trace(|| format!("client {number} resets"));
            let now = world.now();
            world.clients[number].reset(now, &world.ledger);
        }
        18 if !is_witness && random.random_bool(0.5) => {
            world.trace(|| format!("client {number} ends its side"));
            world.clients[number].finish();
        }
        _ => {}
    }
}

fn one_step(world: &mut World, random: &mut SmallRng) -> Result<(), String> {
    match random.random_range(0..1000) {
        0..450 => {
            let index = random.random_range(0..world.shards.len());
            world.turn(index);
        }
        450..700 => {
            let number = random.random_range(0..world.clients.len());
            world.client_works(number);
        }
        700..880 => {
            let number = random.random_range(0..world.publishers.len());
            if random.random_bool(0.6) {
                let channel = random.random_range(0..world.ledger.channels.len());
                let length = length(random);
                world.publishers[number].enqueue(channel, length);
            }
            world.publisher_works(number);
        }
        880..900 => {
            if world.clients.len() < 40 {
                connect(world, random);
            }
        }
        900..970 => stir(world, random),
        970..990 => {
            let millis = random.random_range(0..8);
            world.clock.set(world.now().after(Duration::from_millis(millis)));
        }
        990..995 => world.check_memory()?,
        995..998 => world.settle(),
        _ => {
            let duration = Duration::from_millis(random.random_range(0..3000));
            world.trace(|| format!("{duration:?} pass"));
            world.run_for(duration);
        }
    }
    Ok(())
}

/// Runs one seed; what is wrong, if anything is. `tamper` is put between the gateway and a healthy client.
pub fn run(seed: u64, traces: bool, tamper: Option<Tamper>) -> Result<World, String> {
    let mut random = <SmallRng as rand::SeedableRng>::seed_from_u64(seed);
    let setup = setup(seed, &mut random);
    let mut world = World::new(setup);
    world.traces = traces;
    for channel in 0..world.ledger.channels.len() {
        let settings = world.ledger.channels[channel].settings;
        world.trace(|| format!("channel {channel}: {settings:?}"));
        if settings.relay || random.random_bool(0.3) {
            let shard = random.random_range(0..world.shards.len());
            let number = world.join(shard, &[channel]);
            if settings.relay {
                world.clients[number].witnesses.push(channel);
            }
        }
    }
    if tamper.is_some() {
        let number = world.join(0, &[0]);
        world.clients[number].tamper = tamper;
    }
    connect(&mut world, &mut random);
    for number in 0..random.random_range(1..=4) {
        let mut publisher = Publisher::new(number);
        publisher.waits_for_receipts = random.random_bool(0.5);
        world.publishers.push(publisher);
    }
    world.ends_freely = world.budget.max() < 100;
    for _ in 0..random.random_range(200..1500) {
        one_step(&mut world, &mut random)?;
    }
    world.trace(|| "all recover".to_owned());
    world.recover();
    world.run_for(Duration::from_secs(2));
    world.recover();
    world.trace(|| "time passes".to_owned());
    world.run_for(Duration::from_secs(15));
    world.recover();
    check_delivery(&world)?;
    world.leave_all();
    check_empty(&mut world)?;
    Ok(world)
}
