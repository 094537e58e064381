//! What does a request head cost, from its bytes to the decision, in one piece and byte by byte?
//!
//! The head is a browser's upgrade request. "scan" is the search for its end alone, "decide" what follows, so that
//! the difference between one piece and single bytes shows that nothing is read again. For scale: the
//! kernel's part of accepting a connection and answering it is about 26 us.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidegate::config::Config;
use tidegate::edge::{Edge, HeadScanner, Scan};

const BROWSER: &[u8] = b"GET /ws/lobby HTTP/1.1\r\n\
    Host: gate.example:8080\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Upgrade: websocket\r\n\
    Origin: http://gate.example:8080\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

fn request_head(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request_head");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Bytes(BROWSER.len() as u64));
    group.bench_function("scan/one_piece", |bencher| {
        bencher.iter(|| HeadScanner::new().scan(black_box(BROWSER)));
    });
    group.bench_function("scan/byte_by_byte", |bencher| {
        bencher.iter(|| {
            let mut scanner = HeadScanner::new();
            black_box(BROWSER)
                .chunks(1)
                .map(|byte| scanner.scan(byte))
                .filter(|scan| *scan == Ok(Scan::NeedMore))
                .count()
        });
    });
    let edge = Edge::new(&Config::default());
    group.bench_function("decide/join", |bencher| {
        bencher.iter(|| edge.decide(black_box(BROWSER), false, false));
    });
    group.bench_function("decide/refuse", |bencher| {
        let nowhere = b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n";
        bencher.iter(|| edge.decide(black_box(nowhere), false, false));
    });
    group.finish();
}

criterion_group!(benches, request_head);
criterion_main!(benches);
