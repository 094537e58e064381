//! Who is who inside one process: shards, connections, and where a relayed message came from.

use std::fmt;

use super::channel::ChannelName;

/// Index of a shard thread, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The same, as an index into per-shard tables.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl ShardId {
    /// The shard that numbers `channel` among `shards`: FNV-1a of the name, the same in every run.
    pub fn home_of(channel: &ChannelName, shards: usize) -> Self {
        let hash = channel.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // The low bits of FNV mix badly for short names; fold the high half in.
        let folded = hash ^ (hash >> 32);
        Self((folded % shards.max(1) as u64) as u16)
    }
}

/// A channel's place on one shard; valid until the shard forgets the channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ChannelIndex(pub u32);

impl ChannelIndex {
    /// The same, as an index into per-channel tables.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A connection on one shard: the slot it lives in and how often that slot was given out before.
///
/// An event or order for a connection that is gone meets a generation mismatch and is dropped (GUARANTEES C16).
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

    /// The name that operators know it by, on `shard`: in the log and in listings.
    pub const fn name_on(self, shard: ShardId) -> ConnectionName {
        ConnectionName { shard, connection: self }
    }
}

/// Prints as shard and packed id in hexadecimal, `1-1000000002`. A text: a number of this size would not survive a
/// JavaScript reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionName {
    shard: ShardId,
    connection: ConnectionId,
}

impl fmt::Display for ConnectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.shard.0, self.connection.pack())
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
    fn homes_are_stable_and_spread() {
        let mut counts = [0; 4];
        for index in 0..4000 {
            let channel = ChannelName::parse(&format!("news.{index}")).unwrap();
            counts[ShardId::home_of(&channel, 4).index()] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }

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

    #[test]
    fn a_connection_is_named_by_its_shard_and_its_packed_id() {
        let id = ConnectionId { slot: 2, generation: 16 };
        assert_eq!(id.name_on(ShardId(1)).to_string(), "1-1000000002");
    }
}
