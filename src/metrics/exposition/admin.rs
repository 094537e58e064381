//! What the admin side counts about itself, as metrics.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::count;

/// Requests to the admin listener.
#[derive(Debug, Default)]
pub struct AdminFigures {
    /// By route, from a closed list.
    pub requests: Vec<(&'static str, u64)>,
    /// Refused ones by reason and status, from a closed list.
    pub refused: Vec<(&'static str, u16, u64)>,
    /// Published messages that were to have their key in the payload, and had none there.
    pub keys_missing: u64,
}

impl AdminFigures {
    /// Writes them; `keys_missing` is what the shards counted of messages without their key.
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder, keys_missing: u64) -> fmt::Result {
        let help = "Requests to the admin listener by route";
        let mut metric = encoder.encode_descriptor("admin_requests", help, None, MetricType::Counter)?;
        for (route, total) in &self.requests {
            count(&mut metric.encode_family(&[("route", *route)])?, *total)?;
        }
        let help =
            "Requests to the admin listener and publishes that were refused, by reason and HTTP status";
        let mut metric = encoder.encode_descriptor("admin_refused", help, None, MetricType::Counter)?;
        for (reason, status, total) in &self.refused {
            let status = status.to_string();
            count(&mut metric.encode_family(&[("reason", *reason), ("status", &status)])?, *total)?;
        }
        let help = "Messages that were to have their key in the payload, and had none there";
        let missing = self.keys_missing.saturating_add(keys_missing);
        let mut metric = encoder.encode_descriptor("keys_missing", help, None, MetricType::Counter)?;
        count(&mut metric, missing)
    }
}
