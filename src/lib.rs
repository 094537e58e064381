//! tidegate: one live feed in, a million sockets out.
//!
//! Data flows along the row, imports go down the column: a module may name only modules declared above it
//! (`tests/architecture.rs` holds the exact table). The idea everything follows from: a channel is a journal,
//! a subscriber is a cursor. Start with `docs/ARCHITECTURE.md`, then `model/`, then `shard/turn.rs`.
//! `GUARANTEES C16` in a comment is a case, or with a P a promise, of `docs/GUARANTEES.md`.

pub mod model;

pub mod clock;

pub mod config;
pub mod journal;
pub mod metrics;

pub mod edge;
pub mod hub;
pub mod session;

pub mod delivery;

pub mod net;

pub mod bus;

pub mod shard;

pub mod feeds;

pub mod admin;

pub mod gateway;

pub mod cli;
