//! The opening handshake of a WebSocket (RFC 6455 §4.2): what is offered, whether it is one, and the 101.
//!
//! Subprotocols but for `tidegate.v1` that the configuration does not name are declined by silence, as RFC 6455 §4.2.2 has it
//! (`subprotocols.rs`), and so are extensions but for permessage-deflate where a channel has compression on
//! (`extensions.rs`).

use super::extensions::{self, Compression, Offered};
use super::response::Response;
use super::subprotocols::{self, Subprotocols};
use crate::model::{Dialect, RejectReason, Subprotocol};

/// What a request head says about a WebSocket.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Offer<'a> {
    /// A Connection line names `upgrade`.
    pub names_connection: bool,
    /// An Upgrade line names `websocket`.
    pub names_websocket: bool,
    /// The value of Sec-WebSocket-Key.
    pub key: Option<&'a [u8]>,
    /// The value of Sec-WebSocket-Version.
    pub version: Option<&'a [u8]>,
    /// The values of Sec-WebSocket-Extensions; empty ones say nothing.
    pub extensions: [&'a [u8]; extensions::LINES_MAX],
    /// What Sec-WebSocket-Protocol names.
    pub subprotocols: Subprotocols<'a>,
}

/// A WebSocket that is taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Accepted {
    /// The complete 101 response.
    pub response: Vec<u8>,
    /// What it agrees to.
    pub compression: Compression,
}

impl Offer<'_> {
    /// Whether the head asks for an upgrade to WebSocket, valid or not.
    pub(super) const fn is_complete(&self) -> bool {
        self.names_connection && self.names_websocket
    }

    /// Whether any sign of a WebSocket client is there: one whose upgrade got lost on the way (a proxy that drops
    /// hop-by-hop headers) is better told than shown a page.
    pub(super) const fn is_hinted(&self) -> bool {
        self.names_websocket || self.key.is_some() || self.version.is_some()
    }

    /// What is spoken after the upgrade, `ours` being the subprotocols that the configuration names.
    pub(super) fn dialect(&self, ours: &[Subprotocol]) -> Dialect {
        match self.subprotocols.first_known(ours) {
            Some(subprotocols::V1) => Dialect::V1,
            _ => Dialect::Plain,
        }
    }

    /// The complete 101 response, which accepts an offer of compression if one of the channels `compresses`, and of the
    /// subprotocols offered the first that is `tidegate.v1` or among `subprotocols`. Allocates it and the accept key.
    ///
    /// # Errors
    /// `NotWebSocket`, `WebSocketVersion` or `WebSocketKey`, to be answered.
    pub(super) fn accept(
        &self,
        subprotocols: &[Subprotocol],
        compresses: impl FnOnce() -> bool,
    ) -> Result<Accepted, RejectReason> {
        if !self.is_complete() {
            return Err(RejectReason::NotWebSocket);
        }
        if self.version != Some(b"13") {
            return Err(RejectReason::WebSocketVersion);
        }
        let key = self.key.filter(|key| is_key(key)).ok_or(RejectReason::WebSocketKey)?;
        let has_offers = self.extensions.iter().any(|line| !line.is_empty());
        let offered = if has_offers && compresses() {
            extensions::first_acceptable(self.extensions.into_iter())
        } else {
            None
        };
        let mut response = Response::upgrade()
            .header("Sec-WebSocket-Accept", &tungstenite::handshake::derive_accept_key(key));
        if let Some(subprotocol) = self.subprotocols.first_known(subprotocols) {
            response = response.header("Sec-WebSocket-Protocol", subprotocol);
        }
        if let Some(offered) = offered {
            response = response.header("Sec-WebSocket-Extensions", &offered.answer());
        }
        let compression = offered.map_or(Compression::Declined, Offered::compression);
        Ok(Accepted { response: response.finish(), compression })
    }
}

/// Whether `key` is the canonical base64 of 16 bytes: 22 characters, of which the last carries two bits, and `==`.
fn is_key(key: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    match key {
        [digits @ .., last, b'=', b'='] => {
            digits.len() == 21 && digits.iter().all(is_base64) && matches!(last, b'A' | b'Q' | b'g' | b'w')
        }
        _ => false,
    }
}
