//! A server under load, as the worker threads see it: where it is and what it must deliver.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::feed::Feed;
use crate::protocol::Protocol;
use crate::wire::url::Url;

/// Shared by the controller and all workers.
#[derive(Debug)]
pub struct Target {
    /// How the report calls it.
    pub name: String,
    /// Where to connect; connections take them in turn.
    pub urls: Vec<Url>,
    /// What its subscribers speak.
    pub protocol: Protocol,
    /// Whether subscribers ask for compression, and insist on it.
    pub compression: bool,
    /// For those URLs that ask for TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// What has been published.
    pub feed: Feed,
    /// Whether we publish. If not, whatever valid test messages arrive are checked by themselves.
    pub publishes: bool,
}
