//! Inflates messages (permessage-deflate, RFC 7692 §7.2.2), within their bounds and with the work counted.

use flate2::{Decompress, FlushDecompress, Status};

use crate::config::limits::INFLATE_WORK_PER_BYTE;
use crate::model::CloseReason;

/// What a compressed message leaves out at its end (RFC 7692 §7.2.2).
pub(super) const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// A last block with nothing in it: it can be read only where blocks begin.
const LAST_BLOCK: [u8; 5] = [1, 0, 0, 0xff, 0xff];
/// Bytes inflated between two looks at the bounds.
pub(super) const STEP_BYTES: usize = 4096;

/// log2 of the window: the largest, so that a client may choose its own.
const WINDOW_BITS: u8 = 15;

/// What an inflater holds once it was used: its window and its tables.
pub(super) const INFLATER_BYTES: usize = 48 * 1024;

/// Inflates one message at a time. 48 KiB from the first one on.
#[derive(Default)]
pub struct Inflater {
    context: Option<Box<Decompress>>,
    /// The message has not begun, or its last block so far was marked as final.
    is_between_streams: bool,
    /// What was done since [`Inflater::take_work`].
    work: usize,
}

impl Inflater {
    /// What was done since the last call, as bytes of a turn's [`READ_BYTES_PER_TURN`](crate::config::limits::READ_BYTES_PER_TURN):
    /// those inflated, and [`INFLATE_WORK_PER_BYTE`] for each that they were made of.
    pub fn take_work(&mut self) -> usize {
        std::mem::take(&mut self.work)
    }

    /// Counts what another inflater did.
    pub(super) fn add_work(&mut self, work: usize) {
        self.work += work;
    }

    /// Another message.
    pub(super) fn begin(&mut self) {
        if let Some(context) = &mut self.context {
            context.reset(false);
        }
        self.is_between_streams = true;
    }

    /// Inflates the next bytes of a message to the end of `out`, which may become `length_max` long: checked every 4 KiB.
    /// Linear in both; a byte that came costs at most 0.2 µs (docs/decisions/0010).
    ///
    /// # Errors
    /// `MessageTooBig` beyond `length_max`, `Inflate` for bytes that are not deflated data. What `out` got is meaningless
    /// then.
    pub(super) fn feed(
        &mut self,
        mut input: &[u8],
        length_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), CloseReason> {
        let context = self
            .context
            .get_or_insert_with(|| Box::new(Decompress::new_with_window_bits(false, WINDOW_BITS)));
        self.work += input.len() * INFLATE_WORK_PER_BYTE;
        let mut step = [0; STEP_BYTES];
        loop {
            let (taken, given) = (context.total_in(), context.total_out());
            let status = context.decompress(input, &mut step, FlushDecompress::Sync);
            let taken = (context.total_in() - taken) as usize;
            let given = (context.total_out() - given) as usize;
            input = input.get(taken..).unwrap_or_default();
            out.extend_from_slice(step.get(..given).unwrap_or_default());
            self.work += given;
            if out.len() > length_max {
                return Err(CloseReason::MessageTooBig);
            }
            match status {
                // A block may say that it is the last (RFC 7692 §7.2.3.4); another stream begins behind it.
                Ok(Status::StreamEnd) => {
                    context.reset(false);
                    self.is_between_streams = true;
                }
                Ok(Status::Ok | Status::BufError) if taken == 0 && given == 0 => {
                    if !input.is_empty() {
                        return Err(CloseReason::Inflate);
                    }
                }
                Ok(Status::Ok | Status::BufError) => self.is_between_streams = false,
                Err(_) => return Err(CloseReason::Inflate),
            }
            if input.is_empty() && given < STEP_BYTES {
                return Ok(());
            }
        }
    }

    /// Inflates what the message left out at its end.
    ///
    /// # Errors
    /// As [`Inflater::feed`], and `Inflate` for a message that ends within a block: some of it is missing.
    pub(super) fn finish(&mut self, length_max: usize, out: &mut Vec<u8>) -> Result<(), CloseReason> {
        if self.is_between_streams {
            return Ok(());
        }
        self.feed(&TAIL, length_max, out)?;
        self.feed(&LAST_BLOCK, length_max, out)?;
        if self.is_between_streams { Ok(()) } else { Err(CloseReason::Inflate) }
    }
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").field("has_context", &self.context.is_some()).finish()
    }
}
