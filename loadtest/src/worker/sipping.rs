//! Subscribers that read slowly: so many bytes a second, whatever is waiting for them.

use std::collections::HashSet;
use std::io::{ErrorKind, Read};
use std::time::Duration;

use super::Worker;
use super::connection::{Detour, Inside};
use crate::sys;
use crate::verify::Gaps;

/// Time between two sips of a connection.
const SIP_EVERY: Duration = Duration::from_millis(50);
/// Time between two looks at how old the values are that slow subscribers hold.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Who reads slowly, and when next.
#[derive(Debug)]
pub struct Sipping {
    /// Bytes per second; 0: nobody ever reads.
    rate: u64,
    /// Connections that have been told of bytes to read; stays true for as long as they live.
    indices: HashSet<usize>,
    last_ns: u64,
    /// When it was last looked at how old what they hold is.
    looked_ns: u64,
}

impl Sipping {
    /// Nobody yet; `rate` in bytes per second.
    pub fn new(rate: u64) -> Self {
        let last_ns = sys::monotonic_ns();
        Self { rate, indices: HashSet::new(), last_ns, looked_ns: last_ns }
    }

    /// A slow connection has something to read, now or from now on.
    pub fn note(&mut self, index: usize) {
        if self.rate == 0 {
            return;
        }
        if self.indices.is_empty() {
            // What nobody has read meanwhile is nobody's to read now.
            self.last_ns = sys::monotonic_ns();
        }
        self.indices.insert(index);
    }

    /// Whether somebody waits for the next sip.
    pub fn is_due_soon(&self) -> bool {
        !self.indices.is_empty()
    }

    /// Bytes that each may read now; 0 if it is not time.
    fn allowance(&mut self) -> usize {
        let now_ns = sys::monotonic_ns();
        let elapsed = u128::from(now_ns - self.last_ns);
        if self.indices.is_empty() || elapsed < SIP_EVERY.as_nanos() {
            return 0;
        }
        let bytes = elapsed * u128::from(self.rate) / 1_000_000_000;
        if bytes > 0 {
            self.last_ns = now_ns;
        }
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Whether it is time to look at what they hold; `now_ns` is now.
    fn is_look_due(&mut self, now_ns: u64) -> bool {
        let is_due =
            !self.indices.is_empty() && now_ns.saturating_sub(self.looked_ns) >= LOOK_EVERY.as_nanos() as u64;
        if is_due {
            self.looked_ns = now_ns;
        }
        is_due
    }
}

impl Worker {
    /// Lets everyone who reads slowly read a little, if it is time.
    pub fn sip(&mut self) {
        let allowance = self.sipping.allowance();
        if allowance == 0 {
            return;
        }
        let mut indices = std::mem::take(&mut self.sipping.indices);
        indices.retain(|&index| self.sip_one(index, allowance));
        self.sipping.indices = indices;
        let now_ns = sys::monotonic_ns();
        if self.sipping.is_look_due(now_ns) {
            self.look_at_held(now_ns);
        }
    }

    /// Notes how old the oldest value of a key is that a slow subscriber holds.
    fn look_at_held(&mut self, now_ns: u64) {
        for connection in self.connections.iter().flatten().filter(|connection| connection.stalled) {
            if let Some(Detour::Frames(Inside { held: Some(held), .. })) = connection.detour.as_deref() {
                let stats = &mut self.desks[usize::from(connection.target)].stats;
                stats.held_age_ns_max = stats.held_age_ns_max.max(held.age_ns(now_ns));
            }
        }
    }

    /// Whether the connection is still there and slow.
    fn sip_one(&mut self, index: usize, allowance: usize) -> bool {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else { return false };
        if !connection.stalled || !connection.is_upgraded {
            return false;
        }
        let room = allowance.min(self.buffer.len());
        let cause = match connection.stream.read(&mut self.buffer[..room]) {
            Ok(0) => "the server ended it".to_owned(),
            Ok(length) => {
                let target = usize::from(connection.target);
                let (bytes, now_ns) = (&self.buffer[..length], sys::monotonic_ns());
                let mut none = Gaps::default();
                let desk = &mut self.desks[target];
                match desk.receive(&self.targets[target], connection, &mut none, bytes, now_ns) {
                    Ok(()) => return true,
                    Err(ended) => ended.0,
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return true;
            }
            Err(error) => error.to_string(),
        };
        self.end(index, &cause);
        false
    }
}
