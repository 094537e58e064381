//! The private port: publishing, health, metrics, listings.
//!
//! Everything here runs on the control thread: one thread, a single-threaded runtime, never a client socket. It reads
//! the shards' counters directly and asks them over the bus for the rest; a shard that does not answer costs the
//! caller a time-out and the shard nothing. Read `routes.rs` for what is served, `refusal.rs` for what is refused.

#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod body;
mod counters;
mod guard;
mod health;
mod listener;
mod listing;
mod message;
mod object;
mod places;
mod process;
mod publish;
mod refusal;
mod routes;
mod scrape;
mod shards;
mod spares;
mod terms;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::handler::Handler;
use tokio::net::TcpListener;

#[doc(hidden)]
pub use message::{Message, PublishRequest, parse_batch, parse_publish};
pub use places::CONNECTIONS_MAX as ADMIN_CONNECTIONS_MAX;
pub use shards::Shards;

use crate::clock::Clock;
use crate::config::ChannelRules;
use crate::feeds::Publisher;
use crate::metrics::MemoryBudget;
use crate::metrics::counters::Counter;
use crate::model::{ChannelName, PayloadKind};
use counters::AdminCounters;
use listing::Pace;
use scrape::LastReports;

/// What the admin side needs to know of the process.
pub struct AdminSetup {
    /// The way in for messages.
    pub publisher: Publisher,
    /// The shards, to be read and asked.
    pub shards: Shards,
    /// The process's clock.
    pub clock: Clock,
    /// Most connections the process will hold.
    pub connections_max: u64,
    /// The memory that the process may hold.
    pub memory: MemoryBudget,
    /// Descriptors that one table may hold.
    pub descriptors_max: u64,
    /// Log records that were lost.
    pub log_dropped: Arc<Counter>,
    /// How long things may take.
    pub patience: Patience,
    /// What holds for which channel.
    pub channels: ChannelRules,
}

/// How long the admin side waits for whom.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a caller to send a body (GUARANTEES C19).
    pub body: Duration,
    /// For a home shard to number a message it was sent.
    pub receipt: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { body: Duration::from_secs(10), receipt: Duration::from_secs(10) }
    }
}

/// The state behind the routes. Used by the control thread only.
pub struct Admin {
    publisher: Publisher,
    shards: Shards,
    clock: Clock,
    connections_max: u64,
    descriptors_max: u64,
    memory: MemoryBudget,
    log_dropped: Arc<Counter>,
    patience: Patience,
    /// Unless every channel takes both types.
    typed: Option<ChannelRules>,
    counters: AdminCounters,
    is_draining: AtomicBool,
    last_reports: LastReports,
    pace: Pace,
}

impl Admin {
    /// The state of a process that has just begun.
    pub fn new(setup: AdminSetup) -> Self {
        let AdminSetup {
            publisher,
            shards,
            clock,
            connections_max,
            memory,
            descriptors_max,
            log_dropped,
            patience,
            channels,
        } = setup;
        Self {
            publisher,
            last_reports: LastReports::new(shards.count()),
            shards,
            clock,
            connections_max,
            descriptors_max,
            memory,
            log_dropped,
            patience,
            typed: channels.restricts_types().then_some(channels),
            counters: AdminCounters::default(),
            is_draining: AtomicBool::new(false),
            pace: Pace::default(),
        }
    }

    /// `/readyz` says 503 `draining` from here on. Messages are still taken (GUARANTEES P12).
    pub fn set_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether `channel` takes messages of this `kind`. Linear in the rules for channels, if any is about that.
    fn takes(&self, channel: &ChannelName, kind: PayloadKind) -> bool {
        self.typed.as_ref().is_none_or(|rules| rules.settings_for(channel).message_type.takes(kind))
    }

    fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }
}

/// Serves the admin port until the process ends.
///
/// # Errors
/// Whatever ends the accept loop for good; the process should end with it.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) -> io::Result<()> {
    let service = routes::answer.with_state(admin);
    let service = service.into_make_service_with_connect_info::<listener::Origin>();
    axum::serve(listener::Bounded::new(listener), service).await
}
