//! What the fuzz targets do with their bytes: one file a target, each a function `run` that panics on a fault.
//!
//! `fuzz_targets/` hands them libFuzzer's bytes, `tests/corpora.rs` of the project what lies in `corpus/`. They use what the
//! project's library gives to everybody, and nothing of the fuzzer.

pub mod commands;
pub mod configuration;
pub mod frame_session;
pub mod inflate;
mod input;
pub mod journal;
pub mod names;
pub mod offers;
pub mod publish_json;
pub mod request_head;
pub mod wheel;

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("commands", commands::run),
    ("configuration", configuration::run),
    ("frame_session", frame_session::run),
    ("inflate", inflate::run),
    ("journal", journal::run),
    ("names", names::run),
    ("offers", offers::run),
    ("publish_json", publish_json::run),
    ("request_head", request_head::run),
    ("wheel", wheel::run),
];
