//! The system calls that neither the standard library, mio nor socket2 offers: descriptor limits, page size, private
//! descriptor tables, pinning, and `accept`, `recv` and `send` themselves. By rustix; the crate's only `unsafe` is here, a promise about
//! descriptor tables that no library can keep for its caller.
#![allow(unsafe_code, reason = "one call whose condition spans threads; its block says why it holds")]

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, UnshareFlags, sched_getaffinity, sched_setaffinity};

/// Hands `bytes` to the kernel for a socket: `send(2)` with MSG_NOSIGNAL. Returns how many it took.
///
/// The bare system call, not the C library's function: that one is a cancellation point, for which a process of several
/// threads pays two atomic operations a call. They were a quarter of our user time in a broadcast to 10,000 subscribers
/// (perf), and nothing here is ever cancelled.
///
/// # Errors
/// `WouldBlock` when a non-blocking socket takes nothing, `Interrupted` when a signal came first: as `send(2)`.
#[inline]
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?)
}

/// As [`send`], several pieces laid end to end: `sendmsg(2)`.
///
/// # Errors
/// As [`send`].
pub fn send_pieces(socket: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut nothing_else = SendAncillaryBuffer::default();
    Ok(rustix::net::sendmsg(socket, pieces, &mut nothing_else, SendFlags::NOSIGNAL)?)
}

/// Takes what a non-blocking socket has received, as far as it fits; 0 is the peer's end.
///
/// # Errors
/// `WouldBlock` when there is nothing; anything else is the end of the connection.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (received, _) = rustix::net::recv(socket, buffer, RecvFlags::empty())?;
    Ok(received)
}

/// Takes the next connection from the queue of a non-blocking listener: non-blocking, closed on exec; and the address it
/// comes from, which costs less here than to ask for it later.
///
/// # Errors
/// As `accept4(2)`: `WouldBlock` when the queue is empty.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let (socket, peer) =
        rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    Ok((socket, peer.and_then(|peer| SocketAddr::try_from(peer).ok())))
}

/// Raises the soft limit of open descriptors to the hard limit and returns it.
///
/// # Errors
/// When the kernel refuses; go on with what there is.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?;
    Ok(hard.unwrap_or(u64::MAX))
}

/// Keeps the process's memory in small pages: huge ones would round what connections take up to the next 2 MiB, and
/// double what an idle gateway holds (measured: 226 bytes a connection against 124).
///
/// # Errors
/// When the kernel does not know the call; nothing is lost but memory.
pub fn use_small_pages() -> io::Result<()> {
    Ok(rustix::thread::disable_transparent_huge_pages(true)?)
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
    // SAFETY: no thread may use a descriptor that another opened in its own table. A shard calls this before it opens
    // anything; what it opens from there on is owned by its reactor, which never leaves the thread. What was open
    // before is in both tables under the same number.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FILES) }?)
}

/// The cores that the calling thread may run on, in ascending order.
///
/// # Errors
/// When the kernel refuses.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect())
}

/// Pins the calling thread to one core.
///
/// # Errors
/// When the core does not exist or is not allowed.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn sending_takes_what_fits_and_says_when_nothing_does() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        assert_eq!(send(ours.as_fd(), b"hello").unwrap(), 5);
        let mut received = [0; 5];
        theirs.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"hello");

        let refusal = (0..1000).find_map(|_| send(ours.as_fd(), &[0; 64 * 1024]).err()).unwrap();
        assert_eq!(refusal.kind(), ErrorKind::WouldBlock);
        drop(theirs);
        // Without MSG_NOSIGNAL this would end the process.
        assert_eq!(send(ours.as_fd(), b"?").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_descriptor_limit_is_raised_to_the_hard_limit() {
        let raised = raise_descriptor_limit().unwrap();
        assert_eq!(raise_descriptor_limit().unwrap(), raised);
        assert_eq!(getrlimit(Resource::Nofile).current, Some(raised));
    }

    #[test]
    fn a_thread_can_be_pinned_to_each_core_it_may_run_on() {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let core = *allowed_cores().unwrap().last().unwrap();
                pin_to_core(core).unwrap();
                assert_eq!(allowed_cores().unwrap(), [core]);
            });
        });
    }

    #[test]
    fn a_core_beyond_the_set_is_an_error() {
        assert!(pin_to_core(usize::MAX).is_err());
    }
}
