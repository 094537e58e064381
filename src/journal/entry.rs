//! What a journal knows of one message beside its bytes.

use crate::model::encoding::data_of;
use crate::model::{MessageKey, Offset, Origin, Publication, Time};

pub(super) const SUPERSEDED: u8 = 1;
pub(super) const EXPIRED: u8 = 2;
pub(super) const DROPPED: u8 = 4;
const DELETES: u8 = 8;
pub(super) const FORGOTTEN: u8 = 16;

/// One message of a journal: 32 bytes, and more for those few that say more of themselves.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number.
    pub offset: Offset,
    /// When the gateway took it.
    pub accepted_at: Time,
    terms: Option<Box<Terms>>,
    pub(super) marks: u8,
}

/// What most messages say nothing of.
#[derive(Clone, Debug)]
struct Terms {
    expires_at: Time,
    origin: Option<Origin>,
    key: Option<MessageKey>,
}

impl Entry {
    /// The message `publication` as entry `offset`.
    pub(super) fn new(offset: Offset, publication: &Publication) -> Self {
        let Publication { accepted_at, expires_at, origin, key, frame, .. } = publication;
        let has_terms = *expires_at != Time::NEVER || origin.is_some() || key.is_some();
        let terms = || Box::new(Terms { expires_at: *expires_at, origin: *origin, key: key.clone() });
        let is_deletion = key.is_some() && data_of(frame).is_some_and(|(_, payload)| payload.is_empty());
        Self {
            offset,
            accepted_at: *accepted_at,
            terms: has_terms.then(terms),
            marks: if is_deletion { DELETES } else { 0 },
        }
    }

    /// From then on nobody is sent it; [`Time::NEVER`] for most.
    pub fn expires_at(&self) -> Time {
        self.terms.as_ref().map_or(Time::NEVER, |terms| terms.expires_at)
    }

    /// The connection that sent it, if one did.
    pub fn origin(&self) -> Option<Origin> {
        self.terms.as_ref().and_then(|terms| terms.origin)
    }

    /// What it is the newest state of, if anything.
    pub fn key(&self) -> Option<&MessageKey> {
        self.terms.as_ref().and_then(|terms| terms.key.as_ref())
    }

    /// Bytes of memory held beyond the entry itself.
    pub(super) fn memory_bytes(&self) -> usize {
        // A shared text has two counts in front.
        let key = self.key().map_or(0, |key| key.as_str().len() + 2 * size_of::<usize>());
        self.terms.as_ref().map_or(0, |_| size_of::<Terms>() + key)
    }

    /// A newer one has its key.
    pub const fn is_superseded(&self) -> bool {
        self.marks & SUPERSEDED != 0
    }

    /// A newer one has its key, and there is no other reason to leave it out.
    pub(super) const fn is_superseded_alone(&self) -> bool {
        self.marks & (SUPERSEDED | EXPIRED | DROPPED) == SUPERSEDED
    }

    /// It is too old to be sent.
    pub const fn is_expired(&self) -> bool {
        self.marks & EXPIRED != 0
    }

    /// It lies in the base and is not kept there: its bytes go with the next compaction.
    pub(super) const fn is_dropped(&self) -> bool {
        self.marks & DROPPED != 0
    }

    /// There were too many keys: it is no key's newest message any more, though no newer one has its key.
    pub(super) const fn is_forgotten(&self) -> bool {
        self.marks & FORGOTTEN != 0
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
