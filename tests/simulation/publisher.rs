//! A publisher over the bus: sends what it is told to, waits for receipts or not, keeps what a full lane refuses.

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate::bus::{Bus, Full, Publish};
use tidegate::metrics::MemoryBudget;
use tidegate::model::{PayloadKind, Publication, Time};

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
        let bytes = payload(channel, id, length);
        let name = ledger.channels[channel].name.clone();
        let kind = if self.sequence.is_multiple_of(2) { PayloadKind::Text } else { PayloadKind::Binary };
        let publication = Publication::encode(name, kind, &bytes, now, None);
        let receipts = Arc::clone(&ledger.receipts);
        let on_receipt = Box::new(move |receipt| receipts.lock().expect("one thread").push((id, receipt)));
        match bus.publish(Publish { publication, on_receipt: Some(on_receipt) }) {
            Ok(()) => {
                let frame_bytes = frame_bytes(bytes.len());
                memory.add(frame_bytes as i64);
                ledger.on_sent(id, Sent { channel, frame_bytes, at: now, step, client: None });
                self.queue.pop_front();
                self.sequence += 1;
                self.outstanding += 1;
                true
            }
            Err(Full(_)) => {
                self.pushbacks += 1;
                false
            }
        }
    }
}
