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
mod compression;
mod drain;
mod ends;
mod frames;
mod freeze;
mod hostile;
#[path = "../simulation/inflater.rs"]
mod inflater;
mod kernel;
mod kit;
mod liveness;
mod logging;
mod memory;
mod messages;
mod order;
mod publish;
mod relay;
mod requests;
mod sample;
mod slow;
mod smoke;
mod support;
