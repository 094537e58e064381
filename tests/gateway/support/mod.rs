//! What every test against the real binary needs: the gateway as a process, clients of our own down to single bytes,
//! the admin API, waiting on conditions, and the oracles that end a test.
//!
//! Nothing here shares code with the gateway, so a mistake there cannot hide behind the same mistake here. Start with
//! `process.rs`, then `websocket.rs`; `raw.rs` is for tests that break the protocol on purpose.

#![allow(
    dead_code,
    unused_imports,
    reason = "several test binaries include this module, each uses a part of it"
)]

pub mod admin;
pub mod cost;
pub mod frame;
pub mod http;
pub mod oracles;
pub mod process;
pub mod raw;
pub mod wait;
pub mod websocket;
pub mod yardstick;

pub use admin::Admin;
pub use frame::{Frame, Opcode, masked_frame};
pub use http::Response;
pub use oracles::Oracles;
pub use process::{Ended, Gateway, Signal};
pub use raw::{ConnectionEnd, RawClient, RawOptions};
pub use wait::{PATIENCE, pause, wait_for, wait_until};
pub use websocket::{Message, WebSocketClient};
