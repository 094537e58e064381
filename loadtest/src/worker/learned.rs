//! What messages look like on the wire where only the server knows it: in an envelope with its position, or as an event.
//!
//! A server sends all subscribers of a channel the same bytes. The first of a worker to receive a message takes it apart and
//! checks it against what was published; the others are compared with that byte for byte.

use std::collections::VecDeque;

use super::connection::Connection;
use super::receive::{Desk, count};
use crate::feed::Match;
use crate::target::Target;

/// Messages that are kept; who is further behind is checked the long way.
const MESSAGES_MAX: usize = 16 * 1024;
/// Bytes of them.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// The newest messages as they came.
#[derive(Debug, Default)]
pub struct Learned {
    /// Sequence of the first that is kept.
    first: u64,
    messages: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl Learned {
    /// The bytes of a message, if somebody has received it.
    fn find(&self, sequence: u64) -> Option<&[u8]> {
        let at = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.messages.get(at).map(AsRef::as_ref).filter(|bytes| !bytes.is_empty())
    }

    fn insert(&mut self, sequence: u64, bytes: &[u8]) {
        let ahead = sequence.checked_sub(self.first).map_or(usize::MAX, |ahead| ahead as usize);
        if self.messages.is_empty() || ahead > self.messages.len() + MESSAGES_MAX {
            // The first, or far from all that is known.
            *self = Self { first: sequence, ..Self::default() };
        }
        let at = (sequence - self.first) as usize;
        while self.messages.len() <= at {
            self.messages.push_back(Box::default());
        }
        self.bytes += bytes.len();
        self.bytes -= std::mem::replace(&mut self.messages[at], bytes.into()).len();
        while self.messages.len() > MESSAGES_MAX || (self.bytes > BYTES_MAX && self.messages.len() > 1) {
            self.bytes -= self.messages.pop_front().map_or(0, |bytes| bytes.len());
            self.first += 1;
        }
    }
}

/// Where a subscriber stood, and what all had received.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    sequence: u64,
    delivered: u64,
}

impl Desk {
    /// To be taken before a message is taken apart.
    pub(super) fn mark(&self, connection: &Connection) -> Mark {
        Mark { sequence: connection.position.sequence, delivered: self.stats.tally.delivered }
    }

    /// Keeps the bytes of a message if they were exactly the one that was due at the mark.
    pub(super) fn learn(&mut self, connection: &Connection, mark: Mark, bytes: &[u8]) {
        let now = self.mark(connection);
        if now.sequence == mark.sequence.wrapping_add(1) && now.delivered == mark.delivered + 1 {
            self.learned.insert(mark.sequence, bytes);
        }
    }

    /// Takes as many whole messages as are what others have received. Returns bytes taken.
    pub(super) fn recognise(
        &mut self,
        target: &Target,
        connection: &mut Connection,
        bytes: &[u8],
        now_ns: u64,
    ) -> usize {
        let mut taken = 0;
        while let Some(message) = self.learned.find(connection.position.sequence) {
            let sequence = connection.position.sequence;
            if connection.stalled || !bytes[taken..].starts_with(message) {
                break;
            }
            if self.view.find(sequence).is_none() {
                self.view.refresh(&target.feed);
            }
            let Some(batch) = self.view.find(sequence) else { break };
            let matched = Match { batch, bytes: message.len(), messages: 1 };
            count(&mut self.stats, &mut self.latencies, &matched, now_ns);
            connection.position.sequence += 1;
            taken += message.len();
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_messages_are_kept_and_others_are_not_known() {
        let mut learned = Learned::default();
        assert_eq!(learned.find(0), None);
        learned.insert(5, b"five");
        learned.insert(7, b"seven");
        assert_eq!((learned.find(5), learned.find(6)), (Some(&b"five"[..]), None));
        assert_eq!((learned.find(4), learned.find(8)), (None, None));
        learned.insert(7, b"7");
        assert_eq!((learned.find(7), learned.bytes), (Some(&b"7"[..]), 5));
        for sequence in 8..8 + MESSAGES_MAX as u64 {
            learned.insert(sequence, b"x");
        }
        assert_eq!((learned.find(7), learned.find(8)), (None, Some(&b"x"[..])));
        assert_eq!(learned.bytes, MESSAGES_MAX);
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes_and_begins_anew_far_away() {
        let mut learned = Learned::default();
        let large = vec![0; BYTES_MAX / 4 + 1];
        (0..5).for_each(|sequence| learned.insert(sequence, &large));
        assert!(learned.find(1).is_none() && learned.find(2).is_some() && learned.bytes <= BYTES_MAX);
        learned.insert(1 << 40, b"far");
        assert_eq!((learned.messages.len(), learned.bytes, learned.find(4)), (1, 3, None));
        learned.insert(9, b"back");
        assert_eq!((learned.find(9), learned.messages.len()), (Some(&b"back"[..]), 1));
    }
}
