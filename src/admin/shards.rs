//! The shards as the control thread sees them: counters to read, questions to ask.
//!
//! A question travels as an order and its answer comes back through a oneshot; whoever asks waits at most
//! [`ANSWER_TIMEOUT`], and a shard whose inbox is full is not waited for at all.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::bus::{Answer, Bus, Order, Question};
use crate::metrics::ShardCounters;
use crate::model::ShardId;

/// How long a shard may take to answer. A flush slice takes milliseconds; a shard this late is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// All shards of the process. Cheap to clone.
#[derive(Clone)]
pub struct Shards {
    bus: Bus,
    counters: Arc<[Arc<ShardCounters>]>,
    answer_timeout: Duration,
}

impl Shards {
    /// The shards behind `bus`, with their counters in the order of shards.
    pub fn new(bus: Bus, counters: Vec<Arc<ShardCounters>>) -> Self {
        assert_eq!(bus.shard_count(), counters.len(), "every shard has counters");
        Self { bus, counters: counters.into(), answer_timeout: ANSWER_TIMEOUT }
    }

    /// The same, for those who wait longer or shorter.
    #[must_use]
    pub fn with_answer_timeout(self, answer_timeout: Duration) -> Self {
        Self { answer_timeout, ..self }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.counters.len()
    }

    /// The counters of every shard.
    pub fn counters(&self) -> &[Arc<ShardCounters>] {
        &self.counters
    }

    /// Messages that wait for each shard.
    pub fn bus_depths(&self) -> Vec<u64> {
        self.ids().map(|shard| self.bus.depth(shard) as u64).collect()
    }

    /// Asks one shard; `None` when it is too busy to take the question or to answer it in time.
    pub async fn ask(&self, shard: ShardId, question: Question) -> Option<Answer> {
        let answer = self.send(shard, question)?;
        timeout(self.answer_timeout, answer).await.ok()?.ok()
    }

    /// Asks all shards at once and gives their answers in the order of shards, after one time-out at most.
    pub async fn ask_all(&self, question: Question) -> Vec<Option<Answer>> {
        let mut asked: Vec<_> = self.ids().map(|shard| self.send(shard, question.clone())).collect();
        let mut answers = Vec::with_capacity(asked.len());
        let collect = async {
            for answer in &mut asked {
                answers.push(match answer {
                    Some(answer) => answer.await.ok(),
                    None => None,
                });
            }
        };
        if timeout(self.answer_timeout, collect).await.is_err() {
            // Those behind the one that was waited for may have answered meanwhile.
            let late = asked.iter_mut().skip(answers.len()).map(|answer| answer.as_mut()?.try_recv().ok());
            let late: Vec<_> = late.collect();
            answers.extend(late);
        }
        answers
    }

    /// Every shard's name.
    pub fn ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        // `config/limits.rs` allows far fewer shards than a `u16` holds.
        (0..self.counters.len() as u16).map(ShardId)
    }

    fn send(&self, shard: ShardId, question: Question) -> Option<oneshot::Receiver<Answer>> {
        let (sender, receiver) = oneshot::channel();
        let on_answer = Box::new(move |answer| {
            // Whoever asked may have given up.
            let _ = sender.send(answer);
        });
        self.bus.order(shard, Order::Ask(question, on_answer)).ok()?;
        Some(receiver)
    }
}
