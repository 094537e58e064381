//! Which message is the newest of each key.

use std::collections::{BTreeSet, HashMap};

use crate::model::{MessageKey, Offset};

/// The newest message of each key, of a bounded number of keys.
#[derive(Debug)]
pub(super) struct Keys {
    newest: HashMap<MessageKey, Offset>,
    /// The same offsets, in order: the first is that of the key which was not renewed for longest.
    order: BTreeSet<Offset>,
    keys_max: usize,
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
        Self { newest: HashMap::new(), order: BTreeSet::new(), keys_max: keys_max.max(1) }
    }

    /// `offset` is the newest message of `key`. Logarithmic in the keys.
    pub(super) fn renew(&mut self, key: &MessageKey, offset: Offset) -> Renewed {
        let superseded = match self.newest.get_mut(key) {
            Some(newest) => Some(std::mem::replace(newest, offset)),
            None => self.newest.insert(key.clone(), offset),
        };
        if let Some(superseded) = superseded {
            self.order.remove(&superseded);
        }
        let is_full = self.order.len() >= self.keys_max;
        let forgotten = is_full.then(|| self.order.pop_first()).flatten();
        self.order.insert(offset);
        Renewed { superseded, forgotten }
    }

    /// The message `offset` of `key` is not kept any more.
    pub(super) fn forget(&mut self, key: &MessageKey, offset: Offset) {
        if self.newest.get(key) == Some(&offset) {
            self.newest.remove(key);
            self.order.remove(&offset);
        }
    }

    /// Forgets every key.
    pub(super) fn clear(&mut self) {
        self.newest = HashMap::new();
        self.order = BTreeSet::new();
    }

    /// Keys known.
    pub(super) fn len(&self) -> usize {
        self.newest.len()
    }

    /// Bytes of memory held, about: the texts are counted with their messages.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.newest.capacity() * (size_of::<(MessageKey, Offset)>() + 1)
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
        assert_eq!(keys.renew(&key("a"), Offset(1)), Renewed::default());
        assert_eq!(keys.renew(&key("b"), Offset(2)), Renewed::default());
        let renewed = Renewed { superseded: Some(Offset(1)), forgotten: None };
        assert_eq!(keys.renew(&key("a"), Offset(3)), renewed);
        let forgotten = Renewed { superseded: None, forgotten: Some(Offset(2)) };
        assert_eq!(keys.renew(&key("c"), Offset(4)), forgotten);
        keys.forget(&key("b"), Offset(2));
        keys.forget(&key("a"), Offset(1));
        assert_eq!(keys.len(), 2);
        keys.forget(&key("a"), Offset(3));
        assert_eq!(keys.renew(&key("d"), Offset(5)), Renewed::default());
    }
}
