//! Finds who listens on a local port: `/proc/net/tcp` gives the sockets' inodes, and `/proc/PID/task/*/fd`
//! who has them (each thread may have its own descriptor table).

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

const LISTEN: &str = "0A";

/// Sockets that listen, as the links in `/proc/PID/fd` name them.
#[derive(Debug, Default)]
pub struct Listening(HashSet<String>);

impl Listening {
    /// All on this machine that take what is sent to an address: they listen on it, or on its port of any.
    pub fn on(address: SocketAddr) -> Self {
        Self(listening_inodes(address))
    }

    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a process holds any of them; false if we may not see that.
    pub fn is_held_by(&self, pid: u32) -> bool {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        !self.is_empty()
            && tasks
                .is_ok_and(|tasks| tasks.flatten().any(|task| holds_any(&task.path().join("fd"), &self.0)))
    }
}

fn listening_inodes(address: SocketAddr) -> HashSet<String> {
    let mut inodes = HashSet::new();
    let takes = |local: &str| {
        let (host, port) = local.rsplit_once(':').unwrap_or_default();
        u16::from_str_radix(port, 16) == Ok(address.port()) && takes_host(host, address.ip())
    };
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..] else { continue };
            if state == LISTEN && takes(local) {
                inodes.insert(format!("socket:[{inode}]"));
            }
        }
    }
    inodes
}

/// Whether a local address, as `/proc/net/tcp` or `tcp6` writes it (words of 32 bits in the machine's order), is this one
/// or any.
fn takes_host(local: &str, address: IpAddr) -> bool {
    let words = |octets: &[u8]| {
        let word = |octets: &[u8]| octets.try_into().map_or(0, u32::from_ne_bytes);
        octets.chunks(4).map(|octets| format!("{:08X}", word(octets))).collect::<String>()
    };
    let mapped = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let own = match address {
        IpAddr::V4(address) => words(&address.octets()),
        IpAddr::V6(address) => words(&address.octets()),
    };
    local.bytes().all(|digit| digit == b'0') || local == own || local == words(&mapped.octets())
}

fn holds_any(descriptors: &Path, inodes: &HashSet<String>) -> bool {
    let Ok(entries) = fs::read_dir(descriptors) else { return false };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|link| link.to_str().is_some_and(|link| inodes.contains(link)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_listener_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(Listening::on(address).is_held_by(std::process::id()));
        // Another address of the same port is another server's.
        assert!(Listening::on(SocketAddr::from(([127, 0, 0, 9], address.port()))).is_empty());
        drop(listener);
        assert!(!Listening::on(address).is_held_by(std::process::id()));
    }

    #[test]
    fn whoever_listens_on_any_address_takes_what_is_sent_to_one() {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(Listening::on(SocketAddr::from(([127, 0, 0, 9], port))).is_held_by(std::process::id()));
        if let Ok(listener) = std::net::TcpListener::bind("[::1]:0") {
            let address = listener.local_addr().unwrap();
            assert!(Listening::on(address).is_held_by(std::process::id()));
        }
    }
}
