//! What is to be written to a connection.
//!
//! Small frames are copied into one buffer; a large body stays shared and is
//! written from where it lies, between two parts of the buffer.
//!
//! What follows a certain point can be held back: an answer that promises
//! something durable is not written before it is, nor what comes after it.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;
use leveret_protocol::frame;
use leveret_protocol::method::EncodeMethod;

/// Octets waiting to be written, in order.
#[derive(Debug, Default)]
pub struct Output {
    buffer: Vec<u8>,
    /// How much of `buffer` is written.
    written: usize,
    /// Shared pieces and where in `buffer` each one goes in.
    shared: VecDeque<(usize, Bytes)>,
    shared_bytes: usize,
    /// How many octets may be written; `None` is all there are.
    held_behind: Option<usize>,
}

impl Output {
    /// Octets not yet written.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len() - self.written + self.shared_bytes
    }

    /// Whether all is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending_bytes() == 0
    }

    /// Octets not yet written that are not held back.
    #[must_use]
    pub fn writable_bytes(&self) -> usize {
        self.held_behind.unwrap_or_else(|| self.pending_bytes())
    }

    /// Holds back all but the first `bytes` pending octets, and whatever is
    /// still to be appended. Of several holds the first one's place counts.
    pub fn hold_behind(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.pending_bytes(), "there is no such place");
        self.held_behind.get_or_insert(bytes);
    }

    /// Lets go of what is held back.
    pub fn release(&mut self) {
        self.held_behind = None;
    }

    /// Forgets what is held back: it is never written.
    pub fn discard_held(&mut self) {
        let Some(mut kept) = self.held_behind.take() else {
            return;
        };
        let mut from = self.written;
        let mut end = None;
        for (index, (position, piece)) in self.shared.iter().enumerate() {
            let plain = position - from;
            if kept <= plain {
                end = Some((index, from + kept));
                break;
            }
            debug_assert!(kept >= plain + piece.len(), "held within a frame");
            kept = kept.saturating_sub(plain + piece.len());
            from = *position;
        }
        let (pieces, buffered) = end.unwrap_or((self.shared.len(), from + kept));
        self.shared.truncate(pieces);
        self.shared_bytes = self.shared.iter().map(|(_, piece)| piece.len()).sum();
        self.buffer.truncate(buffered);
        self.forget_written();
    }

    /// The buffer that small frames are appended to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Appends octets.
    pub fn extend(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// Appends a piece that is not copied.
    pub fn share(&mut self, piece: Bytes) {
        self.shared_bytes += piece.len();
        self.shared.push_back((self.buffer.len(), piece));
    }

    /// Appends a method frame.
    pub fn method(&mut self, channel: u16, method: &impl EncodeMethod) {
        frame::encode_method(&mut self.buffer, channel, method);
    }

    /// The first pieces to write, as many as `slices` has room for.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut from = self.written;
        let mut used = 0;
        let mut left = self.writable_bytes();
        let mut put = |piece: &'a [u8]| {
            let piece = piece.get(..left).unwrap_or(piece);
            if piece.is_empty() {
                return true;
            }
            left -= piece.len();
            let Some(slice) = slices.get_mut(used) else {
                return false;
            };
            *slice = IoSlice::new(piece);
            used += 1;
            true
        };
        for (position, piece) in &self.shared {
            if !put(&self.buffer[from..*position]) || !put(piece) {
                return used;
            }
            from = *position;
        }
        put(&self.buffer[from..]);
        used
    }

    /// Takes `count` octets off the front, which were written.
    pub fn advance(&mut self, mut count: usize) {
        if let Some(writable) = &mut self.held_behind {
            debug_assert!(count <= *writable, "what is held back was written");
            *writable = writable.saturating_sub(count);
        }
        while count > 0 {
            let until = self
                .shared
                .front()
                .map_or(self.buffer.len(), |(position, _)| *position);
            let plain = (until - self.written).min(count);
            self.written += plain;
            count -= plain;
            if count == 0 {
                break;
            }
            let Some((_, piece)) = self.shared.front_mut() else {
                debug_assert_eq!(count, 0, "more was written than there was");
                break;
            };
            let taken = piece.len().min(count);
            self.shared_bytes -= taken;
            count -= taken;
            if taken == piece.len() {
                self.shared.pop_front();
            } else {
                bytes::Buf::advance(piece, taken);
            }
        }
        self.forget_written();
    }

    /// Lends memory to an output that has none.
    pub fn lend(&mut self, memory: impl FnOnce() -> Vec<u8>) {
        if self.buffer.capacity() == 0 {
            self.buffer = memory();
        }
    }

    /// Gives the buffer's memory up if all is written: an idle connection
    /// keeps none.
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        (self.is_empty() && self.buffer.capacity() > 0).then(|| std::mem::take(&mut self.buffer))
    }

    fn forget_written(&mut self) {
        if self.is_empty() {
            self.buffer.clear();
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(output: &mut Output, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while output.writable_bytes() > 0 {
            let mut slices = [IoSlice::new(&[]); 2];
            let used = output.slices(&mut slices);
            let flat: Vec<u8> = slices[..used]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect();
            let count = step.min(flat.len());
            all.extend_from_slice(&flat[..count]);
            output.advance(count);
        }
        all
    }

    #[test]
    fn shared_pieces_are_written_where_they_were_appended() {
        for step in 1..12 {
            let mut output = Output::default();
            output.share(Bytes::from_static(b"ab"));
            output.extend(b"cd");
            output.share(Bytes::from_static(b"ef"));
            output.share(Bytes::from_static(b"g"));
            output.extend(b"hi");
            assert_eq!(output.pending_bytes(), 9);
            assert_eq!(
                written(&mut output, step),
                b"abcdefghi",
                "in steps of {step}"
            );
            output.extend(b"next");
            assert_eq!(written(&mut output, step), b"next");
        }
    }
    /// Two pieces of each kind, then three octets in a place of their own.
    fn mixed() -> Output {
        let mut output = Output::default();
        output.extend(b"ab");
        output.share(Bytes::from_static(b"cd"));
        output.extend(b"ef");
        output.share(Bytes::from_static(b"gh"));
        output
    }

    #[test]
    fn what_is_held_back_is_not_written_until_it_is_released() {
        for step in 1..12 {
            let mut output = mixed();
            output.hold_behind(output.pending_bytes());
            output.share(Bytes::from_static(b"XY"));
            output.hold_behind(output.pending_bytes());
            output.extend(b"Z");
            assert_eq!(output.writable_bytes(), 8, "the first hold's place counts");
            assert_eq!(written(&mut output, step), b"abcdefgh");
            assert_eq!(output.pending_bytes(), 3);
            output.extend(b"W");
            assert_eq!(written(&mut output, step), b"");
            output.release();
            assert_eq!(written(&mut output, step), b"XYZW");
            assert!(output.is_empty());
        }
    }

    #[test]
    fn what_is_held_back_can_be_discarded() {
        for written_before in 0..=8 {
            for then in [&b""[..], b"XY"] {
                let mut output = mixed();
                output.hold_behind(8);
                output.extend(then);
                output.share(Bytes::copy_from_slice(then));
                output.advance(written_before);
                output.discard_held();
                assert_eq!(output.pending_bytes(), 8 - written_before);
                output.extend(b"end");
                assert_eq!(written(&mut output, 3), b"abcdefghend"[written_before..]);
            }
        }
        let mut output = Output::default();
        output.extend(b"held");
        output.hold_behind(0);
        output.discard_held();
        assert!(output.is_empty());
        output.extend(b"ab");
        output.hold_behind(1);
        output.discard_held();
        assert_eq!(written(&mut output, 3), b"a");
    }
}
