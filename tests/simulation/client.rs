//! A client: upgrades, reads at its own pace, answers or does not, sends, and leaves in one of many ways.
//!
//! It checks nothing but the protocol; what it got is kept for `oracle.rs`. `work` is one small step of its own
//! accord, `catch_up` everything it can do.

use rand::Rng;
use rand::rngs::SmallRng;
use tidegate::model::Time;

use super::ledger::{Ledger, MessageId, RELAY_PUBLISHERS_FROM, Sent, frame_bytes, identify, payload};
use super::protocol::{self, Item, Stream};
use super::wire::{Closed, WireRef};

/// How a client reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    /// Everything at once; its socket never refuses.
    Healthy,
    /// Through a small buffer, a few bytes now and then.
    Slow,
    /// Not at all until told to catch up.
    Stalled,
    /// Not at all.
    Dead,
}

/// A fault between the gateway and the client, to prove that the oracle sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tamper {
    /// The nth message is lost.
    Drop(usize),
    /// The nth message comes twice.
    Duplicate(usize),
    /// The nth message comes after the next one.
    Swap(usize),
    /// The nth byte after the upgrade is another.
    Corrupt(usize),
}

/// How the client's connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The gateway closed it, as seen from the socket.
    ByGateway(Closed),
    /// The client left.
    Left,
}

/// How things stood when the 101 was on its way: what is accepted later must arrive.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub step: u64,
    pub accepted: Vec<usize>,
}

/// One client and everything it saw.
#[derive(Debug)]
pub struct Client {
    pub number: usize,
    pub wire: WireRef,
    pub channels: Vec<usize>,
    pub reader: Reader,
    pub answers_pings: bool,
    pub tamper: Option<Tamper>,
    /// Witness of the order of these channels.
    pub witnesses: Vec<usize>,
    stream: Stream,
    pub status: Option<u16>,
    pub retry_after: Option<u32>,
    /// How much of each channel had been accepted when it connected.
    pub connected: Vec<usize>,
    pub joined: Option<Snapshot>,
    /// Messages by channel, in order of arrival.
    pub received: Vec<Vec<MessageId>>,
    pub messages: usize,
    pub close: Option<(u16, String)>,
    /// How much had been accepted of each channel, and when, once the close or the end was seen.
    pub seen_end: Option<(Time, Vec<usize>)>,
    pub end: Option<End>,
    /// It has begun to leave, or has broken a rule.
    pub has_left: bool,
    pub has_misbehaved: bool,
    pub pings_sent: Vec<Vec<u8>>,
    pub pongs: Vec<Vec<u8>>,
    /// Messages that had come when each pong came.
    pub pongs_after: Vec<usize>,
    pub pings_seen: Vec<Time>,
    pub relayed: Vec<MessageId>,
    sequence: u64,
    raw: usize,
    held: Option<Item>,
}

impl Client {
    /// A client that has sent its upgrade request, perhaps with an offer of permessage-deflate.
    pub fn new(
        number: usize,
        wire: WireRef,
        channels: Vec<usize>,
        offer: Option<&str>,
        ledger: &Ledger,
    ) -> Self {
        let names: Vec<&str> = channels.iter().map(|index| ledger.channels[*index].name.as_str()).collect();
        wire.borrow_mut().flight.extend(protocol::upgrade_request(&names, offer));
        Self {
            number,
            wire,
            channels,
            reader: Reader::Healthy,
            answers_pings: true,
            tamper: None,
            witnesses: Vec::new(),
            stream: Stream::new(offer.is_some()),
            status: None,
            retry_after: None,
            connected: ledger.channels.iter().map(|log| log.order.len()).collect(),
            joined: None,
            received: vec![Vec::new(); ledger.channels.len()],
            messages: 0,
            close: None,
            seen_end: None,
            end: None,
            has_left: false,
            has_misbehaved: false,
            pings_sent: Vec::new(),
            pongs: Vec::new(),
            pongs_after: Vec::new(),
            pings_seen: Vec::new(),
            relayed: Vec::new(),
            sequence: 0,
            raw: 0,
            held: None,
        }
    }

    /// Whether it is upgraded and nobody has ended anything.
    pub fn is_open(&self) -> bool {
        self.status == Some(101) && self.end.is_none() && self.close.is_none() && !self.has_left
    }

    /// Messages that came deflated.
    pub fn deflated(&self) -> usize {
        self.stream.deflated
    }

    /// One step of its own accord.
    pub fn work(&mut self, now: Time, ledger: &mut Ledger, random: &mut SmallRng) {
        let in_flight = self.wire.borrow().flight.len();
        let arriving =
            if random.random_bool(0.3) { random.random_range(0..=in_flight.min(40)) } else { in_flight };
        self.wire.borrow_mut().arrive(arriving);
        let count = match self.reader {
            Reader::Healthy => usize::MAX,
            Reader::Slow => random.random_range(0..300),
            Reader::Stalled | Reader::Dead => return,
        };
        self.read(count, now, ledger);
    }

    /// Everything it can do now; whether that was anything.
    pub fn catch_up(&mut self, now: Time, ledger: &mut Ledger) -> bool {
        if self.end.is_some() {
            return false;
        }
        let mut has_worked = false;
        if self.wire.borrow().has_flight() {
            self.wire.borrow_mut().arrive(usize::MAX);
            has_worked = true;
        }
        if matches!(self.reader, Reader::Healthy) {
            has_worked |= self.read(usize::MAX, now, ledger);
        }
        has_worked
    }

    /// Reads up to `count` bytes and reacts; whether there was anything.
    pub fn read(&mut self, count: usize, now: Time, ledger: &mut Ledger) -> bool {
        if self.end.is_some() {
            return false;
        }
        let mut bytes = self.wire.borrow_mut().take(count);
        let had_bytes = !bytes.is_empty();
        self.corrupt(&mut bytes);
        match self.stream.feed(&bytes) {
            Ok(items) => items.into_iter().for_each(|item| self.tampered(item, now, ledger)),
            Err(fault) => {
                ledger.fault.get_or_insert(format!("client {}: {fault}", self.number));
            }
        }
        let mut wire = self.wire.borrow_mut();
        if wire.readable() > 0 {
            return had_bytes;
        }
        if let Some(closed) = wire.closed {
            self.end = Some(End::ByGateway(closed));
            drop(wire);
            self.note_end(now, ledger);
            return true;
        }
        if wire.is_shut_down && !wire.is_finishing {
            wire.is_finishing = true;
            return true;
        }
        had_bytes
    }

    fn note_end(&mut self, now: Time, ledger: &Ledger) {
        let accepted = || ledger.channels.iter().map(|log| log.order.len()).collect();
        self.seen_end.get_or_insert_with(|| (now, accepted()));
    }

    fn corrupt(&mut self, bytes: &mut [u8]) {
        if self.status.is_none() {
            return;
        }
        if let Some(Tamper::Corrupt(at)) = self.tamper
            && (self.raw..self.raw + bytes.len()).contains(&at)
        {
            bytes[at - self.raw] ^= 1;
        }
        self.raw += bytes.len();
    }

    fn tampered(&mut self, item: Item, now: Time, ledger: &mut Ledger) {
        if !matches!(item, Item::Data { .. }) {
            return self.react(item, now, ledger);
        }
        let count = self.messages;
        self.messages += 1;
        match self.tamper {
            Some(Tamper::Drop(at)) if at == count => return,
            Some(Tamper::Duplicate(at)) if at == count => self.react(item.clone(), now, ledger),
            Some(Tamper::Swap(at)) if at == count => {
                self.held = Some(item);
                return;
            }
            _ => {}
        }
        self.react(item, now, ledger);
        if let Some(held) = self.held.take() {
            self.react(held, now, ledger);
        }
    }

    fn react(&mut self, item: Item, now: Time, ledger: &mut Ledger) {
        match item {
            Item::Head { status, retry_after, .. } => {
                self.status = Some(status);
                self.retry_after = retry_after;
            }
            Item::Body(_) => {}
            Item::Data { payload, .. } => match identify(&payload) {
                Ok((channel, id)) => self.note_message(channel, id, ledger),
                Err(fault) => {
                    ledger.fault.get_or_insert(format!("client {}: {fault}", self.number));
                }
            },
            Item::Ping(payload) => {
                self.pings_seen.push(now);
                if self.answers_pings && !self.has_left {
                    self.send(protocol::PONG, &payload);
                }
            }
            Item::Pong(payload) => {
                self.pongs.push(payload);
                self.pongs_after.push(self.messages);
            }
            Item::Close { code, reason } => {
                if !self.has_left {
                    self.send(protocol::CLOSE, &protocol::close_payload(1000, ""));
                }
                self.close = Some((code, reason));
                self.note_end(now, ledger);
            }
        }
    }

    fn note_message(&mut self, channel: usize, id: MessageId, ledger: &mut Ledger) {
        if !self.channels.contains(&channel) {
            ledger.fault.get_or_insert(format!("client {} got {id:?} of channel {channel}", self.number));
            return;
        }
        self.received[channel].push(id);
        if self.witnesses.contains(&channel)
            && let Err(fault) = ledger.channels[channel].push(id)
        {
            ledger.fault.get_or_insert(fault);
        }
    }

    fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mask = ((self.number as u32) << 8 | self.sequence as u32 | 0x8000_0000).to_be_bytes();
        self.wire.borrow_mut().flight.extend(protocol::frame(opcode, payload, mask));
    }

    /// Sends any frame.
    pub fn send_frame(&mut self, opcode: u8, payload: &[u8]) {
        self.send(opcode, payload);
    }

    /// Sends a ping.
    pub fn ping(&mut self) {
        let payload = format!("ping {}", self.pings_sent.len()).into_bytes();
        self.send(protocol::PING, &payload);
        self.pings_sent.push(payload);
    }

    /// Sends a message to its first channel.
    pub fn relay(&mut self, length: usize, is_text: bool, step: u64, now: Time, ledger: &mut Ledger) {
        let [channel, others @ ..] = &*self.channels else { return };
        let channel = *channel;
        self.has_misbehaved |= !others.is_empty() || !ledger.channels[channel].settings.relay;
        let publisher = RELAY_PUBLISHERS_FROM + self.number as u32;
        let id = MessageId { publisher, sequence: self.sequence };
        self.sequence += 1;
        let payload = payload(channel, id, length);
        let frame_bytes = frame_bytes(payload.len());
        ledger.on_sent(id, Sent { channel, frame_bytes, at: now, step, client: Some(self.number) });
        self.send(if is_text { protocol::TEXT } else { protocol::BINARY }, &payload);
        if !self.has_misbehaved {
            self.relayed.push(id);
        }
    }

    /// Begins the close handshake.
    pub fn leave_politely(&mut self) {
        self.send(protocol::CLOSE, &protocol::close_payload(1000, "bye"));
        self.has_left = true;
    }

    /// Ends its side without a word.
    pub fn finish(&mut self) {
        self.wire.borrow_mut().is_finishing = true;
        self.has_left = true;
    }

    /// Resets the connection.
    pub fn reset(&mut self, now: Time, ledger: &Ledger) {
        self.wire.borrow_mut().reset();
        self.has_left = true;
        self.end = Some(End::Left);
        self.note_end(now, ledger);
    }

    /// Complete messages that were handed to the socket and never read, for the count at the end.
    pub fn unread_messages(&mut self) -> usize {
        let bytes = self.wire.borrow_mut().take(usize::MAX);
        let items = self.stream.feed(&bytes).unwrap_or_default();
        items.iter().filter(|item| matches!(item, Item::Data { .. })).count()
    }
}
