//! permessage-deflate on the way out: journal, cursors and compressor together, against clients of other make.
//!
//! Many clients read one channel, each through a socket that takes any number of bytes, and join, skip, send and leave
//! at any moment. Each inflates what it gets with a context of its own; a naive model says of every message whether it
//! must have come deflated. Seeds, not time: `COMPRESSION_SEEDS=n` runs more.

#[path = "simulation/inflater.rs"]
mod inflater;

use std::io::IoSlice;
use std::sync::Arc;

use inflater::Inflater;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tidegate::config::{ChannelSettings, LagPolicy};
use tidegate::delivery::{Feed, Feeds, LagVerdict, Manner, Owed, SLICES_MAX, Subscription};
use tidegate::hub::Deflater;
use tidegate::journal::{Cursor, Ride};
use tidegate::model::{
    ChannelIndex, ChannelName, ConnectionId, Epoch, Offset, Origin, PayloadKind, Publication, ShardId, Time,
};

const CHANNEL: ChannelIndex = ChannelIndex(0);
const SEEDS: u64 = 300;

/// What was published: payload, and how the compressor took it.
struct Sent {
    payload: Vec<u8>,
    is_deflated: bool,
    begins_epoch: bool,
    origin: Option<Origin>,
}

/// A client, and the model of it.
struct Client {
    owed: Owed,
    me: Origin,
    ride: Ride,
    wire: Vec<u8>,
    inflater: Inflater,
    /// The next message, by the model.
    due: u64,
    is_riding: bool,
    /// Moves of the cursor by the lag policy: from the message that was due to the one that came next.
    skips: Vec<(u64, u64)>,
    deflated: u64,
}

struct World {
    random: SmallRng,
    feeds: Feeds,
    deflater: Deflater,
    sent: Vec<Sent>,
    clients: Vec<Client>,
    joined: u32,
}

impl World {
    fn random(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let settings = ChannelSettings {
            compression_level: random.random_range(1..=9),
            compression_epoch: random.random_range(1..12),
            on_lag: LagPolicy::Skip,
            max_lag_bytes: [700, 5000, 400_000][random.random_range(0..3)],
            ..ChannelSettings::default()
        };
        Self::new(settings, random)
    }

    fn new(settings: ChannelSettings, random: SmallRng) -> Self {
        let settings = ChannelSettings { compression: true, compression_min_size: 20, ..settings };
        let mut feeds = Feeds::default();
        feeds.insert(CHANNEL, Feed::new(settings, Epoch(1), Offset::FIRST));
        let deflater = Deflater::new(&settings);
        Self { random, feeds, deflater, sent: Vec::new(), clients: Vec::new(), joined: 0 }
    }

    fn feed(&mut self) -> &mut Feed {
        self.feeds.get_mut(CHANNEL).expect("it was inserted")
    }

    fn payload(&mut self) -> Vec<u8> {
        let number = self.sent.len() + 1;
        let mut payload = format!("{{\"number\":{number},").into_bytes();
        match self.random.random_range(0..10) {
            0 => {}
            1 | 2 => {
                let length = self.random.random_range(0..200);
                payload.extend((0..length).map(|_| self.random.random::<u8>()));
            }
            3 => payload.resize(self.random.random_range(100..90_000), number as u8),
            _ => {
                let price = self.random.random_range(10_000..99_999);
                payload.extend_from_slice(format!("\"symbol\":\"ACME\",\"price\":{price}}}").as_bytes());
            }
        }
        payload
    }

    fn publish_any(&mut self) {
        let payload = self.payload();
        let sender = self.random.random_range(0..self.clients.len() * 4 + 1);
        let origin = self.clients.get(sender).map(|client| client.me);
        self.publish(payload, origin);
    }

    fn publish(&mut self, payload: Vec<u8>, origin: Option<Origin>) {
        let kind = PayloadKind::Binary;
        let channel = ChannelName::parse("c").expect("a name");
        let mut publication = Publication::encode(channel, kind, &payload, Time::ZERO, origin);
        publication.deflated = self.deflater.deflate(kind, &payload).map(Arc::new);
        let begins_epoch = publication.deflated.as_ref().is_some_and(|deflated| deflated.begins_epoch);
        let is_deflated = publication.deflated.is_some();
        self.sent.push(Sent { payload, is_deflated, begins_epoch, origin });
        let (offset, members) = (Offset(self.sent.len() as u64), self.clients.len() as u32);
        let feed = self.feed();
        feed.append(offset, &publication, members, Time::ZERO);
        // The pass has gone round: what is kept for slow readers is bounded again.
        while feed.pass.next_member(members).is_some() {}
        feed.end_round(members, Time::ZERO);
    }

    fn join_any(&mut self) {
        let rides = [Ride::Plain, Ride::Plain, Ride::Waiting, Ride::Waiting];
        let ride = rides[self.random.random_range(0..4)];
        self.join(ride);
    }

    fn join(&mut self, ride: Ride) {
        let member = self.clients.len() as u32;
        let next = self.feed().journal.next();
        self.feed().on_join(next, member + 1);
        let mut owed = Owed::default();
        owed.subscribe(Subscription { channel: CHANNEL, member, cursor: Cursor::new(next, ride) });
        let me = Origin { shard: ShardId(0), connection: ConnectionId { slot: self.joined, generation: 0 } };
        self.joined += 1;
        self.clients.push(Client {
            owed,
            me,
            ride,
            wire: Vec::new(),
            inflater: Inflater::new(),
            due: next.0,
            is_riding: false,
            skips: Vec::new(),
            deflated: 0,
        });
        self.keep_deflated();
    }

    fn leave(&mut self) {
        let index = self.random.random_range(0..self.clients.len());
        self.clients.swap_remove(index);
        let members = self.clients.len() as u32;
        self.feed().on_leave(index as u32, members, Time::ZERO);
        self.keep_deflated();
    }

    fn keep_deflated(&mut self) {
        let is_kept = self.clients.iter().any(|client| client.ride == Ride::Waiting);
        self.feed().journal.keep_deflated(is_kept);
    }

    /// A socket takes up to `accepted` bytes; whether anything moved.
    fn write(&mut self, index: usize, accepted: usize) -> Result<bool, String> {
        let client = &mut self.clients[index];
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut scratch = Vec::new();
        let me = Some(client.me);
        let manner = Manner { me, herald: None };
        let plan = client.owed.gather(&self.feeds, manner, &mut scratch, &mut slices);
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let written = accepted.min(bytes.len());
        client.wire.extend_from_slice(&bytes[..written]);
        let (is_overtaken, is_empty) = (plan.overtaken.is_some(), plan.is_empty());
        client.owed.apply(&plan, written, &self.feeds, &scratch, me, Time::ZERO, |_, _, _| ());
        client.owed.unblock();
        if is_overtaken {
            let feed = self.feeds.get(CHANNEL).expect("it was inserted");
            let cursor = client.owed.subscriptions()[0].cursor;
            let LagVerdict::Skip { next, .. } = feed.judge(cursor, cursor.offset(), Time::ZERO) else {
                return Err(format!("{cursor:?} is overtaken and kept"));
            };
            client.skips.push((cursor.offset().0, next.0));
            client.owed.subscriptions_mut()[0].cursor = cursor.moved_to(next);
        }
        client.read(&self.sent)?;
        Ok(!is_empty || is_overtaken)
    }

    fn run(&mut self) -> Result<u64, String> {
        for _ in 0..self.random.random_range(50..400) {
            match self.random.random_range(0..20) {
                0 => self.join_any(),
                1 if self.clients.len() > 3 => self.leave(),
                2..8 => self.publish_any(),
                _ if self.clients.is_empty() => self.join_any(),
                _ => {
                    let index = self.random.random_range(0..self.clients.len());
                    let accepted = [0, 1, 3, 20, 90, 5000, usize::MAX][self.random.random_range(0..7)];
                    self.write(index, accepted)?;
                }
            }
        }
        for index in 0..self.clients.len() {
            while self.write(index, usize::MAX)? {}
            let client = &mut self.clients[index];
            client.pass_over(self.sent.len() as u64 + 1, &self.sent)?;
            if !client.wire.is_empty() {
                return Err(format!("{} bytes of a frame are left", client.wire.len()));
            }
        }
        Ok(self.clients.iter().map(|client| client.deflated).sum())
    }
}

impl Client {
    /// Reads whole frames off the wire and holds them against the model.
    fn read(&mut self, sent: &[Sent]) -> Result<(), String> {
        while let Some((first, payload, length)) = frame(&self.wire) {
            let is_deflated = first & 0x40 != 0;
            let payload = if is_deflated { self.inflater.inflate(&payload)? } else { payload };
            self.wire.drain(..length);
            let place = sent.iter().skip(self.due as usize - 1).position(|sent| sent.payload == payload);
            let number = self.due + place.ok_or("a message that was not sent, or came before")? as u64;
            self.pass_over(number, sent)?;
            let message = &sent[number as usize - 1];
            self.is_riding |= self.ride == Ride::Waiting && message.begins_epoch;
            if is_deflated != (self.is_riding && message.is_deflated) {
                return Err(format!("{:?}: {number} came deflated: {is_deflated}", self.ride));
            }
            self.deflated += u64::from(is_deflated);
            self.due = number + 1;
        }
        Ok(())
    }

    /// Messages before `number` did not come: its own, or skipped.
    fn pass_over(&mut self, number: u64, sent: &[Sent]) -> Result<(), String> {
        while self.due < number {
            if self.skips.first().is_some_and(|(from, _)| *from == self.due) {
                self.due = self.skips.remove(0).1;
                self.is_riding = false;
                continue;
            }
            let missed = &sent[self.due as usize - 1];
            if missed.origin != Some(self.me) {
                return Err(format!("{:?}: {} is missing before {number}", self.ride, self.due));
            }
            self.is_riding &= !missed.is_deflated;
            self.due += 1;
        }
        Ok(())
    }
}

/// The first frame of `wire`: first byte, payload, bytes in all.
fn frame(wire: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (start, length) = match *wire.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(wire.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(wire.get(2..10)?.try_into().ok()?) as usize),
        short => (2, usize::from(short)),
    };
    Some((wire[0], wire.get(start..start + length)?.to_vec(), start + length))
}

#[test]
fn every_client_reads_every_message_however_it_joins_skips_and_is_cut() {
    let seeds = std::env::var("COMPRESSION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let mut deflated = 0;
    for seed in 0..seeds {
        deflated += World::random(seed).run().unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
    }
    assert!(deflated > 10 * seeds, "{deflated} messages came deflated");
}

/// Three epochs with plain messages among them, through a socket that stops once, at every place there is.
#[test]
fn a_write_that_stops_at_any_byte_of_an_epoch_loses_nothing() {
    for cut in 0.. {
        let settings = ChannelSettings { compression_epoch: 4, ..ChannelSettings::default() };
        let mut world = World::new(settings, SmallRng::seed_from_u64(1));
        world.join(Ride::Waiting);
        for number in 0..16 {
            let text = if number % 4 == 2 { format!("plain {number}") } else { tick(number) };
            world.publish(text.into_bytes(), None);
        }
        world.write(0, cut).unwrap();
        let due = world.clients[0].due;
        while world.write(0, usize::MAX).unwrap() {}
        let client = &world.clients[0];
        assert_eq!((client.due, client.deflated), (17, 12), "cut after {cut} bytes");
        if due == 17 {
            return assert!(cut > 300, "{cut} bytes are all");
        }
    }
}

fn tick(number: usize) -> String {
    format!("{{\"number\":{number},\"symbol\":\"ACME\",\"price\":{}}}", 10_000 + number * 7919 % 9000)
}
