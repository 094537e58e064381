//! What an [`Owed`] holds of memory, for the account of its shard and for tests.

use crate::model::{ChannelIndex, Offset};

use super::{Backlog, Owed, Subscription, Subscriptions};

impl Owed {
    /// Bytes of memory held beyond the connection itself.
    pub fn memory_bytes(&self) -> usize {
        let backlog = self.backlog.as_ref().map_or(0, |backlog| {
            size_of::<Backlog>()
                + backlog.rest.len()
                + backlog.own.capacity()
                + backlog.pong.capacity()
                + backlog.catching_up.capacity() * size_of::<(ChannelIndex, Offset)>()
        });
        let subscriptions = match &self.subscriptions {
            Subscriptions::Many(many) => many.capacity() * size_of::<Subscription>(),
            _ => 0,
        };
        backlog + subscriptions
    }

    /// Bytes of own frames and of what holds them.
    pub fn own_memory_bytes(&self) -> usize {
        self.backlog
            .as_ref()
            .map_or(0, |backlog| size_of::<Backlog>() + backlog.own.capacity() + backlog.pong.capacity())
    }

    /// The rest of a cut entry, if one waits: an address that is the same for all who hold the same entry, wherever they have
    /// cut it, and its bytes. It keeps the entry's buffer, though the journal may have let go of it.
    pub fn rest(&self) -> Option<(usize, usize)> {
        let rest = &self.backlog.as_ref()?.rest;
        (!rest.is_empty()).then(|| (rest.as_ptr_range().end.addr(), rest.len()))
    }
}
