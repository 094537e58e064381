//! `/livez`: do the shards turn? `/readyz`: should new connections be sent here?
//!
//! Readiness is the first thing a drain takes away, before anything is closed (FAULTS G1), and it is lost when
//! descriptors have been exhausted for five seconds on end (FAULTS C1).

use std::sync::Mutex;
use std::time::Duration;

use axum::response::Response;

use super::refusal::{Refusal, Refused};
use super::{Admin, routes};
use crate::bus::Question;
use crate::model::Time;

/// Accepts that fail for want of descriptors for this long make the process not ready.
const EXHAUSTED_FOR: Duration = Duration::from_secs(5);

/// 200 when every shard answered a question or at least turned while it was asked, else 503 `shard_stuck`.
pub async fn livez(admin: &Admin) -> Result<Response, Refused> {
    let turns = || -> Vec<u64> { admin.shards.counters().iter().map(|shard| shard.turns.get()).collect() };
    let before = turns();
    let answers = admin.shards.ask_all(Question::Channels { limit: 0 }).await;
    let has_turned = before.iter().zip(turns()).map(|(before, after)| *before != after);
    if answers.iter().zip(has_turned).all(|(answer, has_turned)| answer.is_some() || has_turned) {
        Ok(routes::text("live\n"))
    } else {
        Err(Refusal::ShardStuck.into())
    }
}

/// 200, or 503 `draining` or `fd_exhausted`. Constant time.
pub fn readyz(admin: &Admin) -> Result<Response, Refused> {
    if admin.is_draining() {
        return Err(Refusal::Draining.into());
    }
    if admin.exhaustion.lasts(admin.clock.now()) {
        return Err(Refusal::DescriptorsExhausted.into());
    }
    Ok(routes::text("ready\n"))
}

/// Whether accepts keep failing for want of descriptors. A shard in that state tries again every 100 ms, so an
/// observation a second sees the counter move for as long as it lasts.
#[derive(Default)]
pub struct Exhaustion(Mutex<Observed>);

#[derive(Default)]
struct Observed {
    errors: u64,
    since: Option<Time>,
}

impl Exhaustion {
    /// Takes note that `errors` accepts have failed up to `now`.
    pub fn observe(&self, now: Time, errors: u64) {
        let mut observed = self.0.lock().expect("nobody panics with it");
        let has_moved = observed.errors != errors;
        observed.errors = errors;
        observed.since = if has_moved { observed.since.or(Some(now)) } else { None };
    }

    /// Whether it has lasted for [`EXHAUSTED_FOR`] as of `now`.
    pub fn lasts(&self, now: Time) -> bool {
        let observed = self.0.lock().expect("nobody panics with it");
        observed.since.is_some_and(|since| now.since(since) >= EXHAUSTED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c1_only_lasting_exhaustion_counts_and_it_ends_with_the_errors() {
        let exhaustion = Exhaustion::default();
        let at = |seconds: u64| Time::from_millis(seconds * 1000);
        for second in 1..=5 {
            exhaustion.observe(at(second), second * 10);
            assert!(!exhaustion.lasts(at(second)), "for {} s", second - 1);
        }
        exhaustion.observe(at(6), 60);
        assert!(exhaustion.lasts(at(6)));
        exhaustion.observe(at(7), 60);
        assert!(!exhaustion.lasts(at(7)), "no error for a second");
        exhaustion.observe(at(20), 61);
        assert!(!exhaustion.lasts(at(21)), "a new error starts anew");
    }
}
