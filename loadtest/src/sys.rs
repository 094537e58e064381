//! The kernel calls that no safe crate offers: the one file of the load generator with `unsafe`.
//!
//! Each function is one call, takes plain values and returns `io::Result`. None keeps a pointer.
//! The private descriptor table is what lets one process hold more sockets than `RLIMIT_NOFILE`:
//! the limit counts per table. Its rule: a socket lives and dies on the thread that opened it.
#![allow(unsafe_code, reason = "thin wrappers around system calls, each with its own argument")]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Pins the calling thread, and what it spawns from now on, to these cores. An empty list does nothing.
pub fn pin_to_cores(cores: &[usize]) -> io::Result<()> {
    if cores.is_empty() {
        return Ok(());
    }
    // SAFETY: cpu_set_t is a plain bit set, for which all zeros means "no core".
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &core in cores {
        if core >= libc::CPU_SETSIZE as usize {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no core {core}")));
        }
        // SAFETY: the index was checked against the size of the set above.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    // SAFETY: the pointer is to a live set of exactly the size that is passed.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) })
}

/// The cores that the calling thread may run on.
pub fn cores_allowed() -> io::Result<Vec<usize>> {
    // SAFETY: as in `pin_to_cores`.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the size passed into the live set.
    check(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) })?;
    // SAFETY: the index stays below the size of the set.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect())
}

/// Lets the calling thread wait for the end of a slice rather than preempt whoever runs when it wakes (`SCHED_BATCH`).
///
/// Where receivers and senders share cores, a receiver that wakes from its nap otherwise cuts into a pass: 5,000 times
/// a second with two shards on two cores, which costs each delivery of theirs 7 to 16 % and those of one shard nothing.
/// What the thread starts, servers among it, is not touched (`SCHED_RESET_ON_FORK`).
pub fn preempt_nobody() -> io::Result<()> {
    let unused = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads the live struct; 0 is the calling thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH | libc::SCHED_RESET_ON_FORK, &unused) })
}

/// Gives the calling thread its own copy of the descriptor table. Sockets opened later exist only here.
pub fn take_private_descriptors() -> io::Result<()> {
    // SAFETY: takes no pointer; only the calling thread's table is replaced, by a copy.
    check(unsafe { libc::unshare(libc::CLONE_FILES) })
}

/// Raises the soft descriptor limit to the hard one. Returns the limit now in force, per table.
pub fn raise_descriptor_limit() -> io::Result<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the live struct.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads the live struct.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

/// Sets the soft descriptor limit of another process of ours. Returns the one before.
pub fn set_descriptor_limit(pid: u32, soft: u64) -> io::Result<u64> {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the live struct and reads none.
    check(unsafe { libc::prlimit(pid as libc::pid_t, libc::RLIMIT_NOFILE, std::ptr::null(), &mut before) })?;
    let limit = libc::rlimit { rlim_cur: soft.min(before.rlim_max), ..before };
    // SAFETY: the kernel reads the live struct and fills none.
    check(unsafe { libc::prlimit(pid as libc::pid_t, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) })?;
    Ok(before.rlim_cur)
}

/// `CLOCK_MONOTONIC` in nanoseconds: comparable between processes of one machine, as `Instant` is not.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the live struct; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPU time of a process so far in nanoseconds, of all its threads, ended ones included. Asks for no permission.
pub fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: the number of the clock goes into the live variable; a process that is gone is an error.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    // SAFETY: the kernel fills the live struct, or refuses a clock whose process is gone.
    check(unsafe { libc::clock_gettime(clock, &mut time) })?;
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Lets `bind` fix the source address only, and `connect` choose the port: ports are then shared
/// between destinations, so that one source address has its whole range for each.
pub fn bind_address_only(socket: &impl AsRawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option reads one int from the live variable.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
}

/// Bounds the unsent bytes a socket takes before it says that it is not writable.
pub fn set_notsent_lowat(socket: &impl AsRawFd, bytes: u32) -> io::Result<()> {
    // SAFETY: the option reads one 32-bit number from the live variable.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const bytes).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    })
}

/// Makes a receiving socket acknowledge each message as it arrives.
///
/// Linux acknowledges at once only for 16 packets after a pause longer than its retransmission timeout,
/// and otherwise when the application reads. On loopback the first is paid by the sender, the second by
/// the receiver: 2 to 3 us of a delivery would change sides with the rhythm of the run. With the shortest
/// timeout there is, every pause between two passes counts, and the price stays with the sender.
/// Linux 6.15 or newer; older ones refuse.
pub fn acknowledge_promptly(socket: &impl AsRawFd) -> io::Result<()> {
    const TCP_RTO_MIN_US: libc::c_int = 45;
    let shortest_us: libc::c_int = 2 * 1_000_000 / 250;
    // SAFETY: the option reads one int from the live variable.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_RTO_MIN_US,
            (&raw const shortest_us).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
}

/// Sends a signal to a process that we started, or with its number negated to its process group; 0 only asks.
pub fn send_signal(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::kill(pid as libc::pid_t, signal) })
}

/// Sends a signal to all processes of a group that we started; an error when none is left. Signal 0 only asks.
pub fn signal_group(group: u32, signal: i32) -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::killpg(group as libc::pid_t, signal) })
}

/// Makes the command die with the thread that spawns it, however that one ends.
pub fn die_with_parent(command: &mut Command) -> &mut Command {
    // SAFETY: prctl is async-signal-safe and touches no memory of ours.
    unsafe {
        command
            .pre_exec(|| check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0)))
    }
}

/// Clock ticks per second, the unit of the CPU times in `/proc/PID/stat`.
pub fn ticks_per_second() -> u64 {
    // SAFETY: takes no pointer.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
