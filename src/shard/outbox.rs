//! Orders that found no room in another shard's inbox: kept in order, sent as soon as there is room.
//!
//! While much waits here the shard takes no publishes, so what waits is bounded and the pressure reaches the
//! publisher. Orders are taken whatever waits here, so two shards cannot wait for each other.

use std::collections::VecDeque;

use crate::bus::{Bus, Full, Order};
use crate::model::ShardId;

/// Beyond this many waiting orders no publishes are taken.
const WAITING_MAX: usize = 1024;

/// One queue a destination.
#[derive(Debug)]
pub struct Outbox {
    queues: Vec<VecDeque<Order>>,
    waiting: usize,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Order")
    }
}

impl Outbox {
    /// Empty queues to `shards` destinations.
    pub fn new(shards: usize) -> Self {
        Self { queues: (0..shards).map(|_| VecDeque::new()).collect(), waiting: 0 }
    }

    /// Sends `order`, after everything that waits for the same shard.
    pub fn send(&mut self, bus: &Bus, to: ShardId, order: Order) {
        let Some(queue) = self.queues.get_mut(to.index()) else { return };
        let order = if queue.is_empty() {
            match bus.order(to, order) {
                Ok(()) => return,
                Err(Full(order)) => order,
            }
        } else {
            order
        };
        queue.push_back(order);
        self.waiting += 1;
    }

    /// Sends what there is room for.
    pub fn flush(&mut self, bus: &Bus) {
        if self.waiting == 0 {
            return;
        }
        for (index, queue) in self.queues.iter_mut().enumerate() {
            while let Some(order) = queue.pop_front() {
                if let Err(Full(order)) = bus.order(ShardId(index as u16), order) {
                    queue.push_front(order);
                    break;
                }
                self.waiting -= 1;
            }
        }
    }

    /// Orders that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether so many wait that publishes must.
    pub fn is_backed_up(&self) -> bool {
        self.waiting >= WAITING_MAX
    }
}
