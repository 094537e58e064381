//! The bytes of a journal: segments that are only appended to at one end and dropped at the other.
//!
//! Small frames are packed into segments of [`SEGMENT_BYTES`], so that many messages are one contiguous slice; a
//! frame of [`WHOLE_BYTES_MIN`] and more keeps the buffer it crossed the bus in. Places are counted in bytes since
//! the strip began and never reused.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::model::memory::allocated;

/// A packed segment is full at this size.
const SEGMENT_BYTES: usize = 64 * 1024;
/// Frames from this size on are not copied: one more slice in a write costs less than the copy.
pub(super) const WHOLE_BYTES_MIN: usize = 8 * 1024;
/// First allocation of a packed segment; it doubles from there.
const SEGMENT_BYTES_MIN: usize = 1024;

#[derive(Debug)]
enum Content {
    Packed(Vec<u8>),
    Whole(Bytes),
}

#[derive(Debug)]
struct Segment {
    base: u64,
    content: Content,
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Packed(bytes) => bytes,
            Content::Whole(bytes) => bytes,
        }
    }

    fn end(&self) -> u64 {
        self.base + self.bytes().len() as u64
    }

    fn memory_bytes(&self) -> usize {
        match &self.content {
            Content::Packed(bytes) => bytes.capacity(),
            Content::Whole(bytes) => allocated(bytes.len()),
        }
    }
}

/// Bytes from `start` to `end`. An empty strip owns no memory.
#[derive(Debug, Default)]
pub(super) struct Strip {
    segments: VecDeque<Segment>,
    end: u64,
    /// Bytes of memory that the segments hold.
    held: usize,
}

impl Strip {
    /// The place after the last byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Adds `frame` at the end. Copies it unless it is large.
    pub(super) fn append(&mut self, frame: &Bytes) {
        if frame.len() < WHOLE_BYTES_MIN {
            return self.append_packed(frame);
        }
        let base = self.end;
        self.end += frame.len() as u64;
        self.held += allocated(frame.len());
        self.segments.push_back(Segment { base, content: Content::Whole(frame.clone()) });
    }

    /// Adds a copy of `frame` at the end.
    pub(super) fn append_copy(&mut self, frame: &[u8]) {
        if frame.len() < WHOLE_BYTES_MIN {
            self.append_packed(frame);
        } else {
            self.append(&Bytes::copy_from_slice(frame));
        }
    }

    fn append_packed(&mut self, frame: &[u8]) {
        let base = self.end;
        self.end += frame.len() as u64;
        if let Some(Segment { content: Content::Packed(bytes), .. }) = self.segments.back_mut()
            && bytes.len() + frame.len() <= SEGMENT_BYTES
        {
            let before = bytes.capacity();
            bytes.extend_from_slice(frame);
            self.held += bytes.capacity() - before;
            return;
        }
        let mut bytes = Vec::with_capacity(frame.len().max(SEGMENT_BYTES_MIN));
        bytes.extend_from_slice(frame);
        self.held += bytes.capacity();
        self.segments.push_back(Segment { base, content: Content::Packed(bytes) });
    }

    /// Lets go of segments that lie wholly before `place`.
    pub(super) fn trim(&mut self, place: u64) {
        while self.segments.front().is_some_and(|segment| segment.end() <= place) {
            self.held -= self.segments.pop_front().map_or(0, |segment| segment.memory_bytes());
        }
    }

    /// The contiguous bytes from `place` on, up to the end of the segment it lies in; empty at the end.
    pub(super) fn slice(&self, place: u64) -> &[u8] {
        let index = match self.segments.back() {
            Some(last) if last.base <= place => self.segments.len() - 1,
            _ => self.segments.partition_point(|segment| segment.end() <= place),
        };
        let Some(segment) = self.segments.get(index) else { return &[] };
        let from = usize::try_from(place.saturating_sub(segment.base)).unwrap_or(usize::MAX);
        segment.bytes().get(from..).unwrap_or(&[])
    }

    /// `length` bytes from `place`, which lie in one segment because a frame does: by reference if it is a large
    /// frame's, else copied, so that holding on to it pins no more than the frame.
    pub(super) fn share(&self, place: u64, length: usize) -> Bytes {
        let index = self.segments.partition_point(|segment| segment.end() <= place);
        let Some(segment) = self.segments.get(index) else { return Bytes::new() };
        let from = usize::try_from(place.saturating_sub(segment.base)).unwrap_or(usize::MAX);
        match &segment.content {
            Content::Whole(bytes) if from + length <= bytes.len() => bytes.slice(from..from + length),
            Content::Whole(_) => Bytes::new(),
            Content::Packed(bytes) => Bytes::copy_from_slice(bytes.get(from..from + length).unwrap_or(&[])),
        }
    }

    /// Bytes of memory held: by capacity, and of a large frame what an allocator keeps for its length. Constant time.
    pub(super) fn memory_bytes(&self) -> usize {
        debug_assert_eq!(self.held, self.segments.iter().map(Segment::memory_bytes).sum::<usize>());
        self.held + self.segments.capacity() * size_of::<Segment>()
    }

    /// Gives back everything when nothing is left; keeps the count of places.
    pub(super) fn release(&mut self) {
        self.segments = VecDeque::new();
        self.held = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_frames_are_contiguous_and_large_ones_are_not_copied() {
        let mut strip = Strip::default();
        strip.append(&Bytes::from_static(b"one"));
        strip.append(&Bytes::from_static(b"two"));
        let large = Bytes::from(vec![9; WHOLE_BYTES_MIN]);
        strip.append(&large);
        strip.append(&Bytes::from_static(b"three"));
        assert_eq!(strip.slice(0), b"onetwo");
        assert_eq!(strip.slice(6).as_ptr(), large.as_ptr());
        assert_eq!(strip.slice(6 + WHOLE_BYTES_MIN as u64), b"three");
        assert_eq!(strip.slice(strip.end()), b"");
        assert_eq!(strip.share(7, 2).as_ptr(), large[1..].as_ptr());
        assert_eq!(&strip.share(1, 2)[..], b"ne");
    }

    #[test]
    fn trimming_drops_whole_segments_only() {
        let mut strip = Strip::default();
        let frame = Bytes::from(vec![1; 1000]);
        for _ in 0..100 {
            strip.append(&frame);
        }
        assert_eq!(strip.slice(0).len(), 65_000);
        strip.trim(64_999);
        assert_eq!(strip.slice(64_000).len(), 1000);
        strip.trim(65_000);
        assert_eq!(strip.slice(65_000).len(), 35_000);
        assert!(strip.memory_bytes() < 70_000);
    }
}
