//! What goes over the wire, in our own words: frames and handshake of RFC 6455, written from the RFC
//! and sharing nothing with the gateway, so that a misreading cannot cancel out. No sockets in here.

pub mod deflate;
pub mod frame;
pub mod handshake;
#[cfg(test)]
pub mod noise;
pub mod sha1;
pub mod sse;
pub mod url;
