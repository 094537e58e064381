//! What clients of `tidegate.v1` and of event streams are told beside their messages.

use crate::delivery::{Feeds, Herald};
use crate::hub::Hub;
use crate::journal::{Cursor, Passed};
use crate::model::{ChannelIndex, Dialect};

/// Writes notices as `dialect` has them.
pub(super) struct Teller<'a> {
    pub(super) dialect: Dialect,
    pub(super) hub: &'a Hub,
    pub(super) feeds: &'a Feeds,
}

impl Herald for Teller<'_> {
    fn announce(&self, channel: ChannelIndex, passed: Passed, out: &mut Vec<u8>) {
        let _ = (channel, passed, out, self.hub, self.feeds);
    }

    fn conclude(&self, cursors: &mut dyn Iterator<Item = (ChannelIndex, Cursor)>, out: &mut Vec<u8>) {
        let _ = (cursors, out);
    }
}
