//! What is spoken after the edge: bytes of one connection in, messages and own frames out.
//!
//! `websocket.rs` is the protocol, with tungstenite as a codec against memory; `boundary.rs` knows where frames begin
//! and end and refuses what a header may not say; `inflate.rs` stands in front of both where compression was agreed;
//! `liveness.rs` says when to ping and when to give up.
//!
//! A pure station: `now` and bytes come in, values go out. What it holds for a connection between two messages is
//! the 16 bytes of [`Liveness`]; everything else exists only while a message is under way.

pub mod boundary;
pub mod inflate;
pub mod liveness;
pub mod websocket;

pub use inflate::{Inbound, Inflater};
pub use liveness::{Liveness, LivenessRules, Phases, Verdict};
pub use websocket::{Event, SessionLimits, WebSocket, append_close_frame, append_ping};
