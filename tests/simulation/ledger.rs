//! What was published, what was accepted, and in which order: the naive truth that subscribers are held against.
//!
//! A message says in its own bytes which channel, publisher and sequence it is, and every other byte follows from
//! that. On a channel without relay the receipts give the order; with relay the first subscriber, who reads
//! everything from before the first message on, is the witness, and receipts must agree with what it saw.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tidegate::config::ChannelSettings;
use tidegate::model::Receipt;
use tidegate::model::{ChannelName, Position, Time};

/// Relaying clients are publishers from here on.
pub const RELAY_PUBLISHERS_FROM: u32 = 1000;

/// One message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MessageId {
    pub publisher: u32,
    pub sequence: u64,
}

/// The bytes of a message: at least about 20, else `length`.
pub fn payload(channel: usize, id: MessageId, length: usize) -> Vec<u8> {
    let mut out = format!("{channel} {} {} {length} ", id.publisher, id.sequence).into_bytes();
    let word = (id.sequence + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(id.publisher);
    let filler = format!("{word:016x}");
    while out.len() < length {
        let count = filler.len().min(length - out.len());
        out.extend_from_slice(&filler.as_bytes()[..count]);
    }
    out
}

/// Reads a message back and checks every byte.
///
/// # Errors
/// What is wrong with it.
pub fn identify(bytes: &[u8]) -> Result<(usize, MessageId), String> {
    let head = bytes.get(..bytes.len().min(64)).unwrap_or_default();
    let mut numbers = head.split(|byte| *byte == b' ').map(|field| {
        std::str::from_utf8(field).ok().and_then(|field| field.parse::<u64>().ok()).ok_or("no number")
    });
    let mut next = || numbers.next().unwrap_or(Err("too short"));
    let (channel, publisher, sequence, length) = (next()?, next()?, next()?, next()?);
    let id = MessageId { publisher: publisher as u32, sequence };
    if payload(channel as usize, id, (length as usize).min(1 << 24)) != bytes {
        return Err(format!("corrupt bytes in {id:?}"));
    }
    Ok((channel as usize, id))
}

/// Bytes of the frame around a payload of `length`.
pub fn frame_bytes(length: usize) -> u64 {
    length as u64
        + match length {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        }
}

/// How a message was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub channel: usize,
    pub frame_bytes: u64,
    pub at: Time,
    /// The driver's step; what is sent later has a higher one.
    pub step: u64,
    /// The client that sent it, if one did.
    pub client: Option<usize>,
}

/// One channel as it should be.
#[derive(Debug)]
pub struct ChannelLog {
    pub name: ChannelName,
    pub settings: ChannelSettings,
    /// Accepted messages, oldest first.
    pub order: Vec<MessageId>,
    place: HashMap<MessageId, usize>,
    receipts: Vec<(MessageId, Position)>,
}

impl ChannelLog {
    /// Where `id` stands in the order.
    pub fn place_of(&self, id: MessageId) -> Option<usize> {
        self.place.get(&id).copied()
    }

    /// Adds the next message of the order.
    pub fn push(&mut self, id: MessageId) -> Result<(), String> {
        match self.place.insert(id, self.order.len()) {
            Some(_) => Err(format!("{id:?} was accepted twice")),
            None => {
                self.order.push(id);
                Ok(())
            }
        }
    }
}

/// Receipts as the home shards give them.
pub type Receipts = Arc<Mutex<Vec<(MessageId, Receipt)>>>;

/// Everything that was said.
#[derive(Debug, Default)]
pub struct Ledger {
    pub channels: Vec<ChannelLog>,
    pub sent: HashMap<MessageId, Sent>,
    pub receipts: Receipts,
    /// Encoded bytes of the largest message.
    pub largest: u64,
    /// First fault found while things happened.
    pub fault: Option<String>,
}

impl Ledger {
    /// Adds a channel and gives its number.
    pub fn add_channel(&mut self, name: ChannelName, settings: ChannelSettings) -> usize {
        self.channels.push(ChannelLog {
            name,
            settings,
            order: Vec::new(),
            place: HashMap::new(),
            receipts: Vec::new(),
        });
        self.channels.len() - 1
    }

    /// A message is on its way.
    pub fn on_sent(&mut self, id: MessageId, sent: Sent) {
        self.largest = self.largest.max(sent.frame_bytes);
        self.sent.insert(id, sent);
    }

    /// Takes in what the home shards have accepted meanwhile; gives the ids.
    pub fn absorb_receipts(&mut self) -> Vec<MessageId> {
        let news: Vec<_> = self.receipts.lock().expect("one thread").drain(..).collect();
        for (id, receipt) in &news {
            let Some(sent) = self.sent.get(id) else { continue };
            let log = &mut self.channels[sent.channel];
            log.receipts.push((*id, receipt.position));
            if !log.settings.relay
                && let Err(fault) = log.push(*id)
            {
                self.fault.get_or_insert(fault);
            }
        }
        news.into_iter().map(|(id, _)| id).collect()
    }

    /// Whether `id` was sent by `client`.
    pub fn is_from(&self, id: MessageId, client: usize) -> bool {
        self.sent.get(&id).is_some_and(|sent| sent.client == Some(client))
    }

    /// Receipts name consecutive places of one numbering, and the order that subscribers saw.
    pub fn check_positions(&self) -> Result<(), String> {
        for log in &self.channels {
            let mut last: Option<Position> = None;
            for (id, position) in &log.receipts {
                let is_next = match last {
                    Some(last) if last.epoch == position.epoch && log.settings.relay => {
                        position.offset > last.offset
                    }
                    Some(last) if last.epoch == position.epoch => position.offset == last.offset.next(),
                    _ if log.settings.relay => last.is_none(),
                    _ => position.offset.0 == 1,
                };
                if !is_next {
                    return Err(format!("{}: {id:?} got {position} after {last:?}", log.name.as_str()));
                }
                let seen = log.order.get((position.offset.0 - 1) as usize);
                if log.settings.relay && seen != Some(id) {
                    return Err(format!("{}: {position} is {id:?}, seen {seen:?}", log.name.as_str()));
                }
                last = Some(*position);
            }
        }
        Ok(())
    }

    /// Every publisher's own messages are in the order in which it sent them (GUARANTEES E9).
    pub fn check_publishers(&self) -> Result<(), String> {
        for log in &self.channels {
            let mut newest: HashMap<u32, u64> = HashMap::new();
            for id in &log.order {
                if let Some(before) = newest.insert(id.publisher, id.sequence)
                    && before >= id.sequence
                {
                    return Err(format!("{}: {id:?} came after sequence {before}", log.name.as_str()));
                }
            }
        }
        Ok(())
    }
}
