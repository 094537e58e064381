//! What the home shard knows of a channel: the next offset, and which shards want to hear.

use crate::model::{Epoch, Offset, Position, ShardId};

/// One stream's numbering and the shards (other than the home) that have subscribers.
#[derive(Debug)]
pub struct Numbering {
    epoch: Epoch,
    next: Offset,
    interests: Vec<Interest>,
    /// Shards that hold a pattern which matches.
    matched: Vec<ShardId>,
}

#[derive(Clone, Copy, Debug)]
struct Interest {
    shard: ShardId,
    members: u32,
    deflating: u32,
    ticket: u64,
}

/// What the home does about an interest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InterestOutcome {
    /// A new one: answer with where the stream stands and what is retained.
    Attach,
    /// Only the count changed, or it was withdrawn.
    Noted,
}

impl Numbering {
    /// A stream that begins: its first message will be [`Offset::FIRST`].
    pub(super) fn new(epoch: Epoch) -> Self {
        Self { epoch, next: Offset::FIRST, interests: Vec::new(), matched: Vec::new() }
    }

    /// The numbering's name.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The number of the next message.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// The place of the newest message; offset 0 before the first.
    pub fn newest(&self) -> Position {
        Position { epoch: self.epoch, offset: Offset(self.next.0 - 1) }
    }

    /// Gives the next message its number.
    pub fn take_next(&mut self) -> Position {
        let position = Position { epoch: self.epoch, offset: self.next };
        self.next = self.next.next();
        position
    }

    /// Shards that want what is numbered here, each once, the home itself not among them.
    pub fn interested_shards(&self) -> impl Iterator<Item = ShardId> {
        let has_raised = |shard: &ShardId| self.interests.iter().any(|interest| interest.shard == *shard);
        let matched = self.matched.iter().copied().filter(move |shard| !has_raised(shard));
        self.interests.iter().map(|interest| interest.shard).chain(matched)
    }

    /// The shards, others than the home, that hold a pattern which matches.
    pub(super) fn set_matched(&mut self, shards: impl Iterator<Item = ShardId>) {
        self.matched.clear();
        self.matched.extend(shards);
        self.matched.sort_unstable();
        self.matched.dedup();
    }

    pub(super) fn has_matched(&self) -> bool {
        !self.matched.is_empty()
    }

    /// Subscribers on other shards.
    pub fn remote_members(&self) -> u64 {
        self.interests.iter().map(|interest| u64::from(interest.members)).sum()
    }

    /// Of those, how many read deflated messages.
    pub fn remote_deflating(&self) -> u64 {
        self.interests.iter().map(|interest| u64::from(interest.deflating)).sum()
    }

    /// Notes that `shard` has `members` subscribers, `deflating` of which read deflated messages; 0 members withdraw.
    pub(super) fn note_interest(
        &mut self,
        shard: ShardId,
        members: u32,
        deflating: u32,
        ticket: u64,
    ) -> InterestOutcome {
        let interest = Interest { shard, members, deflating, ticket };
        let place = self.interests.iter().position(|interest| interest.shard == shard);
        match (place, members) {
            (Some(index), 0) => {
                self.interests.swap_remove(index);
                InterestOutcome::Noted
            }
            (None, 0) => InterestOutcome::Noted,
            (Some(index), _) if self.interests[index].ticket == ticket => {
                self.interests[index] = interest;
                InterestOutcome::Noted
            }
            (Some(index), _) => {
                self.interests[index] = interest;
                InterestOutcome::Attach
            }
            (None, _) => {
                self.interests.push(interest);
                InterestOutcome::Attach
            }
        }
    }

    pub(super) fn has_interests(&self) -> bool {
        !self.interests.is_empty()
    }
}
