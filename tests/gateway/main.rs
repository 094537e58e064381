//! Tests against the real binary over loopback. Each starts a gateway of its own on free ports.

#![allow(
    clippy::disallowed_methods,
    reason = "tests measure real time; the ban is on the gateway's stations"
)]

mod accept;
mod addresses;
mod admission;
mod burst;
mod close;
mod commands;
mod compression;
mod drain;
mod ends;
mod frames;
mod freeze;
mod hostile;
#[path = "../simulation/inflater.rs"]
mod inflater;
mod kernel;
mod keys;
mod kit;
mod live;
mod liveness;
mod logging;
mod memory;
mod messages;
mod narrow;
mod occupancy;
mod order;
mod patterns;
mod publish;
mod relay;
mod requests;
mod resume;
mod sample;
mod slow;
mod smoke;
mod streams;
mod support;
