//! What a process has used, from `/proc` and its CPU clock: CPU time and memory, ours and the server's.

use std::collections::HashSet;
use std::fs;
use std::ops::{AddAssign, Sub};

use crate::sys;

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// Its number, which another process may have later.
    pub pid: u32,
    /// The process that started it, or that took it over.
    pub parent: u32,
    /// When it started, in clock ticks since the machine did: with the number it names one process for good.
    pub started_ticks: u64,
    /// Whether it has ended and only its parent has not asked yet.
    pub has_ended: bool,
    user_ns: u64,
    system_ns: u64,
}

impl Stat {
    /// Reads it; `None` when there is no such process.
    pub fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything, so that the fields are counted from its end.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        let ns_per_tick = 1_000_000_000 / sys::ticks_per_second().max(1);
        Some(Self {
            pid,
            parent: u32::try_from(number(1)?).ok()?,
            started_ticks: number(19)?,
            has_ended: matches!(*fields.first()?, "Z" | "X"),
            user_ns: number(11)?.saturating_mul(ns_per_tick),
            system_ns: number(12)?.saturating_mul(ns_per_tick),
        })
    }

    /// Reads that of every process that we may see.
    pub fn of_all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| Self::of(entry.file_name().to_str()?.parse().ok()?)).collect()
    }

    /// The CPU time of the process until now; `None` when it is gone.
    pub fn cpu(&self) -> Option<CpuTime> {
        let total_ns = sys::process_cpu_ns(self.pid).ok()?;
        Some(CpuTime { total_ns, user_ns: self.user_ns, system_ns: self.system_ns })
    }
}

/// CPU time of a process, or of several, so far or between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Time on a core, nanoseconds: the scheduler's own account, threads that have ended included.
    pub total_ns: u64,
    /// Time in user mode by the timer tick: right in the long run only.
    pub user_ns: u64,
    /// Time in the kernel by the timer tick, loopback's softirq work included.
    pub system_ns: u64,
}

impl CpuTime {
    /// Our own accounts; zero if `/proc` is not there.
    pub fn own() -> Self {
        Stat::of(std::process::id()).and_then(|stat| stat.cpu()).unwrap_or_default()
    }

    /// Share of user mode in the total, as far as the tick knows.
    pub fn user_share(&self) -> f64 {
        let ticks = self.user_ns + self.system_ns;
        if ticks == 0 { 0.0 } else { self.user_ns as f64 / ticks as f64 }
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            total_ns: self.total_ns.saturating_sub(earlier.total_ns),
            user_ns: self.user_ns.saturating_sub(earlier.user_ns),
            system_ns: self.system_ns.saturating_sub(earlier.system_ns),
        }
    }
}

impl AddAssign for CpuTime {
    fn add_assign(&mut self, other: Self) {
        self.total_ns += other.total_ns;
        self.user_ns += other.user_ns;
        self.system_ns += other.system_ns;
    }
}

/// Memory of a process, or of several, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident pages. Those that several processes share count once for each of them.
    pub rss: u64,
    /// Resident pages, shared ones divided among their users; `None` where we may not see them.
    pub pss: Option<u64>,
    /// Resident pages without a file behind them: heap and stacks.
    pub anonymous: u64,
}

impl Memory {
    /// Reads the accounts of a process: `smaps_rollup`, or `status` where that is not readable. `None` when it is gone.
    pub fn of(pid: u32) -> Option<Self> {
        if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
            let (rss, pss, anonymous) =
                (field(&text, "Rss:"), Some(field(&text, "Pss:")), field(&text, "Anonymous:"));
            return Some(Self { rss, pss, anonymous });
        }
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Self { rss: field(&text, "VmRSS:"), pss: None, anonymous: field(&text, "RssAnon:") })
    }

    /// That of two processes, or sets of them, together.
    pub fn and(self, other: Self) -> Self {
        Self {
            rss: self.rss + other.rss,
            pss: self.pss.zip(other.pss).map(|(pss, other)| pss + other),
            anonymous: self.anonymous + other.anonymous,
        }
    }
}

/// Open descriptors of a process, those of tables that its threads have for themselves included; `None` if we may not
/// see them. What has no name of its own, such as an epoll, is counted in the table that has most.
pub fn descriptors(pid: u32) -> Option<usize> {
    let (mut named, mut unnamed_max) = (HashSet::new(), 0);
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    for task in tasks.flatten() {
        let entries = fs::read_dir(task.path().join("fd")).ok()?;
        let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        let (unnamed, others): (Vec<_>, Vec<_>) =
            links.partition(|link| link.to_string_lossy().starts_with("anon_inode:"));
        unnamed_max = unnamed.len().max(unnamed_max);
        named.extend(others);
    }
    Some(named.len() + unnamed_max)
}

/// Threads of a process; 0 if it is gone.
pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Resident pages of a process, in bytes, by the cheapest account there is; 0 when the process is gone.
pub fn rss_of(pid: u32) -> u64 {
    field(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(), "VmRSS:")
}

/// Memory of the whole machine that sockets move, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelMemory {
    /// `MemAvailable`.
    pub available: u64,
    /// `Slab`: sockets, files, directory entries, epoll entries.
    pub slab: u64,
    /// Pages of TCP buffers, from `/proc/net/sockstat`.
    pub tcp_buffers: u64,
}

impl KernelMemory {
    /// Reads `/proc/meminfo` and `/proc/net/sockstat`; what is not there is zero.
    pub fn now() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
        let tcp = sockstat.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
        let pages = tcp.split_whitespace().skip_while(|&word| word != "mem").nth(1);
        let tcp_buffers = pages.and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096;
        Self { available: field(&meminfo, "MemAvailable:"), slab: field(&meminfo, "Slab:"), tcp_buffers }
    }
}

/// Acknowledgements that this machine's TCP has sent by timer so far (`TcpExt: DelayedACKs`).
///
/// A subscriber that reads within 40 ms acknowledges by itself, on its own core. One that comes later
/// leaves it to a timer, mostly on the server's core and then in the server's accounts: 2 to 3 us a
/// delivery on loopback. Rounds are comparable when this share is alike.
pub fn acks_by_timer() -> u64 {
    let netstat = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
    let mut lines = netstat.lines().filter(|line| line.starts_with("TcpExt:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(name, _)| *name == "DelayedACKs").and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

/// A line `name   123 kB`, in bytes.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_accounts_can_be_read() {
        let before = CpuTime::own();
        let mut sum = 0u64;
        while CpuTime::own().total_ns == before.total_ns {
            sum = sum.wrapping_add(1);
        }
        assert!((CpuTime::own() - before).total_ns > 0);
        assert!(Memory::of(std::process::id()).unwrap().rss > 100_000);
        assert!(Stat::of_all().iter().any(|stat| stat.pid == std::process::id() && !stat.has_ended));
        assert!(KernelMemory::now().available > 0);
        assert!(descriptors(std::process::id()) > Some(2) && threads(std::process::id()) > 0);
        assert_eq!(descriptors(u32::MAX), None);
    }

    #[test]
    fn a_thread_that_has_ended_is_still_paid_for() {
        let of_this_thread = || {
            let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        };
        std::thread::spawn(move || while of_this_thread() < 200_000_000 {}).join().unwrap();
        // The tick keeps the time of ended threads too, and is right to two ticks.
        let own = CpuTime::own();
        assert!(own.total_ns + 100_000_000 > own.user_ns + own.system_ns, "{own:?}");
    }

    #[test]
    fn a_process_that_is_gone_has_no_accounts() {
        assert!(Stat::of(u32::MAX).is_none() && Memory::of(u32::MAX).is_none());
        // One more than there can be on any machine.
        let gone = Stat { pid: 4_194_305, ..Stat::of(std::process::id()).unwrap() };
        assert!(gone.cpu().is_none());
    }
}
