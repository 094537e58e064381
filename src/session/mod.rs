//! What is spoken after the edge: bytes of one connection in, messages and own frames out.
//!
//! `websocket.rs` is the protocol, with tungstenite as a codec against memory; `boundary.rs` knows where frames begin
//! and end and refuses what a header may not say; `utf8.rs` checks text while it arrives; `inbound.rs` puts `inflate.rs` and `inflater.rs` in front
//! of both where compression was agreed; `liveness.rs` says when to ping and when to give up, `allowance.rs` how many
//! pings of the client are enough, `rate.rs` how many messages. `commands.rs` and `replies.rs` are what messages say in
//! `tidegate.v1`.
//!
//! A pure station: `now` and bytes come in, values go out. What it holds for a connection between two messages is
//! the 16 bytes of [`Liveness`] and the 2 of [`ControlAllowance`]; everything else exists only while a message is under way.

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

pub mod allowance;
pub mod boundary;
pub mod commands;
pub mod inbound;
pub mod inflate;
pub mod inflater;
pub mod liveness;
pub mod rate;
pub mod replies;
pub mod utf8;
pub mod websocket;

pub use allowance::ControlAllowance;
pub use commands::{BadCommand, ClientMessage, Command};
pub use inbound::Inbound;
pub use inflater::Inflater;
pub use liveness::{Liveness, LivenessRules, Phases, Verdict};
pub use rate::{MESSAGE_FRAME_BYTES_MIN, MessageRate, Overrun, Sender};
pub use replies::{CommandError, Notice, Recovery, Subscribed, Window};
pub use websocket::{Event, SessionLimits, WebSocket, append_close_frame, append_ping};
