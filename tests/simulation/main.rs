//! The real turn in a made-up world: fake sockets, a virtual clock, and a naive model of what everybody must see.
//!
//! `every_seed_holds` runs 256 random worlds. `SIM_SEED=n cargo test --test simulation every_seed -- --nocapture`
//! replays one with a trace, `SIM_SEEDS=n` runs more. What live feeds add, from keys to resumes, has runs and a model of its own
//! in `feeds/`. Scenarios by fault case are in `cases_*.rs`. Read
//! `world.rs` first, then `random.rs` and `oracle.rs`.

mod cases_accept;
mod cases_admission;
mod cases_alarm;
mod cases_clock;
mod cases_closing;
mod cases_compression;
mod cases_flood;
mod cases_memory;
mod cases_order;
mod cases_retries;
mod cases_transport;
mod client;
mod feeds;
mod inflater;
mod ledger;
mod oracle;
mod protocol;
mod publisher;
mod random;
mod reactor;
mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds of an ordinary run.
const SEEDS: u64 = 256;

fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[test]
fn every_seed_holds() {
    let replayed = number_from_environment("SIM_SEED");
    let seeds = match replayed {
        Some(seed) => seed..seed + 1,
        None => 0..number_from_environment("SIM_SEEDS").unwrap_or(SEEDS),
    };
    let (mut failed, mut deflated) = (Vec::new(), 0);
    for seed in seeds.clone() {
        let outcome = catch_unwind(AssertUnwindSafe(|| random::run(seed, replayed.is_some(), None)));
        let fault = match outcome {
            Ok(Ok(world)) => {
                deflated += world.clients.iter().map(client::Client::deflated).sum::<usize>();
                continue;
            }
            Ok(Err(fault)) => fault,
            Err(panic) => panic_text(&*panic),
        };
        println!(
            "seed {seed}: {fault}\n  replay: SIM_SEED={seed} cargo test --test simulation every_seed_holds -- --nocapture"
        );
        failed.push(seed);
    }
    assert!(replayed.is_some() || deflated > 0, "no message came deflated");
    assert!(failed.is_empty(), "{} of {seeds:?} seeds failed: {failed:?}", failed.len());
}
