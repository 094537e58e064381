//! What does deflating once for all subscribers save against deflating for each?
//!
//! What the gateway chose between; it deflates once, with one context for all (`src/hub/deflater.rs`). permessage-deflate
//! (RFC 7692) as zlib does it at its default level: raw deflate, flushed, the last four bytes `00 00 FF FF` left out. `once
//! for 1,000` has no context takeover: a message is deflated by itself, and the same bytes go to every subscriber. `each of 1,000` has
//! context takeover: every subscriber has a context of its own that remembers its last 32 KiB, deflates better and
//! deflates for it alone.
//!
//! Before the figures a line says what a context weighs: 371 KiB. So 1,000 subscribers with takeover hold 362 MiB,
//! three times what a million idle ones hold without compression, and every delivery walks through memory that no
//! cache holds. What takeover saves in bytes is printed too. JSON prices of up to 128, 512 and 4096 bytes.

use std::hint::black_box;
use std::time::Duration;

use allocation_counter::measure;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flate2::{Compress, Compression, FlushCompress};

const SUBSCRIBERS: usize = 1000;
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// log2 of the window, as browsers and servers have it unless they agree on less.
const WINDOW_BITS: u8 = 15;

fn context() -> Compress {
    Compress::new_with_window_bits(Compression::default(), false, WINDOW_BITS)
}

/// Prices in JSON, at most `size` bytes and nearly that; no two `sequence`s give the same.
fn prices(sequence: u64, size: usize) -> Vec<u8> {
    let mut text = format!("{{\"seq\":{sequence},\"prices\":[");
    let mut state = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    loop {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (symbol, cents) = ((state >> 60) % 16, (state >> 33) % 100_000);
        let price = format!("{{\"s\":\"SYM{symbol:02}\",\"bid\":{}.{:02}}},", cents / 100, cents % 100);
        if text.len() + price.len() + 1 > size {
            break;
        }
        text.push_str(&price);
    }
    text.pop();
    text.push_str("]}");
    text.into_bytes()
}

/// The payload of a compressed message, into `out`. Remembers what was before unless the context is reset.
fn deflate(context: &mut Compress, message: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let before = context.total_in();
    context.compress_vec(message, out, FlushCompress::Sync).expect("a valid stream");
    assert_eq!(context.total_in() - before, message.len() as u64, "the buffer holds it");
    assert!(out.ends_with(&TAIL), "it was flushed");
    out.truncate(out.len() - TAIL.len());
}

/// Messages that follow each other.
fn stream(size: usize) -> Vec<Vec<u8>> {
    (0..64).map(|sequence| prices(sequence, size)).collect()
}

/// Bytes of a message of `size`, on average, without and with takeover.
fn average_bytes(size: usize) -> [usize; 2] {
    [true, false].map(|resets| {
        let (mut context, mut out, messages) = (context(), buffer(size), stream(size));
        let lengths = messages.iter().map(|message| {
            if resets {
                context.reset();
            }
            deflate(&mut context, message, &mut out);
            out.len()
        });
        lengths.sum::<usize>() / messages.len()
    })
}

fn buffer(size: usize) -> Vec<u8> {
    Vec::with_capacity(2 * size + 64)
}

fn deflating(criterion: &mut Criterion) {
    let mut contexts = Vec::with_capacity(SUBSCRIBERS);
    let memory = measure(|| contexts.extend((0..SUBSCRIBERS).map(|_| context())));
    eprintln!("{SUBSCRIBERS} contexts hold {} KiB each", memory.bytes_current / 1024 / SUBSCRIBERS as i64);
    let mut group = criterion.benchmark_group("deflate");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    for size in [128, 512, 4096] {
        let [without, with] = average_bytes(size);
        eprintln!("{size} bytes become {without} without takeover, {with} with");
        group.throughput(Throughput::Elements(SUBSCRIBERS as u64));
        let (mut out, messages) = (buffer(size), stream(size));
        group.bench_function(BenchmarkId::new("once for 1,000", size), |bencher| {
            let (mut context, mut round) = (context(), messages.iter().cycle());
            bencher.iter(|| {
                context.reset();
                round.next().into_iter().for_each(|message| deflate(&mut context, message, &mut out));
                black_box(out.len())
            });
        });
        group.bench_function(BenchmarkId::new("each of 1,000", size), |bencher| {
            let mut round = messages.iter().cycle();
            bencher.iter(|| {
                let Some(message) = round.next() else { return };
                for context in &mut contexts {
                    deflate(context, message, &mut out);
                    black_box(out.len());
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, deflating);
criterion_main!(benches);
