//! A socket that takes everything at once and counts; what it reads is laid down for it.
//!
//! Like a descriptor it is a number of four bytes; what lies behind it is in a table of its thread. A write touches
//! nothing but two counts, so that what is measured around it is the gateway. Own frames are kept, to be answered.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::SocketAddr;

use tidegate::net::Transport;

/// Longest write that is kept: a ping and its header.
const KEPT_BYTES_MAX: usize = 16;

thread_local! {
    static WRITES: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
    static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// What lies behind one sink.
struct Line {
    inbound: Vec<u8>,
    taken: usize,
    kept: [u8; KEPT_BYTES_MAX],
    kept_length: usize,
}

/// The gateway's end of a connection whose client takes everything.
#[derive(Debug)]
pub struct Sink {
    number: u32,
}

impl Sink {
    /// A connection on which `request` has arrived.
    pub fn new(request: &[u8]) -> Self {
        LINES.with_borrow_mut(|lines| {
            lines.push(Line {
                inbound: request.to_vec(),
                taken: 0,
                kept: [0; KEPT_BYTES_MAX],
                kept_length: 0,
            });
            Self { number: lines.len() as u32 - 1 }
        })
    }

    /// Its number, for [`answer_ping`]; numbers count up within a thread.
    pub fn number(&self) -> u32 {
        self.number
    }
}

/// Writes and bytes that the sinks of this thread took so far.
pub fn written() -> (u64, u64) {
    (WRITES.get(), BYTES.get())
}

/// Lays down the pong for the ping that sink `number` was sent, masked with zeros. False if there was none since the
/// last call. Allocates nothing.
pub fn answer_ping(number: u32) -> bool {
    LINES.with_borrow_mut(|lines| {
        let line = &mut lines[number as usize];
        let length = std::mem::take(&mut line.kept_length);
        let Some(payload) = line.kept[..length].strip_prefix(&[0x89]).and_then(|rest| rest.get(1..)) else {
            return false;
        };
        line.inbound.clear();
        line.taken = 0;
        line.inbound.extend_from_slice(&[0x8a, 0x80 | payload.len() as u8, 0, 0, 0, 0]);
        line.inbound.extend_from_slice(payload);
        true
    })
}

impl Transport for Sink {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| {
            let line = &mut lines[self.number as usize];
            let rest = &line.inbound[line.taken..];
            if rest.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            line.taken += count;
            Ok(count)
        })
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        WRITES.set(WRITES.get() + 1);
        BYTES.set(BYTES.get() + length as u64);
        if let [one] = slices
            && length <= KEPT_BYTES_MAX
        {
            LINES.with_borrow_mut(|lines| {
                let line = &mut lines[self.number as usize];
                line.kept[..length].copy_from_slice(one);
                line.kept_length = length;
            });
        }
        Ok(length)
    }

    fn shutdown_write(&mut self) {}

    fn reset_on_close(&mut self) {}

    fn peer(&self) -> Option<SocketAddr> {
        None
    }
}
