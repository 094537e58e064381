//! Reading compressed messages, ten thousand subscribers at the price of one.
//!
//! What a subscriber can read is settled by what it was sent before: by its **context**, the last 32 KiB that came
//! out (`wire/deflate.rs`). Subscribers whose contexts are alike share one, and whoever in it is first to receive some
//! bytes inflates them, notes what came out as a **step**, and moves on into the context behind. The others compare
//! what they receive with the steps there are: the same bytes in the same context are the same message. So nothing is
//! taken on trust, and a subscriber costs a pointer. Contexts are found by their content: who joined at another time
//! shares one with the rest as soon as the last 32 KiB of both are alike.
//!
//! A context lives as long as somebody is in it, or on the way to it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::rc::{Rc, Weak};

use flate2::Decompress;

use super::connection::Inside;
use crate::wire::deflate::{RSV1, Terms, inflate};
use crate::wire::frame::{self, FrameReader};

/// Steps out of a context that are kept: of those that lead on, whoever comes later follows the newest; where none leads
/// on, as many as there may be messages under way.
const STEPS_MAX: usize = 2;
const STEPS_IN_PLACE_MAX: usize = 64;
/// Contexts that are remembered before those are forgotten that nobody is in; or twice as many as somebody is in.
const KNOWN_MIN: usize = 256;

/// One subscriber that agreed on compression.
#[derive(Debug)]
pub struct Inflating {
    /// Joins bytes to frames where they cannot be compared.
    pub inside: Inside,
    /// What it was sent so far.
    pub context: Rc<Context>,
}

impl Inflating {
    /// A subscriber that was sent nothing yet.
    pub fn begin(context: Rc<Context>) -> Self {
        let reader = FrameReader::deflating();
        Self { inside: Inside { reader, ..Inside::default() }, context }
    }
}

/// What some subscribers were sent before, as far as a message may refer to it.
#[derive(Debug)]
pub struct Context {
    /// What the server promised them.
    terms: Terms,
    /// Messages, the oldest first; in front of the window's beginning at most part of one.
    window: Vec<Rc<[u8]>>,
    steps: RefCell<Vec<Rc<Step>>>,
}

/// What came out of some bytes in a context.
#[derive(Debug)]
pub struct Step {
    /// The unfragmented frame; the data of the message begin behind its header.
    frame: Vec<u8>,
    header_bytes: usize,
    /// Opcode of the message.
    pub opcode: u8,
    /// The message.
    pub message: Rc<[u8]>,
    /// Its sequence, if it is exactly what was published.
    pub expected: Option<u64>,
    /// The context behind it; `None`: the same.
    into: Option<Rc<Context>>,
}

impl Step {
    /// Bytes of its frame.
    pub fn frame_bytes(&self) -> usize {
        self.frame.len()
    }

    /// Where a subscriber is that was in `context`.
    pub fn leads_from(&self, context: &Rc<Context>) -> Rc<Context> {
        Rc::clone(self.into.as_ref().unwrap_or(context))
    }
}

impl Context {
    /// The step whose whole frame these bytes begin with, if somebody has taken it before.
    pub fn step_of_frame(&self, bytes: &[u8]) -> Option<Rc<Step>> {
        self.steps.borrow().iter().rev().find(|step| bytes.starts_with(&step.frame)).cloned()
    }

    /// The step of a message with these data.
    pub fn step_of_data(&self, opcode: u8, data: &[u8]) -> Option<Rc<Step>> {
        let is_it = |step: &&Rc<Step>| step.opcode == opcode && step.frame[step.header_bytes..] == *data;
        self.steps.borrow().iter().rev().find(is_it).cloned()
    }

    /// The last of the window.
    fn bytes(&self, most: usize) -> Vec<u8> {
        let all = self.window.concat();
        all[all.len().saturating_sub(most)..].to_vec()
    }

    fn number_of(terms: Terms, window: &[Rc<[u8]>]) -> u64 {
        let mut hasher = DefaultHasher::new();
        (terms.window_bytes, window).hash(&mut hasher);
        hasher.finish()
    }

    fn keep(&self, step: &Rc<Step>) {
        let mut steps = self.steps.borrow_mut();
        let most = if step.into.is_some() { STEPS_MAX } else { STEPS_IN_PLACE_MAX };
        if steps.len() >= most {
            steps.remove(0);
        }
        steps.push(Rc::clone(step));
    }
}

impl Drop for Context {
    /// One after another, not one inside the other: a subscriber may have been thousands of messages behind.
    fn drop(&mut self) {
        let mut steps = std::mem::take(self.steps.get_mut());
        while let Some(step) = steps.pop() {
            let next = Rc::into_inner(step).and_then(|step| step.into).and_then(Rc::into_inner);
            if let Some(mut next) = next {
                steps.append(next.steps.get_mut());
            }
        }
    }
}

/// The contexts of one target's subscribers on one worker, and the inflater that serves them all.
#[derive(Debug)]
pub struct Contexts {
    inflater: Decompress,
    known: HashMap<u64, Weak<Context>>,
    known_max: usize,
}

impl Default for Contexts {
    fn default() -> Self {
        Self { inflater: Decompress::new(false), known: HashMap::new(), known_max: KNOWN_MIN }
    }
}

impl Contexts {
    /// The context of who was sent nothing yet.
    pub fn first(&mut self, terms: Terms) -> Rc<Context> {
        self.context_of(terms, Vec::new())
    }

    /// Inflates a message that nobody in this context has had, and keeps the step. `is_expected` says the sequence of a
    /// message that is exactly what was published.
    ///
    /// # Errors
    /// The rule that the server broke.
    pub fn take_step(
        &mut self,
        context: &Rc<Context>,
        opcode: u8,
        data: &[u8],
        is_expected: impl FnOnce(&[u8]) -> Option<u64>,
    ) -> Result<Rc<Step>, &'static str> {
        let terms = context.terms;
        let window = context.bytes(terms.window_bytes);
        let message: Rc<[u8]> = inflate(&mut self.inflater, &window, data)?.into();
        let mut header = Vec::new();
        frame::push_server_header(&mut header, opcode, data.len());
        header[0] |= RSV1;
        let into = (terms.window_bytes > 0).then(|| {
            let mut window = context.window.clone();
            window.push(Rc::clone(&message));
            let mut spare = window.iter().map(|message| message.len()).sum::<usize>();
            spare = spare.saturating_sub(terms.window_bytes);
            let passed = window.iter().take_while(|message| {
                let is_passed = message.len() <= spare;
                spare -= if is_passed { message.len() } else { 0 };
                is_passed
            });
            let passed = passed.count();
            window.drain(..passed);
            self.context_of(terms, window)
        });
        let into = into.filter(|into| !Rc::ptr_eq(into, context));
        let expected = is_expected(&message);
        let header_bytes = header.len();
        let frame = [&header, data].concat();
        let step = Rc::new(Step { frame, header_bytes, opcode, message, expected, into });
        context.keep(&step);
        Ok(step)
    }

    fn context_of(&mut self, terms: Terms, window: Vec<Rc<[u8]>>) -> Rc<Context> {
        let number = Context::number_of(terms, &window);
        let known = self.known.get(&number).and_then(Weak::upgrade);
        if let Some(context) = known.filter(|context| context.terms == terms && context.window == window) {
            return context;
        }
        if self.known.len() >= self.known_max {
            self.known.retain(|_, context| context.strong_count() > 0);
            self.known_max = KNOWN_MIN.max(2 * self.known.len());
        }
        let context = Rc::new(Context { terms, window, steps: RefCell::default() });
        self.known.insert(number, Rc::downgrade(&context));
        context
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    const TERMS: Terms = Terms { window_bytes: 32 * 1024 };

    struct Server(Compress);

    impl Server {
        fn new() -> Self {
            Self(Compress::new(Compression::new(1), false))
        }

        fn send(&mut self, message: &[u8]) -> Vec<u8> {
            let mut out = Vec::with_capacity(message.len() + 1024);
            self.0.compress_vec(message, &mut out, FlushCompress::Sync).unwrap();
            out.truncate(out.len() - 4);
            out
        }
    }

    fn message(number: usize) -> Vec<u8> {
        format!("{{\"n\":{number},\"text\":\"{}\"}}", "tick ".repeat(200 + number % 7)).into_bytes()
    }

    /// Inflates, or follows who did.
    fn take(contexts: &mut Contexts, at: &mut Rc<Context>, data: &[u8]) -> (bool, Rc<[u8]>) {
        let known = at.step_of_data(frame::TEXT, data);
        let is_known = known.is_some();
        let step = match known {
            Some(step) => step,
            None => contexts.take_step(at, frame::TEXT, data, |_| None).expect("deflated"),
        };
        *at = step.leads_from(at);
        (is_known, Rc::clone(&step.message))
    }

    #[test]
    fn what_one_has_inflated_the_others_in_its_context_follow() {
        let (mut contexts, mut server) = (Contexts::default(), Server::new());
        let mut places = [contexts.first(TERMS), contexts.first(TERMS), contexts.first(TERMS)];
        for number in 0..100 {
            let data = server.send(&message(number));
            for (order, at) in places.iter_mut().enumerate() {
                let (is_known, text) = take(&mut contexts, at, &data);
                assert_eq!((is_known, &text[..]), (order > 0, &message(number)[..]), "{number}");
            }
        }
        // The window is what a message may refer to, and part of a message.
        let bytes: usize = places[0].window.iter().map(|message| message.len()).sum();
        assert!((TERMS.window_bytes..TERMS.window_bytes + 2000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_frame_is_followed_by_its_bytes_with_its_header() {
        let (mut contexts, mut server) = (Contexts::default(), Server::new());
        let first = contexts.first(TERMS);
        let data = server.send(&message(1));
        contexts.take_step(&first, frame::TEXT, &data, |_| Some(7)).unwrap();
        let mut frame = Vec::new();
        frame::push_server_header(&mut frame, frame::TEXT, data.len());
        frame[0] |= RSV1;
        frame.extend_from_slice(&data);
        let step = first.step_of_frame(&[&frame[..], b"more"].concat()).expect("the same");
        assert_eq!((step.frame_bytes(), step.expected), (frame.len(), Some(7)));
        for at in 0..frame.len() {
            let mut other = frame.clone();
            other[at] ^= 1;
            assert!(first.step_of_frame(&other).is_none(), "{at}");
            assert!(first.step_of_frame(&frame[..at]).is_none(), "{at}");
        }
        assert!(first.step_of_data(frame::BINARY, &data).is_none());
    }

    #[test]
    fn who_was_not_sent_the_beginning_does_not_profit_by_who_was() {
        let (mut contexts, mut server) = (Contexts::default(), Server::new());
        let (mut early, late) = (contexts.first(TERMS), contexts.first(TERMS));
        take(&mut contexts, &mut early, &server.send(&message(0)));
        let second = server.send(&message(1));
        take(&mut contexts, &mut early, &second);
        assert!(late.step_of_data(frame::TEXT, &second).is_none());
        assert!(contexts.take_step(&late, frame::TEXT, &second, |_| None).is_err());
    }

    #[test]
    fn who_joins_later_shares_a_context_once_the_window_is_the_same() {
        let (mut contexts, mut server) = (Contexts::default(), Server::new());
        let (mut early, mut late) = (contexts.first(TERMS), contexts.first(TERMS));
        take(&mut contexts, &mut early, &server.send(&message(0)));
        // As at the beginning of an epoch: it refers to nothing.
        server.0.reset();
        let mut shared = None;
        for number in 1..80 {
            let data = server.send(&message(number));
            take(&mut contexts, &mut early, &data);
            let (is_known, _) = take(&mut contexts, &mut late, &data);
            assert_eq!(is_known, shared.is_some(), "{number}");
            if Rc::ptr_eq(&early, &late) {
                shared.get_or_insert(number);
            }
        }
        assert!(shared.is_some_and(|number| (30..40).contains(&number)), "{shared:?}");
    }

    #[test]
    fn who_was_promised_something_else_is_in_another_context() {
        let mut contexts = Contexts::default();
        let [one, same] = [contexts.first(TERMS), contexts.first(TERMS)];
        let other = contexts.first(Terms { window_bytes: 512 });
        assert!(Rc::ptr_eq(&one, &same) && !Rc::ptr_eq(&one, &other));
    }

    #[test]
    fn without_takeover_nobody_moves_and_messages_are_followed_all_the_same() {
        let (mut contexts, mut server) = (Contexts::default(), Server::new());
        let terms = Terms { window_bytes: 0 };
        let (mut one, mut other) = (contexts.first(terms), contexts.first(terms));
        let sent: Vec<_> = (0..STEPS_IN_PLACE_MAX)
            .map(|number| {
                server.0.reset();
                server.send(&message(number))
            })
            .collect();
        for data in &sent {
            assert!(!take(&mut contexts, &mut one, data).0);
        }
        for (number, data) in sent.iter().enumerate() {
            let (is_known, text) = take(&mut contexts, &mut other, data);
            assert_eq!((is_known, &text[..]), (true, &message(number)[..]));
        }
        assert!(Rc::ptr_eq(&one, &other));
    }

    #[test]
    fn what_nobody_is_in_is_gone_however_long_the_way_was() {
        let (mut contexts, mut server) = (Contexts::default(), Server::new());
        let small = Terms { window_bytes: 256 };
        let (mut fast, slow) = (contexts.first(small), contexts.first(small));
        for number in 0..20_000_u32 {
            server.0.reset();
            let data = server.send(format!("message {number}").as_bytes());
            take(&mut contexts, &mut fast, &data);
        }
        let (last, first) = (Rc::downgrade(&fast), Rc::downgrade(&slow));
        drop(fast);
        assert!(last.strong_count() > 0, "the slow one is on the way to it");
        drop(slow);
        assert_eq!((first.strong_count(), last.strong_count()), (0, 0));
        contexts.known.retain(|_, context| context.strong_count() > 0);
        assert!(contexts.known.is_empty());
    }
}
