//! A broadcast server over fastwebsockets: what one client sends goes to every other.
//!
//! A message becomes a frame once, for all; what a client sent in one go travels as one piece, and the pieces
//! outstanding leave in one `writev` without being copied.
//! The library's own `write_frame` would make a header and a syscall for each message and client. Reading,
//! unmasking, pongs and closing are the library's; the upgrade is answered here, without hyper, which
//! leaves a connection smaller.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::{Buf, Bytes};
use fastwebsockets::{FragmentCollectorRead, Frame, OpCode, Role, after_handshake_split};
use tidegate_peers::{BATCH_MAX, Hub, Member};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// Bytes of frames that are handed on although more are there.
const OUTGOING_BYTES_MAX: usize = 256 * 1024;
const HEADERS_MAX: usize = 64;

/// Frames that the library wants to be sent: pongs and the answer to a close.
#[derive(Default)]
struct Replies {
    frames: Mutex<Vec<Bytes>>,
    arrived: Notify,
    /// The last frame has been read: once the answer is out, the connection ends.
    is_closing: AtomicBool,
}

fn main() -> std::process::ExitCode {
    tidegate_peers::main(|stream, hub| async move {
        // A connection that ends, breaks or falls behind is closed; the others do not care why.
        let _ = serve(stream, hub).await;
    })
}

async fn serve(mut stream: TcpStream, hub: Arc<Hub<Bytes>>) -> io::Result<()> {
    upgrade(&mut stream).await?;
    let (read, write) = stream.split();
    let member = hub.join();
    let id = member.id;
    let replies = Replies::default();
    // Both live as long as the connection: neither is ever dropped in the middle of a frame.
    tokio::select! {
        biased;
        written = write_all(write, member, &replies) => written,
        read = read_all(read, id, &hub, &replies) => read,
    }
}

/// Frames that a client has sent are handed on together once no more are there to be read.
async fn read_all(read: ReadHalf<'_>, id: u64, hub: &Hub<Bytes>, replies: &Replies) -> io::Result<()> {
    // The writing half stays unused: frames are written as bytes.
    let (read, _) = after_handshake_split(read, tokio::io::sink(), Role::Server);
    let mut read = FragmentCollectorRead::new(read);
    let mut reply = |mut frame: Frame<'_>| {
        let bytes = encoded(&mut frame);
        replies.frames.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        replies.arrived.notify_one();
        std::future::ready(Ok::<(), io::Error>(()))
    };
    let mut outgoing = Vec::new();
    loop {
        let frame = {
            let mut reading = pin!(read.read_frame(&mut reply));
            match poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    if !outgoing.is_empty() {
                        hub.publish(id, Bytes::from(std::mem::take(&mut outgoing)));
                    }
                    reading.await
                }
            }
        };
        let frame = frame.map_err(io::Error::other)?;
        match frame.opcode {
            OpCode::Text | OpCode::Binary => {
                let mut frame = Frame::new(true, frame.opcode, None, frame.payload);
                outgoing.extend_from_slice(&encoded(&mut frame));
            }
            OpCode::Close => {
                if !outgoing.is_empty() {
                    hub.publish(id, Bytes::from(std::mem::take(&mut outgoing)));
                }
                replies.is_closing.store(true, Ordering::Relaxed);
                replies.arrived.notify_one();
                std::future::pending::<()>().await;
            }
            _ => {}
        }
        if outgoing.len() >= OUTGOING_BYTES_MAX {
            hub.publish(id, Bytes::from(std::mem::take(&mut outgoing)));
        }
    }
}

async fn write_all(mut write: WriteHalf<'_>, mut member: Member<Bytes>, replies: &Replies) -> io::Result<()> {
    let mut batch = Vec::new();
    loop {
        let is_open = tokio::select! {
            biased;
            received = member.receive(&mut batch) => received.is_some(),
            () = replies.arrived.notified() => true,
        };
        if !is_open {
            return Err(io::Error::other("too far behind"));
        }
        let is_closing = replies.is_closing.load(Ordering::Relaxed);
        batch.append(&mut replies.frames.lock().unwrap_or_else(PoisonError::into_inner));
        write_batch(&mut write, &mut batch).await?;
        if is_closing {
            return Ok(());
        }
    }
}

/// Writes and forgets all frames of `batch`, with as few syscalls as the socket takes.
async fn write_batch(write: &mut WriteHalf<'_>, batch: &mut Vec<Bytes>) -> io::Result<()> {
    let mut done = 0;
    while done < batch.len() {
        let mut slices = [IoSlice::new(&[]); BATCH_MAX];
        let count = (batch.len() - done).min(BATCH_MAX);
        for (slice, bytes) in slices.iter_mut().zip(&batch[done..]) {
            *slice = IoSlice::new(bytes);
        }
        let mut written = match &slices[..count] {
            [one] => write.write(one).await?,
            several => write.write_vectored(several).await?,
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while done < batch.len() && written >= batch[done].len() {
            written -= batch[done].len();
            done += 1;
        }
        if written > 0 {
            batch[done].advance(written);
        }
    }
    batch.clear();
    Ok(())
}

fn encoded(frame: &mut Frame<'_>) -> Bytes {
    let mut buffer = Vec::new();
    let length = frame.write(&mut buffer).len();
    buffer.truncate(length);
    Bytes::from(buffer)
}

/// Reads the request and answers it. A client that sends frames before the answer is refused.
async fn upgrade(stream: &mut TcpStream) -> io::Result<()> {
    let refused = || io::Error::other("not an upgrade to WebSocket");
    let mut request = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut request).await? == 0 || request.len() > REQUEST_BYTES_MAX {
            return Err(refused());
        }
        if request.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    if !parsed.parse(&request).map_err(io::Error::other)?.is_complete() {
        return Err(refused());
    }
    let value_of = |name: &str| {
        parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    };
    let is_websocket = value_of("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
    let key = value_of("sec-websocket-key").filter(|_| is_websocket).ok_or_else(refused)?;
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key)
    );
    stream.write_all(answer.as_bytes()).await
}
