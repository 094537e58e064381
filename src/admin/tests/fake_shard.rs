//! A shard that numbers messages and answers questions, and does nothing else.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::bus::{
    Answer, Bus, ChannelRow, ConnectionRow, Order, Outcome, Page, Publish, Question, Receiver, Wake,
};
use crate::hub::Retries;
use crate::metrics::{Histograms, ShardReport, report};
use crate::model::{
    Blame, Cause, ChannelName, CloseReason, ConnectionId, End, Epoch, Offset, Position, Publication, Receipt,
    ShardId, Time, Traffic,
};

const EPOCH: Epoch = Epoch(0xab);

/// Wakes a [`FakeShard`].
pub struct Waker(mpsc::SyncSender<()>);

impl Waker {
    /// The waker, and what the shard sleeps on.
    pub fn pair() -> (Box<dyn Wake>, (mpsc::SyncSender<()>, mpsc::Receiver<()>)) {
        let (sender, receiver) = mpsc::sync_channel(1);
        (Box::new(Self(sender.clone())), (sender, receiver))
    }
}

impl Wake for Waker {
    fn wake(&self) {
        // Full means that a wake waits already.
        let _ = self.0.try_send(());
    }
}

type Taken = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// The handle on one shard.
pub struct FakeShard {
    bus: Bus,
    id: ShardId,
    wake: mpsc::SyncSender<()>,
    sleeper: Option<mpsc::Receiver<()>>,
    connections: u32,
    taken: Taken,
    is_over: Arc<AtomicBool>,
}

impl FakeShard {
    /// A shard that does nothing until it is started.
    pub fn new(
        bus: &Bus,
        index: usize,
        (wake, sleeper): (mpsc::SyncSender<()>, mpsc::Receiver<()>),
        connections: u32,
    ) -> Self {
        Self {
            bus: bus.clone(),
            id: ShardId(index as u16),
            wake,
            sleeper: Some(sleeper),
            connections,
            taken: Arc::default(),
            is_over: Arc::default(),
        }
    }

    /// Starts the thread.
    pub fn start(&mut self) {
        let mut turn = Turn {
            receiver: self.bus.receiver(self.id),
            id: self.id,
            offsets: HashMap::new(),
            retries: Retries::default(),
            connections: self.connections,
            taken: Arc::clone(&self.taken),
        };
        let sleeper = self.sleeper.take().expect("a shard starts once");
        let is_over = Arc::clone(&self.is_over);
        thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                turn.run();
                if turn.receiver.try_sleep(true) && sleeper.recv().is_err() {
                    return;
                }
            }
        });
    }

    /// What it numbered so far: channel and frame.
    pub fn taken(&self) -> Vec<(String, Vec<u8>)> {
        self.taken.lock().unwrap().clone()
    }

    /// Waits until so many messages lie in its lane.
    pub async fn wait_for_publishes(&self, count: usize) {
        while self.bus.depth(self.id) < count {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for FakeShard {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = self.wake.try_send(());
    }
}

struct Turn {
    receiver: Receiver,
    id: ShardId,
    offsets: HashMap<ChannelName, u64>,
    retries: Retries,
    connections: u32,
    taken: Taken,
}

impl Turn {
    fn run(&mut self) {
        while let Some(order) = self.receiver.next_order() {
            if let Order::Ask(question, on_answer) = order {
                on_answer(self.answer(question));
            }
        }
        while let Some(publish) = self.receiver.next_publish() {
            self.number(publish);
        }
    }

    fn number(&mut self, publish: Publish) {
        let Publish { publication, on_receipt } = publish;
        let outcome = self.outcome_of(publication);
        if let Some(on_receipt) = on_receipt {
            on_receipt(outcome);
        }
    }

    fn outcome_of(&mut self, mut publication: Publication) -> Outcome {
        let idempotency = publication.idempotency.take();
        if let Some(idempotency) = &idempotency
            && let Some(receipt) = self.retries.find(&publication.channel, idempotency, Time::ZERO)?
        {
            return Ok(receipt);
        }
        let offset = self.offsets.entry(publication.channel.clone()).or_default();
        *offset += 1;
        let position = Position { epoch: EPOCH, offset: Offset(*offset) };
        self.taken.lock().unwrap().push((publication.channel.to_string(), publication.frame.to_vec()));
        let receipt = Receipt { position, subscribers: 2, is_duplicate: false };
        if let Some(idempotency) = idempotency {
            self.retries.note(publication.channel, *idempotency, receipt, false, Time::ZERO);
        }
        Ok(receipt)
    }

    fn answer(&self, question: Question) -> Answer {
        match question {
            Question::Alive => Answer::Alive,
            Question::Report => {
                let mut histograms = Histograms::default();
                report::record(&mut histograms.turn, Duration::from_micros(50), 1);
                Answer::Report(Box::new(ShardReport { histograms }))
            }
            Question::Channel(channel) => Answer::Channel(self.offsets.get(&channel).map(|offset| {
                let position = Position { epoch: EPOCH, offset: Offset(*offset) };
                let (retained_messages, retained_bytes) = (7, 80);
                Box::new(ChannelRow { channel, position, subscribers: 2, retained_messages, retained_bytes })
            })),
            Question::Channels { from_place, limit } => {
                let row = |(channel, offset): (&ChannelName, &u64)| ChannelRow {
                    channel: channel.clone(),
                    position: Position { epoch: EPOCH, offset: Offset(*offset) },
                    subscribers: 2,
                    retained_messages: 0,
                    retained_bytes: 0,
                };
                let rows: Vec<_> =
                    self.offsets.iter().skip(from_place as usize).take(limit).map(row).collect();
                let next = from_place + rows.len() as u32;
                Answer::Channels(Page { rows, next: (next < self.offsets.len() as u32).then_some(next) })
            }
            Question::Connections { from_slot, limit } => {
                let row = |slot: u32| ConnectionRow {
                    shard: self.id,
                    id: ConnectionId { slot, generation: 0 },
                    peer: Some(([127, 0, 0, 1], 40_000).into()),
                    state: "open",
                    channels: 1,
                    lag_bytes: 0,
                    silent_for_ms: 7,
                };
                let rows: Vec<_> = (from_slot..self.connections).take(limit).map(row).collect();
                let next = from_slot.saturating_add(rows.len() as u32);
                Answer::Connections(Page { rows, next: (next < self.connections).then_some(next) })
            }
            Question::Ends { limit } => {
                let end = |index: u64| End {
                    cause: Cause::Close(CloseReason::SlowConsumer, Blame::Us),
                    // The shards' ends interleave.
                    at: Time::from_millis(100 - 2 * index - u64::from(self.id.0)),
                    shard: self.id,
                    connection: Some(ConnectionId { slot: 7, generation: 1 }),
                    peer: Some(([127, 0, 0, 1], 40_000).into()),
                    traffic: Traffic { bytes_in: 1, bytes_out: 2, since: Time::from_millis(10) },
                };
                Answer::Ends((0..3).map(end).take(limit).collect())
            }
        }
    }
}
