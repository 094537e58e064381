//! What arrives, and in which order: E1 (slow ones disturb nobody), E3 (one order for all), E9 (parallel publishers),
//! E10 (publishing while somebody joins), C14 (a hot channel and a quiet one).

use crate::kit::{EndOnDrop, Flock, Standing, text_of};
use crate::support::{
    Frame, Gateway, Opcode, Oracles, PATIENCE, RawOptions, WebSocketClient, masked_frame, pause, wait_until,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Gives data frames to `on_text` and drops the rest.
fn texts(mut on_text: impl FnMut(usize, String)) -> impl FnMut(usize, Frame) {
    move |member, frame| match frame.opcode {
        Opcode::Ping => {}
        _ => on_text(member, text_of(frame)),
    }
}

#[test]
fn e1_one_in_ten_reads_slowly_and_the_others_get_everything_in_order() {
    // Stands for 10,000 readers: nothing is shared between them but the journal.
    const READERS: usize = 200;
    const SLOW: usize = READERS / 10;
    const MESSAGES: usize = 300;
    let mut gateway = Gateway::start(&["--max-lag-bytes", "256KiB"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let tiny = RawOptions { receive_buffer: Some(4096), source: None };
    let join_slow = |_| WebSocketClient::join_with(gateway.clients, "/ws/feed", tiny, &[]);
    let mut slow: Vec<WebSocketClient> = (0..SLOW).map(join_slow).collect();
    let mut flock = Flock::join(&gateway, "/ws/feed", READERS - SLOW);

    // The others are never further behind than half of what they may be, however busy the machine is.
    const BEHIND_MAX: usize = 16;
    let padding = "x".repeat(8 * 1024);
    let next = RefCell::new(vec![0; READERS - SLOW]);
    let mut on_text = texts(|reader, text| {
        let mut next = next.borrow_mut();
        assert_eq!(text.split(' ').next(), Some(next[reader].to_string().as_str()), "reader {reader}");
        next[reader] += 1;
    });
    for number in 0..MESSAGES {
        standing.publish("feed", &format!("{number} {padding}"));
        // A kilobyte each, now and then.
        if number % 50 == 0 {
            for client in &mut slow {
                client.raw.sip(1024);
            }
        }
        flock.read_until("the others to keep up", &mut on_text, || {
            next.borrow().iter().all(|next| next + BEHIND_MAX > number)
        });
    }
    flock.read_until("everything to arrive", &mut on_text, || {
        next.borrow().iter().all(|next| *next == MESSAGES)
    });

    assert_eq!(flock.connected(), READERS - SLOW);
    let cut = standing.wait_metric("tidegate_closed_total", &["reason=\"slow_consumer\""], |cut| cut > 0.0);
    assert!(cut <= SLOW as f64, "{cut} were cut, {SLOW} were slow");
    drop((slow, flock, standing));
    oracles.check(&mut gateway);
}

#[test]
fn e3_all_subscribers_on_all_shards_see_one_order() {
    // Stands for 2,000 subscribers a channel: 50 are enough to be on all of four shards.
    const CHANNELS: [&str; 4] = ["a", "b", "c", "d"];
    const PUBLISHERS: usize = 8;
    const EACH: usize = 25;
    const SUBSCRIBERS: usize = 50;
    let mut gateway = Gateway::start(&["--shards", "4"]);
    let oracles = Oracles::before(&gateway);
    let targets: Vec<String> =
        (0..CHANNELS.len() * SUBSCRIBERS).map(|index| format!("/ws/{}", CHANNELS[index % 4])).collect();
    let mut flock = Flock::join_each(&gateway, &targets.iter().map(String::as_str).collect::<Vec<_>>());

    let publish = |publisher: usize| {
        let mut standing = Standing::open(&gateway);
        let mut accepted = Vec::new();
        for number in 0..EACH {
            for channel in 0..CHANNELS.len() {
                // Each begins at another channel, so that all channels are busy all the time.
                let channel = (channel + publisher) % CHANNELS.len();
                let text = format!("{publisher}-{number}");
                let offset = standing.publish(CHANNELS[channel], &text);
                accepted.push((channel, offset, text));
            }
        }
        accepted
    };
    let mut seen: Vec<Vec<String>> = vec![Vec::new(); targets.len()];
    let accepted: Vec<(usize, u64, String)> = std::thread::scope(|scope| {
        let publishers: Vec<_> =
            (0..PUBLISHERS).map(|publisher| scope.spawn(move || publish(publisher))).collect();
        let total = AtomicUsize::new(0);
        flock.read_until(
            "all messages",
            texts(|reader, text| {
                seen[reader].push(text);
                total.fetch_add(1, Ordering::Relaxed);
            }),
            || total.load(Ordering::Relaxed) == targets.len() * PUBLISHERS * EACH,
        );
        publishers.into_iter().flat_map(|publisher| publisher.join().expect("a publisher")).collect()
    });

    for (channel, name) in CHANNELS.iter().enumerate() {
        // The order is that of the positions in the replies, which have no hole.
        let order: BTreeMap<u64, &String> = accepted
            .iter()
            .filter(|(at, ..)| *at == channel)
            .map(|(_, offset, text)| (*offset, text))
            .collect();
        assert_eq!(order.len(), PUBLISHERS * EACH, "every message of {name} has an offset of its own");
        let (first, last) = (order.keys().next().expect("messages"), order.keys().last().expect("messages"));
        assert_eq!((last - first + 1) as usize, order.len(), "offsets of {name} have no hole");
        let order: Vec<&String> = order.into_values().collect();
        for (reader, seen) in seen.iter().enumerate().filter(|(reader, _)| reader % 4 == channel) {
            assert!(
                seen.iter().eq(order.iter().copied()),
                "reader {reader} of {name} saw {seen:?}, not {order:?}"
            );
        }
    }
    drop(flock);
    oracles.check(&mut gateway);
}

#[test]
fn e9_parallel_publishers_keep_their_own_order_and_all_subscribers_agree() {
    const PUBLISHERS: usize = 16;
    const EACH: usize = 40;
    const SUBSCRIBERS: usize = 20;
    let mut gateway = Gateway::start(&["--shards", "4"]);
    let oracles = Oracles::before(&gateway);
    let mut flock = Flock::join(&gateway, "/ws/feed", SUBSCRIBERS);

    // Half wait for each reply; the others send all there is and read the replies afterwards.
    let publish = |publisher: usize| {
        let mut standing = Standing::open(&gateway);
        for number in 0..EACH {
            standing.send_post("/publish/feed", "text/plain", format!("{publisher}-{number}").as_bytes());
            if publisher.is_multiple_of(2) {
                assert_eq!(standing.response().status, 200);
            }
        }
        for _ in 0..EACH * (publisher % 2) {
            assert_eq!(standing.response().status, 200);
        }
    };
    let mut seen: Vec<Vec<String>> = vec![Vec::new(); SUBSCRIBERS];
    std::thread::scope(|scope| {
        (0..PUBLISHERS).for_each(|publisher| drop(scope.spawn(move || publish(publisher))));
        let total = AtomicUsize::new(0);
        flock.read_until(
            "all messages",
            texts(|reader, text| {
                seen[reader].push(text);
                total.fetch_add(1, Ordering::Relaxed);
            }),
            || total.load(Ordering::Relaxed) == SUBSCRIBERS * PUBLISHERS * EACH,
        );
    });

    let mut next: HashMap<&str, usize> = HashMap::new();
    for text in &seen[0] {
        let (publisher, number) = text.split_once('-').expect("publisher and number");
        let next = next.entry(publisher).or_default();
        assert_eq!(number, next.to_string(), "of publisher {publisher}");
        *next += 1;
    }
    assert!(seen.iter().all(|one| *one == seen[0]), "all subscribers see one order");
    drop(flock);
    oracles.check(&mut gateway);
}

#[test]
fn e10_nothing_accepted_after_the_101_is_missed_however_shards_attach_and_detach() {
    const JOINS: usize = 120;
    let mut gateway = Gateway::start(&["--shards", "4"]);
    let oracles = Oracles::before(&gateway);
    let (stop, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let publisher = {
        let (stop, begun, mut standing) = (Arc::clone(&stop), Arc::clone(&begun), Standing::open(&gateway));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // The number is out before the message is: who has joined by then must not miss it.
                let number = begun.fetch_add(1, Ordering::SeqCst);
                standing.publish("feed", &number.to_string());
            }
        })
    };

    for join in 0..JOINS {
        // Mostly one subscriber at a time, so that its shard has to ask the home every time; now and then several.
        let mut clients: Vec<(WebSocketClient, usize)> = (0..=join % 8 / 6)
            .map(|_| {
                let client = gateway.join("/ws/feed");
                let begun = begun.load(Ordering::SeqCst);
                (client, begun)
            })
            .collect();
        for (client, begun) in &mut clients {
            let first: usize = client.next_text().parse().expect("a number");
            assert!(first <= *begun, "join {join}: {begun} was the first to come after the 101, not {first}");
            for next in first + 1..first + 4 {
                assert_eq!(client.next_text(), next.to_string(), "join {join} began with {first}");
            }
        }
    }

    stop.store(true, Ordering::Relaxed);
    publisher.join().expect("the publisher");
    oracles.check(&mut gateway);
}

#[test]
fn e9_batches_of_two_publishers_stay_in_one_piece_while_clients_relay() {
    // More than a shard numbers in a turn: it reads clients while some of a batch are numbered and some are not.
    const TOGETHER: usize = 600;
    const BATCHES: usize = 4;
    let options = ["--shards", "2", "--relay", "feed", "--client-rate", "0", "--max-lag-age", "1m"];
    let mut gateway = Gateway::start(&options);
    let oracles = Oracles::before(&gateway);
    let mut witness = gateway.join("/ws/feed");
    let mut senders: Vec<_> = (0..4).map(|_| gateway.join("/ws/feed")).collect();
    let stop = AtomicBool::new(false);

    let gateway_ref = &gateway;
    let (order, published) = std::thread::scope(|scope| {
        for sender in &mut senders {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    sender.send_text("relayed");
                    pause(Duration::from_millis(1));
                }
            });
        }
        for publisher in 0..2 {
            scope.spawn(move || {
                let mut standing = Standing::open(gateway_ref);
                for batch in 0..BATCHES {
                    let item = |number: usize| {
                        format!(r#"{{"channel":"feed","data":"{publisher} {batch} {number}"}}"#)
                    };
                    let items: Vec<String> = (0..TOGETHER).map(item).collect();
                    let body = format!("[{}]", items.join(","));
                    // Beside so many clients that relay, a batch may be refused; then it is refused whole.
                    wait_until("a batch is taken", PATIENCE, || {
                        standing.send_post("/api/batch", "application/json", body.as_bytes());
                        let status = standing.response().status;
                        assert!([200, 503].contains(&status), "{status}");
                        status == 200
                    });
                }
            });
        }
        // Whatever happens to the publishers, the others are told to stop.
        let (mut order, mut published, mut newest) = (Vec::<String>::new(), 0, Instant::now());
        while published < 2 * BATCHES * TOGETHER && newest.elapsed() < 2 * PATIENCE {
            let text = witness.next_text();
            if text != "relayed" {
                (published, newest) = (published + 1, Instant::now());
            }
            order.push(text);
        }
        stop.store(true, Ordering::Relaxed);
        (order, published)
    });
    assert_eq!(published, 2 * BATCHES * TOGETHER);

    let mut rest = order.iter().filter(|text| *text == "relayed").count();
    assert!(rest > 0, "nothing was relayed meanwhile");
    let mut texts = order.iter();
    while let Some(text) = texts.next() {
        if text == "relayed" {
            rest -= 1;
            continue;
        }
        let (batch, first) = text.rsplit_once(' ').expect("publisher, batch, number");
        assert_eq!(first, "0");
        for number in 1..TOGETHER {
            assert_eq!(texts.next(), Some(&format!("{batch} {number}")));
        }
    }
    assert_eq!(rest, 0);
    witness.close();
    senders.into_iter().for_each(|sender| sender.close());
    oracles.check(&mut gateway);
}

#[test]
fn c14_a_hot_channel_does_not_starve_a_quiet_one() {
    // Stands for 19,000 subscribers: with 400 a pass takes several slices of the flush, which is what matters.
    const HOT: usize = 400;
    const WRITE_BUDGET: usize = 2;
    let budget = WRITE_BUDGET.to_string();
    let gateway =
        Gateway::start(&["--max-lag-bytes", "4MiB", "--max-lag-age", "1m", "--write-budget", &budget]);
    let mut standing = Standing::open(&gateway);
    let mut quiet = gateway.join("/ws/quiet");
    let mut flock = Flock::join(&gateway, "/ws/hot", HOT);
    let (stop, published) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut hot = Standing::open(&gateway);

    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                hot.publish("hot", &published.fetch_add(1, Ordering::Relaxed).to_string());
            }
        });
        let reader = scope.spawn(|| {
            let mut next: Vec<Option<usize>> = vec![None; HOT];
            let mut end = Instant::now() + PATIENCE;
            let mut is_over = false;
            while !is_over && Instant::now() < end {
                // Once the publisher has stopped, until all have all of it.
                let total = published.load(Ordering::Relaxed);
                let has_stopped = stop.load(Ordering::Relaxed);
                let has_read = flock.read(texts(|reader, text| {
                    let number: usize = text.parse().expect("a number");
                    assert_eq!(number, next[reader].unwrap_or(0), "reader {reader} has a gap");
                    next[reader] = Some(number + 1);
                }));
                if has_read {
                    end = Instant::now() + PATIENCE;
                } else {
                    pause(Duration::from_millis(1));
                }
                is_over = has_stopped && next.iter().all(|next| *next == Some(total));
            }
            assert!(is_over, "not everybody got everything");
        });

        let _end = EndOnDrop(&stop);
        let mut feed_at = 0;
        for round in 0..30_u8 {
            standing.publish("quiet", &format!("{round}"));
            assert_eq!(quiet.next_text(), round.to_string());
            // Not in every one: a burst is 20.
            if round % 2 == 0 {
                quiet.raw.send(&masked_frame(Opcode::Ping, &[round]));
                let frame = quiet.next_frame();
                assert_eq!((frame.opcode, frame.payload.as_slice()), (Opcode::Pong, [round].as_slice()));
            }
            // The feed is hot indeed: it gets on in every round.
            let end = Instant::now() + PATIENCE;
            while published.load(Ordering::Relaxed) == feed_at {
                assert!(Instant::now() < end, "the hot feed stands still");
                pause(Duration::from_millis(1));
            }
            feed_at = published.load(Ordering::Relaxed);
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().expect("the reader");
    });

    // A turn has its bound: a budget of writes for news, and one for who was in the middle of something.
    let writes = standing.metric("tidegate_entries_per_write_count", &[]);
    let turns = standing.turns();
    assert!(writes <= turns * 2.0 * WRITE_BUDGET as f64, "{writes} writes in {turns} turns");
    assert_eq!(standing.closed("slow_consumer"), 0.0);
}
