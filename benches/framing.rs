//! What does framing one message for all subscribers cost?
//!
//! A message is framed once, whatever the number of subscribers: `append` is that alone, into a buffer that is
//! there already; `encode` makes the publication that crosses the bus, with its one allocation; `tungstenite` is
//! what the codec would take for each subscriber.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::model::{ChannelName, PayloadKind, Publication, Time, encoding};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

fn framing(criterion: &mut Criterion) {
    let channel = ChannelName::parse("lobby").expect("a valid literal");
    let mut group = criterion.benchmark_group("framing");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    for size in [128, 512, 16 * 1024] {
        let payload = vec![b'x'; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_with_input(BenchmarkId::new("append", size), &payload, |bencher, payload| {
            let mut strip = Vec::with_capacity(size + encoding::FRAME_HEADER_BYTES_MAX);
            bencher.iter(|| {
                strip.clear();
                encoding::append_data_frame(PayloadKind::Text, black_box(payload), &mut strip);
                black_box(strip.len())
            });
        });
        group.bench_with_input(BenchmarkId::new("encode", size), &payload, |bencher, payload| {
            bencher.iter(|| {
                let kind = PayloadKind::Text;
                Publication::encode(channel.clone(), kind, black_box(payload), Time::ZERO, None)
            });
        });
        group.bench_with_input(BenchmarkId::new("tungstenite", size), &payload, |bencher, payload| {
            let shared = bytes::Bytes::copy_from_slice(payload);
            let mut strip = Vec::with_capacity(size + encoding::FRAME_HEADER_BYTES_MAX);
            bencher.iter(|| {
                strip.clear();
                let frame = Frame::message(black_box(shared.clone()), OpCode::Data(Data::Text), true);
                frame.format(&mut strip).expect("a vector takes everything");
                black_box(strip.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, framing);
criterion_main!(benches);
