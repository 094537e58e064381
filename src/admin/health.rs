//! `/livez`: do the shards turn? `/readyz`: should new connections be sent here?
//!
//! Readiness is the first thing a drain takes away, before anything is closed (GUARANTEES G1), and it is lost when
//! descriptors have been exhausted for five seconds on end (GUARANTEES C1), or while new connections are refused for want
//! of memory (GUARANTEES C7).

use std::sync::Arc;

use axum::response::Response;

use super::refusal::{Refusal, Refused};
use super::{Admin, routes};
use crate::bus::Question;
use crate::metrics::ShardCounters;
use crate::model::Grade;

/// Connections that wait longer than this for a descriptor make the process not ready.
const EXHAUSTED_SECONDS_MAX: u64 = 5;

/// 200 when every shard answered a question or at least turned while it was asked, else 503 `shard_stuck`.
pub async fn livez(admin: &Admin) -> Result<Response, Refused> {
    let turns = || -> Vec<u64> { admin.shards.counters().iter().map(|shard| shard.turns.get()).collect() };
    let before = turns();
    let answers = admin.shards.ask_all(Question::Alive).await;
    let has_turned = before.iter().zip(turns()).map(|(before, after)| *before != after);
    if answers.iter().zip(has_turned).all(|(answer, has_turned)| answer.is_some() || has_turned) {
        Ok(routes::text("live\n"))
    } else {
        Err(Refusal::ShardStuck.into())
    }
}

/// 200, or 503 `draining`, `fd_exhausted` or `memory`. Constant time.
pub fn readyz(admin: &Admin) -> Result<Response, Refused> {
    if admin.is_draining() {
        return Err(Refusal::Draining.into());
    }
    let waited = |shard: &Arc<ShardCounters>| shard.descriptors_exhausted_seconds.get();
    if admin.shards.counters().iter().any(|shard| waited(shard) > EXHAUSTED_SECONDS_MAX) {
        return Err(Refusal::DescriptorsExhausted.into());
    }
    if admin.memory.update() >= Grade::Closed {
        return Err(Refusal::Memory.into());
    }
    Ok(routes::text("ready\n"))
}
