//! One thread: a mio loop that owns its sockets, journals, timers and counters, and shares nothing but the bus.
//!
//! `turn.rs` is the loop and the list of phases; each phase has a file of its own. `reactor.rs` is the boundary to
//! the operating system: the simulation puts its own behind it and runs everything else as it is. `connection.rs`
//! has the life of a connection as a diagram.

mod accept;
mod answer;
mod attach;
mod begin;
mod clients;
mod close;
mod commands;
mod connection;
mod drain;
mod echo;
mod ends;
mod expire;
mod flush;
mod follow;
mod freeze;
mod group;
mod join;
mod memory;
mod occupancy;
mod outbox;
mod pending;
pub mod reactor;
mod read;
mod ready;
mod reap;
mod receive;
mod relay;
mod runs;
mod sample;
mod senders;
mod slots;
mod tell;
mod turn;
mod wait;

pub use turn::{Shard, ShardParts};

use std::io;
use std::sync::Arc;

use crate::bus::Bus;
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::{MemoryBudget, ShardCounters};
use crate::model::ShardId;
use crate::net::{ConnectionBudget, Listener, sys};
use reactor::{MioReactor, Poller};

/// Everything a shard thread starts with.
pub struct ShardSetup {
    /// Which shard.
    pub id: ShardId,
    /// What the operator asked for.
    pub config: Arc<Config>,
    /// The bridge to the others.
    pub bus: Bus,
    /// Where it counts.
    pub counters: Arc<ShardCounters>,
    /// Its listening sockets, one an address.
    pub listeners: Vec<Listener>,
    /// Made on the main thread, because wakers must be.
    pub poller: Poller,
    /// The process's clock.
    pub clock: Clock,
    /// How many connections the process may hold.
    pub budget: ConnectionBudget,
    /// How much memory the process may hold.
    pub memory: MemoryBudget,
    /// Start of everything random on this shard.
    pub seed: u64,
}

/// Runs one shard on the calling thread until it is told to stop. Pins itself and takes a private descriptor table
/// as configured.
///
/// # Errors
/// The event loop could not be set up or failed: the process cannot go on without it.
pub fn run(setup: ShardSetup) -> io::Result<()> {
    let ShardSetup { id, config, bus, counters, listeners, poller, clock, budget, memory, seed } = setup;
    if config.private_fds {
        sys::unshare_descriptor_table()?;
    }
    if config.pin_shards {
        let cores = sys::allowed_cores()?;
        if let Some(core) = cores.get(id.index() % cores.len().max(1)) {
            sys::pin_to_core(*core)?;
        }
    }
    let reactor = MioReactor::new(poller, listeners, clock, seed)?;
    let mut shard = Shard::new(ShardParts { id, config, bus, counters, budget, memory, seed }, reactor);
    while !shard.is_stopped() {
        shard.turn()?;
    }
    Ok(())
}
