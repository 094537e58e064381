//! The publishing side: how messages get into the server under test.

mod bare;
mod command;
mod http;
mod ws;

use std::io::{self, ErrorKind};
use std::time::Duration;

pub use bare::BarePublisher;
pub use command::CommandPublisher;
pub use http::{HttpMode, HttpPublisher};
pub use ws::WsPublisher;

use crate::failure::Failure;
use crate::feed::Batch;

/// A way to publish. Blocking, with time limits of its own.
pub trait Publisher {
    /// Publishes the messages of a batch in their order, in as few writes as the way allows.
    ///
    /// # Errors
    /// `Unavailable` with the cause; the run cannot go on.
    fn publish(&mut self, batch: &Batch) -> Result<(), Failure>;

    /// Where the server says that the newest message stands: a subscriber may go on behind it.
    fn position(&self) -> Option<&str> {
        None
    }
}

/// The feed has its own source.
#[derive(Debug)]
pub struct NoPublisher;

impl Publisher for NoPublisher {
    fn publish(&mut self, _: &Batch) -> Result<(), Failure> {
        Ok(())
    }
}

/// Says in words when the time limit of a socket was reached.
fn describe(error: &io::Error, limit: Duration) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("nothing moved for {} s", limit.as_secs()),
        _ => error.to_string(),
    }
}
