//! Publishes that were made under an idempotency key of late, at the homes of their channels: who retries one gets what
//! became of it, not a second message (GUARANTEES E8).
//!
//! All messages of a channel pass its home one after the other, wherever they entered, so that of two with the same key
//! one comes first and the other finds its number. Bounded; those of clients and those of publishers each have their own
//! bound, so that clients push no key of a publisher out. In memory only and empty after a restart.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::config::limits::{CLIENT_IDEMPOTENCY_KEYS_MAX, IDEMPOTENCY_KEYS_MAX, IDEMPOTENCY_WINDOW};
use crate::model::{ChannelName, Conflict, Fingerprint, Idempotency, IdempotencyKey, Receipt, Time};

/// What an entry holds, its key and the name of its channel aside: two maps, a fingerprint, a receipt.
const ENTRY_BYTES: usize = 320;
/// Entries past their time that one publish puts away at most.
const FORGOTTEN_PER_PUBLISH: usize = 16;

#[derive(PartialEq, Eq, Hash, Debug)]
struct Id {
    channel: ChannelName,
    key: IdempotencyKey,
}

impl Id {
    fn bytes(&self) -> usize {
        self.channel.as_str().len() + self.key.as_str().len()
    }
}

#[derive(Debug)]
struct Entry {
    ticket: u64,
    made_at: Time,
    fingerprint: Fingerprint,
    receipt: Receipt,
}

/// Entries in the order of their tickets, that is by age.
#[derive(Debug)]
struct Ages {
    by_ticket: BTreeMap<u64, Arc<Id>>,
    max: usize,
}

/// The table of one shard.
#[derive(Debug)]
pub struct Retries {
    by_id: HashMap<Arc<Id>, Entry>,
    publishers: Ages,
    clients: Ages,
    next_ticket: u64,
    id_bytes: usize,
}

impl Default for Retries {
    fn default() -> Self {
        Self::new(IDEMPOTENCY_KEYS_MAX, CLIENT_IDEMPOTENCY_KEYS_MAX)
    }
}

impl Retries {
    /// An empty table of at most so many keys of publishers and of clients.
    pub fn new(of_publishers_max: usize, of_clients_max: usize) -> Self {
        let ages = |max: usize| Ages { by_ticket: BTreeMap::new(), max: max.max(1) };
        Self {
            by_id: HashMap::new(),
            publishers: ages(of_publishers_max),
            clients: ages(of_clients_max),
            next_ticket: 0,
            id_bytes: 0,
        }
    }

    /// Keys that are kept.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Bytes that they hold.
    pub fn memory_bytes(&self) -> usize {
        self.by_id.len() * ENTRY_BYTES + self.id_bytes
    }

    /// What became of the publish to `channel` that was made as `idempotency` less than [`IDEMPOTENCY_WINDOW`] ago; `None`
    /// if there was none: make it, and [`Retries::note`] it.
    ///
    /// # Errors
    /// [`Conflict`]: it was another message.
    pub fn find(
        &self,
        channel: &ChannelName,
        idempotency: &Idempotency,
        now: Time,
    ) -> Result<Option<Receipt>, Conflict> {
        let id = Id { channel: channel.clone(), key: idempotency.key.clone() };
        match self.by_id.get(&id) {
            Some(entry) if entry.is_past(now) => Ok(None),
            Some(entry) if entry.fingerprint != idempotency.fingerprint => Err(Conflict),
            Some(entry) => Ok(Some(Receipt { is_duplicate: true, ..entry.receipt })),
            None => Ok(None),
        }
    }

    /// Keeps what became of a publish that was just made, of a client or not. Gives the number of keys that were put away
    /// before their time for it.
    pub fn note(
        &mut self,
        channel: ChannelName,
        idempotency: Idempotency,
        receipt: Receipt,
        is_of_client: bool,
        now: Time,
    ) -> u64 {
        self.forget_old(now, FORGOTTEN_PER_PUBLISH);
        let Idempotency { key, fingerprint } = idempotency;
        let id = Arc::new(Id { channel, key });
        if let Some(past) = self.by_id.get(&id).map(|entry| entry.ticket) {
            self.remove(past);
        }
        let ages = if is_of_client { &self.clients } else { &self.publishers };
        let oldest = ages.by_ticket.keys().copied();
        let evicted: Vec<u64> = oldest.take((ages.by_ticket.len() + 1).saturating_sub(ages.max)).collect();
        evicted.iter().for_each(|ticket| self.remove(*ticket));

        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.id_bytes += id.bytes();
        let ages = if is_of_client { &mut self.clients } else { &mut self.publishers };
        ages.by_ticket.insert(ticket, Arc::clone(&id));
        self.by_id.insert(id, Entry { ticket, made_at: now, fingerprint, receipt });
        evicted.len() as u64
    }

    /// Puts away up to `most` entries whose time has passed, of each kind.
    pub fn forget_old(&mut self, now: Time, most: usize) {
        let by_id = &self.by_id;
        let is_past = |id: &Arc<Id>| by_id.get(id).is_none_or(|entry| entry.is_past(now));
        let past_of = |ages: &Ages| -> Vec<u64> {
            let past = ages.by_ticket.iter().take(most).take_while(|(_, id)| is_past(id));
            past.map(|(ticket, _)| *ticket).collect()
        };
        let past = [past_of(&self.publishers), past_of(&self.clients)];
        past.iter().flatten().for_each(|ticket| self.remove(*ticket));
    }

    fn remove(&mut self, ticket: u64) {
        let of_publisher = self.publishers.by_ticket.remove(&ticket);
        if let Some(id) = of_publisher.or_else(|| self.clients.by_ticket.remove(&ticket)) {
            self.id_bytes -= id.bytes();
            self.by_id.remove(&id);
        }
    }
}

impl Entry {
    fn is_past(&self, now: Time) -> bool {
        now.since(self.made_at) >= IDEMPOTENCY_WINDOW
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Epoch, Fingerprints, Offset, PayloadKind, Position, Publication};

    const MINUTE: Duration = Duration::from_secs(60);

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    fn receipt(offset: u64) -> Receipt {
        let position = Position { epoch: Epoch(1), offset: Offset(offset) };
        Receipt { position, subscribers: 3, is_duplicate: false }
    }

    /// A table, and what makes messages known to it.
    struct World {
        table: Retries,
        prints: Fingerprints,
    }

    impl World {
        fn new(of_publishers_max: usize, of_clients_max: usize) -> Self {
            Self { table: Retries::new(of_publishers_max, of_clients_max), prints: Fingerprints::default() }
        }

        fn idempotency(&self, key: &str, text: &str) -> Idempotency {
            let message =
                Publication::encode(channel("any"), PayloadKind::Text, text.as_bytes(), Time::ZERO, None);
            Idempotency { key: IdempotencyKey::parse(key).unwrap(), fingerprint: self.prints.of(&message) }
        }

        /// The offset that is known, as a duplicate.
        fn find(&self, name: &str, (key, text): (&str, &str), now: Time) -> Result<Option<u64>, Conflict> {
            let found = self.table.find(&channel(name), &self.idempotency(key, text), now)?;
            Ok(found.map(|found| {
                assert!(found.is_duplicate && found.subscribers == 3);
                found.position.offset.0
            }))
        }

        fn note(
            &mut self,
            name: &str,
            (key, text): (&str, &str),
            offset: u64,
            is_of_client: bool,
            now: Time,
        ) -> u64 {
            let idempotency = self.idempotency(key, text);
            self.table.note(channel(name), idempotency, receipt(offset), is_of_client, now)
        }
    }

    #[test]
    fn e8_the_same_key_and_message_give_the_first_receipt_for_five_minutes_and_another_message_conflicts() {
        let (mut world, start) = (World::new(10, 10), Time::from_millis(7));
        assert_eq!(world.find("a", ("k", "1"), start), Ok(None));
        world.note("a", ("k", "1"), 5, false, start);
        let last = start.after(5 * MINUTE - Duration::from_nanos(1));
        for now in [start, start.after(MINUTE), last] {
            assert_eq!(world.find("a", ("k", "1"), now), Ok(Some(5)));
            assert_eq!(world.find("a", ("k", "2"), now), Err(Conflict));
        }
        assert_eq!(world.find("b", ("k", "2"), last), Ok(None), "keys are of a channel");
        assert_eq!(world.find("a", ("K", "2"), last), Ok(None), "case matters");

        let after = start.after(5 * MINUTE);
        assert_eq!(world.find("a", ("k", "2"), after), Ok(None));
        world.note("a", ("k", "2"), 9, false, after);
        assert_eq!(world.find("a", ("k", "2"), after.after(4 * MINUTE)), Ok(Some(9)));
        assert_eq!(world.find("a", ("k", "1"), after), Err(Conflict), "it is of the new one now");
        assert_eq!(world.table.len(), 1);
    }

    #[test]
    fn e8_the_table_is_bounded_charged_and_given_back() {
        let mut world = World::new(3, 3);
        let mut evicted = 0;
        for number in 0..5 {
            let text = number.to_string();
            evicted += world.note("a", (&text, &text), number, number % 2 == 1, Time::from_millis(number));
        }
        assert_eq!((evicted, world.table.len()), (0, 5), "three of publishers, two of clients");
        assert_eq!(world.table.memory_bytes(), 5 * (ENTRY_BYTES + 2));
        let now = Time::from_millis(10);
        assert_eq!(world.note("a", ("six", "6"), 6, false, now), 1);
        assert_eq!(world.find("a", ("0", "0"), now), Ok(None), "the oldest of the publishers went");
        assert_eq!(world.find("a", ("1", "1"), now), Ok(Some(1)));
        assert_eq!(world.table.memory_bytes(), 5 * ENTRY_BYTES + 4 + 3 + 5);

        let four_old = Time::from_millis(4).after(5 * MINUTE);
        world.table.forget_old(four_old, 1);
        assert_eq!(world.table.len(), 3, "of each at most as many as asked for");
        world.table.forget_old(four_old, 100);
        assert_eq!(world.table.len(), 1);
        world.table.forget_old(now.after(5 * MINUTE), 100);
        let ages = world.table.publishers.by_ticket.len() + world.table.clients.by_ticket.len();
        assert_eq!((world.table.is_empty(), world.table.memory_bytes(), ages), (true, 0, 0));
    }

    #[test]
    fn e8_however_many_keys_clients_send_those_of_publishers_stay() {
        let (mut world, now) = (World::new(3, 2), Time::ZERO);
        world.note("a", ("publisher", "0"), 1, false, now);
        let evicted: u64 =
            (0..100).map(|number| world.note("a", (&number.to_string(), ""), 2, true, now)).sum();
        assert_eq!((evicted, world.table.len()), (98, 3));
        assert_eq!(world.find("a", ("publisher", "0"), now), Ok(Some(1)));
        assert_eq!(world.find("a", ("97", ""), now), Ok(None));
        assert_eq!(world.find("a", ("98", ""), now), Ok(Some(2)));
    }

    #[test]
    fn e8_an_entry_that_is_past_makes_way_wherever_it_stands() {
        let mut world = World::new(1000, 1000);
        for number in 0..100 {
            let text = number.to_string();
            world.note("a", (&text, &text), number, false, Time::ZERO);
        }
        let now = Time::ZERO.after(5 * MINUTE);
        assert_eq!(world.note("a", ("90", "other"), 200, true, now), 0);
        assert_eq!(world.find("a", ("90", "other"), now), Ok(Some(200)));
        assert_eq!(world.table.len(), 100 - FORGOTTEN_PER_PUBLISH, "a few of the others went with it");
        world.table.forget_old(now, 1000);
        assert_eq!((world.table.len(), world.find("a", ("90", "other"), now)), (1, Ok(Some(200))));
    }
}
