//! Watches a run from a thread of its own: every half second it adds up what the workers have published
//! and reads the servers' accounts. `timeline` keeps it for the report, `screen` draws it.
//!
//! It shares the machine with what is measured, so a sample is a few small files of `/proc` and a copy
//! of some counters: some 0.1 ms.

mod counts;
mod screen;
mod timeline;

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use counts::Counts;
use screen::Screen;
pub use timeline::{Counted, Sample, Timeline};

use crate::server::processes::Processes;
use crate::sys;

/// Time between two samples.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// A target of the run, by its index.
#[derive(Clone, Debug)]
pub struct Watched {
    /// How the report calls it.
    pub name: String,
    /// Its processes, as far as they are on this machine.
    pub processes: Processes,
}

/// The running thread; dropping it ends it and takes its drawing away.
#[derive(Debug)]
pub struct Monitor {
    /// Dropped to end the thread.
    alive: Option<Sender<()>>,
    thread: Option<JoinHandle<Timeline>>,
    screen: Screen,
}

impl Monitor {
    /// Starts to watch, and to draw unless that is not wanted.
    ///
    /// # Errors
    /// If there can be no further thread.
    pub fn start(counts: Counts, watched: Vec<Watched>, is_quiet: bool) -> io::Result<Self> {
        let names: Vec<String> = watched.iter().map(|target| target.name.clone()).collect();
        let screen = Screen::choose(is_quiet, &names);
        let (alive, end) = channel();
        let observer = Observer { counts, watched, screen: screen.clone(), started: Instant::now() };
        let thread = std::thread::Builder::new()
            .name("monitor".into())
            .spawn(move || observer.run(&end, Timeline::new(names)))?;
        Ok(Self { alive: Some(alive), thread: Some(thread), screen })
    }

    /// Says a line to whoever watches, unless that is not wanted.
    pub fn say(&self, text: &str) {
        self.screen.say(text);
    }

    /// Ends it and returns what it saw.
    pub fn finish(&mut self) -> Timeline {
        self.alive = None;
        let timeline = self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        self.screen.clear();
        timeline
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What the thread owns.
struct Observer {
    counts: Counts,
    watched: Vec<Watched>,
    screen: Screen,
    started: Instant,
}

impl Observer {
    fn run(self, end: &Receiver<()>, mut timeline: Timeline) -> Timeline {
        // Without this policy it is only a little less shy.
        let _ = sys::preempt_nobody();
        let title = screen::title();
        let mut before = Sample::default();
        loop {
            let now = self.sample();
            let opening = |(index, counted): (usize, &Counted)| self.counts.opening(index, counted.upgraded);
            let openings: Vec<_> = now.targets.iter().enumerate().map(opening).collect();
            self.screen.draw(&title, &before, &now, &openings);
            timeline.offer(now.clone());
            before = now;
            if end.recv_timeout(SAMPLE_EVERY) == Err(RecvTimeoutError::Disconnected) {
                timeline.end(self.sample());
                return timeline;
            }
        }
    }

    fn sample(&self) -> Sample {
        let count = |(index, target): (usize, &Watched)| {
            let (cpu, rss) = target.processes.glance();
            Counted::new(&self.counts.of(index), cpu.total_ns, rss)
        };
        let targets = self.watched.iter().enumerate().map(count).collect();
        Sample { at_s: self.started.elapsed().as_secs_f64(), targets }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_run_has_a_first_and_a_last_sample_with_the_accounts_of_its_server() {
        let mut server = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // It answers: it is there with all that it needs.
        server.stdin.as_mut().unwrap().write_all(b"?").unwrap();
        server.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let processes = Processes::of(&[server.id()], None);
        let watched = vec![Watched { name: "cat".into(), processes }];
        let mut monitor = Monitor::start(Counts::new(Vec::new(), 1), watched, true).unwrap();
        let timeline = monitor.finish();
        server.kill().unwrap();
        server.wait().unwrap();
        assert_eq!((timeline.names.len(), timeline.samples.len()), (1, 2));
        let (first, last) = (&timeline.samples[0].targets[0], &timeline.samples[1].targets[0]);
        assert!(last.rss > 100_000 && last.cpu_ns >= first.cpu_ns, "{timeline:?}");
    }
}
