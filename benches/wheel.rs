//! What does the timer wheel cost at a million entries, against a sorted map?
//!
//! `arm` fills an empty one; `turn` is the steady state: one tick passes, what comes up is armed again. A million
//! connections that are each due every 30 seconds or so, as pings are.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::clock::Wheel;
use tidegate::clock::wheel::TICK;
use tidegate::model::{ConnectionId, Time};

const ENTRIES: u32 = 1_000_000;
/// Ticks in 30 seconds.
const PERIOD_TICKS: u64 = 1875;

fn connection(slot: u32) -> ConnectionId {
    ConnectionId { slot, generation: 0 }
}

/// When `slot` is due again, seen from `now`: 24 to 36 seconds ahead, without pattern.
fn due_after(now: Time, slot: u32) -> Time {
    let scatter = slot.wrapping_mul(0x9e37_79b1) ^ now.as_millis() as u32;
    now.after(Duration::from_millis(24_000 + u64::from(scatter.wrapping_mul(0x85eb_ca6b) >> 8) % 12_000))
}

fn filled_wheel() -> Wheel {
    let mut wheel = Wheel::default();
    for slot in 0..ENTRIES {
        wheel.arm(connection(slot), due_after(Time::ZERO, slot));
    }
    wheel
}

fn filled_map() -> BTreeSet<(Time, ConnectionId)> {
    let mut map = BTreeSet::new();
    for slot in 0..ENTRIES {
        map.insert((due_after(Time::ZERO, slot), connection(slot)));
    }
    map
}

fn arm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("arm a million");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(u64::from(ENTRIES)));
    group.sample_size(10);
    group.bench_function("wheel", |bencher| {
        bencher.iter_batched(|| (), |()| filled_wheel(), BatchSize::PerIteration);
    });
    group.bench_function("sorted map", |bencher| {
        bencher.iter_batched(|| (), |()| filled_map(), BatchSize::PerIteration);
    });
    group.finish();
}

fn turn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn with a million");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(u64::from(ENTRIES) / PERIOD_TICKS));
    let mut wheel = filled_wheel();
    let mut now = Time::ZERO.after(Duration::from_secs(24));
    let mut due = Vec::new();
    group.bench_function("wheel", |bencher| {
        bencher.iter(|| {
            now = now.after(TICK);
            wheel.expire(now, usize::MAX, &mut due);
            for timer in due.drain(..) {
                wheel.arm(timer.connection, due_after(now, timer.connection.slot));
            }
            black_box(wheel.next_due())
        });
    });
    let mut map = filled_map();
    let mut now = Time::ZERO.after(Duration::from_secs(24));
    group.bench_function("sorted map", |bencher| {
        bencher.iter(|| {
            now = now.after(TICK);
            while let Some((_, connection)) = map.first().copied().filter(|(due, _)| *due <= now) {
                map.pop_first();
                map.insert((due_after(now, connection.slot), connection));
            }
            black_box(map.first().copied())
        });
    });
    group.finish();
}

criterion_group!(benches, arm, turn);
criterion_main!(benches);
