//! The only bridge between threads: one bounded inbox per shard, woken only when it sleeps.
//!
//! Two lanes an inbox. *Publishes* are messages on their way to the shard that numbers them; a shard whose own
//! output is backed up stops taking them, the lane fills and the publisher is pushed back. *Orders* are everything
//! else; they wait at most for a pass over the shard's own subscribers, never for another shard, so two shards cannot
//! wait for each other. Both lanes are FIFO per producer.
//! Messages that belong together take one place in the lane and are numbered one right after the other: the shard may
//! spread them over turns, but takes nothing else meanwhile.
//! A wake costs a hundred pushes, so a producer wakes only a shard that says it sleeps.

mod question;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::vec;

use crossbeam_queue::ArrayQueue;

pub use question::{Answer, ChannelRow, ConnectionRow, OnAnswer, Page, Question};

use crate::model::{
    ChannelName, Conflict, ConnectionId, Epoch, Fingerprints, Idempotency, IdempotencyKey, Offset, Pattern,
    Publication, Receipt, ShardId, Time,
};

/// What became of a publish at its home.
pub type Outcome = Result<Receipt, Conflict>;

/// Called once, on the home shard's thread: must not block.
pub type OnReceipt = Box<dyn FnOnce(Outcome) + Send>;

/// A message on its way to its home shard.
pub struct Publish {
    /// The message.
    pub publication: Publication,
    /// Who wants to know what becomes of it.
    pub on_receipt: Option<OnReceipt>,
}

/// A message with its number, on its way from the home shard to the subscribers' shards.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// Its number in the stream of `publication.channel`.
    pub offset: Offset,
    /// The message.
    pub publication: Publication,
}

/// The home's answer to a first subscriber: where the stream stands, and what it retains.
#[derive(Clone, Debug)]
pub struct Attach {
    /// Which channel.
    pub channel: ChannelName,
    /// The ticket of the interest this answers; an answer to an older interest is void.
    pub ticket: u64,
    /// The numbering that holds.
    pub epoch: Epoch,
    /// The number of the next message; those of `retained` come right before it.
    pub next: Offset,
    /// What the home retains, oldest first.
    pub retained: Vec<Numbered>,
}

/// Everything that is not a publish.
pub enum Order {
    /// `from` has `members` subscribers of `channel` now, 0 withdraws. A new ticket asks for an [`Attach`].
    Interest {
        /// Which channel.
        channel: ChannelName,
        /// Whose subscribers.
        from: ShardId,
        /// How many.
        members: u32,
        /// Of those, how many read deflated messages.
        deflating: u32,
        /// Number of the interest; the same for updates of the count.
        ticket: u64,
    },
    /// The answer to a new interest.
    Attach(Box<Attach>),
    /// A message for this shard's subscribers, and the numbering that its number is of.
    Deliver(Epoch, Numbered),
    /// `from` has clients that subscribe to `pattern`, or no longer: from here on it is sent every message of the channels
    /// that match. Answered with [`Order::Followed`] if it is held.
    Follow {
        /// Which pattern.
        pattern: Pattern,
        /// Whose clients.
        from: ShardId,
        /// Whether it is held.
        is_held: bool,
        /// Goes with the answer.
        ticket: u64,
    },
    /// The answer: what the sender numbers from here on comes behind it.
    Followed {
        /// Of the question.
        ticket: u64,
    },
    /// The home has seen a message whose sender wants to know what became of it.
    Published {
        /// The sender, on the shard that this goes to.
        sender: ConnectionId,
        /// What it called the message.
        id: u64,
        /// Which channel.
        channel: ChannelName,
        /// Its number, or why it has none.
        outcome: Outcome,
    },
    /// A question of the control thread.
    Ask(Question, OnAnswer),
    /// Stop taking new connections and close the others by the schedule.
    Drain(DrainSchedule),
    /// End the loop now: whatever is still open is cut.
    Stop,
}

impl Order {
    /// Bytes that its messages hold.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Deliver(_, numbered) => numbered.publication.bytes(),
            Self::Attach(attach) => attach.bytes(),
            Self::Interest { .. }
            | Self::Follow { .. }
            | Self::Followed { .. }
            | Self::Published { .. }
            | Self::Ask(..)
            | Self::Drain(_)
            | Self::Stop => 0,
        }
    }
}

impl Attach {
    /// Bytes that its messages hold. Linear in the messages.
    pub fn bytes(&self) -> usize {
        self.retained.iter().map(|numbered| numbered.publication.bytes()).sum()
    }
}

/// When a drain does what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DrainSchedule {
    /// No new connections from here on.
    pub stop_accepting_at: Time,
    /// The first close.
    pub closes_begin_at: Time,
    /// The last close; connections that are still there a close time-out later are cut.
    pub closes_end_at: Time,
}

/// Ends a shard's sleep. Called from any thread; cheap when nothing sleeps is not required.
pub trait Wake: Send + Sync {
    /// Makes the shard's wait return.
    fn wake(&self);
}

/// The lane is full; try again later, with what is handed back.
pub struct Full<T>(pub T);

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full")
    }
}

/// What takes one place in the lane for publishes.
enum Lot {
    One(Publish),
    Together(Vec<Publish>),
}

struct Inbox {
    publishes: ArrayQueue<Lot>,
    /// Messages in that lane beyond one for each place.
    beyond: AtomicUsize,
    orders: ArrayQueue<Order>,
    is_asleep: AtomicBool,
    waker: Box<dyn Wake>,
}

/// The sending side for everybody. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    inboxes: Arc<[Inbox]>,
    /// Alike on all threads: what one takes in, another compares.
    fingerprints: Fingerprints,
}

impl Bus {
    /// One inbox for each waker, `lane_capacity` messages a lane.
    pub fn new(wakers: Vec<Box<dyn Wake>>, lane_capacity: usize) -> Self {
        let inboxes = wakers.into_iter().map(|waker| Inbox {
            publishes: ArrayQueue::new(lane_capacity),
            beyond: AtomicUsize::new(0),
            orders: ArrayQueue::new(lane_capacity),
            is_asleep: AtomicBool::new(false),
            waker,
        });
        Self { inboxes: inboxes.collect(), fingerprints: Fingerprints::default() }
    }

    /// Shards of the process.
    pub fn shard_count(&self) -> usize {
        self.inboxes.len()
    }

    /// Has the home know `publication` by `key` if it comes again. Linear in the payload; call it once nothing but the times
    /// changes any more.
    pub fn identify(&self, publication: &mut Publication, key: IdempotencyKey) {
        let fingerprint = self.fingerprints.of(publication);
        publication.idempotency = Some(Box::new(Idempotency { key, fingerprint }));
    }

    /// Sends a message to the home of its channel.
    ///
    /// # Errors
    /// [`Full`] hands it back: the home is overloaded. Push back on whoever sent it.
    #[expect(clippy::result_large_err, reason = "what finds no room is handed back as it came")]
    pub fn publish(&self, publish: Publish) -> Result<(), Full<Publish>> {
        let home = ShardId::home_of(&publish.publication.channel, self.inboxes.len());
        let inbox = &self.inboxes[home.index()];
        inbox.publishes.push(Lot::One(publish)).map_err(|lot| match lot {
            Lot::One(publish) => Full(publish),
            Lot::Together(_) => unreachable!("the queue hands back what it was given"),
        })?;
        inbox.wake_if_asleep();
        Ok(())
    }

    /// Sends messages, all of them homed at `home`, that are numbered one right after the other: nothing comes in between.
    /// Beside those that are alone, a lane holds as many messages as it has places, or one list however long.
    ///
    /// # Errors
    /// [`Full`] hands all of them back.
    pub fn publish_together(&self, home: ShardId, publishes: Vec<Publish>) -> Result<(), Full<Vec<Publish>>> {
        let inbox = &self.inboxes[home.index()];
        let beyond = publishes.len().saturating_sub(1);
        let before = inbox.beyond.fetch_add(beyond, Ordering::Relaxed);
        let refused = if beyond > 0 && before > 0 && before + beyond > inbox.publishes.capacity() {
            Some(publishes)
        } else {
            inbox.publishes.push(Lot::Together(publishes)).err().map(|lot| match lot {
                Lot::Together(publishes) => publishes,
                Lot::One(_) => unreachable!("the queue hands back what it was given"),
            })
        };
        if let Some(publishes) = refused {
            inbox.beyond.fetch_sub(beyond, Ordering::Relaxed);
            return Err(Full(publishes));
        }
        inbox.wake_if_asleep();
        Ok(())
    }

    /// Sends an order to one shard.
    ///
    /// # Errors
    /// [`Full`] hands it back: the shard is behind. Keep it, and its order among your orders, and try again.
    #[expect(clippy::result_large_err, reason = "what finds no room is handed back as it came")]
    pub fn order(&self, to: ShardId, order: Order) -> Result<(), Full<Order>> {
        let inbox = &self.inboxes[to.index()];
        inbox.orders.push(order).map_err(Full)?;
        inbox.wake_if_asleep();
        Ok(())
    }

    /// Messages that wait for `shard`, both lanes.
    pub fn depth(&self, shard: ShardId) -> usize {
        let inbox = &self.inboxes[shard.index()];
        inbox.publishes.len() + inbox.beyond.load(Ordering::Relaxed) + inbox.orders.len()
    }

    /// The receiving side of one shard; exactly one thread uses it.
    pub fn receiver(&self, shard: ShardId) -> Receiver {
        Receiver { bus: self.clone(), shard, together: Vec::new().into_iter() }
    }
}

impl Inbox {
    fn wake_if_asleep(&self) {
        // The push must be visible before the flag is read: the sleeper sets the flag, then looks at its lanes.
        fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::Relaxed) && self.is_asleep.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }
}

/// One shard's end of the bus.
pub struct Receiver {
    bus: Bus,
    shard: ShardId,
    /// What is left of messages that belong together.
    together: vec::IntoIter<Publish>,
}

impl Receiver {
    fn inbox(&self) -> &Inbox {
        &self.bus.inboxes[self.shard.index()]
    }

    /// The next order, if any.
    pub fn next_order(&self) -> Option<Order> {
        self.inbox().orders.pop()
    }

    /// The next publish, if any.
    pub fn next_publish(&mut self) -> Option<Publish> {
        loop {
            if let Some(publish) = self.together.next() {
                return Some(publish);
            }
            match self.inbox().publishes.pop()? {
                Lot::One(publish) => return Some(publish),
                Lot::Together(publishes) => {
                    let beyond = publishes.len().saturating_sub(1);
                    self.inbox().beyond.fetch_sub(beyond, Ordering::Relaxed);
                    self.together = publishes.into_iter();
                }
            }
        }
    }

    /// Whether of messages that belong together some were taken and some were not: nothing else may be numbered now.
    pub fn is_amid_together(&self) -> bool {
        !self.together.as_slice().is_empty()
    }

    /// Announces sleep; false when something waits already and the shard must not sleep.
    ///
    /// `takes_publishes` is false while the shard refuses publishes: then only orders keep it awake.
    pub fn try_sleep(&self, takes_publishes: bool) -> bool {
        let inbox = self.inbox();
        inbox.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let has_publishes = self.is_amid_together() || !inbox.publishes.is_empty();
        let is_empty = inbox.orders.is_empty() && !(takes_publishes && has_publishes);
        if !is_empty {
            self.awake();
        }
        is_empty
    }

    /// Announces that the shard runs: nobody needs to wake it.
    pub fn awake(&self) {
        self.inbox().is_asleep.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PayloadKind;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    struct CountWakes(Arc<AtomicUsize>);

    impl Wake for CountWakes {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn bus(shards: usize, capacity: usize) -> (Bus, Arc<AtomicUsize>) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let wakers = (0..shards).map(|_| Box::new(CountWakes(Arc::clone(&wakes))) as Box<dyn Wake>);
        (Bus::new(wakers.collect(), capacity), wakes)
    }

    fn publish(text: &str) -> Publish {
        let channel = ChannelName::parse("c").unwrap();
        let publication = Publication::encode(channel, PayloadKind::Text, text.as_bytes(), Time::ZERO, None);
        Publish { publication, on_receipt: None }
    }

    #[test]
    fn only_a_sleeping_shard_is_woken_and_only_once() {
        let (bus, wakes) = bus(1, 8);
        bus.publish(publish("a")).unwrap();
        assert_eq!(wakes.load(Ordering::SeqCst), 0);
        let mut receiver = bus.receiver(ShardId(0));
        assert!(!receiver.try_sleep(true), "a message waits");
        assert!(receiver.next_publish().is_some());
        assert!(receiver.try_sleep(true));
        bus.publish(publish("b")).unwrap();
        bus.publish(publish("c")).unwrap();
        assert_eq!(wakes.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_full_lane_hands_the_message_back_and_leaves_the_other_lane_free() {
        let (bus, _) = bus(1, 1);
        bus.publish(publish("a")).unwrap();
        let Full(back) = bus.publish(publish("b")).unwrap_err();
        assert!(back.publication.frame.ends_with(b"b"));
        assert!(bus.order(ShardId(0), Order::Ask(Question::Report, Box::new(|_| ()))).is_ok());
    }

    fn text(publish: &Publish) -> String {
        String::from_utf8(publish.publication.frame[2..].to_vec()).unwrap()
    }

    #[test]
    fn messages_that_belong_together_come_one_after_the_other_and_are_taken_whole_or_not_at_all() {
        let (bus, _) = bus(1, 3);
        let mut receiver = bus.receiver(ShardId(0));
        let send = |texts: &[&str]| {
            let list = texts.iter().map(|text| publish(text)).collect();
            bus.publish_together(ShardId(0), list).map_err(|Full(back)| back.len())
        };
        assert_eq!(send(&["a1", "a2", "a3", "a4", "a5"]), Ok(()), "alone it may be longer than the lane");
        assert_eq!(bus.depth(ShardId(0)), 5);
        assert_eq!(send(&["b1", "b2"]), Err(2));
        bus.publish(publish("c")).unwrap();
        let next = |receiver: &mut Receiver| receiver.next_publish().map(|publish| text(&publish));
        assert_eq!(next(&mut receiver).as_deref(), Some("a1"));
        assert!(receiver.is_amid_together());
        assert_eq!(send(&["b1", "b2", "b3"]), Ok(()));
        assert_eq!(send(&["d1", "d2", "d3"]), Err(3), "two beyond their places wait, and it would be four");
        assert_eq!(send(&["d1", "d2"]), Ok(()));
        assert_eq!(bus.publish(publish("e")).map_err(|Full(back)| text(&back)), Err("e".to_owned()));
        assert_eq!(send(&["f1"]), Err(1), "no place is left");
        assert!(!receiver.try_sleep(true));
        assert!(receiver.try_sleep(false));
        let rest: Vec<String> = std::iter::from_fn(|| next(&mut receiver)).collect();
        assert_eq!(rest, ["a2", "a3", "a4", "a5", "c", "b1", "b2", "b3", "d1", "d2"]);
        assert!(!receiver.is_amid_together());
        assert_eq!((bus.depth(ShardId(0)), send(&[])), (0, Ok(())));
        assert_eq!(next(&mut receiver), None);
        assert!(receiver.try_sleep(true));
    }

    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(&self) {
            self.0.unpark();
        }
    }

    /// A wake that got lost would leave it parked for ever. Miri looks for races here.
    #[test]
    fn producers_on_other_threads_lose_nothing_and_wake_who_sleeps() {
        const EACH: u64 = if cfg!(miri) { 40 } else { 2000 };
        let bus = Bus::new(vec![Box::new(Unpark(thread::current()))], 8);
        let mut receiver = bus.receiver(ShardId(0));
        thread::scope(|scope| {
            for producer in 0..2 {
                let bus = bus.clone();
                scope.spawn(move || {
                    for number in 0..EACH {
                        let mut message = publish(&format!("{producer} {number}"));
                        while let Err(Full(back)) = bus.publish(message) {
                            message = back;
                            thread::yield_now();
                        }
                    }
                });
            }
            let mut next = [0; 2];
            while next != [EACH; 2] {
                while let Some(Publish { publication, .. }) = receiver.next_publish() {
                    let text = std::str::from_utf8(&publication.frame[2..]).unwrap();
                    let (producer, number) = text.split_once(' ').unwrap();
                    let next = &mut next[producer.parse::<usize>().unwrap()];
                    assert_eq!(number.parse(), Ok(*next), "in order, none twice");
                    *next += 1;
                }
                if next != [EACH; 2] && receiver.try_sleep(true) {
                    thread::park();
                    receiver.awake();
                }
            }
        });
    }
}
