//! Sockets and nothing else: listeners and their options, the transport, the few raw system calls.
//!
//! No protocol and no policy live here. `listener.rs` sets every option once, on the listener, so that accepted
//! sockets inherit it and accept needs no further system call; `sys.rs` is the crate's only `unsafe`.

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

pub mod addresses;
pub mod budget;
pub mod listener;
pub mod spare;
pub mod sys;
pub mod transport;

pub use addresses::{Addresses, Admission, Ticket};
pub use budget::ConnectionBudget;
pub use listener::Listener;
pub use transport::{Tcp, Transport};
