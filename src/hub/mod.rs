//! Who wants what: which connections of this shard subscribe to which channel, and which shards want what is homed here.
//!
//! `hub.rs` keeps membership and interest; `numbering.rs` gives offsets at the home shard, `deflater.rs` deflates there,
//! `retries.rs` knows what comes again. Pure: every call returns
//! what the shard should send or do. A channel with neither members, nor interested shards, nor retained messages is
//! forgotten.

mod deflater;
mod hub;
mod numbering;
mod retries;

pub use deflater::Deflater;
pub use hub::{Attachment, Hub, InterestChange, Joined, Left};
pub use numbering::{InterestOutcome, Numbering};
pub use retries::Retries;
