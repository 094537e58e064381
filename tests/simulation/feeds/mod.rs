//! Live feeds on random runs: keys, deletions, times to live, resumes, snapshots, conflation, skips, and followers of
//! every dialect, held against a model that knows lists and nothing of journals.
//!
//! `e2_feeds_hold_on_every_seed` runs 256 worlds of 400 steps. `SIM_SEED=n cargo test --test simulation feeds:: -- --nocapture`
//! replays one with a trace; `SIM_SEEDS=1000 SIM_STEPS=5000` runs more. Read `run.rs` first, then `judge.rs`.

mod chunks;
mod follower;
mod judge;
mod matched;
mod run;
mod truth;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{SEEDS, number_from_environment, panic_text};

/// Steps of an ordinary run.
const STEPS: u64 = 400;

#[test]
fn e2_feeds_hold_on_every_seed() {
    let replayed = number_from_environment("SIM_SEED");
    let steps = number_from_environment("SIM_STEPS").unwrap_or(STEPS);
    let seeds = match replayed {
        Some(seed) => seed..seed + 1,
        None => 0..number_from_environment("SIM_SEEDS").unwrap_or(SEEDS),
    };
    let mut failed = Vec::new();
    let mut total = run::Tally::default();
    for seed in seeds.clone() {
        let outcome = catch_unwind(AssertUnwindSafe(|| run::run(seed, steps, replayed.is_some())));
        let fault = match outcome {
            Ok(Ok(tally)) => {
                total.add(&tally);
                continue;
            }
            Ok(Err(fault)) => fault,
            Err(panic) => panic_text(&*panic),
        };
        println!(
            "seed {seed}: {fault}\n  replay: SIM_SEED={seed} SIM_STEPS={steps} cargo test --test simulation feeds:: -- --nocapture"
        );
        failed.push(seed);
    }
    println!("{total:?}");
    assert!(failed.is_empty(), "{} of {seeds:?} seeds failed: {failed:?}", failed.len());
    assert!(replayed.is_some() || total.is_everything(), "something never happened: {total:?}");
}
