//! Which message is the newest of each key.

use std::collections::{BTreeSet, HashMap};

use crate::model::{MessageKey, Offset};

/// The newest message of each key, of a bounded number of keys.
#[derive(Debug)]
pub(super) struct Keys {
    newest: HashMap<MessageKey, Newest>,
    /// The same offsets, in order: the first is that of the key which was not renewed for longest.
    order: BTreeSet<Offset>,
    keys_max: usize,
    /// Keys whose newest message deletes them.
    deleted: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Newest {
    offset: Offset,
    is_deletion: bool,
}

/// What a message with a key takes the place of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Renewed {
    /// The older message of the same key.
    pub superseded: Option<Offset>,
    /// The newest message of another key, which is forgotten because there were too many.
    pub forgotten: Option<Offset>,
}

impl Keys {
    /// None yet; `keys_max` at most.
    pub(super) fn new(keys_max: usize) -> Self {
        Self { newest: HashMap::new(), order: BTreeSet::new(), keys_max: keys_max.max(1), deleted: 0 }
    }

    /// `offset` is the newest message of `key`, and deletes it if it `is_deletion`. Logarithmic in the keys.
    pub(super) fn renew(&mut self, key: &MessageKey, offset: Offset, is_deletion: bool) -> Renewed {
        let newest = Newest { offset, is_deletion };
        let before = match self.newest.get_mut(key) {
            Some(place) => Some(std::mem::replace(place, newest)),
            None => self.newest.insert(key.clone(), newest),
        };
        if let Some(before) = before {
            self.order.remove(&before.offset);
            self.deleted -= usize::from(before.is_deletion);
        }
        let is_full = self.order.len() >= self.keys_max;
        let forgotten = is_full.then(|| self.order.pop_first()).flatten();
        self.order.insert(offset);
        self.deleted += usize::from(is_deletion);
        Renewed { superseded: before.map(|before| before.offset), forgotten }
    }

    /// The message `offset` of `key` is not kept any more.
    pub(super) fn forget(&mut self, key: &MessageKey, offset: Offset) {
        if let Some(newest) = self.newest.get(key).copied().filter(|newest| newest.offset == offset) {
            self.newest.remove(key);
            self.order.remove(&offset);
            self.deleted -= usize::from(newest.is_deletion);
        }
    }

    /// Forgets every key.
    pub(super) fn clear(&mut self) {
        self.newest = HashMap::new();
        self.order = BTreeSet::new();
        self.deleted = 0;
    }

    /// Keys known.
    pub(super) fn len(&self) -> usize {
        self.newest.len()
    }

    /// Keys that are not deleted.
    pub(super) fn alive(&self) -> usize {
        self.newest.len() - self.deleted
    }

    /// Bytes of memory held, about: the texts are counted with their messages.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.newest.capacity() * (size_of::<(MessageKey, Newest)>() + 1)
            + self.order.len() * 2 * size_of::<Offset>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_too_many_pushes_out_the_one_that_was_not_renewed_for_longest() {
        let key = |text| MessageKey::parse(text).unwrap();
        let mut keys = Keys::new(2);
        assert_eq!(keys.renew(&key("a"), Offset(1), false), Renewed::default());
        assert_eq!(keys.renew(&key("b"), Offset(2), false), Renewed::default());
        let renewed = Renewed { superseded: Some(Offset(1)), forgotten: None };
        assert_eq!(keys.renew(&key("a"), Offset(3), false), renewed);
        let forgotten = Renewed { superseded: None, forgotten: Some(Offset(2)) };
        assert_eq!(keys.renew(&key("c"), Offset(4), false), forgotten);
        keys.forget(&key("b"), Offset(2));
        keys.forget(&key("a"), Offset(1));
        assert_eq!(keys.len(), 2);
        keys.forget(&key("a"), Offset(3));
        assert_eq!(keys.renew(&key("d"), Offset(5), false), Renewed::default());
    }
}
