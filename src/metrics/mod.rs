//! What is counted: per-shard counters with one writer each, latency histograms, the text exposition.
//!
//! A shard adds to plain relaxed atomics that only it writes; anyone reads them at any time. Histograms stay on the
//! shard and travel as copies when somebody asks. Read `counters.rs` for the list of facts.

pub mod counters;
pub mod exposition;
pub mod memory;
pub mod report;

pub use counters::ShardCounters;
pub use memory::MemoryBudget;
pub use report::{Histograms, ShardReport};
