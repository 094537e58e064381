//! Who wants what: which connections of this shard subscribe to which channel, and which shards want what is homed here.
//!
//! `hub.rs` keeps membership and interest; `numbering.rs` gives offsets at the home shard, `deflater.rs` deflates there, for
//! those that `deflating.rs` counts; `retries.rs` knows what comes again. Pure: every call returns
//! what the shard should send or do. A channel with neither members, nor interested shards, nor retained messages is
//! forgotten. `patterns.rs` knows who holds which pattern, `matching.rs` which channels those match.

mod deflater;
mod deflating;
mod hub;
mod matching;
mod numbering;
mod patterns;
mod retries;

pub use deflater::Deflater;
pub use hub::{Attachment, Hub, InterestChange, Joined, Left};
pub use numbering::{InterestOutcome, Numbering};
pub use patterns::{Held, PatternRefusal, Patterns, Released, Waiting};
pub use retries::Retries;
