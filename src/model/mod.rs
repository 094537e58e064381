//! The nouns that every station shares: names, positions, publications, reasons.
//!
//! Plain values without behaviour that could block, allocate much or fail later: whatever is wrong is refused
//! when the value is made (parse once at the border; inside, the type is the proof). Imports nothing of the crate.
//! Read `publication.rs` first: it is what flows through the house.

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

pub mod authority;
pub mod channel;
pub mod close;
pub mod encoding;
pub mod end;
pub mod id;
pub mod idempotency;
pub mod json;
pub mod json_pointer;
pub mod key;
pub mod memory;
pub mod network;
pub mod pattern;
pub mod position;
pub mod publication;
pub mod subprotocol;
pub mod subscribe;
pub mod time;
pub mod web_origin;

pub use authority::{Authority, ServedHost, ServedHostError};
pub use channel::{ChannelError, ChannelName};
pub use close::{Blame, CloseReason, RejectReason};
pub use encoding::{Encoding, Labelled};
pub use end::{Cause, End, Traffic};
pub use id::{ChannelIndex, ConnectionId, ConnectionName, Origin, ShardId};
pub use idempotency::{Conflict, Fingerprint, Fingerprints, Idempotency, IdempotencyKey, Receipt};
pub use json_pointer::{JsonPointer, JsonPointerError};
pub use key::{KeyError, MessageKey};
pub use memory::{Account, Charge, Grade};
pub use network::Network;
pub use pattern::{Pattern, PatternError};
pub use position::{Epoch, Offset, Position};
pub use publication::{Deflated, PayloadKind, Publication};
pub use subprotocol::{Subprotocol, SubprotocolError};
pub use subscribe::{Dialect, SubscribeRequest};
pub use time::Time;
pub use web_origin::{AllowedOrigin, AllowedOriginError, WebOrigin};
