//! Connections that do what no client should, and what becomes of each: for `hostile`.
//!
//! `attacker` is one connection; `ranks` is a thread of them with a descriptor table of its own, so that there may be
//! more than one process may open. They know nothing of feeds: whom they harm is for the canaries to say.

mod attacker;
mod ranks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::crew::SPARE_DESCRIPTORS;
use crate::failure::Failure;
use crate::sources::Sources;
use crate::wire::url::Url;
pub use attacker::Script;
use ranks::Ranks;

/// How a hostile connection ended, as the key of a fact ends, and how many did.
pub type Outcomes = BTreeMap<String, u64>;

/// Who attacks whom, from where.
#[derive(Clone, Debug)]
pub struct Orders {
    /// The server; its first address.
    pub url: Url,
    /// Source addresses.
    pub sources: Sources,
    /// What each connection does, and how many do.
    pub scripts: Vec<(Script, usize)>,
    /// How many come a second: more than this tool and the server can both handle would measure this tool.
    pub per_second: f64,
}

/// How far the attack is.
#[derive(Debug, Default)]
pub struct Progress {
    connected: AtomicU64,
    upgraded: AtomicU64,
    ended: AtomicU64,
}

impl Progress {
    /// Connections that came to stand.
    pub fn connected(&self) -> u64 {
        self.connected.load(Ordering::Acquire)
    }

    /// Connections that got a 101.
    pub fn upgraded(&self) -> u64 {
        self.upgraded.load(Ordering::Acquire)
    }

    /// Connections that are over, refused ones among them.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }
}

/// The running attack; dropping it ends it without a word.
#[derive(Debug)]
pub struct Squad {
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
    threads: Vec<JoinHandle<Outcomes>>,
    total: u64,
}

impl Squad {
    /// Starts as many threads as a limit of so many descriptors requires, pinned to `cores` in turn.
    ///
    /// # Errors
    /// `Usage` if the kernel gives no threads.
    pub fn start(orders: &Orders, descriptors: usize, cores: &[usize]) -> Result<Self, Failure> {
        let of = |&(script, count): &(Script, usize)| std::iter::repeat_n(script, count);
        let scripts: Vec<Script> = orders.scripts.iter().flat_map(of).collect();
        let room = descriptors.saturating_sub(SPARE_DESCRIPTORS).max(1);
        let mut squad = Self {
            stop: Arc::default(),
            progress: Arc::default(),
            threads: Vec::new(),
            total: scripts.len() as u64,
        };
        let pace_ns = (1e9 * scripts.len().div_ceil(room) as f64 / orders.per_second) as u64;
        for (index, part) in scripts.chunks(room).enumerate() {
            let (stop, progress) = (Arc::clone(&squad.stop), Arc::clone(&squad.progress));
            let (orders, part, first) = (orders.clone(), part.to_vec(), index * room);
            let core: Vec<usize> = cores.get(index % cores.len().max(1)).copied().into_iter().collect();
            let thread = std::thread::Builder::new()
                .name(format!("hostile-{index}"))
                .spawn(move || Ranks::new(orders, part, first, progress).run(&stop, &core, pace_ns));
            let refused = |error| Failure::Usage(format!("cannot start a thread of attackers: {error}"));
            squad.threads.push(thread.map_err(refused)?);
        }
        Ok(squad)
    }

    /// How far it is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether every connection has ended.
    pub fn is_over(&self) -> bool {
        self.progress.ended() >= self.total
    }

    /// Ends what is left by reset, and says what became of all.
    pub fn end(mut self) -> Outcomes {
        self.stop.store(true, Ordering::Release);
        let mut sum = Outcomes::new();
        for thread in self.threads.drain(..) {
            for (outcome, count) in thread.join().unwrap_or_default() {
                *sum.entry(outcome).or_default() += count;
            }
        }
        sum
    }
}

impl Drop for Squad {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
