//! What does framing one message for all subscribers cost?
//!
//! A message is framed once, whatever the number of subscribers: `append` is that alone, into a buffer that is
//! there already; `encode` makes the publication that crosses the bus, with its one allocation; `tungstenite` is
//! what the codec would take for each subscriber. `envelope` is `append` for those who speak `tidegate.v1`, of JSON:
//! it is read to be sure of it.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::model::encoding::{self, Labelled};
use tidegate::model::{ChannelName, Epoch, Offset, PayloadKind, Position, Publication, Time};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// A list of prices, of about `size` bytes; if they have an id, one that looks as if a number had an exponent.
fn prices(size: usize, has_id: bool) -> String {
    let id = if has_id { r#""id":"4e77","# } else { "" };
    let price =
        |number: usize| format!(r#"{{{id}"symbol":"EURUSD","bid":1.{number:05},"sequence":{number}}}"#);
    let count = size / price(0).len();
    format!("[{}]", (0..count.max(1)).map(|number| price(number * 37)).collect::<Vec<_>>().join(","))
}

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
        let position = Position { epoch: Epoch(1), offset: Offset(1) };
        for (name, has_id) in [("envelope", false), ("envelope-id", true)] {
            group.bench_with_input(
                BenchmarkId::new(name, size),
                &prices(size, has_id),
                |bencher, payload| {
                    let mut strip = Vec::with_capacity(size * 2 + 1024);
                    bencher.iter(|| {
                        strip.clear();
                        let (kind, payload) = (PayloadKind::Text, black_box(payload.as_bytes()));
                        let message = Labelled { channel: &channel, position, key: None, kind, payload };
                        encoding::append_envelope_frame(&message, &mut strip);
                        black_box(strip.len())
                    });
                },
            );
        }
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
