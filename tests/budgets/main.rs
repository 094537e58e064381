//! The promises in numbers: allocations, writes, bytes. `docs/BUDGETS.md` lists them; each has its test here or names
//! another one.
//!
//! A real shard, driven by hand over sockets that take everything (`benches/kit/mod.rs`), and an allocator that counts.
//! Counts are exact and the same on every machine: nothing here measures time.

#[path = "../../benches/kit/mod.rs"]
mod kit;

mod allocations;
mod compression;
mod memory;
mod refusals;
mod writes;

use kit::Rig;
use kit::sink::Sink;
use tidegate::config::Config;

/// A shard with `count` subscribers of `channels`, all at rest.
fn rig(count: usize, channels: &str) -> Rig<Sink> {
    let request = kit::upgrade_request(channels);
    let mut rig = Rig::new(Config::default(), count);
    rig.reserve(count);
    rig.admit((0..count).map(|_| Sink::new(&request)));
    rig
}
