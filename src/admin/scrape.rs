//! `/metrics`: gathers what the exposition tells.
//!
//! Counters are read where they stand; histograms are asked for. A shard that does not answer in time is represented
//! by its last answer, because a histogram must not shrink between two scrapes.

use std::sync::{Mutex, PoisonError};

use axum::response::Response;

use super::refusal::Refused;
use super::{Admin, process, routes};
use crate::bus::{Answer, Question};
use crate::metrics::exposition::{self, AdminFigures, ProcessFigures, Snapshot};
use crate::metrics::{Histograms, ShardReport};
use crate::model::Time;

/// What each shard reported last.
pub struct LastReports(Mutex<Vec<Option<Box<ShardReport>>>>);

impl LastReports {
    /// Nothing yet, from `shards` shards.
    pub fn new(shards: usize) -> Self {
        Self(Mutex::new((0..shards).map(|_| None).collect()))
    }

    /// Keeps what came and merges what is known.
    fn merge(&self, answers: Vec<Option<Answer>>) -> Histograms {
        let mut reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (last, answer) in reports.iter_mut().zip(answers) {
            if let Some(Answer::Report(report)) = answer {
                *last = Some(report);
            }
        }
        let mut merged = Histograms::default();
        reports.iter().flatten().for_each(|report| merged.merge(&report.histograms));
        merged
    }
}

/// `GET /metrics`.
pub async fn metrics(admin: &Admin) -> Result<Response, Refused> {
    let answers = admin.shards.ask_all(Question::Report).await;
    let descriptors_max = admin.descriptors_max;
    let snapshot = Snapshot {
        shards: admin.shards.counters().to_vec(),
        histograms: admin.last_reports.merge(answers),
        bus_depths: admin.shards.bus_depths(),
        admin: AdminFigures { keys_missing: admin.publisher.keys_missing(), ..admin.counters.figures() },
        process: ProcessFigures { descriptors_max, ..process::figures() },
        memory: admin.memory.clone(),
        log_dropped: admin.log_dropped.get(),
        connections_max: admin.connections_max,
        is_draining: admin.is_draining(),
        uptime_seconds: admin.clock.now().since(Time::ZERO).as_secs_f64(),
    };
    Ok(routes::ok(exposition::CONTENT_TYPE, exposition::render(snapshot)))
}
