//! The end of every test against the real binary: the gateway is alive, has given back what the test made it take, is
//! quiet again, and a canary that was connected throughout noticed nothing.

use super::admin::Admin;
use super::process::Gateway;
use super::wait::{PATIENCE, pause, wait_until};
use super::yardstick::{Exchange, Took, Yardstick};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The channel of the canary; a test stays away from it.
pub const CANARY_CHANNEL: &str = "canary.oracle";
/// Time between two canary messages.
const CANARY_GAP: Duration = Duration::from_millis(20);
/// The canary's latency, which 99 of 100 messages keep, or keep in proportion to the [`Yardstick`].
const CANARY_LATENCY_MAX: Duration = Duration::from_millis(250);
/// An answer of `/readyz`, of which 95 of 100 keep it or keep it in proportion.
const READY_LATENCY_MAX: Duration = Duration::from_millis(100);
/// What every one of either keeps, in the same way.
const WORST_MAX: Duration = Duration::from_secs(1);
/// What resident memory may keep of a test: a twentieth and this.
const RESIDENT_SLACK_BYTES: u64 = 4 * 1024 * 1024;
/// Processor time that an idle gateway may use in a second.
const IDLE_PROCESSOR_MAX: Duration = Duration::from_millis(30);

/// The state of a gateway before a test, and a canary that watches it meanwhile.
pub struct Oracles {
    descriptors: usize,
    connections: f64,
    resident_bytes: u64,
    stop: Arc<AtomicBool>,
    canary: Option<JoinHandle<Watched>>,
    /// Whether the canary's messages may be refused for want of memory.
    may_be_refused: Arc<AtomicBool>,
    expects_ready: bool,
}

/// What the canary saw.
struct Watched {
    deliveries: Vec<Took>,
    ready: Vec<(u16, Took)>,
}

impl Oracles {
    /// Takes the state of `gateway` and sends the canary in.
    #[track_caller]
    pub fn before(gateway: &Gateway) -> Oracles {
        // The first publish and the first reading of the metrics allocate what they need for good.
        gateway.admin().publish(CANARY_CHANNEL, "warm");
        gateway.metric("tidegate_connections");
        let descriptors = gateway.descriptors();
        let connections = gateway.metric("tidegate_connections");
        let mut client = gateway.join(&format!("/ws/{CANARY_CHANNEL}"));
        let admin = gateway.admin();
        let process = gateway.id();
        Yardstick::get();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let may_be_refused = Arc::new(AtomicBool::new(false));
        let tolerates = Arc::clone(&may_be_refused);
        let canary = std::thread::spawn(move || {
            let mut watched = Watched { deliveries: Vec::new(), ready: Vec::new() };
            while !stopped.load(Ordering::Relaxed) || watched.deliveries.is_empty() {
                let number = watched.deliveries.len();
                let exchange = sing(admin, process, number, &tolerates);
                // Equality is the whole oracle: a lost, repeated or reordered message breaks it.
                assert_eq!(client.next_text(), number.to_string(), "the canary was sung to wrongly");
                watched.deliveries.push(exchange.end());
                if number.is_multiple_of(10) {
                    let exchange = Exchange::begin(process);
                    watched.ready.push((admin.get("/readyz").status, exchange.end()));
                }
                pause(CANARY_GAP);
            }
            client.close();
            watched
        });
        Oracles {
            descriptors,
            connections,
            resident_bytes: gateway.resident_bytes(),
            stop,
            canary: Some(canary),
            may_be_refused,
            expects_ready: true,
        }
    }

    /// For a test that makes the gateway say that it is not ready.
    pub fn allow_unready(mut self) -> Oracles {
        self.expects_ready = false;
        self
    }

    /// For a test that makes the gateway refuse messages for want of memory: the canary then sings again. What was taken
    /// arrives in time and in order all the same.
    pub fn allow_refusals(self) -> Oracles {
        self.may_be_refused.store(true, Ordering::Relaxed);
        self
    }

    /// Compares with the state before. The test has closed its own clients by now.
    ///
    /// # Panics
    /// With the first oracle that does not hold.
    #[track_caller]
    pub fn check(mut self, gateway: &mut Gateway) {
        assert!(gateway.is_alive(), "the gateway ended:\n{}", gateway.log());
        self.stop.store(true, Ordering::Relaxed);
        let watched = self.canary.take().expect("checked once").join().unwrap_or_else(|cause| {
            std::panic::resume_unwind(cause);
        });
        assert!(gateway.is_alive(), "the gateway ended:\n{}", gateway.log());
        let log = gateway.log();
        assert!(!log.contains("panicked"), "the log speaks of a panic:\n{log}");

        wait_until(&format!("connections to be {} again", self.connections), PATIENCE, || {
            gateway.metric("tidegate_connections") <= self.connections
        });
        wait_until(&format!("descriptors to be {} again", self.descriptors), PATIENCE, || {
            gateway.descriptors() <= self.descriptors
        });
        let resident_max = self.resident_bytes + self.resident_bytes / 20 + RESIDENT_SLACK_BYTES;
        wait_until(&format!("resident memory to be at most {resident_max} bytes"), PATIENCE, || {
            if gateway.resident_bytes() <= resident_max {
                return true;
            }
            // What another thread has freed goes back to the system once the one that had allocated it works on: that of
            // the admin port does for scrapes.
            (0..20).for_each(|_| _ = gateway.metric("tidegate_connections"));
            false
        });
        expect_idle(gateway);

        expect_within("a canary message", &watched.deliveries, CANARY_LATENCY_MAX, 99);
        expect_within("a canary message", &watched.deliveries, WORST_MAX, 100);
        if self.expects_ready {
            assert!(watched.ready.iter().all(|(status, _)| *status == 200), "/readyz: {:?}", watched.ready);
        }
        let answers: Vec<Took> = watched.ready.iter().map(|(_, took)| *took).collect();
        expect_within("/readyz", &answers, READY_LATENCY_MAX, 95);
        expect_within("/readyz", &answers, WORST_MAX, 100);
    }
}

/// Publishes the canary's message `number` to the gateway that is `process`; the exchange that begins with the message
/// that was taken.
fn sing(admin: Admin, process: u32, number: usize, may_be_refused: &AtomicBool) -> Exchange {
    loop {
        let exchange = Exchange::begin(process);
        let reply = admin.post(&format!("/publish/{CANARY_CHANNEL}"), "", number.to_string().as_bytes());
        if reply.status == 200 {
            return exchange;
        }
        let is_short = reply.status == 503 && reply.json()["error"] == "memory";
        assert!(is_short && may_be_refused.load(Ordering::Relaxed), "the canary's publish: {reply:?}");
        pause(CANARY_GAP);
    }
}

impl Drop for Oracles {
    /// Of a test that failed before its check: the canary leaves while the gateway is still there.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.canary.take().map(JoinHandle::join);
    }
}

/// Finds a busy loop: of three seconds, one must be quiet.
#[track_caller]
fn expect_idle(gateway: &Gateway) {
    let mut used = Vec::new();
    for _ in 0..3 {
        let before = gateway.processor_time();
        pause(Duration::from_secs(1));
        used.push(gateway.processor_time() - before);
        if used.last().is_some_and(|time| *time <= IDLE_PROCESSOR_MAX) {
            return;
        }
    }
    panic!("an idle gateway used {used:?} of processor time in three seconds");
}

/// Of `all`, `percent` in a hundred are within `bound` as far as the gateway is concerned. What may be late of a hundred may
/// be late of fewer: one message says nothing of a percentile.
#[track_caller]
fn expect_within(what: &str, all: &[Took], bound: Duration, percent: usize) {
    let late: Vec<&Took> = all.iter().filter(|took| !Yardstick::get().forgives(took, bound)).collect();
    let allowed = (all.len() * (100 - percent)).div_ceil(100);
    assert!(
        late.len() <= allowed,
        "{what} came late, {} of {}, on a machine that was quick: {late:?}",
        late.len(),
        all.len()
    );
}
