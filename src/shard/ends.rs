//! The ends of a shard's connections and requests: the last ones are kept for the admin side, and each is logged,
//! within a limit for each reason (docs/PROTOCOL.md).
//!
//! A storm of ends of one kind costs a few records a second and one that says how many were left out. What happens
//! all day with nothing wrong is logged at `debug`, the rest at `info`.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::limits::{ENDS_KEPT, ENDS_LOGGED_PER_SECOND};
use crate::model::{Blame, Cause, End, Time};

/// The span that [`ENDS_LOGGED_PER_SECOND`] counts for.
const WINDOW: Duration = Duration::from_secs(1);

/// Writes at the level that the cause calls for.
macro_rules! log {
    ($cause:expr, $($fields:tt)+) => {
        if $cause.is_ordinary() { tracing::debug!($($fields)+) } else { tracing::info!($($fields)+) }
    };
}

/// Records of one reason in the present window.
#[derive(Clone, Copy, Debug, Default)]
struct Quota {
    began_at: Time,
    logged: u32,
    suppressed: u64,
    /// Of the last one that was left out.
    cause: Option<Cause>,
}

impl Quota {
    /// How many were left out since the last record, if another may be written at `now`; else counts one more.
    fn admit(&mut self, cause: Cause, now: Time) -> Option<u64> {
        if now >= self.began_at.after(WINDOW) || self.logged == 0 {
            (self.began_at, self.logged) = (now, 0);
        }
        if self.logged >= ENDS_LOGGED_PER_SECOND {
            self.suppressed += 1;
            self.cause = Some(cause);
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// See the file's header.
#[derive(Debug)]
pub struct Ends {
    recent: VecDeque<End>,
    quotas: Vec<Quota>,
    /// When the first reason with something left out is to say so; [`Time::NEVER`]: none has.
    summary_due: Time,
}

impl Default for Ends {
    fn default() -> Self {
        Self {
            recent: VecDeque::new(),
            quotas: vec![Quota::default(); Cause::COUNT],
            summary_due: Time::NEVER,
        }
    }
}

impl Ends {
    /// Keeps `end` and logs it, if its reason has not been logged too often just now.
    pub fn note(&mut self, end: End) {
        if self.recent.len() == ENDS_KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(end);
        let End { cause, at, .. } = end;
        let Some(quota) = self.quotas.get_mut(cause.index()) else { return };
        match quota.admit(cause, at) {
            Some(suppressed) => log(&end, suppressed),
            None => self.summary_due = self.summary_due.min(quota.began_at.after(WINDOW)),
        }
    }

    /// When [`Ends::summarise`] has something to do.
    pub fn summary_due(&self) -> Time {
        self.summary_due
    }

    /// Says what was left out in windows that are over.
    pub fn summarise(&mut self, now: Time) {
        if now < self.summary_due {
            return;
        }
        self.summary_due = Time::NEVER;
        for quota in self.quotas.iter_mut().filter(|quota| quota.suppressed > 0) {
            let due = quota.began_at.after(WINDOW);
            if now < due {
                self.summary_due = self.summary_due.min(due);
                continue;
            }
            let suppressed = std::mem::take(&mut quota.suppressed);
            if let Some(cause) = quota.cause {
                log!(cause, event = cause.event(), reason = cause.token(), suppressed);
            }
        }
    }

    /// Up to `limit` of the last ends, newest first.
    pub fn recent(&self, limit: usize) -> Vec<End> {
        self.recent.iter().rev().take(limit).copied().collect()
    }
}

fn log(end: &End, suppressed: u64) {
    let End { cause, shard, connection, peer, traffic, .. } = end;
    let suppressed = (suppressed > 0).then_some(suppressed);
    let number = Some(cause.number()).filter(|number| *number > 0);
    let (status, code) = if cause.event() == "reject" { (number, None) } else { (None, number) };
    log!(
        cause,
        event = cause.event(),
        reason = cause.token(),
        status,
        code,
        by = if cause.blame() == Blame::Peer { "peer" } else { "us" },
        shard = shard.0,
        conn = connection.map(|connection| tracing::field::display(connection.name_on(*shard))),
        peer = peer.map(tracing::field::display),
        bytes_in = traffic.bytes_in,
        bytes_out = traffic.bytes_out,
        age_ms = u64::try_from(end.age().as_millis()).unwrap_or(u64::MAX),
        suppressed,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CloseReason, RejectReason, ShardId, Traffic};

    fn end(cause: Cause, at: Time) -> End {
        End { cause, at, shard: ShardId(0), connection: None, peer: None, traffic: Traffic::new(Time::ZERO) }
    }

    #[test]
    fn the_last_ends_are_kept_newest_first() {
        let mut ends = Ends::default();
        for millis in 0..ENDS_KEPT as u64 + 10 {
            let cause = Cause::Close(CloseReason::Normal, Blame::Peer);
            ends.note(end(cause, Time::from_millis(millis)));
        }
        assert_eq!(ends.recent(usize::MAX).len(), ENDS_KEPT);
        let newest: Vec<_> = ends.recent(2).iter().map(|end| end.at.as_millis()).collect();
        assert_eq!(newest, [ENDS_KEPT as u64 + 9, ENDS_KEPT as u64 + 8]);
    }

    #[test]
    fn a_storm_of_one_reason_is_logged_within_its_limit_and_counted_beyond() {
        let mut quota = Quota::default();
        let cause = Cause::Reject(RejectReason::ConnectionLimit);
        let now = Time::from_millis(10);
        let logged = (0..100).filter_map(|_| quota.admit(cause, now)).collect::<Vec<_>>();
        assert_eq!(logged, vec![0; ENDS_LOGGED_PER_SECOND as usize]);
        assert_eq!(quota.admit(cause, now.after(WINDOW - Duration::from_nanos(1))), None);
        let left_out = 101 - u64::from(ENDS_LOGGED_PER_SECOND);
        assert_eq!(quota.admit(cause, now.after(WINDOW)), Some(left_out));
        assert_eq!(quota.admit(cause, now.after(WINDOW)), Some(0), "said once");
    }

    #[test]
    fn what_was_left_out_is_said_once_its_window_is_over() {
        let mut ends = Ends::default();
        let begin = Time::from_millis(500);
        let (refusal, later) =
            (Cause::Reject(RejectReason::Draining), Cause::Close(CloseReason::Reset, Blame::Peer));
        for _ in 0..=ENDS_LOGGED_PER_SECOND {
            ends.note(end(refusal, begin));
            ends.note(end(later, begin.after(WINDOW / 2)));
        }
        assert_eq!(ends.summary_due(), begin.after(WINDOW));
        ends.summarise(begin.after(WINDOW / 2));
        assert_eq!(ends.summary_due(), begin.after(WINDOW), "not yet");
        ends.summarise(begin.after(WINDOW));
        assert_eq!(ends.summary_due(), begin.after(WINDOW / 2 * 3));
        ends.summarise(begin.after(WINDOW * 2));
        assert_eq!(ends.summary_due(), Time::NEVER);
        assert!(ends.quotas.iter().all(|quota| quota.suppressed == 0));
    }
}
