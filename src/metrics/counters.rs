//! The counters of one shard: one writer, any reader, no lock, no shared cache line on the hot path.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{Blame, CloseReason, RejectReason};

/// A number that one thread writes and any thread reads.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`. Only the owning thread may call this: a plain load and store, no locked instruction.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Takes `amount` away from a gauge. Only the owning thread.
    pub fn sub(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(amount), Ordering::Relaxed);
    }

    /// Sets a gauge. Only the owning thread.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Everything one shard counts.
        #[derive(Debug)]
        pub struct ShardCounters {
            $($(#[$doc])* pub $name: Counter,)*
            closed_by_peer: Vec<Counter>,
            closed_by_us: Vec<Counter>,
            rejected: Vec<Counter>,
        }

        impl Default for ShardCounters {
            fn default() -> Self {
                let row = |length| (0..length).map(|_| Counter::default()).collect();
                Self {
                    $($name: Counter::default(),)*
                    closed_by_peer: row(CloseReason::ALL.len()),
                    closed_by_us: row(CloseReason::ALL.len()),
                    rejected: row(RejectReason::ALL.len()),
                }
            }
        }
    };
}

counters! {
    /// Gauge: sockets held, in whatever state.
    connections,
    /// Gauge: connections that finished their upgrade and are not closing.
    open,
    /// Gauge: connections that wait for a complete request head.
    pending,
    /// Sockets taken from the listener.
    accepted,
    /// WebSocket upgrades answered with 101.
    upgraded,
    /// Accept calls that failed for want of descriptors or memory.
    accept_errors_exhausted,
    /// Accept calls that failed for any other reason but an empty queue.
    accept_errors_other,
    /// Gauge: connection-channel pairs.
    subscriptions,
    /// Gauge: different patterns that clients of this shard subscribe to.
    patterns,
    /// Gauge: connection-pattern pairs.
    pattern_subscriptions,
    /// Times that a channel matched a pattern of a connection that had no room for another channel.
    overmatched,
    /// Gauge: channels with subscribers or retained messages on this shard.
    channels,
    /// Gauge: channels homed here.
    channels_homed,
    /// Messages numbered by this shard as home.
    published,
    /// Of those, messages that a WebSocket client sent.
    relayed,
    /// Messages handed completely to a socket.
    delivered,
    /// Messages that this shard deflated as home, once each.
    deflated,
    /// Their frames as they would be plain, in bytes.
    deflate_bytes_in,
    /// Their frames deflated, in bytes.
    deflate_bytes_out,
    /// Bytes read from clients.
    bytes_in,
    /// Bytes the kernel took for clients.
    bytes_out,
    /// Write calls that the kernel took at least a byte of.
    writes,
    /// Write calls that the kernel took no byte or not all bytes of.
    writes_blocked,
    /// Gauge: connections that wait for their socket to take more.
    lagging,
    /// Messages that slow subscribers were moved past by the `skip` policy.
    skipped,
    /// Messages that a subscriber was not sent because a newer one of the same key was published meanwhile.
    conflated,
    /// Subscribers that fell so far behind that they were sent the newest of each key from then on.
    conflations,
    /// Messages that a subscriber was not sent because they had expired.
    expired,
    /// Counts of subscribers published to those who watch.
    occupancies,
    /// Commands of `tidegate.v1`.
    commands,
    /// Of those, commands that were answered with an error.
    commands_refused,
    /// Messages written in another encoding than WebSocket frames, each once a shard.
    encoded,
    /// Subscriptions that began with messages after a position that the client gave.
    recovered,
    /// Messages that those asked for.
    replayed,
    /// Subscriptions that could not begin after the position that the client gave.
    unrecovered,
    /// Subscriptions that began with a snapshot.
    snapshots,
    /// Messages that a subscriber sent and got not back, stepped over by its cursor.
    stepped_over,
    /// Pings sent.
    pings,
    /// Pongs received.
    pongs,
    /// Messages received from clients.
    messages_in,
    /// Turns of the loop.
    turns,
    /// Turns that found left-over work and did not sleep.
    turns_busy,
    /// Events for connections that were gone, dropped.
    stale_events,
    /// Timers that came up.
    timers_fired,
    /// Times a publishing client was paused because a home shard was full.
    publish_pushbacks,
    /// Times a client was not read for a while, for sending more than it may.
    client_rests,
    /// Gauge: orders that wait in this shard for room in another's inbox.
    outbox,
    /// Gauge: idempotency keys that are kept.
    idempotency_keys,
    /// Publishes that were not made a second time.
    idempotency_duplicates,
    /// Idempotency keys that were put away before their time.
    idempotency_evicted,
    /// Gauge: bytes of journals.
    journal_bytes,
    /// Channels whose history was put away because memory was short.
    memory_histories_dropped,
    /// Times compression was not begun because memory was short.
    memory_compressions_declined,
    /// Subscribers that were closed because memory was short, those furthest behind first.
    memory_shed,
    /// Messages of clients that were held back because memory was short.
    memory_pauses,
    /// Gauge: for how many seconds, rounded up, connections have waited for a free descriptor; 0 when none does.
    descriptors_exhausted_seconds,
    /// Times the loop did not turn for so long that deadlines were put off.
    freezes,
    /// Messages of clients that were to have their key in the payload, and had none there.
    keys_missing,
}

impl ShardCounters {
    /// Counts one ended connection.
    pub fn count_close(&self, reason: CloseReason, by: Blame) {
        self.closed(by)[reason.index()].add(1);
    }

    /// Counts one refused request.
    pub fn count_reject(&self, reason: RejectReason) {
        self.rejected[reason.index()].add(1);
    }

    /// Connections ended so far for `reason` by `by`.
    pub fn closed_total(&self, reason: CloseReason, by: Blame) -> u64 {
        self.closed(by)[reason.index()].get()
    }

    /// Requests refused so far for `reason`.
    pub fn rejected_total(&self, reason: RejectReason) -> u64 {
        self.rejected[reason.index()].get()
    }

    fn closed(&self, by: Blame) -> &[Counter] {
        match by {
            Blame::Peer => &self.closed_by_peer,
            Blame::Us => &self.closed_by_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_are_counted_by_reason_and_by_whom() {
        let counters = ShardCounters::default();
        counters.count_close(CloseReason::Normal, Blame::Peer);
        counters.count_close(CloseReason::Normal, Blame::Peer);
        counters.count_reject(RejectReason::NoRoute);
        assert_eq!(counters.closed_total(CloseReason::Normal, Blame::Peer), 2);
        assert_eq!(counters.closed_total(CloseReason::Normal, Blame::Us), 0);
        assert_eq!(counters.rejected_total(RejectReason::NoRoute), 1);
    }
}
