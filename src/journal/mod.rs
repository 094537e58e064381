//! A channel's recent messages, in order, as wire bytes laid end to end.
//!
//! `strip.rs` holds the bytes, `journal.rs` the numbers that go with them: which message starts where, when it came,
//! and what may be let go. A subscriber is a cursor into it: the offset of the message it gets next. Slow readers
//! share the backlog; nobody has one of their own.

mod journal;
mod strip;

pub use journal::{Entry, Journal, Need, Span, Window};
