//! `tidegate subscribe`: a plain WebSocket client that prints what it receives.
//!
//! For trying things out, and for shells: one message a line, nothing else on standard output.

use std::io::{self, Write};
use std::net::TcpStream;

use tungstenite::handshake::HandshakeError;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

use super::failure::{Failure, tell};
use super::publish::{authority, connect, judge_status};
use crate::config::limits::CLOSE_TIMEOUT;
use crate::config::source::one_line;

/// What to print.
pub(super) struct Subscription {
    /// `ws://HOST[:PORT]/PATH`.
    pub url: String,
    /// Binary messages as they are instead of in hexadecimal.
    pub raw: bool,
    /// Stop after this many messages.
    pub count: Option<u64>,
}

/// Reads after our close frame before the connection is dropped without the answer.
const READS_AFTER_CLOSE_MAX: usize = 10_000;

/// Prints messages until the count is reached, the reader of the output goes away or the gateway closes.
///
/// # Errors
/// [`Failure::Usage`] for a bad URL, [`Failure::Refused`] for a refused request, [`Failure::Unavailable`] when the
/// gateway cannot be reached or ends the connection other than with 1000.
pub(super) fn run(subscription: &Subscription) -> Result<(), Failure> {
    let authority = authority(&subscription.url, "ws", 80)?;
    let mut socket = open(&subscription.url, connect(&authority)?)?;
    let mut printed = 0;
    while subscription.count.is_none_or(|count| printed < count) {
        let message = socket.read().map_err(|error| ended(&error))?;
        let line = match message {
            Message::Text(text) => text.as_bytes().to_vec(),
            Message::Binary(bytes) if subscription.raw => bytes.to_vec(),
            Message::Binary(bytes) => hexadecimal(&bytes).into_bytes(),
            // The codec answers pings itself; the answer leaves with the next read.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            Message::Close(frame) => {
                drop(socket.flush());
                return judge_close(frame.as_ref());
            }
        };
        if !print_line(line)? {
            break;
        }
        printed += 1;
    }
    leave(&mut socket);
    Ok(())
}

fn open(url: &str, stream: TcpStream) -> Result<WebSocket<TcpStream>, Failure> {
    let (socket, _response) = tungstenite::client(url, stream).map_err(|error| match error {
        HandshakeError::Failure(Error::Http(response)) => {
            let body = String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned();
            judge_status(response.status().as_u16(), body.trim())
        }
        HandshakeError::Failure(error) => Failure::Unavailable(format!("no WebSocket at {url}: {error}")),
        HandshakeError::Interrupted(_) => {
            Failure::Unavailable(format!("no WebSocket at {url}: no answer in time"))
        }
    })?;
    // From here on silence is normal: a quiet channel, and pings are the gateway's to send.
    let quiet = socket.get_ref().set_read_timeout(None);
    quiet.map_err(|error| Failure::Internal(format!("cannot set up the socket: {error}")))?;
    Ok(socket)
}

/// Says goodbye and waits for the answer, so that the gateway sees a close and not a reset.
fn leave(socket: &mut WebSocket<TcpStream>) {
    drop(socket.get_ref().set_read_timeout(Some(CLOSE_TIMEOUT)));
    let said = socket.close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }));
    if said.and_then(|()| socket.flush()).is_ok() {
        for _ in 0..READS_AFTER_CLOSE_MAX {
            if socket.read().is_err() {
                break;
            }
        }
    }
}

fn ended(error: &Error) -> Failure {
    Failure::Unavailable(format!("the connection ended without a close: {error}"))
}

/// What the gateway's close frame means for whoever waits for the exit code; the text goes to standard error.
fn judge_close(frame: Option<&CloseFrame>) -> Result<(), Failure> {
    let Some(CloseFrame { code, reason }) = frame else {
        return Err(Failure::Unavailable("closed without a code".to_owned()));
    };
    let line = one_line(&format!("{} {reason}", u16::from(*code)));
    match u16::from(*code) {
        1000 => {
            tell("closed", line.trim());
            Ok(())
        }
        1002 | 1003 | 1007..=1009 | 4000..=4099 => Err(Failure::Refused(format!("closed with {line}"))),
        _ => Err(Failure::Unavailable(format!("closed with {line}"))),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Prints one line; false when nobody reads any more.
fn print_line(mut line: Vec<u8>) -> Result<bool, Failure> {
    line.push(b'\n');
    let mut output = io::stdout().lock();
    match output.write_all(&line).and_then(|()| output.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Internal(format!("cannot write to standard output: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_code_says_whether_trying_again_helps() {
        for (code, expected) in [
            (1000, None),
            (1008, Some(65)),
            (4003, Some(65)),
            (1001, Some(69)),
            (1012, Some(69)),
            (4101, Some(69)),
        ] {
            let frame = CloseFrame { code: code.into(), reason: "x".into() };
            let failed = judge_close(Some(&frame)).err().map(|failure| failure.exit_code());
            assert_eq!(failed, expected, "{code}");
        }
        assert_eq!(judge_close(None).err().map(|failure| failure.exit_code()), Some(69));
    }

    #[test]
    fn binary_is_printed_in_hexadecimal() {
        assert_eq!(hexadecimal(&[0, 0xab, 0xff]), "00abff");
    }
}
