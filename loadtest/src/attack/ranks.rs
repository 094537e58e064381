//! A thread of hostile connections: one poll, one descriptor table.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

use super::attacker::{Attacker, Script, fragments};
use super::{Orders, Outcomes, Progress};
use crate::sys;
use crate::wire::handshake;
use crate::worker::{connect, reset_on_close};

/// Connections that are opened and do not stand yet: less than any listen queue.
const CONNECTING_MAX: usize = 256;
/// Between two bytes of a head that never ends.
const DRIBBLE_EVERY: Duration = Duration::from_secs(1);
/// Longest sleep.
const WAIT: Duration = Duration::from_millis(5);
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// A page that no server under test serves.
const FOREIGN_ORIGIN: &str = "http://elsewhere.invalid";

/// What one thread owns.
pub struct Ranks {
    orders: Orders,
    scripts: Vec<Script>,
    /// Number of the first connection in the whole attack.
    first: usize,
    progress: Arc<Progress>,
    attackers: Vec<Option<Attacker>>,
    /// Whether the connection with that index came to stand.
    stands: Vec<bool>,
    connecting: usize,
    /// Who dribbles, and when the next byte is due, in that order.
    dribbling: VecDeque<(usize, u64)>,
    outcomes: Outcomes,
    request: Vec<u8>,
    /// The request of `Script::Foreign`.
    foreign: Vec<u8>,
    fragments: Vec<u8>,
    buffer: Vec<u8>,
}

impl Ranks {
    /// Nobody yet; `scripts` are to come.
    pub fn new(orders: Orders, scripts: Vec<Script>, first: usize, progress: Arc<Progress>) -> Self {
        let request = handshake::request(&orders.url, &handshake::key_from(first as u64), None, None);
        let foreign = request.replacen("\r\n", &format!("\r\nOrigin: {FOREIGN_ORIGIN}\r\n"), 1);
        Self {
            orders,
            scripts,
            first,
            progress,
            attackers: Vec::new(),
            stands: Vec::new(),
            connecting: 0,
            dribbling: VecDeque::new(),
            outcomes: Outcomes::new(),
            request: request.into_bytes(),
            foreign: foreign.into_bytes(),
            fragments: fragments(),
            buffer: vec![0; READ_BUFFER_BYTES],
        }
    }

    /// Opens one every `pace_ns`, and goes on until it is told to stop. What is open then is `open`, or `waiting` if it got no answer.
    pub fn run(mut self, stop: &AtomicBool, core: &[usize], pace_ns: u64) -> Outcomes {
        let place = sys::take_private_descriptors()
            .and_then(|()| sys::pin_to_cores(core))
            .and_then(|()| sys::preempt_nobody());
        if let Err(error) = place {
            eprintln!(
                "tidegate-loadtest: attackers run without their own descriptors, core or policy: {error}"
            );
        }
        let mut poll = match Poll::new() {
            Ok(poll) => poll,
            Err(error) => {
                eprintln!("tidegate-loadtest: no attackers: {error}");
                return self.outcomes;
            }
        };
        let (mut events, start_ns) = (Events::with_capacity(4096), sys::monotonic_ns());
        while !stop.load(Ordering::Acquire) {
            let due = (sys::monotonic_ns() - start_ns) / pace_ns.max(1);
            self.open(&poll, usize::try_from(due).unwrap_or(usize::MAX));
            self.dribble();
            // An interrupted wait has no events, and that is all.
            let _ = poll.poll(&mut events, Some(WAIT));
            events.iter().for_each(|event| self.handle(event));
        }
        for attacker in self.attackers.iter_mut().flatten() {
            let outcome = if attacker.is_upgraded() { "open" } else { "waiting" };
            *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
            reset_on_close(attacker.stream());
        }
        self.outcomes
    }

    /// Opens so many in all, if there is room in the server's queue.
    fn open(&mut self, poll: &Poll, due: usize) {
        while self.connecting < CONNECTING_MAX && self.attackers.len() < self.scripts.len().min(due) {
            let index = self.attackers.len();
            let (script, number) = (self.scripts[index], self.first + index);
            let opened = connect(self.orders.url.address, number, false, &self.orders.sources);
            let opened = opened.and_then(|mut stream| {
                let both = Interest::READABLE | Interest::WRITABLE;
                let registered = poll.registry().register(&mut stream, Token(index), both);
                registered.map(|()| stream).map_err(|error| error.to_string())
            });
            self.stands.push(false);
            match opened {
                Ok(stream) => {
                    self.connecting += 1;
                    self.attackers.push(Some(Attacker::new(stream, script)));
                }
                Err(cause) => {
                    self.attackers.push(None);
                    if !self.outcomes.contains_key("unconnected") {
                        eprintln!("tidegate-loadtest: {cause}");
                    }
                    self.count("unconnected");
                }
            }
        }
    }

    fn count(&mut self, outcome: &str) {
        *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
        self.progress.ended.fetch_add(1, Ordering::AcqRel);
    }

    fn handle(&mut self, event: &Event) {
        let index = event.token().0;
        let Some(attacker) = self.attackers[index].as_mut() else { return };
        if !self.stands[index] && (event.is_writable() || event.is_error()) {
            self.stands[index] = true;
            self.connecting -= 1;
            if !event.is_error() {
                self.progress.connected.fetch_add(1, Ordering::AcqRel);
                if attacker.script() == Script::Dribble {
                    self.dribbling.push_back((index, sys::monotonic_ns()));
                }
            }
        }
        let was_upgraded = attacker.is_upgraded();
        let request = if attacker.script() == Script::Foreign { &self.foreign } else { &self.request };
        attacker.send(request, &self.fragments);
        let outcome = attacker.read(&mut self.buffer);
        if attacker.is_upgraded() && !was_upgraded {
            self.progress.upgraded.fetch_add(1, Ordering::AcqRel);
            attacker.send(request, &self.fragments);
        }
        if let Some(outcome) = outcome {
            if !std::mem::replace(&mut self.stands[index], true) {
                self.connecting -= 1;
            }
            reset_on_close(attacker.stream());
            self.attackers[index] = None;
            self.count(&outcome);
        }
    }

    fn dribble(&mut self) {
        let now_ns = sys::monotonic_ns();
        while self.dribbling.front().is_some_and(|&(_, due_ns)| due_ns <= now_ns) {
            let Some((index, _)) = self.dribbling.pop_front() else { return };
            if let Some(attacker) = self.attackers[index].as_mut() {
                attacker.dribble(&self.request);
                self.dribbling.push_back((index, now_ns + DRIBBLE_EVERY.as_nanos() as u64));
            }
        }
    }
}
