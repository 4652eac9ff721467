//! What is ready to be sent: pieces in order, none of which is empty, in memory that is used again and again.

use bytes::Bytes;

/// Pieces that are ready to be sent.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// Empty ones among them are passed over.
    pieces: Vec<Bytes>,
    /// How many of them were sent.
    sent: usize,
}

impl Pieces {
    pub(super) fn of(pieces: Vec<Bytes>) -> Self {
        Self { pieces, sent: 0 }
    }

    /// Where what comes behind those that are ready is appended.
    pub(super) fn behind(&mut self) -> &mut Vec<Bytes> {
        &mut self.pieces
    }

    /// The next to be sent.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        while let Some(piece) = self.pieces.get_mut(self.sent) {
            let piece = std::mem::take(piece);
            self.sent += 1;
            if !piece.is_empty() {
                return Some(piece);
            }
        }
        self.clear();
        None
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces[self.sent..].iter().all(Bytes::is_empty)
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_out_in_order_and_empty_ones_never() {
        let mut ready = Pieces::of(vec!["a".into(), Bytes::new(), "b".into()]);
        assert_eq!(ready.next().as_deref(), Some(&b"a"[..]));
        ready.behind().extend([Bytes::new(), "c".into(), Bytes::new()]);
        assert!(!ready.is_empty());
        assert_eq!(ready.next().as_deref(), Some(&b"b"[..]));
        assert_eq!(ready.next().as_deref(), Some(&b"c"[..]));
        assert!(ready.is_empty());
        assert_eq!(ready.next(), None);
        ready.behind().push("d".into());
        assert_eq!(ready.next().as_deref(), Some(&b"d"[..]));
        ready.behind().push("e".into());
        ready.clear();
        assert_eq!(ready.next(), None);
    }
}
