//! Who is who inside one process: shards, connections, and where a relayed message came from.

/// Index of a shard thread, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The same, as an index into per-shard tables.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A connection on one shard: the slot it lives in and how often that slot was given out before.
///
/// An event or order for a connection that is gone meets a generation mismatch and is dropped (FAULTS C16).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ConnectionId {
    /// Index in the shard's slab.
    pub slot: u32,
    /// How many connections had this slot before; wraps.
    pub generation: u32,
}

impl ConnectionId {
    /// Packs the two halves into one word, generation above slot: the poll token.
    pub const fn pack(self) -> u64 {
        ((self.generation as u64) << 32) | self.slot as u64
    }

    /// The inverse of [`ConnectionId::pack`].
    pub const fn unpack(word: u64) -> Self {
        Self { slot: (word & 0xffff_ffff) as u32, generation: (word >> 32) as u32 }
    }
}

/// The connection that a relayed message came from; a cursor of that connection steps over it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Origin {
    /// The shard that the sender is connected to.
    pub shard: ShardId,
    /// The sender there.
    pub connection: ConnectionId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_connection_id_unpacks_to_itself() {
        for id in [
            ConnectionId { slot: 0, generation: 0 },
            ConnectionId { slot: u32::MAX, generation: 1 },
            ConnectionId { slot: 7, generation: u32::MAX },
        ] {
            assert_eq!(ConnectionId::unpack(id.pack()), id);
        }
    }
}
