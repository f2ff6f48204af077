//! Bytes from the broker, taken off a socket in large reads and handed out frame by frame
//! without copying.

use std::io::{self, Read};

use leveret_protocol::{DecodeError, Frame, frame};

/// A read buffer. `start..end` is what was read and not yet handed out.
#[derive(Debug)]
pub struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    frame_max: u32,
}

impl Input {
    /// An empty buffer for frames of at most `frame_max` octets.
    pub fn new(frame_max: u32) -> Self {
        Self {
            bytes: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            frame_max,
        }
    }

    /// Takes over the frame size that was negotiated.
    pub fn set_frame_max(&mut self, frame_max: u32) {
        self.frame_max = frame_max;
    }

    /// Reads once; 0 is the end of the stream.
    ///
    /// # Errors
    /// What the socket says, timeouts included.
    pub fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.bytes.len() - self.end < READ_BYTES / 2 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            // A frame that is larger than the buffer makes it grow, up to `frame_max`.
            if self.bytes.len() - self.end < READ_BYTES / 2 {
                self.bytes.resize(self.bytes.len() + READ_BYTES, 0);
            }
        }
        let free = self.bytes.get_mut(self.end..).unwrap_or_default();
        let count = source.read(free)?;
        self.end += count;
        Ok(count)
    }

    /// The next whole frame, if it is there.
    ///
    /// # Errors
    /// If what is there is no frame.
    #[inline]
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, DecodeError> {
        let unread = self.bytes.get(self.start..self.end).unwrap_or_default();
        let Some((frame, size)) = frame::decode(unread, self.frame_max)? else {
            return Ok(None);
        };
        self.start += size;
        Ok(Some(frame))
    }

    /// Hands out what `scan` finds at the start of the unread octets, given the frame size;
    /// it returns how many octets that was.
    #[inline]
    pub fn take_with<T>(
        &mut self,
        scan: impl FnOnce(&[u8], u32) -> Option<(T, usize)>,
    ) -> Option<T> {
        let (found, size) = scan(self.unread(), self.frame_max)?;
        self.start = (self.start + size).min(self.end);
        Some(found)
    }

    /// What was read and not yet handed out.
    #[inline]
    pub fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }
}

/// Octets asked for at once, at least half of it.
const READ_BYTES: usize = 256 * 1_024;

#[cfg(test)]
mod tests {
    use leveret_protocol::FrameKind;

    use super::*;

    /// Gives at most so many octets at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(out.len());
            let (now, later) = self.0.split_at(count);
            out[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    #[test]
    fn frames_come_whole_however_they_were_cut() {
        let mut wire = Vec::new();
        let sizes: Vec<usize> = (0..300)
            .map(|n| n * n % 5_000)
            .chain([600_000, 3])
            .collect();
        for (index, &size) in sizes.iter().enumerate() {
            frame::encode(
                &mut wire,
                FrameKind::Body,
                index as u16,
                &vec![index as u8; size],
            );
        }
        for step in [997, 65_536, usize::MAX] {
            let mut source = Drip(&wire, step);
            let mut input = Input::new(1_000_000);
            let mut frames = 0;
            while input.fill(&mut source).expect("a slice never fails") > 0 {
                while let Some(frame) = input.next_frame().expect("frames are whole") {
                    assert_eq!(usize::from(frame.channel), frames);
                    assert_eq!(frame.payload.len(), sizes[frames]);
                    assert!(frame.payload.iter().all(|&octet| octet == frames as u8));
                    frames += 1;
                }
            }
            assert_eq!((frames, input.unread().len()), (sizes.len(), 0));
        }
    }
}
