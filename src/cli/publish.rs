//! `tidegate publish`: one message through the admin listener, with a minimal HTTP/1.1 client.
//!
//! One request per connection, blocking, every step with a deadline. Plain HTTP only: the admin listener is private.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use tungstenite::http::Uri;

use super::failure::Failure;
use crate::config::limits::PUBLISH_BYTES_MAX;
use crate::config::source::one_line;
use crate::model::ChannelName;

/// How long connecting, and each read and write, may take.
const IO_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a reply; a gateway answers in one line.
const REPLY_BYTES_MAX: u64 = 64 * 1024;
/// Header lines of a reply.
const REPLY_HEADERS_MAX: usize = 32;

/// What to publish.
pub(super) struct Request {
    /// Where it goes.
    pub channel: ChannelName,
    /// The message.
    pub data: Data,
    /// `http://HOST[:PORT]` of the admin listener.
    pub admin: String,
}

/// Where the message comes from.
pub(super) enum Data {
    /// The command line.
    Given(OsString),
    /// Standard input, to its end.
    StandardInput,
}

/// Publishes and gives back the gateway's reply, one line without its end.
///
/// # Errors
/// [`Failure::Usage`] for a bad URL, [`Failure::Unavailable`] when the gateway cannot be reached or is busy,
/// [`Failure::Refused`] when it refuses the message.
pub(super) fn run(request: &Request) -> Result<String, Failure> {
    let authority = authority(&request.admin, "http", 80)?;
    let message = read_message(&request.data)?;
    let mut stream = connect(&authority)?;
    let gone = |error| Failure::Unavailable(format!("the gateway at {authority} went away: {error}"));
    let sent = stream.write_all(&encode(&request.channel, &authority, &message));
    let mut reply = Vec::new();
    let received = stream.take(REPLY_BYTES_MAX).read_to_end(&mut reply);
    // A gateway that refuses a message may answer and close before it has read all of it: the answer counts.
    match decode(&reply) {
        Some((200..300, body)) => Ok(body),
        Some((status, body)) => Err(judge_status(status, &body)),
        None => {
            sent.map_err(gone)?;
            received.map_err(gone)?;
            Err(Failure::Unavailable(format!(
                "what answered at {authority} is not a gateway's admin listener"
            )))
        }
    }
}

/// `HOST:PORT` of a URL with this scheme.
pub(super) fn authority(url: &str, scheme: &str, default_port: u16) -> Result<String, Failure> {
    let wrong = || Failure::usage(format!("URL {url:?}: write {scheme}://HOST:PORT"));
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    match (uri.scheme_str(), uri.host()) {
        (Some(found), Some(host)) if found == scheme && !host.is_empty() => {
            Ok(format!("{host}:{}", uri.port_u16().unwrap_or(default_port)))
        }
        (Some("https" | "wss"), _) => {
            Err(Failure::usage(format!("URL {url:?}: TLS is not spoken here; write {scheme}://HOST:PORT")))
        }
        _ => Err(wrong()),
    }
}

/// Connects to the first address of `authority` that answers.
pub(super) fn connect(authority: &str) -> Result<TcpStream, Failure> {
    let unreachable = |error| Failure::Unavailable(format!("cannot reach {authority}: {error}"));
    let mut last_error = std::io::Error::other("the name has no address");
    for address in authority.to_socket_addrs().map_err(unreachable)? {
        match TcpStream::connect_timeout(&address, IO_TIMEOUT) {
            Ok(stream) => {
                stream.set_write_timeout(Some(IO_TIMEOUT)).map_err(unreachable)?;
                stream.set_read_timeout(Some(IO_TIMEOUT)).map_err(unreachable)?;
                return Ok(stream);
            }
            Err(error) => last_error = error,
        }
    }
    Err(unreachable(last_error))
}

fn read_message(data: &Data) -> Result<Vec<u8>, Failure> {
    let mut message = Vec::new();
    match data {
        Data::Given(data) => message.extend_from_slice(data.as_bytes()),
        Data::StandardInput => {
            let input = std::io::stdin().lock();
            let unreadable = |error| Failure::Internal(format!("cannot read standard input: {error}"));
            input.take(PUBLISH_BYTES_MAX as u64 + 1).read_to_end(&mut message).map_err(unreadable)?;
        }
    }
    if message.len() > PUBLISH_BYTES_MAX {
        return Err(Failure::Refused(format!("the message has more than {PUBLISH_BYTES_MAX} bytes")));
    }
    Ok(message)
}

fn encode(channel: &ChannelName, authority: &str, message: &[u8]) -> Vec<u8> {
    let kind = match std::str::from_utf8(message) {
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    };
    let mut request = format!(
        "POST /publish/{channel} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: {kind}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        message.len()
    )
    .into_bytes();
    request.extend_from_slice(message);
    request
}

/// Status and body of a complete response that ends with its declared length or with the connection.
fn decode(bytes: &[u8]) -> Option<(u16, String)> {
    let mut headers = [httparse::EMPTY_HEADER; REPLY_HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head_bytes)) = response.parse(bytes) else { return None };
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let body = &bytes[head_bytes..];
    let body = match length {
        Some(header) => body.get(..std::str::from_utf8(header.value).ok()?.trim().parse().ok()?)?,
        None => body,
    };
    Some((response.code?, String::from_utf8_lossy(body).trim().to_owned()))
}

/// What a status other than 2xx means for whoever waits for the exit code.
pub(super) fn judge_status(status: u16, body: &str) -> Failure {
    let line = one_line(&format!("the gateway answered {status}: {body}"));
    match status {
        408 | 429 => Failure::Unavailable(line),
        400..500 => Failure::Refused(line),
        _ => Failure::Unavailable(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure_code<T>(result: Result<T, Failure>) -> Option<u8> {
        result.err().map(|failure| failure.exit_code())
    }

    #[test]
    fn urls_give_the_address_to_connect_to() {
        for (url, expected) in [
            ("http://127.0.0.1:8090", "127.0.0.1:8090"),
            ("http://127.0.0.1:8090/", "127.0.0.1:8090"),
            ("http://localhost", "localhost:80"),
            ("http://[::1]:8090", "[::1]:8090"),
        ] {
            assert_eq!(authority(url, "http", 80).ok().as_deref(), Some(expected));
        }
        for bad in ["", "127.0.0.1:8090", "localhost", "https://localhost", "ws://a", "http://", "http:// a"]
        {
            assert_eq!(failure_code(authority(bad, "http", 80)), Some(64), "{bad}");
        }
    }

    #[test]
    fn a_message_is_text_when_it_is_utf8() {
        let channel = ChannelName::parse("a").unwrap();
        let text = encode(&channel, "h:1", "h\u{e9}".as_bytes());
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "POST /publish/a HTTP/1.1\r\nHost: h:1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\nConnection: close\r\n\r\nh\u{e9}"
        );
        let binary = encode(&channel, "h:1", &[0xff]);
        assert!(binary.windows(24).any(|bytes| bytes == b"application/octet-stream"));
    }

    #[test]
    fn a_reply_is_read_to_its_length_or_to_the_end() {
        for (bytes, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokrest", Some((200, "ok"))),
            ("HTTP/1.1 200 OK\r\n\r\nok\n", Some((200, "ok"))),
            ("HTTP/1.1 413 Too Big\r\ncontent-length: 0\r\n\r\n", Some((413, ""))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", None),
            ("HTTP/1.1 200 OK\r\n", None),
            ("hello", None),
            ("", None),
        ] {
            let expected = expected.map(|(status, body)| (status, body.to_owned()));
            assert_eq!(decode(bytes.as_bytes()), expected, "{bytes}");
        }
    }

    #[test]
    fn a_status_says_whether_trying_again_helps() {
        for (status, code) in [(400, 65), (413, 65), (408, 69), (429, 69), (503, 69), (302, 69)] {
            assert_eq!(judge_status(status, "x").exit_code(), code, "{status}");
        }
    }
}
