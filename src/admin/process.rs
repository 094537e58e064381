//! What `/proc/self` says about the process. What cannot be read is zero: figures are never a reason to fail.
//!
//! With `--private-fds` the kernel shows the main thread's descriptor table only; the shards' own connection counts
//! tell the rest.

use std::fs;

use crate::metrics::exposition::ProcessFigures;

/// Resident memory and open descriptors; the limit is for the caller to fill in.
pub fn figures() -> ProcessFigures {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ProcessFigures {
        resident_bytes: resident_bytes(&status).unwrap_or_default(),
        open_descriptors: open_descriptors(),
        descriptors_max: 0,
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Linux 6.2 and later state the count as the directory's size; before, every entry has to be listed.
fn open_descriptors() -> u64 {
    const TABLE: &str = "/proc/self/fd";
    match fs::metadata(TABLE).map(|table| table.len()) {
        Ok(0) => fs::read_dir(TABLE).map_or(0, |entries| entries.count() as u64),
        Ok(count) => count,
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_memory_and_descriptors() {
        let figures = figures();
        assert!(figures.resident_bytes > 100_000, "{figures:?}");
        assert!((3..10_000).contains(&figures.open_descriptors), "{figures:?}");
        assert_eq!(resident_bytes("VmRSS:\t     12 kB\n"), Some(12_288));
        assert_eq!(resident_bytes("VmRSS: much\n"), None);
    }
}
