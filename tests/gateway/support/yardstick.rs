//! What the machine itself takes: for an exchange over loopback, measured all the while, and from the gateway and the
//! canary in particular, which the scheduler counts. Times of the gateway are held against both, so that a machine busy
//! with something else does not fail a test.

use super::wait::pause;
use std::fmt::{Debug, Formatter};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Time from the end of one exchange to when the next is due.
const GAP: Duration = Duration::from_millis(5);
/// Exchanges longer than this are kept; all others count as this long.
const KEPT_MIN: Duration = Duration::from_millis(10);
/// A time of the gateway is good up to so many of the yardstick: a publish and its delivery pass three threads of the
/// gateway and two of the test where the yardstick passes two.
const RATIO_MAX: u32 = 5;

/// A stretch of time that the machine, or the gateway, took.
#[derive(Clone, Copy)]
pub struct Took {
    from: Instant,
    to: Instant,
    /// About the time of it in which a thread that had work was given no processor; threads that waited at once count each.
    kept_waiting: Duration,
}

impl Took {
    pub fn time(&self) -> Duration {
        self.to - self.from
    }

    fn overlaps(&self, other: &Took) -> bool {
        self.from < other.to && other.from < self.to
    }
}

impl Debug for Took {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} ({:?} kept waiting)", self.time(), self.kept_waiting)
    }
}

/// An exchange between this thread and a process, under way.
pub struct Exchange {
    process: u32,
    from: Instant,
    kept_waiting: Duration,
}

impl Exchange {
    /// Begins now, with the process `process`.
    pub fn begin(process: u32) -> Exchange {
        let kept_waiting = kept_waiting(process);
        Exchange { process, from: Instant::now(), kept_waiting }
    }

    pub fn end(self) -> Took {
        let to = Instant::now();
        // Of threads that have ended meanwhile nothing is known.
        let kept_waiting = kept_waiting(self.process).saturating_sub(self.kept_waiting);
        Took { from: self.from, to, kept_waiting }
    }
}

/// How long the threads of `process` and this thread have been ready without a processor, and how long the processors
/// themselves were taken from the machine, so far: `run_delay` of `/proc/PID/task/TID/schedstat` (nanoseconds) and `steal`
/// of `/proc/stat` (ticks of 10 ms). Nothing where the kernel counts neither.
fn kept_waiting(process: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let mut counts: Vec<String> =
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok()).collect();
    counts.extend(std::fs::read_to_string("/proc/thread-self/schedstat"));
    let delays = counts.iter().filter_map(|counts| counts.split_whitespace().nth(1)?.parse::<u64>().ok());
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let stolen = stat.split_whitespace().nth(8).and_then(|ticks| ticks.parse::<u64>().ok());
    Duration::from_nanos(delays.sum()) + Duration::from_millis(stolen.unwrap_or(0) * 10)
}

/// One for all tests of a binary.
pub struct Yardstick {
    long: Mutex<Vec<Took>>,
}

impl Yardstick {
    /// The yardstick, which measures from the first call on.
    pub fn get() -> &'static Yardstick {
        static YARDSTICK: OnceLock<&'static Yardstick> = OnceLock::new();
        YARDSTICK.get_or_init(|| {
            let yardstick: &'static Yardstick =
                Box::leak(Box::new(Yardstick { long: Mutex::new(Vec::new()) }));
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port for the yardstick");
            let asking =
                TcpStream::connect(listener.local_addr().expect("bound")).expect("the yardstick's other end");
            let (answering, _) = listener.accept().expect("the yardstick's own connection");
            std::thread::spawn(move || answer(answering));
            std::thread::spawn(move || yardstick.measure(asking));
            yardstick
        })
    }

    /// Whether `took` is at most `bound` but for what it was kept waiting, or the machine was so slow meanwhile that it says
    /// nothing about the gateway.
    pub fn forgives(&self, took: &Took, bound: Duration) -> bool {
        // Threads wait at once, and some of them for each other: they do not excuse all of it.
        if took.time() <= bound + took.kept_waiting.min(took.time() / 5 * 4) {
            return true;
        }
        let long = self.long.lock().expect("nobody panics with it");
        let longest = long.iter().filter(|other| took.overlaps(other)).map(Took::time).max();
        took.time() <= longest.unwrap_or(KEPT_MIN) * RATIO_MAX
    }

    fn measure(&self, mut stream: TcpStream) {
        let mut byte = [0];
        loop {
            // From when it was due: that the pause lasted too long is the machine's doing as well.
            let due = Instant::now() + GAP;
            pause(GAP);
            stream.write_all(&byte).expect("the yardstick answers");
            stream.read_exact(&mut byte).expect("the yardstick answers");
            let took = Took { from: due, to: Instant::now(), kept_waiting: Duration::ZERO };
            if took.time() > KEPT_MIN {
                self.long.lock().expect("nobody panics with it").push(took);
            }
        }
    }
}

fn answer(mut stream: TcpStream) {
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
}
