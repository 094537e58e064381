//! Tests against the real binary over loopback. Each starts a gateway of its own on free ports.

#![allow(
    clippy::disallowed_methods,
    reason = "tests measure real time; the ban is on the gateway's stations"
)]

mod drain;
mod kit;
mod liveness;
mod order;
mod slow;
mod smoke;
mod support;
