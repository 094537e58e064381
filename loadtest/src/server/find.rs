//! Finds the process that listens on a local port: `/proc/net/tcp` gives the socket's inode, and
//! `/proc/*/task/*/fd` who has it (each thread may have its own descriptor table).

use std::collections::HashSet;
use std::fs;
use std::path::Path;

const LISTEN: &str = "0A";

/// The process that listens on this port of this machine, if we may see it.
pub fn listener_of(port: u16) -> Option<u32> {
    let inodes = listening_inodes(port);
    if inodes.is_empty() {
        return None;
    }
    let pids = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        tasks.is_ok_and(|tasks| tasks.flatten().any(|task| holds_any(&task.path().join("fd"), &inodes)))
    })
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
        assert_eq!(listener_of(port), Some(std::process::id()));
    }
}
