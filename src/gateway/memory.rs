//! How much memory there is: the limit of the control group or the machine's, whichever is smaller (GUARANTEES C7).
//!
//! A control group is held by its own limit and by those of all above it. Where the group's folder is not to be seen, as in
//! a container without a namespace for it, the top of what is mounted stands for it. What cannot be read limits nothing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::{MachineMemory, MemoryOrigin};

/// Reads what the kernel says of this process.
pub fn machine_memory() -> MachineMemory {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    of(&read("/proc/meminfo"), &read("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"))
}

/// `meminfo` and `groups` are the texts of `/proc/meminfo` and `/proc/self/cgroup`, `mounted` where control groups are.
fn of(meminfo: &str, groups: &str, mounted: &Path) -> MachineMemory {
    let machine = meminfo
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        })
        .and_then(|kilobytes| kilobytes.checked_mul(1024));
    let group = groups.lines().filter_map(|line| limit_of(line, mounted)).min();
    match (machine, group) {
        (machine, Some(bytes)) if machine.is_none_or(|machine| bytes < machine) => {
            MachineMemory { bytes, origin: MemoryOrigin::ControlGroup }
        }
        (Some(bytes), _) => MachineMemory { bytes, origin: MemoryOrigin::Machine },
        (None, _) => MachineMemory::default(),
    }
}

/// The least limit along the path of one line of `/proc/self/cgroup`: `0::/path` of version 2, `4:memory:/path` of 1.
fn limit_of(line: &str, mounted: &Path) -> Option<u64> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let (top, file) = match controllers {
        "" => (mounted.to_owned(), "memory.max"),
        list if list.split(',').any(|name| name == "memory") => {
            (mounted.join("memory"), "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let folder: PathBuf = top.join(path.trim_start_matches('/'));
    let folders = folder.ancestors().take_while(|folder| folder.starts_with(&top));
    // `max`, and the largest number of pages that version 1 shows for no limit, are above every machine.
    folders.filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       16384000 kB\nMemFree:          123456 kB\n";
    const MACHINE: MachineMemory = MachineMemory { bytes: 16_384_000 * 1024, origin: MemoryOrigin::Machine };

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn group(bytes: u64) -> MachineMemory {
        MachineMemory { bytes, origin: MemoryOrigin::ControlGroup }
    }

    #[test]
    fn c7_the_least_limit_above_the_process_or_the_machine_counts() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!(of(MEMINFO, "0::/a/b\n", root), MACHINE, "no folder is to be seen");
        write(root, "a/b/memory.max", "max\n");
        assert_eq!(of(MEMINFO, "0::/a/b\n", root), MACHINE);
        write(root, "a/memory.max", "1073741824\n");
        assert_eq!(of(MEMINFO, "0::/a/b\n", root), group(1 << 30));
        assert_eq!(of("", "0::/a/b\n", root), group(1 << 30));
        write(root, "memory.max", "536870912\n");
        assert_eq!(of(MEMINFO, "0::/elsewhere\n", root), group(1 << 29), "of what is mounted");
        write(root, "memory/x/memory.limit_in_bytes", "268435456\n");
        write(root, "memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(of(MEMINFO, "5:cpu:/\n4:memory:/x\n", root), group(1 << 28));
        assert_eq!(of(MEMINFO, "5:cpu:/\n4:memory:/\n", root), MACHINE);
        assert_eq!(of("", "nonsense", root), MachineMemory::default());
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(machine_memory().bytes > 64 << 20);
    }
}
