//! Binds the client addresses, once for every shard.
//!
//! SO_REUSEPORT gives every shard a queue of its own. It would also let a second gateway of the same user share the
//! port unnoticed, so every address is tried without it first.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use super::error::GatewayError;
use crate::config::Config;
use crate::net::Listener;
use crate::net::listener;

/// What is bound.
pub struct Bound {
    /// In the order of the configuration, with the ports that the kernel chose.
    pub addresses: Vec<SocketAddr>,
    /// The listeners of every shard, one an address.
    pub per_shard: Vec<Vec<Listener>>,
}

/// Binds all addresses for all shards, or none.
///
/// # Errors
/// [`GatewayError::Bind`] for the first that cannot be had.
pub fn bind_all(config: &Config) -> Result<Bound, GatewayError> {
    for &address in &config.listen {
        check_free(address).map_err(|source| refused(address, source))?;
    }
    let mut addresses = Vec::with_capacity(config.listen.len());
    let mut per_shard: Vec<Vec<Listener>> = (0..config.shards).map(|_| Vec::new()).collect();
    for &asked in &config.listen {
        let mut address = asked;
        for listeners in &mut per_shard {
            let bound = listener::bind(address, config).and_then(|bound| Ok((bound.local_addr()?, bound)));
            let (resolved, bound) = bound.map_err(|source| refused(asked, source))?;
            // The first bind resolves port 0, the others take the same port.
            address = resolved;
            listeners.push(bound);
        }
        addresses.push(address);
    }
    Ok(Bound { addresses, per_shard })
}

/// Fails when anybody listens on `address` already.
fn check_free(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1)
}

fn refused(address: SocketAddr, source: io::Error) -> GatewayError {
    GatewayError::Bind { option: "--listen", address, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(address: SocketAddr, shards: usize) -> Config {
        Config { listen: vec![address], shards, ..Config::default() }
    }

    #[test]
    fn all_shards_share_the_port_that_the_first_bind_got() {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = bind_all(&config(free, 3)).unwrap();
        assert_eq!(bound.per_shard.len(), 3);
        for listeners in &bound.per_shard {
            assert_eq!(listeners[0].local_addr().unwrap(), bound.addresses[0]);
        }
        let second = bind_all(&config(bound.addresses[0], 1)).err().unwrap();
        assert!(second.to_string().contains("another process listens there"), "{second}");
        drop(bound);
    }
}
