//! Publishing through the control sockets of the built-in bare server: finished frames, one command a thread.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::Publisher;
use crate::failure::Failure;
use crate::feed::Batch;

const TIMEOUT: Duration = Duration::from_secs(30);

/// The other ends of the bare server's control connections; closing them ends the server.
#[derive(Debug)]
pub struct BarePublisher {
    threads: Vec<TcpStream>,
}

impl BarePublisher {
    /// Connects.
    ///
    /// # Errors
    /// `Unavailable` if the server is gone.
    pub fn connect(ports: &[u16]) -> Result<Self, Failure> {
        let connect = |port: &u16| -> io::Result<TcpStream> {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            Ok(stream)
        };
        let threads = ports.iter().map(connect).collect::<io::Result<Vec<_>>>();
        Ok(Self { threads: threads.map_err(|error| gone(&error))? })
    }
}

impl Publisher for BarePublisher {
    fn publish(&mut self, batch: &Batch) -> Result<(), Failure> {
        let mut command = Vec::with_capacity(batch.bytes.len() + 4);
        command.extend_from_slice(&(batch.bytes.len() as u32).to_le_bytes());
        command.extend_from_slice(&batch.bytes);
        // All threads are told before any is waited for: they send side by side.
        let told = self.threads.iter_mut().try_for_each(|thread| thread.write_all(&command));
        let mut answered = || self.threads.iter_mut().try_for_each(|thread| thread.read_exact(&mut [0; 8]));
        told.and_then(|()| answered()).map_err(|error| gone(&error))
    }
}

fn gone(error: &io::Error) -> Failure {
    Failure::Unavailable(format!("the bare server is gone: {error}"))
}
