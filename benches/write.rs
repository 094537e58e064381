//! What does gathering and writing to sockets cost against a bare `send` of the same bytes?
//!
//! 128 pairs of loopback TCP sockets, messages of 512 bytes, 1 or 32 outstanding; the clients read outside the timed
//! part. All contenders write to the same sockets. `bare send` is one `send` per socket of bytes that lie ready, in a
//! loop: the kernel's own price. `gather` visits subscriber by subscriber, as a subscriber of several channels is:
//! plan, write, move the cursor. `turn` is a whole turn of a shard, from the bus on: number, journal, writes by the
//! group, counters. `send each` is what a server without a journal does: one `send` a message. Throughput is in
//! deliveries.
//!
//! Criterion measures one contender after the other, and a shared machine changes meanwhile. So the ratios are printed
//! first, from rounds that alternate: they are the answer.

mod kit;

use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kit::Rig;
use tidegate::clock::Clock;
use tidegate::config::{ChannelSettings, Config};
use tidegate::delivery::{Feed, Feeds, Manner, Owed, SLICES_MAX, Subscription};
use tidegate::journal::Cursor;
use tidegate::model::{ChannelIndex, Epoch, Offset, Publication, Time};
use tidegate::net::{Tcp, Transport, sys};

const PAIRS: u32 = 128;
const BYTES: usize = 512;
/// Rounds of each contender from which its ratio is taken.
const ALTERNATING_ROUNDS: usize = 301;
const CHANNEL: ChannelIndex = ChannelIndex(0);

/// Both ends of the connections; the servers' ends do not block.
struct Pairs {
    servers: Vec<TcpStream>,
    clients: Vec<TcpStream>,
    received: Vec<u8>,
}

impl Pairs {
    fn connect() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
        let address = listener.local_addr().expect("a bound address");
        let (mut servers, mut clients) = (Vec::new(), Vec::new());
        for _ in 0..PAIRS {
            clients.push(TcpStream::connect(address).expect("a client"));
            let (server, _) = listener.accept().expect("its other end");
            server.set_nodelay(true).expect("a TCP socket");
            server.set_nonblocking(true).expect("a socket");
            servers.push(server);
        }
        Self { servers, clients, received: vec![0; 64 * 1024] }
    }

    /// The same sockets, as the gateway holds them.
    fn transports(&self) -> Vec<Tcp> {
        let clone = |server: &TcpStream| server.try_clone().expect("a descriptor");
        self.servers.iter().map(clone).map(mio::net::TcpStream::from_std).map(Tcp::new).collect()
    }

    /// Every client reads `length` bytes, which must have been sent.
    fn drain(&mut self, length: usize) {
        for client in &mut self.clients {
            client.read_exact(&mut self.received[..length]).expect("all of it was sent");
        }
    }

    /// Every client asks to subscribe.
    fn ask(&mut self, channel: &str) {
        let request = kit::upgrade_request(channel);
        self.clients.iter_mut().for_each(|client| client.write_all(&request).expect("a small request"));
    }

    /// Every client reads its answer.
    fn drain_answers(&mut self) {
        for client in &mut self.clients {
            let mut length = 0;
            while !self.received[..length].ends_with(b"\r\n\r\n") {
                length += client.read(&mut self.received[length..]).expect("the rest of an answer");
            }
        }
    }
}

/// One way to get messages to everybody.
trait Contender {
    /// What comes before, not timed.
    fn prepare(&mut self) {}

    /// Sends everything that is outstanding to everybody.
    fn write(&mut self);
}

/// Time of one round of `contender`; what comes before is not in it, nor what the clients read, `length` bytes each.
fn round(clock: Clock, pairs: &mut Pairs, length: usize, contender: &mut dyn Contender) -> Duration {
    contender.prepare();
    let began_at = clock.now();
    contender.write();
    let spent = clock.now().since(began_at);
    pairs.drain(length);
    spent
}

/// Prints what each contender takes in relation to the first: medians of rounds that alternate.
fn compare(clock: Clock, pairs: &mut Pairs, length: usize, contenders: &mut [(&str, &mut dyn Contender)]) {
    let mut spent = vec![Vec::new(); contenders.len()];
    for _ in 0..ALTERNATING_ROUNDS {
        for ((_, contender), spent) in contenders.iter_mut().zip(&mut spent) {
            spent.push(round(clock, pairs, length, *contender));
        }
    }
    let medians = spent.iter_mut().map(|spent| {
        spent.sort_unstable();
        spent[spent.len() / 2].as_secs_f64()
    });
    let medians: Vec<f64> = medians.collect();
    for ((name, _), median) in contenders.iter().zip(&medians) {
        eprintln!(
            "  {name}: {:.2} us a socket, {:.3} x",
            median * 1e6 / f64::from(PAIRS),
            median / medians[0]
        );
    }
}

/// `send` of `bytes`, `count` times to each.
struct Send<'a> {
    servers: &'a [TcpStream],
    bytes: &'a [u8],
    count: u64,
}

impl Contender for Send<'_> {
    fn write(&mut self) {
        for socket in self.servers {
            for _ in 0..self.count {
                send(socket, self.bytes);
            }
        }
    }
}

/// See the header.
struct Gather<'a> {
    members: &'a mut Members,
    publication: &'a Publication,
    outstanding: u64,
}

impl Contender for Gather<'_> {
    fn prepare(&mut self) {
        for _ in 0..self.outstanding {
            self.members.append(self.publication);
        }
    }

    fn write(&mut self) {
        self.members.visit_all();
    }
}

/// See the header.
struct Turn<'a> {
    rig: &'a mut Rig<Tcp>,
    publication: &'a Publication,
    outstanding: u64,
}

impl Contender for Turn<'_> {
    fn prepare(&mut self) {
        for _ in 0..self.outstanding {
            self.rig.publish(self.publication);
        }
    }

    fn write(&mut self) {
        self.rig.settle();
    }
}

fn send(socket: &TcpStream, bytes: &[u8]) {
    let taken = sys::send(socket.as_fd(), bytes).expect("an open socket");
    assert_eq!(taken, bytes.len(), "the buffer holds it");
}

/// One channel's feed and the subscribers that read it.
struct Members {
    feeds: Feeds,
    owed: Vec<Owed>,
    sockets: Vec<Tcp>,
}

impl Members {
    fn new(sockets: Vec<Tcp>) -> Self {
        let mut feeds = Feeds::default();
        let feed = feeds.insert(CHANNEL, Feed::new(ChannelSettings::default(), Epoch(1), Offset::FIRST));
        let owed = (0..PAIRS).map(|member| {
            let mut owed = Owed::default();
            owed.subscribe(Subscription { channel: CHANNEL, member, cursor: Cursor::plain(Offset::FIRST) });
            feed.on_join(Offset::FIRST, member + 1);
            owed
        });
        Self { owed: owed.collect(), feeds, sockets }
    }

    fn append(&mut self, publication: &Publication) {
        let feed = self.feeds.get_mut(CHANNEL).expect("the feed");
        let offset = feed.journal.next();
        feed.append(offset, publication, PAIRS, Time::ZERO);
    }

    /// Visits everybody, each alone.
    fn visit_all(&mut self) {
        while let Some(member) = self.feed().pass.next_member(PAIRS) {
            let (owed, socket) = (&mut self.owed[member as usize], &mut self.sockets[member as usize]);
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut scratch = Vec::new();
            let plan = owed.gather(&self.feeds, Manner::default(), &mut scratch, &mut slices);
            let written = socket.write(&slices[..plan.slice_count()]).expect("an open socket");
            let progress = owed.apply(&plan, written, &self.feeds, &scratch, None, Time::ZERO, |_, _, _| {});
            assert!(!progress.is_blocked && !progress.has_more, "one write");
            let cursor = owed.subscriptions()[0].cursor.offset();
            self.feed().note_visits(1, cursor, true, PAIRS, Time::ZERO);
        }
        self.feed().end_round(PAIRS, Time::ZERO);
    }

    fn feed(&mut self) -> &mut Feed {
        self.feeds.get_mut(CHANNEL).expect("the feed")
    }
}

fn write(criterion: &mut Criterion) {
    let publication = kit::message(&kit::channel("lobby"), BYTES);
    let mut pairs = Pairs::connect();
    let mut members = Members::new(pairs.transports());
    let mut rig: Rig<Tcp> = Rig::new(Config::default(), PAIRS as usize);
    pairs.ask("lobby");
    rig.admit(pairs.transports());
    pairs.drain_answers();
    let servers = pairs.servers.iter().map(|server| server.try_clone().expect("a descriptor"));
    let servers: Vec<TcpStream> = servers.collect();

    let clock = Clock::start();
    let mut group = criterion.benchmark_group("write");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(1500));
    group.sample_size(50);
    for outstanding in [1, 32] {
        let bytes = publication.frame.repeat(outstanding as usize);
        group.throughput(Throughput::Elements(u64::from(PAIRS) * outstanding));
        let (servers, publication, length) = (&*servers, &publication, bytes.len());
        let mut contenders: [(&str, &mut dyn Contender); 4] = [
            ("bare send", &mut Send { servers, bytes: &bytes, count: 1 }),
            ("gather", &mut Gather { members: &mut members, publication, outstanding }),
            ("turn", &mut Turn { rig: &mut rig, publication, outstanding }),
            ("send each", &mut Send { servers, bytes: &publication.frame, count: outstanding }),
        ];
        eprintln!("{outstanding} outstanding, in alternating rounds:");
        compare(clock, &mut pairs, length, &mut contenders);
        for (name, contender) in &mut contenders {
            group.bench_function(BenchmarkId::new(*name, outstanding), |bencher| {
                bencher.iter_custom(|rounds| {
                    (0..rounds).map(|_| round(clock, &mut pairs, length, *contender)).sum()
                });
            });
        }
    }
    group.finish();
    let counters = &rig.counters;
    assert_eq!(counters.delivered.get(), counters.published.get() * u64::from(PAIRS));
}

criterion_group!(benches, write);
criterion_main!(benches);
