//! Encodes a message once and sends it to the home shard of its channel.
//!
//! Two steps for those who publish many: `offer` pushes to the bus at once and never waits, so that messages offered
//! back to back arrive in one turn of the shard; the `PendingReceipt` it gives waits for the home to number the
//! message. `publish` does both. A full lane is an error for the source to pass on, never a wait (GUARANTEES P6:
//! nothing is acknowledged before it has its number).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use crate::bus::{Bus, Full, Publish, Receipt};
use crate::clock::Clock;
use crate::config::limits::PUBLISH_BYTES_MAX;
use crate::metrics::MemoryBudget;
use crate::model::{ChannelName, Grade, PayloadKind, Publication, ShardId};

/// The way in for messages. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub struct Publisher {
    bus: Bus,
    clock: Clock,
    memory: MemoryBudget,
    is_closed: Arc<AtomicBool>,
}

/// Why a message was not taken. Nothing of it reached a subscriber, but for [`PublishError::Closed`] from a receipt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PublishError {
    /// The home shard's lane is full: pause, then offer it again.
    #[error("the home shard of the channel is overloaded; publish again after a pause")]
    Overloaded,
    /// More than [`PUBLISH_BYTES_MAX`] bytes: do not offer it again.
    #[error("the message is larger than 1 MiB; split it")]
    TooBig,
    /// The process is short of memory: pause, then offer it again.
    #[error("the gateway is short of memory; publish again after a pause")]
    Memory,
    /// The process ends: publish to another.
    #[error("the gateway is ending; publish to another one")]
    Closed,
}

/// A message that the bus has taken; resolves when its home has numbered it.
#[must_use = "the message is on its way, but whether it was numbered is only known from its receipt"]
pub struct PendingReceipt(oneshot::Receiver<Receipt>);

impl Publisher {
    /// A publisher into `bus` that stamps messages by `clock` and charges them to `memory` on their way.
    pub fn new(bus: Bus, clock: Clock, memory: MemoryBudget) -> Self {
        Self { bus, clock, memory, is_closed: Arc::new(AtomicBool::new(false)) }
    }

    /// Refuses every message from here on: a home shard has ended and would never answer.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// The shard that numbers `channel`.
    pub fn home_of(&self, channel: &ChannelName) -> ShardId {
        ShardId::home_of(channel, self.bus.shard_count())
    }

    /// Encodes `payload` for `channel`: one allocation, one copy. The same message for a further channel is
    /// `Publication { channel, ..publication.clone() }`, which shares the bytes. `kind` text asserts valid UTF-8.
    ///
    /// # Errors
    /// [`PublishError::TooBig`].
    pub fn encode(
        &self,
        channel: ChannelName,
        kind: PayloadKind,
        payload: &[u8],
    ) -> Result<Publication, PublishError> {
        if payload.len() > PUBLISH_BYTES_MAX {
            return Err(PublishError::TooBig);
        }
        Ok(Publication::encode(channel, kind, payload, self.clock.now(), None))
    }

    /// Pushes `publication` to the home of its channel, without waiting. Messages that one thread offers to one
    /// channel are numbered in the order of the calls.
    ///
    /// # Errors
    /// [`PublishError::Overloaded`] when the lane is full, [`PublishError::Memory`] when memory is short,
    /// [`PublishError::Closed`] when the process ends.
    pub fn offer(&self, publication: Publication) -> Result<PendingReceipt, PublishError> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(PublishError::Closed);
        }
        if self.memory.update() >= Grade::Refusing {
            return Err(PublishError::Memory);
        }
        let bytes = publication.bytes() as i64;
        let (sender, receiver) = oneshot::channel();
        let on_receipt = Box::new(move |receipt| {
            // The source may have given up waiting; the message counts all the same.
            let _ = sender.send(receipt);
        });
        match self.bus.publish(Publish { publication, on_receipt: Some(on_receipt) }) {
            Ok(()) => {
                // The home takes it off again, perhaps already.
                self.memory.add(bytes);
                Ok(PendingReceipt(receiver))
            }
            Err(Full(_)) => Err(PublishError::Overloaded),
        }
    }

    /// Encodes, offers and waits for the number.
    ///
    /// # Errors
    /// As [`Publisher::encode`], [`Publisher::offer`] and [`PendingReceipt::wait`].
    pub async fn publish(
        &self,
        channel: ChannelName,
        kind: PayloadKind,
        payload: &[u8],
    ) -> Result<Receipt, PublishError> {
        self.offer(self.encode(channel, kind, payload)?)?.wait().await
    }
}

impl PendingReceipt {
    /// Waits until the home has numbered the message. Dropping the future gives up waiting, not the message.
    ///
    /// # Errors
    /// [`PublishError::Closed`] when the home ended with the message unnumbered.
    pub async fn wait(self) -> Result<Receipt, PublishError> {
        self.0.await.map_err(|_| PublishError::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Wake;
    use crate::model::{Epoch, Offset, Position};

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    fn publisher(lane_capacity: usize) -> (Publisher, Bus) {
        let bus = Bus::new(vec![Box::new(NoWake)], lane_capacity);
        (Publisher::new(bus.clone(), Clock::start(), MemoryBudget::new(0)), bus)
    }

    fn channel() -> ChannelName {
        ChannelName::parse("lobby").unwrap()
    }

    fn text(publisher: &Publisher, payload: &str) -> Publication {
        publisher.encode(channel(), PayloadKind::Text, payload.as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn a_receipt_resolves_once_the_home_has_numbered_the_message() {
        let (publisher, bus) = publisher(4);
        let pending = publisher.offer(text(&publisher, "hello")).unwrap();
        let taken = bus.receiver(ShardId(0)).next_publish().unwrap();
        assert_eq!(&taken.publication.frame[..], b"\x81\x05hello");
        let receipt =
            Receipt { position: Position { epoch: Epoch(7), offset: Offset::FIRST }, subscribers: 3 };
        taken.on_receipt.unwrap()(receipt);
        assert_eq!(pending.wait().await, Ok(receipt));
    }

    #[test]
    fn a_full_lane_pushes_back_and_the_message_is_not_half_taken() {
        let (publisher, bus) = publisher(1);
        let _first = publisher.offer(text(&publisher, "a")).unwrap();
        assert_eq!(publisher.offer(text(&publisher, "b")).err(), Some(PublishError::Overloaded));
        let receiver = bus.receiver(ShardId(0));
        assert!(receiver.next_publish().unwrap().publication.frame.ends_with(b"a"));
        assert!(receiver.next_publish().is_none());
    }

    #[tokio::test]
    async fn a_home_that_ends_leaves_no_publisher_waiting() {
        let (publisher, bus) = publisher(4);
        let pending = publisher.offer(text(&publisher, "a")).unwrap();
        drop(bus.receiver(ShardId(0)).next_publish());
        assert_eq!(pending.wait().await, Err(PublishError::Closed));
        publisher.clone().close();
        assert_eq!(publisher.offer(text(&publisher, "b")).err(), Some(PublishError::Closed));
    }

    #[test]
    fn the_byte_after_the_limit_is_too_much() {
        let (publisher, _) = publisher(1);
        let payload = vec![0; PUBLISH_BYTES_MAX + 1];
        assert!(publisher.encode(channel(), PayloadKind::Binary, &payload[1..]).is_ok());
        let error = publisher.encode(channel(), PayloadKind::Binary, &payload).unwrap_err();
        assert_eq!(error, PublishError::TooBig);
    }
}
