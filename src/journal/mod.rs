//! A channel's recent messages, in order, as wire bytes laid end to end.
//!
//! `strip.rs` holds the bytes, `journal.rs` the numbers that go with them: which message starts where, when it came,
//! and what may be let go. A subscriber is a cursor into it (`cursor.rs`): the offset of the message it gets next, and
//! which strip it reads. Slow readers share the backlog; nobody has one of their own. `deflated.rs` is the second strip;
//! `track.rs` is what both have in common.

mod cursor;
mod deflated;
mod journal;
mod strip;
mod track;

pub use cursor::{Cursor, Ride};
pub use journal::{Entry, Journal, Need, Span, Window};
