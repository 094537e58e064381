//! The places of the admin port: who has one, and who gives it up when another caller comes (GUARANTEES C1).
//!
//! Callers keep connections open between requests: a pool of publishers alone may fill every place. When a caller comes
//! and none is free, the connection that has been idle longest is ended, which HTTP allows between two requests: its
//! owner opens a new one for its next. A connection in the middle of a request keeps its place.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::spares::SPARES;

/// Descriptors of admin connections at a time: part of the reserve.
pub const CONNECTIONS_MAX: usize = 40;
/// Connections that are served at a time; one more may wait for its place.
pub const PLACES: usize = CONNECTIONS_MAX - SPARES - 1;
/// A new connection that sends nothing for so long is as idle as one between two requests.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// How often a caller without a place looks whether somebody has become idle, should nothing report it.
const LOOK_GAP: Duration = Duration::from_millis(100);

/// Those who have a place. Used by the control thread only; the locks are for the compiler and never waited for.
#[derive(Default)]
pub struct Places {
    taken: Mutex<Vec<Arc<Guest>>>,
    /// Somebody left, became idle, or stays after all.
    changed: Notify,
}

/// A place, given back when dropped.
pub struct Place {
    places: Arc<Places>,
    guest: Arc<Guest>,
}

/// What is known of one connection.
pub struct Guest {
    state: Mutex<GuestState>,
    /// Requests that are being answered.
    requests: AtomicUsize,
}

struct GuestState {
    stage: Stage,
    /// Told that it must go; its next read says so, unless a request has come.
    is_asked: bool,
    /// Waits for bytes.
    reader: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Nothing has come since it was accepted, at this time.
    New(Instant),
    /// A request has begun to come, or its answer is not out yet.
    Busy,
    /// An answer went out at this time, and nothing came since.
    Rests(Instant),
}

impl Places {
    /// A place, as soon as there is one: whoever has been idle longest goes if all are taken.
    pub async fn take(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.try_take() {
                return place;
            }
            self.ask_one_to_go();
            // Looked at again either way.
            let _ = timeout(LOOK_GAP, self.changed.notified()).await;
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Place> {
        let mut taken = lock(&self.taken);
        if taken.len() >= PLACES {
            return None;
        }
        let guest = Arc::new(Guest::new(Instant::now()));
        taken.push(Arc::clone(&guest));
        Some(Place { places: Arc::clone(self), guest })
    }

    /// Asks the one that has been idle longest, one at a time.
    pub fn ask_one_to_go(&self) {
        let taken = lock(&self.taken);
        if taken.iter().any(|guest| lock(&guest.state).is_asked) {
            return;
        }
        let now = Instant::now();
        let idle = taken.iter().filter_map(|guest| Some((guest.idle_since(now)?, guest)));
        if let Some((_, guest)) = idle.min_by_key(|(since, _)| *since) {
            guest.ask_to_go();
        }
    }
}

impl Place {
    /// Who has it.
    pub fn guest(&self) -> &Arc<Guest> {
        &self.guest
    }

    /// Bytes came.
    pub fn note_read(&self) {
        let mut state = lock(&self.guest.state);
        state.stage = Stage::Busy;
        if std::mem::take(&mut state.is_asked) {
            self.places.changed.notify_one();
        }
    }

    /// Bytes went out, or, `is_blocked`, could not.
    pub fn note_write(&self, is_blocked: bool) {
        lock(&self.guest.state).stage = if is_blocked { Stage::Busy } else { Stage::Rests(Instant::now()) };
        self.places.changed.notify_one();
    }

    /// Nothing has come: whether the connection must go, and else who is to be woken when it must.
    pub fn must_go(&self, reader: &Waker) -> bool {
        let mut state = lock(&self.guest.state);
        if !state.is_asked {
            state.reader = Some(reader.clone());
        }
        state.is_asked
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places.taken).retain(|guest| !Arc::ptr_eq(guest, &self.guest));
        self.places.changed.notify_one();
    }
}

impl Guest {
    fn new(now: Instant) -> Self {
        let state = GuestState { stage: Stage::New(now), is_asked: false, reader: None };
        Self { state: Mutex::new(state), requests: AtomicUsize::new(0) }
    }

    /// A request is being answered for as long as the result lives.
    pub fn begin_request(self: &Arc<Self>) -> RequestMark {
        self.requests.fetch_add(1, Ordering::Relaxed);
        RequestMark(Arc::clone(self))
    }

    /// Since when nothing has been under way; `None` if something is.
    fn idle_since(&self, now: Instant) -> Option<Instant> {
        if self.requests.load(Ordering::Relaxed) > 0 {
            return None;
        }
        match lock(&self.state).stage {
            Stage::New(accepted) => (now.duration_since(accepted) >= SILENCE_MAX).then_some(accepted),
            Stage::Busy => None,
            Stage::Rests(since) => Some(since),
        }
    }

    fn ask_to_go(&self) {
        let mut state = lock(&self.state);
        state.is_asked = true;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

/// Marks a connection as busy with a request.
pub struct RequestMark(Arc<Guest>);

impl Drop for RequestMark {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
