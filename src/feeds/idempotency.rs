//! Publishes that were made under an idempotency key of late: who retries one gets what became of it, not a second message
//! (GUARANTEES E8).
//!
//! Keys are of a channel. A publish is under way until its home has numbered it, and whoever comes with the same key
//! meanwhile waits for the same number. The table is bounded; it is in memory only and empty after a restart.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::publisher::PublishError;
use crate::bus::Receipt;
use crate::config::limits::{IDEMPOTENCY_KEY_BYTES_MAX, IDEMPOTENCY_WINDOW};
use crate::metrics::MemoryBudget;
use crate::metrics::memory::Held;
use crate::model::{ChannelName, PayloadKind, Publication, Time, encoding};

/// What an entry holds, its key aside: two maps, a fingerprint, a receipt.
const ENTRY_BYTES: usize = 320;
/// Entries past their time that one publish puts away at most.
const FORGOTTEN_PER_PUBLISH: usize = 16;

/// What a publisher calls one publish: 1 to 128 bytes of printable ASCII.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct IdempotencyKey(Box<str>);

impl IdempotencyKey {
    /// Checks and keeps `text`; `None` if it is no key.
    pub fn parse(text: &str) -> Option<Self> {
        let is_key = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        is_key.then(|| Self(text.into()))
    }
}

/// What was published, for comparison: its length, and 128 bits that nobody can aim at, as they are keyed at random.
type Fingerprint = (usize, [u64; 2]);

/// How a publish ended: its receipt, or why it was not made.
pub type Outcome = Result<Receipt, PublishError>;

/// What to do with a publish under a key.
#[derive(Debug)]
pub enum Begun {
    /// Nothing is known of it: make it, and tell [`RecentPublishes::end`] what became of it under this ticket.
    New(u64, oneshot::Receiver<Outcome>),
    /// It is under way.
    UnderWay(oneshot::Receiver<Outcome>),
    /// It was made.
    Known(Receipt),
    /// Something else was made under the key.
    Conflict,
}

#[derive(PartialEq, Eq, Hash, Debug)]
struct Id {
    channel: ChannelName,
    key: IdempotencyKey,
}

#[derive(Debug)]
enum State {
    UnderWay(Vec<oneshot::Sender<Outcome>>),
    Known(Receipt),
}

#[derive(Debug)]
struct Entry {
    ticket: u64,
    begun_at: Time,
    fingerprint: Fingerprint,
    state: State,
    _held: Held,
}

/// The table. Used by the control thread.
#[derive(Debug)]
pub struct RecentPublishes {
    by_id: HashMap<Arc<Id>, Entry>,
    /// By ticket, that is by age.
    by_age: BTreeMap<u64, Arc<Id>>,
    next_ticket: u64,
    entries_max: usize,
    memory: MemoryBudget,
    hashers: [RandomState; 2],
    duplicates: u64,
    evicted: u64,
}

/// How many there are, and what happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IdempotencyFigures {
    /// Keys that are kept.
    pub keys: u64,
    /// Publishes that were not made a second time.
    pub duplicates: u64,
    /// Keys that were put away before their time, for want of room.
    pub evicted: u64,
}

impl RecentPublishes {
    /// An empty table of at most `entries_max` keys, charged to `memory`.
    pub fn new(entries_max: usize, memory: MemoryBudget) -> Self {
        Self {
            by_id: HashMap::new(),
            by_age: BTreeMap::new(),
            next_ticket: 0,
            entries_max: entries_max.max(1),
            memory,
            hashers: [RandomState::new(), RandomState::new()],
            duplicates: 0,
            evicted: 0,
        }
    }

    /// What is known of `publication` under `key`. What has not been asked for with the key in [`IDEMPOTENCY_WINDOW`] is
    /// new. Linear in the payload.
    pub fn begin(&mut self, key: IdempotencyKey, publication: &Publication, now: Time) -> Begun {
        self.forget_old(now, FORGOTTEN_PER_PUBLISH);
        let fingerprint = self.fingerprint(publication);
        let id = Arc::new(Id { channel: publication.channel.clone(), key });
        if let Some(entry) = self.by_id.get_mut(&id) {
            if now.since(entry.begun_at) < IDEMPOTENCY_WINDOW {
                if entry.fingerprint != fingerprint {
                    return Begun::Conflict;
                }
                self.duplicates += 1;
                return match &mut entry.state {
                    State::Known(receipt) => Begun::Known(*receipt),
                    State::UnderWay(waiting) => Begun::UnderWay(wait(waiting)),
                };
            }
            let ticket = entry.ticket;
            self.remove(ticket);
        }
        while self.by_id.len() >= self.entries_max
            && let Some((ticket, _)) = self.by_age.first_key_value()
        {
            self.evicted += 1;
            self.remove(*ticket);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let mut waiting = Vec::new();
        let receiver = wait(&mut waiting);
        let bytes = ENTRY_BYTES + id.key.0.len();
        let entry = Entry {
            ticket,
            begun_at: now,
            fingerprint,
            state: State::UnderWay(waiting),
            _held: self.memory.hold(bytes),
        };
        self.by_age.insert(ticket, Arc::clone(&id));
        self.by_id.insert(id, entry);
        Begun::New(ticket, receiver)
    }

    /// Tells all who wait what became of the publish of `ticket`. If it was not made, its key is free again.
    pub fn end(&mut self, ticket: u64, outcome: Outcome) {
        let entry = self.by_age.get(&ticket).and_then(|id| self.by_id.get_mut(id));
        let Some(Entry { state, .. }) = entry else { return };
        let State::UnderWay(waiting) = state else { return };
        for sender in std::mem::take(waiting) {
            // Whoever waited may have gone.
            let _ = sender.send(outcome);
        }
        match outcome {
            Ok(receipt) => *state = State::Known(receipt),
            Err(_) => self.remove(ticket),
        }
    }

    /// Puts away up to `most` entries whose time has passed.
    pub fn forget_old(&mut self, now: Time, most: usize) {
        for _ in 0..most {
            let Some((ticket, id)) = self.by_age.first_key_value() else { return };
            let begun_at = self.by_id.get(id).map(|entry| entry.begun_at);
            if begun_at.is_some_and(|begun_at| now.since(begun_at) < IDEMPOTENCY_WINDOW) {
                return;
            }
            self.remove(*ticket);
        }
    }

    /// How many there are, and what happened.
    pub fn figures(&self) -> IdempotencyFigures {
        IdempotencyFigures {
            keys: self.by_id.len() as u64,
            duplicates: self.duplicates,
            evicted: self.evicted,
        }
    }

    fn remove(&mut self, ticket: u64) {
        if let Some(id) = self.by_age.remove(&ticket) {
            self.by_id.remove(&id);
        }
    }

    /// Of the kind, the message key and the payload; not of the time to live, which a retry may state shorter.
    fn fingerprint(&self, publication: &Publication) -> Fingerprint {
        let (kind, payload) = encoding::data_of(&publication.frame).unwrap_or((PayloadKind::Binary, &[]));
        let whole = (kind, publication.key.as_ref(), payload);
        (payload.len(), self.hashers.each_ref().map(|hasher| hasher.hash_one(whole)))
    }
}

fn wait(waiting: &mut Vec<oneshot::Sender<Outcome>>) -> oneshot::Receiver<Outcome> {
    let (sender, receiver) = oneshot::channel();
    waiting.push(sender);
    receiver
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Epoch, MessageKey, Offset, Position};

    const MINUTE: Duration = Duration::from_secs(60);

    fn key(text: &str) -> IdempotencyKey {
        IdempotencyKey::parse(text).unwrap()
    }

    fn publication(channel: &str, text: &str) -> Publication {
        let channel = ChannelName::parse(channel).unwrap();
        Publication::encode(channel, PayloadKind::Text, text.as_bytes(), Time::ZERO, None)
    }

    fn receipt(offset: u64) -> Receipt {
        Receipt { position: Position { epoch: Epoch(1), offset: Offset(offset) }, subscribers: 3 }
    }

    fn new(begun: Begun) -> (u64, oneshot::Receiver<Outcome>) {
        let Begun::New(ticket, receiver) = begun else { panic!("{begun:?} is not new") };
        (ticket, receiver)
    }

    fn known(begun: Begun) -> Receipt {
        let Begun::Known(receipt) = begun else { panic!("{begun:?} is not known") };
        receipt
    }

    #[test]
    fn a_key_is_1_to_128_bytes_of_printable_ascii() {
        let longest = "~".repeat(128);
        for good in ["a", " ", "\"8e03978e-40d5\"", &longest] {
            assert!(IdempotencyKey::parse(good).is_some(), "{good}");
        }
        for bad in ["", "a\n", "\u{7f}", "\u{e4}", &"~".repeat(129)] {
            assert_eq!(IdempotencyKey::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn e8_the_same_key_and_body_give_the_first_receipt_for_five_minutes_and_another_body_conflicts() {
        let mut table = RecentPublishes::new(10, MemoryBudget::new(0));
        let (message, start) = (publication("a", "1"), Time::from_millis(7));
        let (ticket, mut first) = new(table.begin(key("k"), &message, start));
        table.end(ticket, Ok(receipt(5)));
        assert_eq!(first.try_recv(), Ok(Ok(receipt(5))));

        let last = start.after(5 * MINUTE - Duration::from_nanos(1));
        for now in [start, start.after(MINUTE), last] {
            assert_eq!(known(table.begin(key("k"), &message, now)), receipt(5));
        }
        let binary = Publication::encode(message.channel.clone(), PayloadKind::Binary, b"1", start, None);
        let keyed = Publication { key: MessageKey::parse("x").ok(), ..message.clone() };
        for other in [publication("a", "2"), publication("a", "1 "), binary, keyed] {
            assert!(matches!(table.begin(key("k"), &other, last), Begun::Conflict), "{other:?}");
        }
        let lasting = Publication { expires_at: last, accepted_at: last, ..message.clone() };
        assert_eq!(known(table.begin(key("k"), &lasting, last)), receipt(5), "the time is not of the body");
        new(table.begin(key("k"), &publication("b", "2"), last));
        new(table.begin(key("K"), &publication("a", "2"), last));

        new(table.begin(key("k"), &publication("a", "2"), start.after(5 * MINUTE)));
        assert_eq!(table.figures(), IdempotencyFigures { keys: 3, duplicates: 4, evicted: 0 });
    }

    #[test]
    fn e8_who_comes_while_it_is_under_way_waits_for_the_same_number() {
        let mut table = RecentPublishes::new(10, MemoryBudget::new(0));
        let (message, now) = (publication("a", "1"), Time::ZERO);
        let (ticket, first) = new(table.begin(key("k"), &message, now));
        let Begun::UnderWay(mut second) = table.begin(key("k"), &message, now) else {
            panic!("it is under way")
        };
        assert!(matches!(table.begin(key("k"), &publication("a", "2"), now), Begun::Conflict));
        assert!(second.try_recv().is_err());
        // The first has hung up; its message counts all the same.
        drop(first);
        table.end(ticket, Ok(receipt(1)));
        assert_eq!(second.try_recv(), Ok(Ok(receipt(1))));
        assert_eq!(known(table.begin(key("k"), &message, now)), receipt(1));
    }

    #[test]
    fn e8_a_publish_that_was_not_made_leaves_its_key_free() {
        let mut table = RecentPublishes::new(10, MemoryBudget::new(0));
        let (message, now) = (publication("a", "1"), Time::ZERO);
        let (ticket, mut first) = new(table.begin(key("k"), &message, now));
        let Begun::UnderWay(mut second) = table.begin(key("k"), &message, now) else {
            panic!("it is under way")
        };
        table.end(ticket, Err(PublishError::Overloaded));
        for waiting in [&mut first, &mut second] {
            assert_eq!(waiting.try_recv(), Ok(Err(PublishError::Overloaded)));
        }
        let (again, _) = new(table.begin(key("k"), &publication("a", "2"), now));
        table.end(ticket, Ok(receipt(9)));
        assert!(matches!(table.begin(key("k"), &publication("a", "2"), now), Begun::UnderWay(_)));
        table.end(again, Ok(receipt(1)));
    }

    #[test]
    fn e8_the_table_is_bounded_charged_and_given_back() {
        let memory = MemoryBudget::new(1 << 30);
        let mut table = RecentPublishes::new(3, memory.clone());
        for number in 0..5 {
            let message = publication("a", &number.to_string());
            let (ticket, _) = new(table.begin(key(&number.to_string()), &message, Time::from_millis(number)));
            table.end(ticket, Ok(receipt(number)));
        }
        assert_eq!(table.figures(), IdempotencyFigures { keys: 3, duplicates: 0, evicted: 2 });
        assert_eq!(memory.used(), 3 * (ENTRY_BYTES as u64 + 1));
        let now = Time::from_millis(10);
        assert_eq!(known(table.begin(key("2"), &publication("a", "2"), now)), receipt(2), "the oldest went");
        new(table.begin(key("1"), &publication("a", "1"), now));
        table.forget_old(Time::from_millis(4).after(5 * MINUTE), 1);
        assert_eq!(table.figures().keys, 2, "at most as many as asked for");
        table.forget_old(Time::from_millis(4).after(5 * MINUTE), 100);
        assert_eq!(table.figures().keys, 1);
        table.forget_old(now.after(5 * MINUTE), 100);
        assert_eq!((table.figures().keys, memory.used(), table.by_age.len()), (0, 0, 0));
    }
}
