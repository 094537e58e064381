//! What the machine itself takes for an exchange over loopback, measured all the while: times of the gateway are held
//! against it, so that a machine busy with something else does not fail a test.

use super::wait::pause;
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
#[derive(Clone, Copy, Debug)]
pub struct Took {
    from: Instant,
    to: Instant,
}

impl Took {
    /// From `from` until now.
    pub fn since(from: Instant) -> Took {
        Took { from, to: Instant::now() }
    }

    pub fn time(&self) -> Duration {
        self.to - self.from
    }

    fn overlaps(&self, other: &Took) -> bool {
        self.from < other.to && other.from < self.to
    }
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

    /// Whether `took` is at most `bound`, or the machine was so slow meanwhile that it says nothing about the gateway.
    pub fn forgives(&self, took: &Took, bound: Duration) -> bool {
        if took.time() <= bound {
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
            let took = Took::since(due);
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
