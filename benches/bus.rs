//! What does a publication cost to reach the inboxes of 2 to 64 shards?
//!
//! The way of a message that every shard has subscribers for: onto the home's lane, off it, one order for each other
//! shard, and off each of their lanes. `one thread` is that in a row, nothing contended: the price in instructions.
//! `two threads` has one thread that sends to all lanes and one that empties them, nobody asleep, so that cache lines
//! travel; a lane that is full is tried again. Throughput is in inboxes reached.

mod kit;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kit::NoWake;
use tidegate::bus::{Bus, Full, Numbered, Order, Publish, Receiver, Wake};
use tidegate::clock::Clock;
use tidegate::config::limits::BUS_LANE_MESSAGES;
use tidegate::model::{Epoch, Offset, Publication, ShardId};

const SHARDS: [usize; 6] = [2, 4, 8, 16, 32, 64];

fn bus(shards: usize) -> (Bus, Vec<Receiver>) {
    let wakers = (0..shards).map(|_| Box::new(NoWake) as Box<dyn Wake>).collect();
    let bus = Bus::new(wakers, BUS_LANE_MESSAGES);
    let receivers = (0..shards).map(|index| bus.receiver(ShardId(index as u16))).collect();
    (bus, receivers)
}

fn deliver(publication: &Publication) -> Order {
    Order::Deliver(Epoch(1), Numbered { offset: Offset::FIRST, publication: publication.clone() })
}

/// Sends until there is room.
fn send(bus: &Bus, to: ShardId, mut order: Order) {
    while let Err(Full(refused)) = bus.order(to, order) {
        order = refused;
        std::thread::yield_now();
    }
}

fn one_thread(criterion: &mut Criterion) {
    let publication = kit::message(&kit::channel("lobby"), 512);
    let mut group = criterion.benchmark_group("bus: one thread");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(800));
    for shards in SHARDS {
        group.throughput(Throughput::Elements(shards as u64));
        group.bench_function(BenchmarkId::from_parameter(shards), |bencher| {
            let (bus, mut receivers) = bus(shards);
            let home = ShardId::home_of(&publication.channel, shards);
            let others: Vec<_> = (0..shards as u16).map(ShardId).filter(|shard| *shard != home).collect();
            bencher.iter(|| {
                let publish = Publish { publication: publication.clone(), on_receipt: None };
                bus.publish(publish).expect("the lane is empty");
                let taken = receivers[home.index()].next_publish().expect("it was just sent");
                others.iter().for_each(|shard| send(&bus, *shard, deliver(&taken.publication)));
                others.iter().for_each(|shard| _ = black_box(receivers[shard.index()].next_order()));
            });
        });
    }
    group.finish();
}

/// Empties the lanes until each has given `count` orders.
fn empty(receivers: &mut [Receiver], count: u64) {
    let mut left = count * receivers.len() as u64;
    while left > 0 {
        let before = left;
        for receiver in receivers.iter_mut() {
            while let Some(order) = receiver.next_order() {
                black_box(&order);
                left -= 1;
            }
        }
        if left == before {
            std::thread::yield_now();
        }
    }
}

fn two_threads(criterion: &mut Criterion) {
    let publication = kit::message(&kit::channel("lobby"), 512);
    let clock = Clock::start();
    let mut group = criterion.benchmark_group("bus: two threads");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(800));
    group.sample_size(30);
    for shards in SHARDS {
        group.throughput(Throughput::Elements(shards as u64));
        group.bench_function(BenchmarkId::from_parameter(shards), |bencher| {
            let (bus, mut receivers) = bus(shards);
            bencher.iter_custom(|publications| {
                let began_at = clock.now();
                std::thread::scope(|scope| {
                    scope.spawn(|| empty(&mut receivers, publications));
                    for _ in 0..publications {
                        let shards = (0..shards as u16).map(ShardId);
                        shards.for_each(|shard| send(&bus, shard, deliver(&publication)));
                    }
                });
                clock.now().since(began_at)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, one_thread, two_threads);
criterion_main!(benches);
