//! What a journal knows of one message beside its bytes.

use crate::model::{MessageKey, Offset, Origin, Time};

pub(super) const SUPERSEDED: u8 = 1;
pub(super) const EXPIRED: u8 = 2;
pub(super) const DROPPED: u8 = 4;
pub(super) const DELETES: u8 = 8;

/// One message of a journal.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number.
    pub offset: Offset,
    /// When the gateway took it.
    pub accepted_at: Time,
    /// From then on nobody is sent it; [`Time::NEVER`] for most.
    pub expires_at: Time,
    /// The connection that sent it, if one did.
    pub origin: Option<Origin>,
    /// What it is the newest state of, if anything.
    pub key: Option<MessageKey>,
    pub(super) marks: u8,
}

impl Entry {
    /// A newer one has its key.
    pub const fn is_superseded(&self) -> bool {
        self.marks & SUPERSEDED != 0
    }

    /// It is too old to be sent.
    pub const fn is_expired(&self) -> bool {
        self.marks & EXPIRED != 0
    }

    /// It lies in the base and is not kept there: its bytes go with the next compaction.
    pub(super) const fn is_dropped(&self) -> bool {
        self.marks & DROPPED != 0
    }

    /// It deletes its key.
    pub const fn is_deletion(&self) -> bool {
        self.marks & DELETES != 0
    }

    /// Whether somebody may still be sent it.
    pub(super) const fn is_live(&self) -> bool {
        self.marks & (SUPERSEDED | EXPIRED | DROPPED) == 0
    }
}
