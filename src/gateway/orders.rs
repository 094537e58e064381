//! One order to every shard, each delivered as soon as its inbox has room: a busy shard does not hold up the others.

use crate::bus::{Bus, Order};
use crate::model::ShardId;

/// What is to be delivered, and to whom still.
pub struct Orders {
    bus: Bus,
    make: Box<dyn Fn() -> Order>,
    waiting: Vec<ShardId>,
}

impl Orders {
    /// Nothing to deliver yet.
    pub fn new(bus: Bus) -> Self {
        Self { bus, make: Box::new(|| Order::Stop), waiting: Vec::new() }
    }

    /// Sends what `make` makes to every shard; it replaces what was not delivered yet.
    pub fn begin(&mut self, make: Box<dyn Fn() -> Order>) {
        self.make = make;
        self.waiting = (0..self.bus.shard_count() as u16).map(ShardId).collect();
        self.push();
    }

    /// Tries again for those whose inbox was full.
    pub fn push(&mut self) {
        let Self { bus, make, waiting } = self;
        waiting.retain(|shard| bus.order(*shard, make()).is_err());
    }
}
