//! Chunks of bytes that wait to be passed on, by reference.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bytes in the order of their arrival, without copies.
#[derive(Debug, Default)]
pub(super) struct Rope(VecDeque<Bytes>);

impl Rope {
    /// Appends a chunk.
    pub(super) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.0.push_back(chunk);
        }
    }

    /// Moves the first `length` bytes to `out`.
    pub(super) fn take(&mut self, length: usize, out: &mut Vec<Bytes>) {
        self.cut(length, |piece| out.push(piece));
    }

    /// Moves all bytes to `out`.
    pub(super) fn take_all(&mut self, out: &mut Vec<Bytes>) {
        out.extend(self.0.drain(..));
    }

    /// Forgets the first `length` bytes.
    pub(super) fn skip(&mut self, length: usize) {
        self.cut(length, drop);
    }

    fn cut(&mut self, mut length: usize, mut each: impl FnMut(Bytes)) {
        while length > 0 {
            let Some(mut first) = self.0.pop_front() else { return };
            if first.len() > length {
                let piece = first.split_to(length);
                self.0.push_front(first);
                return each(piece);
            }
            length -= first.len();
            each(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_its_bytes_in_order_and_keeps_chunks_whole() {
        let mut rope = Rope::default();
        let mut out = Vec::new();
        rope.push(Bytes::from_static(b"abc"));
        rope.push(Bytes::from_static(b""));
        rope.push(Bytes::from_static(b"defg"));
        rope.take(1, &mut out);
        rope.skip(3);
        rope.take(2, &mut out);
        rope.push(Bytes::from_static(b"h"));
        rope.take_all(&mut out);
        assert_eq!(out, ["a", "ef", "g", "h"].map(Bytes::from));
    }
}
