//! What a process has used, from `/proc`: CPU time and memory, ours and the server's.

use std::fs;
use std::ops::{AddAssign, Sub};

use crate::failure::Failure;
use crate::sys;

/// CPU time of a process so far, or between two moments.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    /// Time on a core, nanoseconds: the scheduler's own account, summed over the living threads.
    pub total_ns: u64,
    /// Time in user mode by the timer tick: right in the long run only.
    pub user_ns: u64,
    /// Time in the kernel by the timer tick, loopback's softirq work included.
    pub system_ns: u64,
}

impl CpuTime {
    /// Reads the accounts of a process.
    ///
    /// # Errors
    /// `Unavailable` when the process is gone.
    pub fn of(pid: u32) -> Result<Self, Failure> {
        let gone = || Failure::Unavailable(format!("the server process {pid} is gone: see its log"));
        let mut total_ns = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task")).map_err(|_| gone())?.flatten() {
            // A thread may end between the listing and the reading.
            let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            total_ns += schedstat.split(' ').next().and_then(|time| time.parse::<u64>().ok()).unwrap_or(0);
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|_| gone())?;
        let after_name = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ns_per_tick = 1_000_000_000 / sys::ticks_per_second();
        let mut ticks = after_name.split_whitespace().skip(11).map(|field| field.parse::<u64>().unwrap_or(0));
        let (user, system) = (ticks.next().unwrap_or(0), ticks.next().unwrap_or(0));
        Ok(Self { total_ns, user_ns: user * ns_per_tick, system_ns: system * ns_per_tick })
    }

    /// Our own accounts; zero if `/proc` is not there.
    pub fn own() -> Self {
        Self::of(std::process::id()).unwrap_or_default()
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

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident pages.
    pub rss: u64,
    /// Resident pages, shared ones divided among their users.
    pub pss: u64,
    /// Resident pages without a file behind them: heap and stacks.
    pub anonymous: u64,
}

impl Memory {
    /// Reads the accounts of a process: `smaps_rollup`, or `status` where that is not readable.
    ///
    /// # Errors
    /// `Unavailable` when the process is gone.
    pub fn of(pid: u32) -> Result<Self, Failure> {
        if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
            let (rss, pss, anonymous) =
                (field(&text, "Rss:"), field(&text, "Pss:"), field(&text, "Anonymous:"));
            return Ok(Self { rss, pss, anonymous });
        }
        let text = fs::read_to_string(format!("/proc/{pid}/status"))
            .map_err(|_| Failure::Unavailable(format!("the server process {pid} is gone: see its log")))?;
        Ok(Self { rss: field(&text, "VmRSS:"), pss: 0, anonymous: field(&text, "RssAnon:") })
    }
}

/// Open descriptors of a process, in its main thread's table; 0 if we may not see them.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
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
        assert!(KernelMemory::now().available > 0);
        assert!(descriptors(std::process::id()) > 2 && threads(std::process::id()) > 0);
    }

    #[test]
    fn a_process_that_is_gone_is_reported() {
        assert!(matches!(CpuTime::of(u32::MAX), Err(Failure::Unavailable(_))));
    }
}
