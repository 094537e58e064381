//! Publishing through the control socket of the built-in bare server: finished frames, one command.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::Publisher;
use crate::failure::Failure;
use crate::feed::Batch;

const TIMEOUT: Duration = Duration::from_secs(30);

/// The other end of the bare server's control connection; closing it ends the server.
#[derive(Debug)]
pub struct BarePublisher {
    stream: TcpStream,
}

impl BarePublisher {
    /// Connects.
    ///
    /// # Errors
    /// `Unavailable` if the server is gone.
    pub fn connect(port: u16) -> Result<Self, Failure> {
        let connect = || -> io::Result<Self> {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            Ok(Self { stream })
        };
        connect().map_err(|error| gone(&error))
    }
}

impl Publisher for BarePublisher {
    fn publish(&mut self, batch: &Batch) -> Result<(), Failure> {
        let mut command = Vec::with_capacity(batch.bytes.len() + 4);
        command.extend_from_slice(&(batch.bytes.len() as u32).to_le_bytes());
        command.extend_from_slice(&batch.bytes);
        let mut answer = [0; 8];
        self.stream
            .write_all(&command)
            .and_then(|()| self.stream.read_exact(&mut answer))
            .map_err(|error| gone(&error))
    }
}

fn gone(error: &io::Error) -> Failure {
    Failure::Unavailable(format!("the bare server is gone: {error}"))
}
