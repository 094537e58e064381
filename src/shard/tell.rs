//! What clients of `tidegate.v1` and of event streams are told beside their messages.

use super::reactor::Reactor;
use super::turn::Shard;
use crate::config::limits::OWN_FRAMES_BYTES_MAX;
use crate::delivery::{Feeds, Herald};
use crate::hub::Hub;
use crate::journal::{Cursor, Passed};
use crate::model::encoding::{append_comment, append_data_frame, append_id, append_notice_event};
use crate::model::{ChannelIndex, CloseReason, Dialect, Offset, PayloadKind, Position};
use crate::session::{Notice, replies};

/// Writes notices as `dialect` has them.
pub(super) struct Teller<'a> {
    pub(super) dialect: Dialect,
    pub(super) hub: &'a Hub,
    pub(super) feeds: &'a Feeds,
}

impl Teller<'_> {
    fn position(&self, channel: ChannelIndex, next: Offset) -> Option<Position> {
        let epoch = self.feeds.get(channel)?.epoch;
        Some(Position { epoch, offset: Offset(next.0.saturating_sub(1)) })
    }

    fn tell(&self, channel: ChannelIndex, notice: Notice, out: &mut Vec<u8>) {
        let name = self.hub.name(channel);
        match self.dialect {
            Dialect::Plain => {}
            Dialect::V1 => append_frame(out, |json| replies::append_notice(notice, name, json)),
            Dialect::Events | Dialect::EnvelopedEvents => {
                let mut json = Vec::new();
                replies::append_notice(notice, name, &mut json);
                append_notice_event(notice.name(), &json, out);
            }
        }
    }
}

impl Herald for Teller<'_> {
    fn announce(&self, channel: ChannelIndex, from: Offset, passed: Passed, out: &mut Vec<u8>) {
        let Passed { superseded, expired, lost, own: _ } = passed;
        if superseded > 0 {
            self.tell(channel, Notice::Conflated { count: superseded }, out);
        }
        if expired > 0 {
            self.tell(channel, Notice::Expired { count: expired }, out);
        }
        if lost > 0
            && let Some(position) = self.position(channel, from)
        {
            self.tell(channel, Notice::Skipped { count: lost, position }, out);
        }
    }

    fn conclude(&self, cursors: &mut dyn Iterator<Item = (ChannelIndex, Cursor)>, out: &mut Vec<u8>) {
        if self.dialect == Dialect::EnvelopedEvents {
            let position = |(channel, cursor): (ChannelIndex, Cursor)| {
                (!cursor.is_parked()).then(|| self.position(channel, cursor.offset())).flatten()
            };
            append_id(&cursors.map(position).collect::<Vec<_>>(), out);
        }
    }
}

/// Appends the text that `write` writes as a frame.
pub(super) fn append_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut text = Vec::with_capacity(256);
    write(&mut text);
    append_data_frame(PayloadKind::Text, &text, out);
}

impl<R: Reactor> Shard<R> {
    /// Sends the client in `slot`, which speaks `tidegate.v1`, the text that `write` writes.
    pub(super) fn reply(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let mut frame = Vec::new();
        append_frame(&mut frame, write);
        self.push(slot, &frame);
    }

    /// Gives an event stream a sign of life.
    pub(super) fn push_heartbeat(&mut self, slot: u32) {
        let mut comment = Vec::new();
        append_comment(&mut comment);
        self.push(slot, &comment);
    }

    fn push(&mut self, slot: u32, bytes: &[u8]) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        if connection.owed.push_own(bytes, OWN_FRAMES_BYTES_MAX).is_err() {
            return self.fail(slot, CloseReason::ControlFlood);
        }
        self.list_write(slot);
    }
}
