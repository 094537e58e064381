//! The admin listener: so many connections at once, none of them idle for ever.
//!
//! Who comes when every place is taken gets that of the connection that has been idle longest (`places.rs`). A
//! connection that neither sends nor takes a byte for a minute or two is closed.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

use super::places::{Guest, Place, Places, RequestMark};
use super::spares::{Refill, Spares};
use crate::config::limits::KEEP_ALIVE_IDLE;

/// Pause after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listener, for axum to serve.
pub struct Bounded {
    listener: TcpListener,
    places: Arc<Places>,
    spares: Spares,
}

impl Bounded {
    /// Takes connections from `listener`.
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::default(), spares: Spares::new() }
    }

    /// The next connection, over a spare descriptor if there is no other.
    async fn accept_stream(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(_) => {}
            }
            let error = match self.spares.accept(&self.listener) {
                Ok(Some(accepted)) => return accepted,
                Ok(None) => continue,
                Err(error) => error,
            };
            tracing::warn!(%error, "admin accept failed");
            // The descriptor of one that is idle will do.
            self.places.ask_one_to_go();
            sleep(ACCEPT_PAUSE).await;
        }
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Caller;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Caller, SocketAddr) {
        let (stream, peer) = self.accept_stream().await;
        // Fails only on a socket that is gone already; its first read will tell.
        let _ = stream.set_nodelay(true);
        let refill = self.spares.refill_later();
        let place = self.places.take().await;
        (Caller { stream, idle: None, has_progressed: false, _refill: refill, place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// One connection of a caller.
pub struct Caller {
    stream: TcpStream,
    /// Armed while a read waits; looked at when it fires, so that progress costs no timer call.
    idle: Option<Pin<Box<Sleep>>>,
    has_progressed: bool,
    /// After the stream, whose descriptor it may need.
    _refill: Refill,
    place: Place,
}

impl Caller {
    /// Whether it gives up its place: it was asked to, and the next request has not come meanwhile.
    fn gives_way(&self, context: &Context<'_>) -> bool {
        if !self.place.must_go(context.waker()) {
            return false;
        }
        // Asked of the socket itself: the runtime may not have heard yet.
        let mut byte = [MaybeUninit::uninit()];
        let has_request = SockRef::from(&self.stream).peek(&mut byte).is_ok_and(|count| count > 0);
        if has_request {
            self.place.note_read();
        }
        !has_request
    }

    fn note_write(&mut self, written: &Poll<io::Result<usize>>) {
        self.has_progressed |= written.is_ready();
        self.place.note_write(written.is_pending());
    }

    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(KEEP_ALIVE_IDLE)));
            if idle.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if !self.has_progressed {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.has_progressed = false;
            self.idle = None;
        }
    }
}

impl AsyncRead for Caller {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            // Nothing is put into the buffer: the end of what it sends.
            Poll::Pending if this.gives_way(context) => Poll::Ready(Ok(())),
            Poll::Pending => this.poll_idle(context),
            ready => {
                this.has_progressed = true;
                this.place.note_read();
                ready
            }
        }
    }
}

impl AsyncWrite for Caller {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_write(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// What a request knows of the connection it came on.
#[derive(Clone)]
pub struct Origin(Arc<Guest>);

impl Origin {
    /// Keeps the connection from being ended for as long as the result lives.
    pub fn begin_request(&self) -> RequestMark {
        self.0.begin_request()
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Origin {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(Arc::clone(stream.io().place.guest()))
    }
}
