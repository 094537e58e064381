//! Where messages come from: everything that publishes does so through one `Publisher`.
//!
//! A new source is a file in this folder; it encodes once, sends home and is pushed back when the home is full.
//! Read `publisher.rs` first.

#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

pub mod publisher;

pub use publisher::{PendingReceipt, PublishError, Publisher, Terms};
