//! A client's side of permessage-deflate (RFC 7692 §7.2.2), by miniz_oxide: nothing of the gateway's compressor.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// What every message leaves out at its end.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// One connection's context, which remembers the last 32 KiB of what it inflated.
pub struct Inflater(Box<InflateState>);

impl Inflater {
    pub fn new() -> Self {
        Self(InflateState::new_boxed(DataFormat::Raw))
    }

    /// The payload of a message whose frame has RSV1 set.
    ///
    /// # Errors
    /// What is wrong with the bytes, in words.
    pub fn inflate(&mut self, deflated: &[u8]) -> Result<Vec<u8>, String> {
        let input = [deflated, &TAIL].concat();
        let (mut input, mut out, mut window) = (&input[..], Vec::new(), [0; 4096]);
        loop {
            let result = inflate(&mut self.0, input, &mut window, MZFlush::None);
            input = &input[result.bytes_consumed..];
            out.extend_from_slice(&window[..result.bytes_written]);
            let is_drained = input.is_empty() && result.bytes_written < window.len();
            match result.status {
                Ok(MZStatus::Ok) | Err(MZError::Buf) if is_drained => return Ok(out),
                Ok(MZStatus::Ok) => {}
                other => return Err(format!("{other:?} with {} bytes left", input.len())),
            }
        }
    }
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inflater")
    }
}
