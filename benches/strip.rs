//! What does appending one message to a channel's strip cost, with old ones being let go all the while?
//!
//! `history` keeps the last 1,000 messages, so that each append pushes one out; `nothing kept` is a channel without
//! history whose subscribers have all caught up: the journal is emptied after each message and owns no memory then.
//! Messages of 8 KiB and more are not copied: the strip keeps the buffer they crossed the bus in. `copy` is for
//! scale: the message's bytes into a buffer that is there already.

mod kit;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::journal::{Journal, Need, Window};
use tidegate::model::{Offset, Publication, Time};

const KEPT: u64 = 1000;

/// Appends and lets go, as a feed does it; no subscriber needs what has been written.
fn append(journal: &mut Journal, publication: &Publication, messages: u64) {
    let window = Window { messages, bytes: u64::MAX, age: Duration::from_secs(60) };
    let offset = journal.next();
    journal.append(offset, publication);
    let need = Need { from: offset.next(), bytes_max: 1024 * 1024 };
    journal.retain(window, need, Time::ZERO);
}

fn strip(criterion: &mut Criterion) {
    let channel = kit::channel("lobby");
    let mut group = criterion.benchmark_group("append to a strip");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    for size in [64, 512, 16 * 1024] {
        let publication = kit::message(&channel, size);
        group.throughput(Throughput::Bytes(size as u64));
        for (name, kept) in [("history", KEPT), ("nothing kept", 0)] {
            group.bench_with_input(BenchmarkId::new(name, size), &publication, |bencher, publication| {
                let mut journal = Journal::new(Offset::FIRST);
                (0..2 * KEPT).for_each(|_| append(&mut journal, publication, kept));
                bencher.iter(|| append(&mut journal, black_box(publication), kept));
                assert_eq!(journal.len() as u64, kept);
            });
        }
        group.bench_with_input(BenchmarkId::new("copy", size), &publication, |bencher, publication| {
            let mut buffer = Vec::with_capacity(publication.frame.len());
            bencher.iter(|| {
                buffer.clear();
                buffer.extend_from_slice(black_box(&publication.frame));
                black_box(buffer.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, strip);
criterion_main!(benches);
