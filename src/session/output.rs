//! What is to be written to a connection.
//!
//! Small frames are copied into one buffer; a large body stays shared and is
//! written from where it lies, between two parts of the buffer.

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
        let mut put = |piece: &'a [u8]| {
            if piece.is_empty() {
                return true;
            }
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
        if self.is_empty() {
            self.buffer.clear();
            self.written = 0;
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(output: &mut Output, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !output.is_empty() {
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
}
