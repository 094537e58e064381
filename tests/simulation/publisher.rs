//! A publisher over the bus: sends what it is told to, waits for receipts or not, keeps what a full lane refuses.

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate::bus::{Bus, Full, Outcome, Publish};
use tidegate::metrics::MemoryBudget;
use tidegate::model::{PayloadKind, Publication, ShardId, Time};

use super::ledger::{Ledger, MessageId, Sent, frame_bytes, payload};

/// One publisher. Its number is its index among the world's publishers.
#[derive(Debug)]
pub struct Publisher {
    number: u32,
    sequence: u64,
    queue: VecDeque<(usize, usize)>,
    /// Sends the next message only when the receipt of the last is in.
    pub waits_for_receipts: bool,
    outstanding: usize,
    /// Times that a full lane pushed back.
    pub pushbacks: u64,
}

impl Publisher {
    /// A publisher with nothing to say yet.
    pub fn new(number: u32) -> Self {
        Self {
            number,
            sequence: 0,
            queue: VecDeque::new(),
            waits_for_receipts: false,
            outstanding: 0,
            pushbacks: 0,
        }
    }

    /// Adds a message of `length` bytes to what it sends.
    pub fn enqueue(&mut self, channel: usize, length: usize) {
        self.queue.push_back((channel, length));
    }

    /// Whether it has something to send or waits for a receipt.
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty() || self.outstanding > 0
    }

    /// A receipt came.
    pub fn on_receipt(&mut self) {
        self.outstanding -= 1;
    }

    /// Sends the next message if it may; whether it went out.
    pub fn work(
        &mut self,
        bus: &Bus,
        memory: &MemoryBudget,
        ledger: &mut Ledger,
        now: Time,
        step: u64,
    ) -> bool {
        if self.waits_for_receipts && self.outstanding > 0 {
            return false;
        }
        let Some((channel, length)) = self.queue.front().copied() else { return false };
        let id = MessageId { publisher: self.number, sequence: self.sequence };
        let (publish, sent) = message(channel, id, length, ledger, (now, step));
        match bus.publish(publish) {
            Ok(()) => {
                self.note(memory, ledger, vec![(id, sent)]);
                true
            }
            Err(Full(_)) => {
                self.pushbacks += 1;
                false
            }
        }
    }

    /// Sends all that it has to say, on channels of `home`, together; whether it went out.
    pub fn work_together(
        &mut self,
        bus: &Bus,
        memory: &MemoryBudget,
        ledger: &mut Ledger,
        home: ShardId,
        when: (Time, u64),
    ) -> bool {
        let (mut list, mut sent) = (Vec::new(), Vec::new());
        for (sequence, (channel, length)) in (self.sequence..).zip(&self.queue) {
            let id = MessageId { publisher: self.number, sequence };
            let (publish, how) = message(*channel, id, *length, ledger, when);
            list.push(publish);
            sent.push((id, how));
        }
        match bus.publish_together(home, list) {
            Ok(()) => {
                self.note(memory, ledger, sent);
                true
            }
            Err(Full(_)) => {
                self.pushbacks += 1;
                false
            }
        }
    }

    fn note(&mut self, memory: &MemoryBudget, ledger: &mut Ledger, sent: Vec<(MessageId, Sent)>) {
        for (id, sent) in sent {
            memory.add(sent.frame_bytes as i64);
            ledger.on_sent(id, sent);
            self.queue.pop_front();
            self.sequence += 1;
            self.outstanding += 1;
        }
    }
}

/// A message that says who sent it, and how it is sent.
fn message(
    channel: usize,
    id: MessageId,
    length: usize,
    ledger: &Ledger,
    (now, step): (Time, u64),
) -> (Publish, Sent) {
    let bytes = payload(channel, id, length);
    let name = ledger.channels[channel].name.clone();
    let kind = if id.sequence.is_multiple_of(2) { PayloadKind::Text } else { PayloadKind::Binary };
    let publication = Publication::encode(name, kind, &bytes, now, None);
    let receipts = Arc::clone(&ledger.receipts);
    let on_receipt = Box::new(move |outcome: Outcome| {
        let receipt = outcome.expect("no key to be known by");
        receipts.lock().expect("one thread").push((id, receipt));
    });
    let sent = Sent { channel, frame_bytes: frame_bytes(bytes.len()), at: now, step, client: None };
    (Publish { publication, on_receipt: Some(on_receipt) }, sent)
}
