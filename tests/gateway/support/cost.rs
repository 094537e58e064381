//! What the bytes of peers cost the gateway: two oracles for whatever a peer may send (P8, P9).
//!
//! Memory is held against the bytes that came and a fixed allowance; processor time against ordinary messages of the same
//! total size, on as many connections and cut in the same pieces, measured in the same run on the same gateway. The
//! third, that the process lives and nobody else notices, is [`Oracles`](super::Oracles).

use super::process::Gateway;
use super::wait::{PATIENCE, wait_until};
use std::time::Duration;

/// Resident memory may grow by so many times the bytes that came.
const RESIDENT_PER_BYTE_MAX: u64 = 8;
/// And by this for each connection: its place, its channel, and what answers it.
const RESIDENT_PER_PEER_BYTES: u64 = 20 * 1024;
/// And by this for the process: the allocator takes whole pages, and gives them back when it pleases.
const RESIDENT_SLACK_BYTES: u64 = 2 * 1024 * 1024;
/// Processor time may be so many times that of ordinary messages.
pub const PROCESSOR_RATIO_MAX: u32 = 8;
/// Ordinary messages that took less say nothing yet: the kernel counts in ticks of 10 ms.
const PROCESSOR_MIN: Duration = Duration::from_millis(100);

/// The state of a gateway before it is sent something.
pub struct Meter {
    resident_bytes: u64,
    processor: Duration,
    received: f64,
}

/// What it cost, or the sum of several such.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Growth of resident memory while everybody was still connected.
    pub resident_bytes: u64,
    /// Processor time, user and system.
    pub processor: Duration,
    /// Bytes that the gateway read.
    pub received: u64,
}

impl Meter {
    /// Takes the state of `gateway`.
    #[track_caller]
    pub fn before(gateway: &Gateway) -> Meter {
        let received = gateway.metric("tidegate_received_bytes_total");
        Meter { resident_bytes: gateway.resident_bytes(), processor: gateway.processor_time(), received }
    }

    /// Waits until the gateway has read what there is to read, and says what that cost.
    #[track_caller]
    pub fn after(self, gateway: &Gateway) -> Cost {
        let mut received = f64::NAN;
        wait_until("everything is read", PATIENCE * 3, || {
            let has_read = gateway.unread_bytes() == 0;
            let now = gateway.metric("tidegate_received_bytes_total");
            has_read && now == std::mem::replace(&mut received, now)
        });
        Cost {
            resident_bytes: gateway.resident_bytes().saturating_sub(self.resident_bytes),
            processor: gateway.processor_time() - self.processor,
            received: (received - self.received) as u64,
        }
    }
}

impl Cost {
    /// # Panics
    /// With `what`, if memory has grown by more than the bytes of `peers` connections allow, and `extra` bytes for each.
    #[track_caller]
    pub fn expect_bounded_memory(&self, what: &str, peers: usize, extra: u64) {
        let allowed = RESIDENT_PER_BYTE_MAX * self.received
            + (RESIDENT_PER_PEER_BYTES + extra) * peers as u64
            + RESIDENT_SLACK_BYTES;
        assert!(self.resident_bytes <= allowed, "{what}: {self:?}, {allowed} bytes allowed");
    }

    /// Adds what another round cost.
    pub fn add(&mut self, other: Cost) {
        self.resident_bytes = self.resident_bytes.max(other.resident_bytes);
        self.processor += other.processor;
        self.received += other.received;
    }

    /// Whether it took long enough to hold something against it.
    pub fn is_telling(&self) -> bool {
        self.processor >= PROCESSOR_MIN
    }

    /// # Panics
    /// With `what`, if it took more processor time than `ordinary` messages of the same size allow.
    #[track_caller]
    pub fn expect_bounded_work(&self, what: &str, ordinary: &Cost) {
        let allowed = ordinary.processor * PROCESSOR_RATIO_MAX;
        assert!(self.processor <= allowed, "{what}: {self:?} against {ordinary:?}");
    }
}
