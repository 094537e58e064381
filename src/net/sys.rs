//! The crate's only `unsafe`: six system calls that no kept crate wraps, each with plain numbers as arguments.
//!
//! Descriptor limits, page size, private descriptor tables, pinning. Nothing here keeps a pointer beyond the call.
#![allow(unsafe_code, reason = "raw system calls; every block says why it is sound")]

use std::io;

/// Raises the soft limit of open descriptors to the hard limit and returns it.
///
/// # Errors
/// When the kernel refuses; go on with what there is.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result and outlives the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is initialised and only read.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// Keeps the process's memory in small pages: huge ones would round what connections take up to the next 2 MiB, and
/// double what an idle gateway holds (measured: 226 bytes a connection against 124).
///
/// # Errors
/// When the kernel does not know the call; nothing is lost but memory.
pub fn use_small_pages() -> io::Result<()> {
    // SAFETY: takes plain numbers; unused arguments must be zero.
    check(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) })
}

/// Gives the calling thread a descriptor table of its own, a copy of the process's: descriptor limits then hold for
/// this thread alone, and what it opens nobody else sees (`unshare(2)`, CLONE_FILES).
///
/// Every socket that is open at this moment stays open in both tables until both close it: call this before the
/// thread opens anything.
///
/// # Errors
/// When the kernel refuses, as some container policies make it.
pub fn unshare_descriptor_table() -> io::Result<()> {
    // SAFETY: takes a flag; changes only this thread's descriptor table.
    check(unsafe { libc::unshare(libc::CLONE_FILES) })
}

/// The cores that the calling thread may run on, in ascending order.
///
/// # Errors
/// When the kernel refuses.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid place of its size for the result; 0 means the calling thread.
    check(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
    // SAFETY: every index is below the set's size.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect())
}

/// Pins the calling thread to one core.
///
/// # Errors
/// When the core does not exist or is not allowed.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: `core` was checked against the set's size.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: `set` is valid for its size; 0 means the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_limit_is_raised_to_the_hard_limit() {
        let raised = raise_descriptor_limit().unwrap();
        assert_eq!(raise_descriptor_limit().unwrap(), raised);
    }

    #[test]
    fn a_core_beyond_the_set_is_an_error() {
        assert!(pin_to_core(usize::MAX).is_err());
    }
}
