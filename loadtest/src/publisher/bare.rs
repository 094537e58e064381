//! Publishing through the control sockets of the built-in bare server: finished frames, one command a thread.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::{Publisher, describe};
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
            stream.set_write_timeout(Some(TIMEOUT))?;
            Ok(stream)
        };
        let threads = ports.iter().map(connect).collect::<io::Result<Vec<_>>>();
        Ok(Self { threads: threads.map_err(|error| gone(&error))? })
    }
}

impl Publisher for BarePublisher {
    fn publish(&mut self, batch: &Batch) -> Result<(), Failure> {
        let mut command = Vec::with_capacity(batch.bytes.len() + 4);
        let length = u32::try_from(batch.bytes.len()).map_err(|_| {
            let cure = "give a smaller --window or --size";
            Failure::Usage(format!("messages of {} bytes together are too many: {cure}", batch.bytes.len()))
        })?;
        command.extend_from_slice(&length.to_le_bytes());
        command.extend_from_slice(&batch.bytes);
        // All threads are told before any is waited for: they send side by side.
        let told = self.threads.iter_mut().try_for_each(|thread| thread.write_all(&command));
        let mut answered = || self.threads.iter_mut().try_for_each(|thread| thread.read_exact(&mut [0; 8]));
        told.and_then(|()| answered()).map_err(|error| gone(&error))
    }
}

fn gone(error: &io::Error) -> Failure {
    Failure::Unavailable(format!("the bare server is gone: {}", describe(error, TIMEOUT)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::feed::Feed;
    use crate::protocol::Protocol;

    #[test]
    fn a_server_that_does_not_read_is_not_waited_for_without_limit() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let mut publisher = BarePublisher::connect(&[port]).expect("connected");
        assert_eq!(publisher.threads[0].write_timeout().expect("open"), Some(TIMEOUT));
        publisher.threads[0].set_write_timeout(Some(Duration::from_millis(20))).expect("a limit");
        let batch = Feed::new(1, Protocol::plain()).append(64, 256 * 1024, 0);
        let error = publisher.publish(&batch).expect_err("nobody reads").to_string();
        assert_eq!(error, "the bare server is gone: nothing moved for 30 s");
    }
}
