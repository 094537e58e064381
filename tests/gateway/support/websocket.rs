//! A well-behaved WebSocket client over the raw one: joins, answers pings, reads messages, closes.

use super::frame::{Frame, Opcode, close_payload, masked_frame};
use super::http::{SAMPLE_ACCEPT, upgrade_request};
use super::raw::{ConnectionEnd, RawClient, RawOptions};
use super::wait::PATIENCE;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// One whole message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// UTF-8 text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

/// A client that has upgraded. `raw` is open to tests that misbehave half way.
pub struct WebSocketClient {
    /// The connection underneath.
    pub raw: RawClient,
}

impl WebSocketClient {
    /// Connects and upgrades at `target`.
    ///
    /// # Panics
    /// With the answer if it is not a correct 101.
    #[track_caller]
    pub fn join(address: SocketAddr, target: &str) -> WebSocketClient {
        WebSocketClient::join_with(address, target, RawOptions::default(), &[])
    }

    /// As [`WebSocketClient::join`], with socket options and extra header lines.
    #[track_caller]
    pub fn join_with(
        address: SocketAddr,
        target: &str,
        options: RawOptions,
        extra: &[&str],
    ) -> WebSocketClient {
        let mut raw = RawClient::connect(address, options);
        raw.send(&upgrade_request(target, &address.to_string(), extra));
        let response = raw.response();
        assert_eq!(response.status, 101, "{target}: {response:?}");
        assert_eq!(response.header("sec-websocket-accept"), Some(SAMPLE_ACCEPT), "{response:?}");
        WebSocketClient { raw }
    }

    /// Sends one whole text message.
    #[track_caller]
    pub fn send_text(&mut self, text: &str) {
        self.raw.send(&masked_frame(Opcode::Text, text.as_bytes()));
    }

    /// Sends one whole binary message.
    #[track_caller]
    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.raw.send(&masked_frame(Opcode::Binary, bytes));
    }

    /// The next frame, whatever it is; pings are not answered.
    #[track_caller]
    pub fn next_frame(&mut self) -> Frame {
        self.next_frame_within(PATIENCE)
    }

    /// The next frame within `deadline`.
    #[track_caller]
    pub fn next_frame_within(&mut self, deadline: Duration) -> Frame {
        self.raw.read_until("frame", deadline, |bytes, _| Frame::parse(bytes))
    }

    /// The next message; pings in front of it are answered.
    ///
    /// # Panics
    /// If a close comes instead, or anything that the gateway does not send: fragments, reserved bits.
    #[track_caller]
    pub fn next_message(&mut self) -> Message {
        loop {
            let frame = self.next_frame();
            assert!(frame.fin && frame.rsv == 0, "the gateway sends whole, plain frames: {frame:?}");
            match frame.opcode {
                Opcode::Text => {
                    return Message::Text(String::from_utf8(frame.payload).expect("text in UTF-8"));
                }
                Opcode::Binary => return Message::Binary(frame.payload),
                Opcode::Ping => self.raw.send(&masked_frame(Opcode::Pong, &frame.payload)),
                Opcode::Pong => {}
                _ => panic!("a message was due, not {frame:?} {:?}", frame.close_code()),
            }
        }
    }

    /// The next message, which must be text.
    #[track_caller]
    pub fn next_text(&mut self) -> String {
        match self.next_message() {
            Message::Text(text) => text,
            Message::Binary(bytes) => panic!("text was due, not {} bytes of binary", bytes.len()),
        }
    }

    /// Reads on until the gateway's close frame, and gives its code and reason. Data in front of it is dropped.
    #[track_caller]
    pub fn wait_close(&mut self, deadline: Duration) -> (u16, String) {
        let end = Instant::now() + deadline;
        loop {
            let frame = self.next_frame_within(end.saturating_duration_since(Instant::now()));
            match frame.opcode {
                Opcode::Close => return frame.close_code().unwrap_or((1005, String::new())),
                Opcode::Ping => {
                    let _ = self.raw.try_send(&masked_frame(Opcode::Pong, &frame.payload));
                }
                _ => {}
            }
        }
    }

    /// Starts the closing handshake and expects it to end in order.
    #[track_caller]
    pub fn close(mut self) {
        self.raw.send(&masked_frame(Opcode::Close, &close_payload(1000, "")));
        let (code, _) = self.wait_close(PATIENCE);
        assert_eq!(code, 1000, "the gateway answers a close with its code");
        assert_eq!(self.raw.wait_end(PATIENCE), ConnectionEnd::Fin);
    }
}
