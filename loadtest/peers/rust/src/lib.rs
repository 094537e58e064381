//! What both servers share: one core, one listener, one task a connection, and a hub that hands every
//! message to every connection but the one that sent it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;
/// Tasks that run between two looks at the sockets: a message wakes thousands, and each look is a syscall.
const TASKS_PER_LOOK: u32 = 1024;
/// Messages that a connection may be behind before it is closed. All share one copy of each.
const BACKLOG_MESSAGES: usize = 4096;
/// Messages that one flush or one `writev` carries at most.
pub const BATCH_MAX: usize = 64;

/// Where messages go. `Message` must be cheap to clone.
pub struct Hub<Message> {
    sender: broadcast::Sender<(u64, Message)>,
    next_id: AtomicU64,
}

impl<Message: Clone> Hub<Message> {
    fn new() -> Arc<Self> {
        Arc::new(Self { sender: broadcast::channel(BACKLOG_MESSAGES).0, next_id: AtomicU64::new(0) })
    }

    /// Adds a connection: from here on it gets what the others send.
    pub fn join(&self) -> Member<Message> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        Member { id, receiver: self.sender.subscribe() }
    }

    /// Hands `message`, sent by the connection `id`, to the others.
    pub fn publish(&self, id: u64, message: Message) {
        // Nobody there is no fault.
        let _ = self.sender.send((id, message));
    }
}

/// A connection's place in the hub.
pub struct Member<Message> {
    /// What to publish under.
    pub id: u64,
    receiver: broadcast::Receiver<(u64, Message)>,
}

impl<Message: Clone> Member<Message> {
    /// Waits for a message, then appends all that are there, `BATCH_MAX` at most; may append none.
    /// `None` if the connection fell too far behind to get them all. Nothing is lost if it is dropped early.
    pub async fn receive(&mut self, batch: &mut Vec<Message>) -> Option<()> {
        let mut next = match self.receiver.recv().await {
            Ok(first) => first,
            Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
        };
        loop {
            if next.0 != self.id {
                batch.push(next.1);
            }
            if batch.len() >= BATCH_MAX {
                return Some(());
            }
            next = match self.receiver.try_recv() {
                Ok(next) => next,
                Err(TryRecvError::Empty) => return Some(()),
                Err(TryRecvError::Lagged(_) | TryRecvError::Closed) => return None,
            };
        }
    }
}

/// Listens on the port that is the only argument, and runs `serve` for each connection until a signal
/// ends the process.
pub fn main<Message, Serve, Served>(serve: Serve) -> ExitCode
where
    Message: Clone + Send + Sync + 'static,
    Serve: Fn(TcpStream, Arc<Hub<Message>>) -> Served,
    Served: Future<Output = ()> + Send + 'static,
{
    let Some(port) = std::env::args().nth(1).and_then(|text| text.parse().ok()) else {
        eprintln!("give the port to listen on");
        return ExitCode::from(64);
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().event_interval(TASKS_PER_LOOK).build();
    let outcome = runtime.and_then(|runtime| runtime.block_on(accept_all(port, &serve)));
    if let Err(error) = outcome {
        eprintln!("port {port}: {error}");
    }
    ExitCode::FAILURE
}

/// Returns only if the listener cannot be opened.
async fn accept_all<Message, Serve, Served>(port: u16, serve: &Serve) -> io::Result<()>
where
    Message: Clone + Send + Sync + 'static,
    Serve: Fn(TcpStream, Arc<Hub<Message>>) -> Served,
    Served: Future<Output = ()> + Send + 'static,
{
    let listener = listen(port)?;
    let hub = Hub::new();
    loop {
        // What fails to be accepted is one connection's fault, or cured when another one ends.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        if stream.set_nodelay(true).is_ok() {
            tokio::spawn(serve(stream, Arc::clone(&hub)));
        }
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(BACKLOG)
}
