//! What does it cost to route a publication to its subscribers, the kernel aside?
//!
//! From the bus to every subscriber's socket and back to rest, in a real shard: channel lookup, number, journal, the
//! pass over the members, cursors and counters. The sockets take everything and cost next to nothing. `of 1` is the
//! only channel; `of 10,000` has 9,999 others around it with a subscriber each, so that the difference is what
//! other channels cost. `round` publishes to 10,000 channels in turn, 10 subscribers each: nothing is warm.
//! Throughput is in deliveries. `lookup` is the name alone.

mod kit;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kit::Rig;
use kit::sink::Sink;
use tidegate::config::Config;
use tidegate::hub::Hub;
use tidegate::model::ShardId;

const CHANNELS: usize = 10_000;
const BYTES: usize = 512;

fn name(index: usize) -> String {
    format!("prices.{index}")
}

/// A shard with `subscribers` of channel 0 and `others` of each of the other `channels - 1`.
fn rig(subscribers: usize, channels: usize, others: usize) -> Rig<Sink> {
    let mut rig = Rig::new(Config::default(), subscribers + channels * others);
    let requests = (0..channels).flat_map(|index| {
        let request = kit::upgrade_request(&name(index));
        let count = if index == 0 { subscribers } else { others };
        (0..count).map(move |_| Sink::new(&request))
    });
    rig.admit(requests);
    rig
}

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route: lookup");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(700));
    for channels in [1, CHANNELS] {
        let mut hub = Hub::new(ShardId(0), 1, 1);
        let names: Vec<_> = (0..channels).map(|index| kit::channel(&name(index))).collect();
        names.iter().for_each(|name| _ = hub.open(name));
        group.bench_function(BenchmarkId::from_parameter(channels), |bencher| {
            let mut round = names.iter().cycle();
            bencher.iter(|| round.next().and_then(|name| hub.find(black_box(name))));
        });
    }
    group.finish();
}

fn routing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    for channels in [1, CHANNELS] {
        for subscribers in [1, 1000, 100_000] {
            let publication = kit::message(&kit::channel(&name(0)), BYTES);
            group.sample_size(if subscribers == 100_000 { 20 } else { 100 });
            group.throughput(Throughput::Elements(subscribers as u64));
            let mut rig = rig(subscribers, channels, 1);
            group.bench_function(BenchmarkId::new(format!("of {channels}"), subscribers), |bencher| {
                bencher.iter(|| {
                    rig.publish(&publication);
                    rig.settle();
                });
                let published = rig.counters.published.get();
                assert_eq!(rig.counters.delivered.get(), published * subscribers as u64);
            });
        }
    }
    group.finish();
}

fn round(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route: round");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(10));
    let mut rig = rig(10, CHANNELS, 10);
    let publications: Vec<_> =
        (0..CHANNELS).map(|index| kit::message(&kit::channel(&name(index)), BYTES)).collect();
    let mut round = publications.iter().cycle();
    group.bench_function("10 each of 10,000", |bencher| {
        bencher.iter(|| {
            round.next().into_iter().for_each(|publication| rig.publish(publication));
            rig.settle();
        });
        assert_eq!(rig.counters.delivered.get(), rig.counters.published.get() * 10);
    });
    group.finish();
}

criterion_group!(benches, lookup, routing, round);
criterion_main!(benches);
