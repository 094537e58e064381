//! Log records on their way to standard error: whoever logs never waits for who reads.
//!
//! Two buffers of fixed size: records are appended to one while a thread of its own writes the other out. A record that
//! does not fit is dropped and counted, and once the writer comes round again one record says how many (GUARANTEES C15).
//! The lock is held for a copy of one record or a swap, never while something is written.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::config::limits::LOG_BYTES_MAX;
use crate::metrics::counters::Counter;

/// The records that wait. See the file's header.
#[derive(Default)]
pub struct LogRing {
    state: Mutex<State>,
    /// Something waits.
    news: Condvar,
    /// Everything is written.
    done: Condvar,
    /// Records lost so far; added to under the lock only.
    dropped: Arc<Counter>,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Records lost since it was last told.
    dropped: u64,
    is_writing: bool,
}

impl LogRing {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let ring = Arc::<Self>::default();
        let writer = Arc::clone(&ring);
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_to(out))?;
        Ok(ring)
    }

    /// Records lost so far.
    pub fn dropped(&self) -> Arc<Counter> {
        Arc::clone(&self.dropped)
    }

    /// Waits until everything is written, for `timeout` at most.
    pub fn flush(&self, timeout: Duration) {
        let is_busy = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        drop(self.done.wait_timeout_while(self.lock(), timeout, is_busy));
    }

    fn push(&self, record: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + record.len() > LOG_BYTES_MAX {
            state.dropped += 1;
            self.dropped.add(1);
            return;
        }
        state.waiting.extend_from_slice(record);
        self.news.notify_one();
    }

    fn write_to(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            let dropped = self.next_batch(&mut batch);
            if dropped > 0 {
                // Comes behind what is written now, and finds room: nothing waits.
                tracing::warn!(event = "log_dropped", records = dropped, "standard error took no more");
            }
            if out.write_all(&batch).is_err() {
                let _locked = self.lock();
                self.dropped.add(batch.iter().filter(|byte| **byte == b'\n').count() as u64);
            }
            batch.clear();
        }
    }

    /// Waits for records and takes them all; gives how many were lost since the last time.
    fn next_batch(&self, batch: &mut Vec<u8>) -> u64 {
        let mut state = self.lock();
        state.is_writing = false;
        while state.waiting.is_empty() {
            self.done.notify_all();
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_writing = true;
        std::mem::swap(&mut state.waiting, batch);
        std::mem::take(&mut state.dropped)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes records, each in one write, for a [`LogRing`].
pub struct Records(pub Arc<LogRing>);

impl Write for Records {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.0.push(record);
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Hands every batch over, and is stuck in it until somebody takes that.
    struct Stuck(SyncSender<Vec<u8>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stuck() -> (Arc<LogRing>, Receiver<Vec<u8>>) {
        let (sender, batches) = sync_channel(0);
        (LogRing::start(Stuck(sender)).unwrap(), batches)
    }

    /// Pushes a first record and gives control back once the writer is stuck with it.
    fn stick(ring: &LogRing) {
        ring.push(b"first\n");
        while !ring.lock().is_writing {
            thread::yield_now();
        }
    }

    #[test]
    fn c15_a_reader_that_is_stuck_holds_nobody_up_and_what_does_not_fit_is_counted() {
        let (ring, batches) = stuck();
        stick(&ring);
        let record = [b'x'; 1024];
        let fitting = LOG_BYTES_MAX / record.len();
        for _ in 0..fitting + 7 {
            ring.push(&record);
        }
        assert_eq!(ring.dropped().get(), 7);
        assert_eq!(ring.lock().waiting.len(), LOG_BYTES_MAX);
        assert_eq!(batches.recv_timeout(PATIENCE).unwrap(), b"first\n");
        assert_eq!(batches.recv_timeout(PATIENCE).unwrap().len(), LOG_BYTES_MAX, "what fitted, in order");
        ring.push(b"after\n");
        assert_eq!(batches.recv_timeout(PATIENCE).unwrap(), b"after\n");
        assert_eq!(ring.dropped().get(), 7);
    }

    #[test]
    fn c15_an_end_waits_for_what_was_logged_but_not_for_a_reader_that_is_stuck() {
        let (ring, batches) = stuck();
        stick(&ring);
        ring.flush(Duration::from_millis(1));
        assert!(ring.lock().is_writing, "given up");
        let reader = thread::spawn(move || batches.recv_timeout(PATIENCE).unwrap());
        ring.flush(PATIENCE);
        assert!(!ring.lock().is_writing);
        assert_eq!(reader.join().unwrap(), b"first\n");
    }

    #[test]
    fn c15_what_cannot_be_written_is_counted_too() {
        let (ring, batches) = stuck();
        drop(batches);
        ring.push(b"one\n");
        ring.flush(PATIENCE);
        assert_eq!(ring.dropped().get(), 1);
    }
}
