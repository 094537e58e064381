//! How many connections the process can hold: the configured maximum, or what descriptors allow (GUARANTEES C3).
//!
//! With private descriptor tables the limit holds for each shard's table; a table begins as a copy of what the main
//! thread had open, so a part of it is reserved either way.

use crate::admin::ADMIN_CONNECTIONS_MAX;
use crate::config::Config;
use crate::config::limits::DESCRIPTORS_RESERVED;
use crate::net::sys;

use super::error::GatewayError;

/// Standard streams, the runtime's queue and pipes, the admin listener, a margin.
const DESCRIPTORS_FIXED: usize = 12;
/// Event queue, waker and spare descriptor of a shard.
const DESCRIPTORS_PER_SHARD: usize = 3;
/// What the kernel gives when nobody has said anything; assumed when it does not tell.
const DESCRIPTORS_FALLBACK: u64 = 1024;

/// What the process can hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Connections of the whole process.
    pub connections_max: usize,
    /// The descriptor limit of one table.
    pub descriptors_max: u64,
    /// Tables that hold connections: the shards with private tables, else one.
    pub tables: usize,
}

impl Capacity {
    /// The capacity of `config` under a limit of `descriptors_max`.
    ///
    /// # Errors
    /// [`GatewayError::Descriptors`] when the configured connections, or even one, find no room.
    pub fn of(config: &Config, descriptors_max: u64) -> Result<Self, GatewayError> {
        let tables = if config.private_fds { config.shards } else { 1 };
        let reserved = reserved(config) as u64;
        let per_table = descriptors_max.saturating_sub(reserved);
        let room = usize::try_from(per_table.saturating_mul(tables as u64)).unwrap_or(usize::MAX);
        let wanted = config.max_connections;
        if room == 0 || wanted > room {
            let connections = wanted.max(1);
            let needed = reserved.saturating_add(connections.div_ceil(tables) as u64);
            return Err(GatewayError::Descriptors { limit: descriptors_max, needed, connections });
        }
        let connections_max = if wanted == 0 { room } else { wanted };
        Ok(Self { connections_max, descriptors_max, tables })
    }
}

/// Whether `config` fits the descriptors that a start would have.
///
/// # Errors
/// [`GatewayError::Descriptors`], as the start would say it.
pub fn check_capacity(config: &Config) -> Result<(), GatewayError> {
    Capacity::of(config, raise_descriptor_limit()).map(|_| ())
}

/// Descriptors of one table that are not for clients.
fn reserved(config: &Config) -> usize {
    let per_shard = DESCRIPTORS_PER_SHARD + config.listen.len();
    let shards_of_a_table = if config.private_fds { 1 } else { config.shards };
    let refused = shards_of_a_table * config.refused_max();
    let used = DESCRIPTORS_FIXED + ADMIN_CONNECTIONS_MAX + config.shards * per_shard + refused;
    used.max(DESCRIPTORS_RESERVED)
}

/// Raises the limit as far as it goes and returns it.
pub fn raise_descriptor_limit() -> u64 {
    sys::raise_descriptor_limit().unwrap_or_else(|error| {
        tracing::warn!(event = "descriptor_limit", %error, "the descriptor limit could not be raised");
        DESCRIPTORS_FALLBACK
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(shards: usize, private_fds: bool, max_connections: usize, limit: u64) -> Option<usize> {
        let config = Config { shards, private_fds, max_connections, ..Config::default() };
        Capacity::of(&config, limit).ok().map(|capacity| capacity.connections_max)
    }

    #[test]
    fn c3_descriptors_or_the_configured_maximum_decide_whichever_is_lower() {
        assert_eq!(capacity(1, false, 0, 20_000), Some(19_936));
        assert_eq!(capacity(2, false, 0, 20_000), Some(19_932));
        assert_eq!(capacity(4, false, 0, 20_000), Some(19_924));
        assert_eq!(capacity(1, false, 5_000, 20_000), Some(5_000));
        assert_eq!(
            capacity(1, false, 19_937, 20_000),
            None,
            "more than there is room for is refused at start"
        );
    }

    #[test]
    fn private_tables_hold_their_share_each() {
        let four = capacity(4, true, 0, 20_000).unwrap();
        assert!((79_600..=79_744).contains(&four), "{four}");
        assert_eq!(capacity(4, true, 70_000, 20_000), Some(70_000));
        assert!(capacity(256, true, 0, 20_000).unwrap() > 256 * 18_000);
    }

    #[test]
    fn a_limit_without_room_is_refused_with_what_is_needed() {
        let error = Capacity::of(&Config::default(), 64).unwrap_err();
        assert!(error.to_string().contains("limit is 64, but 65 are needed for 1 connections"), "{error}");
        assert_eq!(error.exit_code(), 78);
    }
}
