//! What the start prints on standard output: where to connect, where to publish, how many fit; then `ready`.
//!
//! The lines are for people and for scripts that wait for `ready`: their first words do not change.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::capacity::Capacity;
use crate::config::{Config, MachineMemory, units};
use crate::model::ChannelName;

/// Everything the start has to say.
pub struct Banner {
    /// Where clients connect.
    pub addresses: Vec<SocketAddr>,
    /// Where publishers connect.
    pub admin_address: SocketAddr,
    /// How many fit.
    pub capacity: Capacity,
    /// How much memory it may hold, and because of what.
    pub memory: MachineMemory,
    /// The channel of the example.
    pub channel: ChannelName,
}

impl Banner {
    /// The same facts as a log record, and what a supervisor must know.
    pub fn log(&self, config: &Config) {
        let drain_seconds =
            config.drain_grace.saturating_add(config.drain_spread).as_secs().saturating_add(5);
        tracing::info!(
            event = "started",
            version = env!("CARGO_PKG_VERSION"),
            listen = ?self.addresses,
            admin = %self.admin_address,
            shards = config.shards,
            connections_max = self.capacity.connections_max,
            memory_bytes = self.memory.bytes,
            memory_origin = %self.memory.origin,
            descriptors_max = self.capacity.descriptors_max,
            "serving; a stop takes up to {drain_seconds} s, which the supervisor must grant"
        );
        if !self.admin_address.ip().is_loopback() {
            tracing::warn!(
                event = "admin_exposed",
                admin = %self.admin_address,
                "the admin listener has no authentication and is not on loopback: keep others out by network means"
            );
        }
    }
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "tidegate {}", env!("CARGO_PKG_VERSION"))?;
        for &address in &self.addresses {
            let local = reachable(address);
            writeln!(f, "clients   http://{local}/   (WebSocket: ws://{local}/)")?;
            if local != address {
                writeln!(f, "          on every address of this machine ({address})")?;
            }
        }
        let admin = reachable(self.admin_address);
        writeln!(f, "publish   curl -d hello http://{admin}/publish/{}", self.channel)?;
        let Capacity { connections_max, descriptors_max, tables } = self.capacity;
        write!(f, "capacity  {connections_max} connections (descriptor limit {descriptors_max}")?;
        match tables {
            1 => writeln!(f, ")")?,
            tables => writeln!(f, " for each of {tables} shards)")?,
        }
        let MachineMemory { bytes, origin } = self.memory;
        match bytes {
            0 => writeln!(f, "memory    no budget (nobody knows how much there is)")?,
            bytes => writeln!(f, "memory    {} ({origin})", units::print_size(bytes))?,
        }
        writeln!(f, "ready")
    }
}

/// An address that can be typed into a browser on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MemoryOrigin;

    fn banner(addresses: &[&str], tables: usize) -> String {
        let banner = Banner {
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            admin_address: "127.0.0.1:8090".parse().unwrap(),
            capacity: Capacity { connections_max: 19_936, descriptors_max: 20_000, tables },
            memory: MachineMemory { bytes: 3 << 30, origin: MemoryOrigin::ControlGroup },
            channel: ChannelName::parse("lobby").unwrap(),
        };
        banner.to_string()
    }

    #[test]
    fn the_lines_are_exactly_these() {
        assert_eq!(
            banner(&["127.0.0.1:8080"], 1),
            "tidegate 0.1.0\n\
             clients   http://127.0.0.1:8080/   (WebSocket: ws://127.0.0.1:8080/)\n\
             publish   curl -d hello http://127.0.0.1:8090/publish/lobby\n\
             capacity  19936 connections (descriptor limit 20000)\n\
             memory    3GiB (auto: 75% of the control group's limit)\n\
             ready\n"
        );
    }

    #[test]
    fn an_unspecified_address_is_shown_as_one_that_works_here() {
        let text = banner(&["0.0.0.0:8080", "[::]:8081"], 4);
        assert!(text.contains("clients   http://127.0.0.1:8080/ "), "{text}");
        assert!(text.contains("          on every address of this machine (0.0.0.0:8080)\n"), "{text}");
        assert!(text.contains("clients   http://[::1]:8081/   (WebSocket: ws://[::1]:8081/)\n"), "{text}");
        assert!(text.contains("(descriptor limit 20000 for each of 4 shards)\n"), "{text}");
    }
}
