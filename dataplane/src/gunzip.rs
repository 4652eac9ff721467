//! Decompresses an answer piece by piece, so that it can be watched while it passes.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

/// Most plain bytes of one piece: what expands to more is an attack, or no answer that anybody waits for.
const MOST: usize = 32 << 20;

/// An incremental gzip decoder.
pub struct Gunzip(MultiGzDecoder<Plain>);

/// The plain bytes of one piece.
#[derive(Default)]
struct Plain(Vec<u8>);

impl Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Default for Gunzip {
    fn default() -> Self {
        Self(MultiGzDecoder::new(Plain::default()))
    }
}

impl Gunzip {
    /// The plain bytes that `chunk` completes. Errs when the data are not gzip, or expand to more
    /// than 32 MiB at once.
    pub fn push(&mut self, chunk: &[u8]) -> io::Result<Bytes> {
        self.0.write_all(chunk)?;
        // Without a flush, bytes that a provider flushed would stay in the decoder until the next ones come.
        self.0.flush()?;
        Ok(std::mem::take(&mut self.0.get_mut().0).into())
    }

    /// The plain bytes that were left. Errs when the data end too early.
    pub fn end(&mut self) -> io::Result<Bytes> {
        self.0.try_finish()?;
        Ok(std::mem::take(&mut self.0.get_mut().0).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flushed_piece_is_given_at_once() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut gunzip = Gunzip::default();
        for piece in ["data: 1\n\n", "data: 2\n\n"] {
            encoder.write_all(piece.as_bytes()).unwrap();
            encoder.flush().unwrap();
            let compressed = std::mem::take(encoder.get_mut());
            assert_eq!(gunzip.push(&compressed).unwrap(), piece);
        }
        let rest = encoder.finish().unwrap();
        assert_eq!(gunzip.push(&rest).unwrap(), "");
        assert_eq!(gunzip.end().unwrap(), "");
    }

    #[test]
    fn a_piece_that_expands_without_end_errs() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let zeros = vec![0; 1 << 20];
        for _ in 0..40 {
            encoder.write_all(&zeros).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 1 << 20);
        assert!(Gunzip::default().push(&bomb).is_err());
    }

    #[test]
    fn an_answer_that_is_cut_errs_at_its_end() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"hello").unwrap();
        let whole = encoder.finish().unwrap();
        let mut gunzip = Gunzip::default();
        let cut = gunzip.push(&whole[..whole.len() - 4]).is_err() || gunzip.end().is_err();
        assert!(cut);
    }
}
