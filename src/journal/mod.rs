//! A channel's recent messages, in order, as wire bytes laid end to end.
//!
//! `strip.rs` holds the bytes, `journal.rs` the numbers that go with them: which message starts where, when it came;
//! `retention.rs` what may be let go. A subscriber is a cursor into it (`cursor.rs`): the offset of the message it gets next, and
//! which strip it reads. Slow readers share the backlog; nobody has one of their own. `deflated.rs` is the second strip, and
//! `written.rs` are further ones in other encodings; `lane.rs` is what all have in common. `keys.rs` knows the newest message
//! of each key. `span.rs` reads for those who are given every message, `walk.rs` for those who leave out what is superseded.

mod cursor;
mod deflated;
mod entry;
mod journal;
mod keys;
mod lane;
mod retention;
mod span;
mod strip;
mod walk;
mod written;

pub use cursor::{Cursor, Pace, Ride};
pub use entry::Entry;
pub use journal::{Journal, Need, Window};
pub use span::Span;
pub use walk::{Passed, Reader, Stretch};
