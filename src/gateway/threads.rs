//! The shard threads: started with what they need, watched until they end.
//!
//! However a shard ends, by order, by error or by panic, the control thread hears of it once, and anything but an
//! ordered end takes the whole process with it: half a gateway would leave clients hanging on a dead loop.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc;

use super::error::GatewayError;
use crate::bus::Bus;
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::{MemoryBudget, ShardCounters};
use crate::model::ShardId;
use crate::net::{ConnectionBudget, Listener};
use crate::shard::reactor::Poller;
use crate::shard::{self, ShardSetup};

/// How one shard ended.
#[derive(Debug)]
pub struct ShardEnd {
    shard: ShardId,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Returned(io::Result<()>),
    Panicked(String),
}

/// Hears of every shard once, when it ends.
pub type ShardEnds = mpsc::Receiver<ShardEnd>;

impl ShardEnd {
    /// Of a shard that was told to end.
    ///
    /// # Errors
    /// When it failed or panicked instead.
    pub fn expected(self) -> Result<(), GatewayError> {
        match self.outcome {
            Outcome::Returned(Ok(())) => Ok(()),
            _ => Err(self.unexpected()),
        }
    }

    /// Of a shard that nobody told to end.
    pub fn unexpected(self) -> GatewayError {
        let shard = self.shard;
        match self.outcome {
            Outcome::Returned(Ok(())) => GatewayError::ShardEnded { shard },
            Outcome::Returned(Err(source)) => GatewayError::ShardFailed { shard, source },
            Outcome::Panicked(message) => GatewayError::ShardPanicked { shard, message },
        }
    }
}

/// What each shard starts with; the parts are in the order of shards.
pub fn setups(
    config: &Arc<Config>,
    bus: &Bus,
    counters: Vec<Arc<ShardCounters>>,
    listeners: Vec<Vec<Listener>>,
    pollers: Vec<Poller>,
    clock: Clock,
    (budget, memory): (&ConnectionBudget, &MemoryBudget),
) -> Vec<ShardSetup> {
    let parts = counters.into_iter().zip(listeners).zip(pollers).enumerate();
    let setup = |(index, ((counters, listeners), poller)): (usize, ((_, _), _))| ShardSetup {
        // `config/limits.rs` allows far fewer shards than a `u16` holds.
        id: ShardId(index as u16),
        config: Arc::clone(config),
        bus: bus.clone(),
        counters,
        listeners,
        poller,
        clock,
        budget: budget.clone(),
        memory: memory.clone(),
        seed: rand::random(),
    };
    parts.map(setup).collect()
}

/// Starts a thread `shard-N` for each setup.
///
/// # Errors
/// When the system gives no thread; those that started run on until the process ends.
pub fn start(setups: Vec<ShardSetup>) -> Result<ShardEnds, GatewayError> {
    let (ends, receiver) = mpsc::channel(setups.len().max(1));
    for setup in setups {
        let ends = ends.clone();
        let shard = setup.id;
        let thread = thread::Builder::new().name(format!("shard-{}", shard.0));
        let started = thread.spawn(move || {
            let end = watch(shard, || shard::run(setup));
            // There is room for every shard, and after the control thread is gone nobody needs to know.
            let _ = ends.try_send(end);
        });
        started.map_err(|source| GatewayError::start("a shard thread", source))?;
    }
    Ok(receiver)
}

/// Runs `body` and tells how it ended.
fn watch(shard: ShardId, body: impl FnOnce() -> io::Result<()>) -> ShardEnd {
    // The state that a panic may have left inconsistent is dropped with the closure and never seen again.
    let outcome = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => Outcome::Returned(result),
        Err(panic) => Outcome::Panicked(message_of(panic.as_ref())),
    };
    ShardEnd { shard, outcome }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_shard_is_told_with_its_message_and_ends_the_process_with_70() {
        let end = watch(ShardId(3), || panic!("slot {} is empty", 7));
        let error = end.expected().unwrap_err();
        assert!(error.to_string().starts_with("shard 3 panicked: slot 7 is empty; "), "{error}");
        assert_eq!(error.exit_code(), 70);
    }

    #[test]
    fn only_an_ordered_end_is_a_good_one() {
        assert!(watch(ShardId(0), || Ok(())).expected().is_ok());
        let error = watch(ShardId(0), || Ok(())).unexpected();
        assert!(matches!(error, GatewayError::ShardEnded { .. }));
        let error = watch(ShardId(0), || Err(io::ErrorKind::PermissionDenied.into())).expected().unwrap_err();
        assert_eq!(error.exit_code(), 71);
    }
}
