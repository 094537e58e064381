//! How many connections one address may have, and how many new ones a second: one table for all shards (GUARANTEES C4).
//!
//! The kernel spreads an address's connections over the shards by chance, so a part of the limit for each would be
//! neither exact nor fair. An address is an IPv4 address or an IPv6 /64, which is what one customer has. The table has a
//! fixed size and is keyed at random: nobody can choose addresses that fall into one place. It is locked for some tens of
//! nanoseconds, twice in a connection's life, and never for addresses that are not limited.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::Config;
use crate::config::limits::{ADDRESS_BURST_SECONDS, ADDRESSES_MAX};
use crate::model::{RejectReason, Time};

/// Places that an address may have in the table.
const WAYS: usize = 8;
const SETS: usize = ADDRESSES_MAX / WAYS;

/// Where an address is counted; 0 where it is not: the first place of the table is never used.
pub type Ticket = u16;

const _: () = assert!(ADDRESSES_MAX - 1 <= Ticket::MAX as usize, "a ticket names every place");

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It may stay.
    Granted(Ticket),
    /// It is told why not, and counts as one that is, until its ticket is given back.
    Refused(Ticket, RejectReason),
    /// As many of its address as may have connections are being told: not even that.
    Flood,
}

/// The table and its limits. Clones share it.
#[derive(Clone, Debug)]
pub struct Addresses {
    table: Arc<Mutex<Table>>,
    hasher: RandomState,
    /// Connections of an address; none: no limit.
    connections_max: Option<u32>,
    /// Between two new ones in the long run; zero: no limit.
    interval: Duration,
}

/// A place of each vector for each address. Memory that was never used is not there: zeroed vectors are lent by the
/// kernel page by page.
#[derive(Debug)]
struct Table {
    addresses: Vec<u64>,
    granted: Vec<u32>,
    refused: Vec<u32>,
    /// When a new connection is due in the long run (GCRA): the further ahead, the more came at once.
    due_ns: Vec<u64>,
}

impl Addresses {
    /// The limits of `config`; none if it has none.
    pub fn new(config: &Config) -> Option<Self> {
        let rate = u32::try_from(config.connect_rate_per_address).unwrap_or(u32::MAX);
        let connections = u32::try_from(config.max_per_address).unwrap_or(u32::MAX);
        (rate > 0 || connections > 0).then(|| Self {
            table: Arc::new(Mutex::new(Table {
                addresses: vec![0; ADDRESSES_MAX],
                granted: vec![0; ADDRESSES_MAX],
                refused: vec![0; ADDRESSES_MAX],
                due_ns: vec![0; ADDRESSES_MAX],
            })),
            hasher: RandomState::new(),
            connections_max: (connections > 0).then_some(connections),
            interval: Duration::from_secs(1).checked_div(rate).unwrap_or_default(),
        })
    }

    /// Counts a connection of `address` that came at `now`. Give each ticket back with [`Addresses::give_back`].
    ///
    /// If the table has no place for the address, since all it could have are in use, it is granted and not counted.
    #[expect(
        clippy::indexing_slicing,
        reason = "a place is below the length of every vector: it comes from a set, or a ticket"
    )]
    pub fn take(&self, address: IpAddr, now: Time) -> Admission {
        let key = key(address);
        let set = (self.hasher.hash_one(key) as usize % SETS) * WAYS;
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = table.place(key, set, now) else { return Admission::Granted(0) };
        let most = self.connections_max.unwrap_or(u32::MAX);
        let reason = if table.granted[place] >= most {
            Some(RejectReason::AddressConnections)
        } else if self.is_too_fast(table.due_ns[place], now) {
            Some(RejectReason::AddressRate)
        } else {
            None
        };
        let ticket = place as Ticket;
        match reason {
            Some(_) if table.refused[place] >= most => Admission::Flood,
            Some(reason) => {
                table.refused[place] += 1;
                Admission::Refused(ticket, reason)
            }
            None => {
                table.granted[place] += 1;
                let due = Time::from_nanos(table.due_ns[place]).max(now).after(self.interval);
                table.due_ns[place] = due.as_nanos();
                Admission::Granted(ticket)
            }
        }
    }

    /// Whether a burst, as many seconds' worth as [`ADDRESS_BURST_SECONDS`] says, is used up.
    fn is_too_fast(&self, due_ns: u64, now: Time) -> bool {
        let burst = Duration::from_secs(ADDRESS_BURST_SECONDS).saturating_sub(self.interval);
        !self.interval.is_zero() && Time::from_nanos(due_ns).since(now) > burst
    }

    /// A connection that was granted, or that `was_refused`, is over.
    #[expect(
        clippy::indexing_slicing,
        reason = "a place is below the length of every vector: it comes from a set, or a ticket"
    )]
    pub fn give_back(&self, ticket: Ticket, was_refused: bool) {
        if ticket == 0 {
            return;
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = if was_refused { &mut table.refused } else { &mut table.granted };
        let count = &mut counts[usize::from(ticket)];
        debug_assert!(*count > 0, "given back more than taken");
        *count = count.saturating_sub(1);
    }
}

impl Table {
    /// Where `key` is counted: where it was, else in place of one that has no connections and came least lately.
    #[expect(
        clippy::indexing_slicing,
        reason = "a place is below the length of every vector: it comes from a set, or a ticket"
    )]
    fn place(&mut self, key: u64, set: usize, now: Time) -> Option<usize> {
        let places = || (set..set + WAYS).filter(|place| *place != 0);
        let is_idle = |place: &usize| self.granted[*place] == 0 && self.refused[*place] == 0;
        let is_known =
            |place: &usize| self.addresses[*place] == key && (!is_idle(place) || self.due_ns[*place] > 0);
        if let Some(place) = places().find(is_known) {
            return Some(place);
        }
        let place = places().filter(is_idle).min_by_key(|place| self.due_ns[*place])?;
        self.addresses[place] = key;
        self.due_ns[place] = now.as_nanos();
        Some(place)
    }
}

/// What of `address` counts: all of IPv4, the first half of IPv6. An IPv4 address in IPv6 is IPv4.
fn key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_bits().into(),
        // No public network begins with 32 zeros, so that the two do not meet.
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(5000);

    fn addresses(max_per_address: usize, connect_rate_per_address: usize) -> Addresses {
        let config = Config { max_per_address, connect_rate_per_address, ..Config::default() };
        Addresses::new(&config).unwrap()
    }

    fn take(addresses: &Addresses, address: &str) -> Admission {
        addresses.take(address.parse().unwrap(), NOW)
    }

    fn ticket(admission: Admission) -> Ticket {
        match admission {
            Admission::Granted(ticket) | Admission::Refused(ticket, _) => ticket,
            Admission::Flood => 0,
        }
    }

    #[test]
    fn c4_the_limit_is_exact_then_as_many_are_told_and_then_nobody_is() {
        let addresses = addresses(3, 0);
        let granted: Vec<_> = (0..3).map(|_| take(&addresses, "192.0.2.1")).collect();
        assert!(granted.iter().all(|admission| matches!(admission, Admission::Granted(1..))), "{granted:?}");
        let told: Vec<_> = (0..3).map(|_| take(&addresses, "192.0.2.1")).collect();
        let is_told =
            |told: &Admission| matches!(told, Admission::Refused(1.., RejectReason::AddressConnections));
        assert!(told.iter().all(is_told), "{told:?}");
        assert_eq!(take(&addresses, "192.0.2.1"), Admission::Flood);
        assert!(matches!(take(&addresses, "192.0.2.2"), Admission::Granted(_)), "another address");

        // Those who are told make room for others to be told, those who were granted for others to be granted.
        addresses.give_back(ticket(told[0]), true);
        assert!(is_told(&take(&addresses, "192.0.2.1")));
        addresses.give_back(ticket(granted[0]), false);
        assert!(matches!(take(&addresses, "192.0.2.1"), Admission::Granted(_)));
        assert_eq!(take(&addresses, "192.0.2.1"), Admission::Flood);
    }

    #[test]
    fn c4_an_address_is_one_of_ipv4_or_a_64_of_ipv6() {
        for (first, second, is_same) in [
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("0.0.0.5", "0:0:0:5::", true),
        ] {
            let addresses = addresses(1, 0);
            take(&addresses, first);
            let is_refused = matches!(take(&addresses, second), Admission::Refused(..));
            assert_eq!(is_refused, is_same, "{first} and {second}");
        }
    }

    #[test]
    fn c4_new_connections_come_in_a_burst_and_then_at_their_rate() {
        let addresses = addresses(0, 20);
        let at = |millis: u64| {
            addresses.take("192.0.2.1".parse().unwrap(), NOW.after(Duration::from_millis(millis)))
        };
        let granted = |millis: u64| (0..100).filter(|_| matches!(at(millis), Admission::Granted(_))).count();
        assert_eq!(granted(0), 60);
        assert!(matches!(at(0), Admission::Refused(_, RejectReason::AddressRate)));
        assert_eq!(granted(49), 0);
        assert_eq!(granted(50), 1);
        assert_eq!(granted(1050), 20);
        assert_eq!(granted(60_000), 60, "a rest gives no more than a burst");
    }

    #[test]
    fn c4_a_full_table_forgets_idle_addresses_alone_and_counts_no_further_ones() {
        let addresses = addresses(1, 0);
        let held: Vec<_> = (0..ADDRESSES_MAX as u32 * 2)
            .map(|number| (number, addresses.take(IpAddr::V4(number.into()), NOW)))
            .collect();
        let counted = held.iter().filter(|(_, admission)| ticket(*admission) != 0).count();
        // By chance a few sets of places got less than they hold.
        assert!((ADDRESSES_MAX * 95 / 100..ADDRESSES_MAX).contains(&counted), "{counted}");
        for (number, admission) in &held {
            assert!(matches!(admission, Admission::Granted(_)), "the first of {number}");
            if ticket(*admission) != 0 {
                let second = addresses.take(IpAddr::V4((*number).into()), NOW);
                assert!(matches!(second, Admission::Refused(..)), "the second of {number}: {second:?}");
                addresses.give_back(ticket(second), true);
            }
        }
        for (_, admission) in &held {
            addresses.give_back(ticket(*admission), false);
        }
        let later = (0..100_u32).map(|number| addresses.take(IpAddr::V4((0x0a00_0000 + number).into()), NOW));
        assert!(later.map(ticket).all(|ticket| ticket != 0), "idle ones make room");
    }
}
