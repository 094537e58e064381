//! What a slow subscriber of a feed with keys knows: of each key the newest value that it received, and when that was due.
//! It may be spared values that newer ones have replaced, and gets the others in their order.

use super::connection::Inside;
use super::receive::Desk;
use crate::payload::{Keys, Payload};
use crate::target::Target;
use crate::verify::Tally;

/// One subscriber's values.
#[derive(Debug)]
pub struct Held {
    keys: Keys,
    /// The message that it received last.
    last: Option<u64>,
    /// When the newest value of each key was due, nanoseconds of `CLOCK_MONOTONIC`; before any, when it joined.
    due_ns: Box<[u64]>,
}

impl Held {
    /// Nothing, since `now_ns`.
    pub fn new(keys: Keys, now_ns: u64) -> Self {
        Self { keys, last: None, due_ns: vec![now_ns; keys.count as usize].into() }
    }

    /// Takes a message of the run. Returns whether it was a newer value.
    fn take(&mut self, message: &[u8], run: u32, tally: &mut Tally) -> bool {
        let Some(payload) = Payload::parse(message) else {
            let wrong = if Payload::is_ours(message) { &mut tally.corrupted } else { &mut tally.foreign };
            *wrong += 1;
            return false;
        };
        if payload.run != run {
            tally.foreign += 1;
            return false;
        }
        match self.last {
            Some(last) if payload.sequence == last => tally.duplicated += 1,
            Some(last) if payload.sequence < last => tally.reordered += 1,
            _ => {
                self.last = Some(payload.sequence);
                if let Some(number) = self.keys.number(payload.sequence) {
                    self.due_ns[number] = payload.due_ns;
                }
                return true;
            }
        }
        false
    }

    /// Age of the oldest of the newest values, nanoseconds; a key without any counts from when it joined.
    pub fn age_ns(&self, now_ns: u64) -> u64 {
        self.due_ns.iter().min().map_or(0, |&oldest_ns| now_ns.saturating_sub(oldest_ns))
    }
}

impl Desk {
    /// Takes a message that a slow subscriber received.
    pub(super) fn hold(&mut self, target: &Target, inside: &mut Inside, message: &[u8]) {
        if let Some(held) = &mut inside.held
            && held.take(message, target.feed.run, &mut self.stats.tally)
        {
            self.stats.held += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::KeyOrder;

    fn message(sequence: u64, due_ns: u64) -> Vec<u8> {
        let mut message = Vec::new();
        Payload { sequence, due_ns, run: 1 }.push(80, &mut message);
        message
    }

    #[test]
    fn the_oldest_of_the_newest_values_is_what_counts() {
        let mut held = Held::new(Keys { count: 2, order: KeyOrder::Turns }, 100);
        let mut tally = Tally::default();
        assert_eq!(held.age_ns(150), 50);
        assert!(held.take(&message(0, 200), 1, &mut tally));
        assert_eq!(held.age_ns(300), 200, "the other key has no value");
        assert!(held.take(&message(3, 230), 1, &mut tally) && held.take(&message(4, 260), 1, &mut tally));
        assert_eq!((held.age_ns(300), tally), (70, Tally::default()));
    }

    #[test]
    fn what_comes_again_late_or_changed_is_a_fault() {
        let mut held = Held::new(Keys { count: 2, order: KeyOrder::Turns }, 0);
        let mut tally = Tally::default();
        let mut changed = message(8, 0);
        changed[70] ^= 1;
        let all = [message(7, 0), message(7, 0), message(5, 0), changed, b"hello".to_vec()];
        let newer = all.iter().filter(|message| held.take(message, 1, &mut tally)).count();
        held.take(&message(9, 0), 2, &mut tally);
        let faults = Tally { duplicated: 1, reordered: 1, corrupted: 1, foreign: 2, ..Tally::default() };
        assert_eq!((newer, tally), (1, faults));
    }
}
