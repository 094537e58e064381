//! What one connection still owes its client, and in which order it is handed to the socket.
//!
//! A `Feed` is a channel's journal together with the pass that visits its members. `Owed` is one connection's side:
//! the rest of an interrupted entry, own frames (pong, close), then everything between its cursors and the heads,
//! gathered into one write. Lag policy is arithmetic on the distance. Read `owed.rs` first.

mod feed;
mod lag;
mod owed;
mod pass;
mod plan;

pub use feed::{Feed, Feeds};
pub use lag::LagVerdict;
pub use owed::{Herald, Manner, Owed, OwnFull, Subscription};
pub use pass::Pass;
pub use plan::{Plan, Progress, SLICES_MAX};
