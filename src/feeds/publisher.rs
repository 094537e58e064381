//! Encodes a message once and sends it to the home shard of its channel.
//!
//! Two steps for those who publish many: `offer` and `offer_together` push to the bus at once and never wait; the
//! `PendingReceipt`s they give wait for the home to number each message. `publish` does both. A full lane is an error for the source to pass on, never a wait (GUARANTEES P6:
//! nothing is acknowledged before it has its number).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::bus::{Bus, Full, Outcome, Publish};
use crate::clock::Clock;
use crate::config::ChannelRules;
use crate::config::limits::PUBLISH_BYTES_MAX;
use crate::metrics::MemoryBudget;
use crate::metrics::counters::Counter;
use crate::model::{
    ChannelName, Conflict, Grade, IdempotencyKey, JsonPointer, MessageKey, PayloadKind, Publication, Receipt,
    ShardId, Time,
};

/// The way in for messages. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub struct Publisher {
    bus: Bus,
    clock: Clock,
    memory: MemoryBudget,
    channels: Arc<ChannelRules>,
    keys_missing: Arc<Counter>,
    is_closed: Arc<AtomicBool>,
}

/// What a publisher says of a message beside its payload.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// What it is the newest state of; without one the channel's rules say where the payload has it.
    pub key: Option<MessageKey>,
    /// How long it lasts; without one as long as the channel's rules say.
    pub ttl: Option<Duration>,
    /// What it is known by if it is published again, in each of its channels.
    pub idempotency_key: Option<IdempotencyKey>,
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
    /// Another message was published under the idempotency key: use a new key for a new message.
    #[error("another message was published under this idempotency key; use a new key for a new message")]
    Conflict,
    /// The process ends: publish to another.
    #[error("the gateway is ending; publish to another one")]
    Closed,
}

/// A message that the bus has taken; resolves when its home has numbered it.
#[must_use = "the message is on its way, but whether it was numbered is only known from its receipt"]
pub struct PendingReceipt(oneshot::Receiver<Outcome>);

impl Publisher {
    /// A publisher into `bus` that stamps messages by `clock` and charges them to `memory` on their way.
    pub fn new(bus: Bus, clock: Clock, memory: MemoryBudget) -> Self {
        Self {
            bus,
            clock,
            memory,
            channels: Arc::default(),
            keys_missing: Arc::default(),
            is_closed: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The same, with the rules that say where keys stand and how long messages last.
    #[must_use]
    pub fn with_channels(self, channels: &ChannelRules) -> Self {
        Self { channels: Arc::new(channels.clone()), ..self }
    }

    /// Messages that were to have their key in the payload, and had none there. Counted by the control thread.
    pub fn keys_missing(&self) -> u64 {
        self.keys_missing.get()
    }

    /// Refuses every message from here on: a home shard has ended and would never answer.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// The shard that numbers `channel`.
    pub fn home_of(&self, channel: &ChannelName) -> ShardId {
        ShardId::home_of(channel, self.bus.shard_count())
    }

    /// Encodes `payload` for `channel`: one allocation, one copy. `kind` text asserts valid UTF-8.
    ///
    /// # Errors
    /// [`PublishError::TooBig`].
    pub fn encode(
        &self,
        channel: ChannelName,
        kind: PayloadKind,
        payload: &[u8],
        terms: &Terms,
    ) -> Result<Publication, PublishError> {
        let mut encoded = self.encode_for(vec![channel], kind, payload, terms)?;
        encoded.pop().ok_or(PublishError::TooBig)
    }

    /// Encodes `payload` once for all of `channels`, in their order: the publications share its bytes. Where the rules say
    /// that keys stand in the payload, it is walked once for each pointer.
    ///
    /// # Errors
    /// [`PublishError::TooBig`].
    pub fn encode_for(
        &self,
        channels: Vec<ChannelName>,
        kind: PayloadKind,
        payload: &[u8],
        terms: &Terms,
    ) -> Result<Vec<Publication>, PublishError> {
        if payload.len() > PUBLISH_BYTES_MAX {
            return Err(PublishError::TooBig);
        }
        let now = self.clock.now();
        let mut publications: Vec<Publication> = Vec::with_capacity(channels.len());
        let mut found: Vec<(&JsonPointer, Option<MessageKey>)> = Vec::new();
        for channel in channels {
            let key = terms.key.clone().or_else(|| {
                let pointer = self.channels.key_source_for(&channel)?;
                let known = found.iter().find(|(known, _)| *known == pointer).map(|(_, key)| key.clone());
                let key = known.unwrap_or_else(|| {
                    let key = pointer.key_of(kind, payload);
                    found.push((pointer, key.clone()));
                    key
                });
                self.keys_missing.add(u64::from(key.is_none()));
                key
            });
            let ttl = terms.ttl.unwrap_or_else(|| self.channels.ttl_for(&channel));
            let expires_at = if ttl.is_zero() { Time::NEVER } else { now.after(ttl) };
            let publication = match publications.first() {
                Some(first) => Publication { channel, ..first.clone() },
                None => Publication::encode(channel, kind, payload, now, None),
            };
            let mut publication = Publication { key, expires_at, ..publication };
            // What the first is known by holds for those that are like it.
            let is_like_first = publications.first().is_some_and(|first| first.key == publication.key);
            if let Some(key) = &terms.idempotency_key
                && !is_like_first
            {
                self.bus.identify(&mut publication, key.clone());
            }
            publications.push(publication);
        }
        Ok(publications)
    }

    /// Pushes `publication` to the home of its channel, without waiting. Messages that one thread offers to one
    /// channel are numbered in the order of the calls.
    ///
    /// # Errors
    /// [`PublishError::Overloaded`] when the lane is full, [`PublishError::Memory`] when memory is short,
    /// [`PublishError::Closed`] when the process ends.
    pub fn offer(&self, publication: Publication) -> Result<PendingReceipt, PublishError> {
        self.check_open()?;
        let bytes = publication.bytes() as i64;
        let (publish, pending) = with_receipt(publication);
        match self.bus.publish(publish) {
            Ok(()) => {
                // The home takes it off again, perhaps already.
                self.memory.add(bytes);
                Ok(pending)
            }
            Err(Full(_)) => Err(PublishError::Overloaded),
        }
    }

    /// Pushes `publications` to the homes of their channels, without waiting: those for one home together, so that in the
    /// order of a channel nothing of others comes between them. All for one home are taken, or none. What became of each is
    /// given in the order of the publications.
    pub fn offer_together(
        &self,
        publications: Vec<Publication>,
    ) -> Vec<Result<PendingReceipt, PublishError>> {
        let mut outcomes = Vec::with_capacity(publications.len());
        let mut lists: Vec<(ShardId, Vec<usize>, Vec<Publish>)> = Vec::new();
        for (place, publication) in publications.into_iter().enumerate() {
            let home = self.home_of(&publication.channel);
            let (publish, pending) = with_receipt(publication);
            outcomes.push(Ok(pending));
            match lists.iter_mut().find(|(other, _, _)| *other == home) {
                Some((_, places, list)) => {
                    places.push(place);
                    list.push(publish);
                }
                None => lists.push((home, vec![place], vec![publish])),
            }
        }
        for (home, places, list) in lists {
            if let Err(error) = self.push_together(home, list) {
                for place in places {
                    outcomes.get_mut(place).into_iter().for_each(|outcome| *outcome = Err(error));
                }
            }
        }
        outcomes
    }

    fn push_together(&self, home: ShardId, list: Vec<Publish>) -> Result<(), PublishError> {
        self.check_open()?;
        let bytes: usize = list.iter().map(|publish| publish.publication.bytes()).sum();
        self.bus.publish_together(home, list).map_err(|Full(_)| PublishError::Overloaded)?;
        self.memory.add(bytes as i64);
        Ok(())
    }

    fn check_open(&self) -> Result<(), PublishError> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(PublishError::Closed);
        }
        if self.memory.update() >= Grade::Refusing {
            return Err(PublishError::Memory);
        }
        Ok(())
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
        self.offer(self.encode(channel, kind, payload, &Terms::default())?)?.wait().await
    }
}

fn with_receipt(publication: Publication) -> (Publish, PendingReceipt) {
    let (sender, receiver) = oneshot::channel();
    let on_receipt = Box::new(move |outcome| {
        // The source may have given up waiting; the message counts all the same.
        let _ = sender.send(outcome);
    });
    (Publish { publication, on_receipt: Some(on_receipt) }, PendingReceipt(receiver))
}

impl PendingReceipt {
    /// Waits until the home has numbered the message. Dropping the future gives up waiting, not the message.
    ///
    /// # Errors
    /// [`PublishError::Conflict`], [`PublishError::Closed`] when the home ended with the message unnumbered.
    pub async fn wait(self) -> Result<Receipt, PublishError> {
        let outcome = self.0.await.map_err(|_| PublishError::Closed)?;
        outcome.map_err(|Conflict| PublishError::Conflict)
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
        publisher.encode(channel(), PayloadKind::Text, payload.as_bytes(), &Terms::default()).unwrap()
    }

    #[tokio::test]
    async fn a_receipt_resolves_once_the_home_has_numbered_the_message() {
        let (publisher, bus) = publisher(4);
        let pending = publisher.offer(text(&publisher, "hello")).unwrap();
        let taken = bus.receiver(ShardId(0)).next_publish().unwrap();
        assert_eq!(&taken.publication.frame[..], b"\x81\x05hello");
        let position = Position { epoch: Epoch(7), offset: Offset::FIRST };
        let receipt = Receipt { position, subscribers: 3, is_duplicate: false };
        taken.on_receipt.unwrap()(Ok(receipt));
        assert_eq!(pending.wait().await, Ok(receipt));
    }

    #[test]
    fn a_full_lane_pushes_back_and_the_message_is_not_half_taken() {
        let (publisher, bus) = publisher(1);
        let _first = publisher.offer(text(&publisher, "a")).unwrap();
        assert_eq!(publisher.offer(text(&publisher, "b")).err(), Some(PublishError::Overloaded));
        let mut receiver = bus.receiver(ShardId(0));
        assert!(receiver.next_publish().unwrap().publication.frame.ends_with(b"a"));
        assert!(receiver.next_publish().is_none());
    }

    #[tokio::test]
    async fn e9_what_is_offered_together_is_taken_whole_at_each_home_and_answered_in_its_own_order() {
        let wakers = (0..2).map(|_| Box::new(NoWake) as Box<dyn Wake>);
        let bus = Bus::new(wakers.collect(), 1);
        let publisher = Publisher::new(bus.clone(), Clock::start(), MemoryBudget::new(0));
        let homed = |home| {
            let mut names = (0..).map(|index| ChannelName::parse(&format!("c{index}")).unwrap());
            names.find(|name| publisher.home_of(name) == ShardId(home)).unwrap()
        };
        let encode = |home, text: &str| {
            publisher.encode(homed(home), PayloadKind::Text, text.as_bytes(), &Terms::default()).unwrap()
        };
        let _first = publisher.offer(encode(1, "in the way")).unwrap();
        let texts = [(0, "a1"), (1, "b1"), (0, "a2"), (1, "b2")];
        let outcomes =
            publisher.offer_together(texts.iter().map(|(home, text)| encode(*home, text)).collect());
        let errors: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().err().copied()).collect();
        let full = Some(PublishError::Overloaded);
        assert_eq!(errors, [None, full, None, full]);
        let mut receiver = bus.receiver(ShardId(0));
        let position = |offset| Position { epoch: Epoch(7), offset: Offset(offset) };
        for (offset, text) in [(1, "a1"), (2, "a2")] {
            let taken = receiver.next_publish().unwrap();
            assert!(taken.publication.frame.ends_with(text.as_bytes()));
            let receipt = Receipt { position: position(offset), subscribers: 0, is_duplicate: false };
            taken.on_receipt.unwrap()(Ok(receipt));
        }
        let mut places = Vec::new();
        for pending in outcomes.into_iter().flatten() {
            places.push(pending.wait().await.unwrap().position);
        }
        assert_eq!(places, [position(1), position(2)]);
        publisher.close();
        let closed = publisher.offer_together(vec![encode(0, "c")]);
        assert_eq!(closed[0].as_ref().err(), Some(&PublishError::Closed));
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
    fn a_message_has_the_key_and_time_to_live_of_its_publisher_or_else_of_its_channels_rules() {
        let name = |text| ChannelName::parse(text).unwrap();
        let mut rules = ChannelRules::default();
        let mut rule = crate::config::ChannelRule::new(crate::model::Pattern::parse("prices.*").unwrap());
        rule.key = Some(crate::config::KeySource::Json(JsonPointer::parse("/symbol").unwrap()));
        rule.ttl = Some(Duration::from_secs(5));
        rules.rules.push(rule);
        let publisher = publisher(1).0.with_channels(&rules);
        let encode = |payload: &str, terms: &Terms| {
            let channels = vec![name("prices.eu"), name("news"), name("prices.us")];
            publisher.encode_for(channels, PayloadKind::Text, payload.as_bytes(), terms).unwrap()
        };
        let keys = |publications: &[Publication]| -> Vec<Option<String>> {
            publications.iter().map(|one| one.key.as_ref().map(|key| key.as_str().to_owned())).collect()
        };
        let lasts =
            |one: &Publication| (one.expires_at < Time::NEVER).then(|| one.expires_at.since(one.accepted_at));

        let ruled = encode(r#"{"symbol":"BTC"}"#, &Terms::default());
        assert_eq!(keys(&ruled), [Some("BTC".to_owned()), None, Some("BTC".to_owned())]);
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(ruled.iter().map(lasts).collect::<Vec<_>>(), [seconds(5), None, seconds(5)]);
        assert!(ruled.iter().all(|one| one.frame.as_ptr() == ruled[0].frame.as_ptr()), "one encoding");
        assert_eq!(publisher.keys_missing(), 0, "news needs none");

        let given = Terms { key: MessageKey::parse("x").ok(), ttl: seconds(1), ..Terms::default() };
        let given = encode(r#"{"symbol":"BTC"}"#, &given);
        assert_eq!(keys(&given), vec![Some("x".to_owned()); 3]);
        assert!(given.iter().all(|one| lasts(one) == seconds(1)));

        assert_eq!(keys(&encode("{}", &Terms::default())), vec![None; 3]);
        assert_eq!(publisher.keys_missing(), 2);
    }

    #[test]
    fn the_byte_after_the_limit_is_too_much() {
        let (publisher, _) = publisher(1);
        let payload = vec![0; PUBLISH_BYTES_MAX + 1];
        let encode = |payload| publisher.encode(channel(), PayloadKind::Binary, payload, &Terms::default());
        assert!(encode(&payload[1..]).is_ok());
        let error = encode(&payload).unwrap_err();
        assert_eq!(error, PublishError::TooBig);
    }
}
