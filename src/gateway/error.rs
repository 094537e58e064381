//! Why the gateway could not start or go on: what failed, what to do, and the exit code that supervisors see.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use crate::config::source::Refusal;
use crate::model::ShardId;

/// Ends the process. The display is one line: cause, then cure.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}; {}", cure_for_bind(.option, .source))]
    Bind {
        /// The option that asked for it.
        option: &'static str,
        /// The address as configured.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The descriptor limit is too low for what is configured.
    #[error("{}; {DESCRIPTORS_CURE}", descriptors_problem(*.limit, *.needed, *.connections))]
    Descriptors {
        /// What holds for one table.
        limit: u64,
        /// What one table would need.
        needed: u64,
        /// Connections asked for, at least one.
        connections: usize,
    },
    /// The log filter cannot be read.
    #[error(
        "--log-level: cannot read the filter `{filter}`; write a level such as info, or tidegate=debug,info"
    )]
    LogFilter {
        /// As configured.
        filter: String,
    },
    /// The system did not give what a start needs.
    #[error("cannot set up {what}: {source}; check the limits on descriptors, threads and memory")]
    Start {
        /// What was being made.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A shard did not answer after the start.
    #[error(
        "the shards did not answer within 10 s of their start; the machine is overloaded, try fewer --shards"
    )]
    SlowStart,
    /// A shard's event loop failed.
    #[error(
        "shard {} failed: {source}; if this is the start, check --private-fds and --pin-shards against what this machine allows",
        .shard.0
    )]
    ShardFailed {
        /// Which.
        shard: ShardId,
        /// What failed.
        source: io::Error,
    },
    /// A shard panicked.
    #[error(
        "shard {} panicked: {message}; this is a fault of tidegate: the process ends rather than serve half its clients, \
         restart it and report this line",
        .shard.0
    )]
    ShardPanicked {
        /// Which.
        shard: ShardId,
        /// What the panic said.
        message: String,
    },
    /// A shard ended though nobody told it to.
    #[error("shard {} ended unasked; this is a fault of tidegate: restart it and report this line", .shard.0)]
    ShardEnded {
        /// Which.
        shard: ShardId,
    },
    /// The admin listener ended.
    #[error("the admin listener ended; this is a fault of tidegate: restart it and report this line")]
    AdminEnded,
}

impl GatewayError {
    pub(super) fn start(what: &'static str, source: io::Error) -> Self {
        Self::Start { what, source }
    }

    /// What is wrong with the value of `max_connections` that somebody gave; `None` when that is not what failed.
    pub fn refusal_of_max_connections(&self) -> Option<Refusal> {
        match *self {
            Self::Descriptors { limit, needed, connections } => {
                Some(Refusal::new(descriptors_problem(limit, needed, connections), DESCRIPTORS_CURE))
            }
            _ => None,
        }
    }

    /// The exit code, as sysexits.h names them: 69 unavailable, 70 a fault of ours, 71 of the system, 78 configuration.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Bind { .. } => 69,
            Self::ShardPanicked { .. } | Self::ShardEnded { .. } | Self::AdminEnded => 70,
            Self::Start { .. } | Self::SlowStart | Self::ShardFailed { .. } => 71,
            Self::Descriptors { .. } | Self::LogFilter { .. } => 78,
        }
    }
}

const DESCRIPTORS_CURE: &str =
    "raise it (ulimit -n, LimitNOFILE), lower --max-connections, or use --private-fds with more --shards";

fn descriptors_problem(limit: u64, needed: u64, connections: usize) -> String {
    format!("the descriptor limit is {limit}, but {needed} are needed for {connections} connections")
}

fn cure_for_bind(option: &str, source: &io::Error) -> String {
    match source.kind() {
        ErrorKind::AddrInUse => format!("another process listens there: stop it or change {option}"),
        ErrorKind::AddrNotAvailable => {
            format!("this machine does not have the address: give {option} one that `ip addr` lists")
        }
        ErrorKind::PermissionDenied => {
            format!("ports below 1024 need CAP_NET_BIND_SERVICE: grant it or give {option} a higher port")
        }
        _ => format!("change {option}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_error_names_address_cause_and_cure_in_one_line() {
        let error = GatewayError::Bind {
            option: "--listen",
            address: ([127, 0, 0, 1], 80).into(),
            source: io::Error::from(ErrorKind::PermissionDenied),
        };
        let line = error.to_string();
        assert!(line.starts_with("cannot listen on 127.0.0.1:80: permission denied; "), "{line}");
        assert!(line.contains("CAP_NET_BIND_SERVICE") && line.contains("--listen") && !line.contains('\n'));
        assert_eq!(error.exit_code(), 69);
    }
}
