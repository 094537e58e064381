//! Makes publishes under idempotency keys once, and lets all who ask for one wait for the same number (GUARANTEES E8).
//!
//! A publish that was handed over is followed by a task of its own: that its caller hangs up or stops waiting is just what
//! the key is for.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::Admin;
use crate::feeds::{
    Begun, IdempotencyFigures, IdempotencyKey, PendingReceipt, PublishError, RecentPublishes,
};
use crate::model::{Publication, Time};

/// How often keys that are past their time are put away, and how many at most.
const SWEEP: (Duration, usize) = (Duration::from_secs(1), 10_000);

/// The table of keys, shared with the tasks that follow publishes. All run on the control thread.
#[derive(Clone)]
pub struct Idempotent(Arc<Mutex<RecentPublishes>>);

impl Idempotent {
    /// Around `table`.
    pub fn new(table: RecentPublishes) -> Self {
        Self(Arc::new(Mutex::new(table)))
    }

    /// See [`RecentPublishes::begin`]. What is new must be given to [`Self::follow`] before anything is waited for.
    pub fn begin(&self, key: IdempotencyKey, publication: &Publication, now: Time) -> Begun {
        self.with(|table| table.begin(key, publication, now))
    }

    /// Notes what becomes of an offer under `ticket`, whether anybody waits for it or not.
    pub fn follow(&self, ticket: u64, offer: Result<PendingReceipt, PublishError>) {
        match offer {
            Ok(pending) => {
                let this = self.clone();
                tokio::spawn(async move {
                    let outcome = pending.wait().await;
                    this.with(|table| table.end(ticket, outcome));
                });
            }
            Err(error) => self.with(|table| table.end(ticket, Err(error))),
        }
    }

    /// For a metrics scrape.
    pub fn figures(&self) -> IdempotencyFigures {
        self.with(|table| table.figures())
    }

    fn with<T>(&self, act: impl FnOnce(&mut RecentPublishes) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Puts away keys whose time has passed, for ever.
pub async fn sweep(admin: &Admin) -> Infallible {
    let (period, most) = SWEEP;
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        admin.idempotent.with(|table| table.forget_old(admin.clock.now(), most));
    }
}
