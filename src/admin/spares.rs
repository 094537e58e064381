//! The admin port's own spare descriptors: a probe is answered while clients have taken all others (GUARANTEES C1).
//!
//! Without them a shortage of descriptors would look like a dead process to whoever checks `/livez` on a new connection.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::net::{TcpListener, TcpStream};

use crate::net::spare;

/// Spare descriptors; part of the admin port's share of the reserve.
pub const SPARES: usize = 3;

/// What is kept back, for new connections.
#[derive(Clone)]
pub struct Spares {
    held: Arc<Mutex<Vec<File>>>,
}

impl Spares {
    /// All of them, as far as the system gives any.
    pub fn new() -> Self {
        let spares = Self { held: Arc::default() };
        spares.refill();
        spares
    }

    /// Opens those again that were used, as far as the system gives any.
    fn refill(&self) {
        let mut held = self.lock();
        if held.len() < SPARES {
            let _shortage = spare::enter_shortage();
            fill(&mut held);
        }
    }

    /// Takes a connection with the descriptor of a spare one; `None` when nobody waits: accept(2) looks for a descriptor
    /// before it looks into the queue, so a shortage shows either way. The listener reports again when somebody comes.
    ///
    /// # Errors
    /// As accept(2), when no spare one is left, or another thread was quicker.
    pub fn accept(&self, listener: &TcpListener) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        let mut held = self.lock();
        let _shortage = spare::enter_shortage();
        drop(held.pop());
        let accepted = match listener.poll_accept(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(accepted) => accepted.map(Some),
            Poll::Pending => Ok(None),
        };
        if !matches!(accepted, Ok(Some(_))) {
            fill(&mut held);
        }
        accepted
    }

    fn lock(&self) -> MutexGuard<'_, Vec<File>> {
        // Nothing panics while it is held.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What opens used ones again once it is dropped: keep it beside a connection, to be dropped after it.
    pub fn refill_later(&self) -> Refill {
        Refill(self.clone())
    }
}

fn fill(held: &mut Vec<File>) {
    while held.len() < SPARES
        && let Some(file) = spare::open()
    {
        held.push(file);
    }
}

/// See [`Spares::refill_later`].
pub struct Refill(Spares);

impl Drop for Refill {
    fn drop(&mut self) {
        self.0.refill();
    }
}
