//! How connections end: every end has a reason, is counted once, logged, and gives its slot back in *reap*.

use super::connection::{Awaits, Closing, LINGER, Mark, Phase};
use super::reactor::Reactor;
use super::tell::append_frame;
use super::turn::Shard;
use crate::model::encoding::{append_close_event, append_last_chunk};
use crate::model::{Blame, Cause, CloseReason, Dialect, End, RejectReason, Traffic};
use crate::net::Transport;
use crate::session::{Inbound, append_close_frame, replies};

/// The last bytes a connection gets, and what is waited for after them.
pub(super) enum Farewell {
    /// An HTTP answer; then the peer's end is awaited, so that it can read the answer.
    Answer(Vec<u8>),
    /// What is queued already, to a peer that has ended its side.
    Rest,
    /// The reply to the peer's close frame; then it is over.
    CloseReply(Vec<u8>),
    /// Our close frame; then the peer's is awaited, by the codec that is in the middle of something, if one is.
    CloseFrame(Vec<u8>, Option<Box<Inbound>>),
    /// Our close frame to a peer that broke the protocol; nothing it sends is looked at any more.
    LastWord(Vec<u8>),
}

/// The milliseconds that `in=MS` says.
fn delay_in(detail: Option<&str>) -> Option<u64> {
    detail?.strip_prefix("in=")?.parse().ok()
}

impl<R: Reactor> Shard<R> {
    /// Begins the close handshake from our side with `reason`, `detail` after its token.
    pub(super) fn close(&mut self, slot: u32, reason: CloseReason, detail: Option<&str>) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        match &mut connection.phase {
            Phase::Open(open) => {
                let mut inbound = open.take().map(|open| Box::new(open.inbound));
                let dialect = connection.dialect();
                if dialect.is_event_stream() {
                    return self.end_stream(slot, reason, detail);
                }
                if let Some(inbound) = &mut inbound {
                    inbound.on_close_sent();
                }
                let mut frame = Vec::new();
                if dialect == Dialect::V1
                    && let Some(in_ms) = delay_in(detail)
                {
                    append_frame(&mut frame, |out| replies::append_draining(in_ms, out));
                }
                append_close_frame(reason, detail, &mut frame);
                self.bid_farewell(slot, reason, Blame::Us, Farewell::CloseFrame(frame, inbound));
            }
            Phase::Http(_) | Phase::Joining(_) => self.end(slot, reason, Blame::Us),
            Phase::Closing(_) | Phase::Ended { .. } => {}
        }
    }

    /// Tells a peer that broke the protocol so, and listens to it no longer.
    pub(super) fn fail(&mut self, slot: u32, reason: CloseReason) {
        if self.slots.get(slot).is_some_and(|connection| connection.dialect().is_event_stream()) {
            return self.end_stream(slot, reason, None);
        }
        let mut frame = Vec::new();
        append_close_frame(reason, None, &mut frame);
        self.bid_farewell(slot, reason, Blame::Us, Farewell::LastWord(frame));
    }

    /// Ends an event stream: says why and when to come back, then ends the body.
    fn end_stream(&mut self, slot: u32, reason: CloseReason, detail: Option<&str>) {
        let retry_ms = delay_in(detail).unwrap_or_else(|| self.draw_retry_ms());
        let text = match detail {
            Some(detail) => format!("{};{detail}", reason.token()),
            None => reason.token().to_owned(),
        };
        let mut events = Vec::new();
        append_close_event(&text, retry_ms, &mut events);
        append_last_chunk(&mut events);
        self.bid_farewell(slot, reason, Blame::Us, Farewell::LastWord(events));
    }

    /// Leaves all channels, queues the last bytes, and waits for what `farewell` says.
    pub(super) fn bid_farewell(&mut self, slot: u32, reason: CloseReason, by: Blame, farewell: Farewell) {
        self.leave_all(slot);
        let now = self.now;
        let Some(connection) = self.slots.get_mut(slot) else { return };
        if matches!(connection.phase, Phase::Closing(_) | Phase::Ended { .. }) {
            return;
        }
        match &connection.phase {
            Phase::Open(_) => self.counters.open.sub(1),
            Phase::Http(_) => self.counters.pending.sub(1),
            _ => {}
        }
        let (bytes, awaits) = match farewell {
            Farewell::Answer(bytes) | Farewell::LastWord(bytes) => (bytes, Awaits::EndOfInput),
            Farewell::Rest => (Vec::new(), Awaits::Flush),
            Farewell::CloseReply(bytes) => (bytes, Awaits::Flush),
            Farewell::CloseFrame(bytes, inbound) => (bytes, Awaits::PeerClose(inbound)),
        };
        connection.owed.push_last(&bytes);
        let peer = connection.socket.peer();
        connection.phase = Phase::Closing(Box::new(Closing::new(reason, by, awaits, now, peer)));
        self.list_write(slot);
        // What came while it was joining or paused was left in the socket, and is not reported again.
        self.list_read(slot);
        self.arm(slot);
    }

    /// Everything a closing connection was owed is out: the next step of its farewell.
    pub(super) fn after_last_flush(&mut self, slot: u32) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let Phase::Closing(closing) = &mut connection.phase else { return };
        match closing.awaits {
            Awaits::PeerClose(_) => {}
            Awaits::EndOfInput => {
                if !std::mem::replace(&mut closing.is_shut_down, true) {
                    closing.deadline = self.now.after(LINGER);
                    connection.socket.shutdown_write();
                    let is_over_limit = connection.marks.has(Mark::OverLimit);
                    self.arm(slot);
                    if is_over_limit {
                        self.resume_accepting();
                    }
                }
            }
            Awaits::Flush => {
                let (reason, by) = (closing.reason, closing.by);
                self.end(slot, reason, by);
            }
        }
    }

    /// Nothing more comes from the peer of a closing connection: it is over once our last bytes are out.
    pub(super) fn finish_closing(&mut self, slot: u32) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let Phase::Closing(closing) = &mut connection.phase else { return };
        if connection.owed.has_own() {
            closing.awaits = Awaits::Flush;
            return;
        }
        let (reason, by) = (closing.reason, closing.by);
        self.end(slot, reason, by);
    }

    /// The connection is over: off its channels now, its slot free at the end of the turn.
    pub(super) fn end(&mut self, slot: u32, reason: CloseReason, by: Blame) {
        self.leave_all(slot);
        // Of a socket that was reset the kernel has forgotten who it was: it is not asked.
        let is_reset = reason == CloseReason::Reset;
        let is_closing =
            self.slots.get(slot).is_some_and(|connection| matches!(connection.phase, Phase::Closing(_)));
        let peer = if is_reset && !is_closing { self.told_client(slot) } else { self.client(slot) };
        let Some(connection) = self.slots.get_mut(slot) else { return };
        match &connection.phase {
            Phase::Ended { .. } => return,
            Phase::Open(_) => self.counters.open.sub(1),
            Phase::Http(_) => self.counters.pending.sub(1),
            _ => {}
        }
        if connection.owed.is_blocked() {
            self.counters.lagging.sub(1);
            connection.owed.unblock();
        }
        connection.phase = Phase::Ended { reason, by };
        self.ended.push((slot, peer));
    }

    /// Counts and notes a refused request, once its answer is queued: what waits counts as sent. Whether the client
    /// took it shows in the record of the connection's end.
    pub(super) fn note_refusal(&mut self, slot: u32, reason: RejectReason) {
        self.counters.count_reject(reason);
        let Some(connection) = self.slots.get(slot) else { return };
        let Traffic { bytes_in, bytes_out, since } = connection.traffic;
        let bytes_out = bytes_out + connection.owed.own_bytes() as u64;
        self.ends.note(End {
            cause: Cause::Reject(reason),
            at: self.now,
            shard: self.id,
            connection: Some(self.slots.id(slot)),
            peer: self.client(slot),
            traffic: Traffic { bytes_in, bytes_out, since },
        });
    }

    /// Notes a client that was refused before it became a connection; `socket` took `bytes_out` of the answer.
    pub(super) fn note_turned_away(&mut self, reason: RejectReason, socket: &R::Socket, bytes_out: usize) {
        self.ends.note(End {
            cause: Cause::Reject(reason),
            at: self.now,
            shard: self.id,
            connection: None,
            peer: socket.peer(),
            traffic: Traffic { bytes_out: bytes_out as u64, ..Traffic::new(self.now) },
        });
    }

    /// A refusal caused by time, not by bytes: the head took too long.
    pub(super) fn refuse_late_head(&mut self, slot: u32) {
        self.refuse(slot, RejectReason::HeadTimeout, None);
    }
}
