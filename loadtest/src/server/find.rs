//! Finds who listens on a local port: `/proc/net/tcp` gives the sockets' inodes, and `/proc/PID/task/*/fd`
//! who has them (each thread may have its own descriptor table).

use std::collections::HashSet;
use std::fs;
use std::path::Path;

const LISTEN: &str = "0A";

/// Sockets that listen, as the links in `/proc/PID/fd` name them.
#[derive(Debug, Default)]
pub struct Listening(HashSet<String>);

impl Listening {
    /// All that listen on this port of this machine.
    pub fn on(port: u16) -> Self {
        Self(listening_inodes(port))
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

fn listening_inodes(port: u16) -> HashSet<String> {
    let mut inodes = HashSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..] else { continue };
            let is_port =
                local.rsplit_once(':').is_some_and(|(_, hex)| u16::from_str_radix(hex, 16) == Ok(port));
            if state == LISTEN && is_port {
                inodes.insert(format!("socket:[{inode}]"));
            }
        }
    }
    inodes
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
        let port = listener.local_addr().unwrap().port();
        assert!(Listening::on(port).is_held_by(std::process::id()));
        drop(listener);
        assert!(!Listening::on(port).is_held_by(std::process::id()));
    }
}
