//! What an echo server compresses (`serve --echo`, for conformance suites): each connection has a compressor of its own, the
//! same that a channel has, because nobody else gets the same sequence. In a gateway all this is empty.

use std::collections::HashMap;

use super::reactor::Reactor;
use super::turn::Shard;
use crate::hub::Deflater;
use crate::model::encoding::{data_of, split_frame};

/// Compressors of the connections that were sent a deflated echo. At most one a connection, 371 KiB each.
#[derive(Debug, Default)]
pub struct Echoes {
    deflaters: HashMap<u32, Deflater>,
}

impl Echoes {
    /// The connection in `slot` is over.
    pub fn forget(&mut self, slot: u32) {
        if !self.deflaters.is_empty() {
            self.deflaters.remove(&slot);
        }
    }
}

impl<R: Reactor> Shard<R> {
    /// Deflates the messages among the replies to the connection in `slot`, if it reads the deflated strip of a channel.
    pub(super) fn deflate_echoes(&mut self, slot: u32) {
        let Some(connection) = self.slots.get(slot) else { return };
        let riding = connection.owed.subscriptions().iter().find(|one| one.cursor.wants_deflated());
        let Some(feed) = riding.and_then(|one| self.feeds.get(one.channel)) else { return };
        let deflaters = &mut self.echoes.deflaters;
        let deflater = deflaters.entry(slot).or_insert_with(|| Deflater::new(&feed.settings));
        let replies = std::mem::take(&mut self.replies);
        let mut rest = &replies[..];
        while let Some((frame, behind)) = split_frame(rest) {
            match data_of(frame).and_then(|(kind, payload)| deflater.deflate(kind, payload)) {
                Some(deflated) => self.replies.extend_from_slice(&deflated.frame),
                None => self.replies.extend_from_slice(frame),
            }
            rest = behind;
        }
    }
}
