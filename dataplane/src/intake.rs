//! Reads a request's body whole: bounded in size and time, and decompressed. Says nothing about what it means.

use std::{
    io::{self, Read},
    pin::pin,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::lookout::{Late, Lookout};

/// The largest window of a zstd body that is taken: 8 MiB, which RFC 8878 asks of every decoder.
const WINDOW_LOG_MOST: u32 = 23;

/// Most bytes that are reserved for a body because it is said to be so large.
const RESERVED_MOST: u64 = 1 << 20;

/// Why a body could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// It is larger than allowed.
    #[error(
        "the request body is larger than {limit} bytes (setting `--body-limit`, or `intake.bodyLimit` of the DataPlane)"
    )]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// It did not come in time.
    #[error("the request body did not arrive within {} s (setting `--body-read-timeout`, or `intake.bodyReadTimeout` of the DataPlane)", .0.as_secs())]
    TimedOut(Duration),
    /// The connection broke.
    #[error("the request body was cut off")]
    Broken,
    /// It is compressed in a way that Relay does not know.
    #[error("content-encoding `{0}` is not supported: send `gzip`, `zstd` or `identity`")]
    UnknownEncoding(String),
    /// It is not what its encoding says.
    #[error("the request body is not valid {0}")]
    Corrupt(&'static str),
}

/// Reads `body` whole. `limit` holds before and after decompression, `timeout` over the whole reading.
pub async fn read<B>(
    body: B,
    encoding: Option<&str>,
    limit: usize,
    timeout: Duration,
    lookout: &Lookout,
) -> Result<Bytes, IntakeError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let collecting = pin!(collect(body, limit));
    let collected = lookout.within(Instant::now() + timeout, collecting).await;
    let raw = collected.map_err(|Late| IntakeError::TimedOut(timeout))??;
    match encoding.map(str::trim) {
        None | Some("" | "identity") => Ok(raw),
        // Some milliseconds for each MiB: too long for a thread that others' answers run on.
        Some("gzip" | "x-gzip") => aside(move || inflate(MultiGzDecoder::new(&raw[..]), limit, "gzip")).await,
        Some("zstd") => aside(move || inflate(unzstd(&raw)?, limit, "zstd")).await,
        Some(other) => Err(IntakeError::UnknownEncoding(other.to_owned())),
    }
}

/// Runs what takes long on a thread that may block.
async fn aside(long: impl FnOnce() -> Result<Bytes, IntakeError> + Send + 'static) -> Result<Bytes, IntakeError> {
    // It is given up only where the runtime ends, and with it the request.
    tokio::task::spawn_blocking(long).await.unwrap_or(Err(IntakeError::Broken))
}

fn unzstd(raw: &[u8]) -> Result<impl Read, IntakeError> {
    let corrupt = |_| IntakeError::Corrupt("zstd");
    let mut decoder = zstd::stream::read::Decoder::new(raw).map_err(corrupt)?;
    // A few bytes can ask for a window of 128 MiB, whatever they hold.
    decoder.window_log_max(WINDOW_LOG_MOST).map_err(corrupt)?;
    Ok(decoder)
}

async fn collect<B>(mut body: B, limit: usize) -> Result<Bytes, IntakeError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        return Err(IntakeError::TooLarge { limit });
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| IntakeError::Broken)?.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Err(IntakeError::TooLarge { limit });
        }
        if whole.is_empty() && data.len() as u64 == announced {
            return Ok(data);
        }
        if whole.is_empty() {
            whole.reserve(announced.min(RESERVED_MOST) as usize);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

fn inflate(decoder: impl Read, limit: usize, name: &'static str) -> Result<Bytes, IntakeError> {
    let mut plain = Vec::new();
    // One byte more than allowed tells a full body from one that is too large.
    let read: io::Result<usize> = decoder.take(limit as u64 + 1).read_to_end(&mut plain);
    read.map_err(|_| IntakeError::Corrupt(name))?;
    if plain.len() > limit { Err(IntakeError::TooLarge { limit }) } else { Ok(plain.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use http_body_util::Full;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn gzip(text: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap().into()
    }

    #[tokio::test]
    async fn reads_plain_gzip_and_zstd_bodies_alike() {
        let plain = Bytes::from_static(b"{\"model\":\"m\"}");
        let zstd = Bytes::from(zstd::encode_all(&plain[..], 1).unwrap());
        for (body, encoding) in [(plain.clone(), None), (gzip(&plain), Some("gzip")), (zstd, Some("zstd"))] {
            assert_eq!(read(Full::new(body), encoding, 100, TIMEOUT, &Lookout::nobody()).await, Ok(plain.clone()));
        }
    }

    #[tokio::test]
    async fn a_bomb_is_refused_by_its_size_after_decompression() {
        let bomb = gzip(&vec![b' '; 1 << 20]);
        assert_eq!(
            read(Full::new(bomb), Some("gzip"), 64 << 10, TIMEOUT, &Lookout::nobody()).await,
            Err(IntakeError::TooLarge { limit: 64 << 10 })
        );
    }

    #[tokio::test]
    async fn a_zstd_body_that_asks_for_a_huge_window_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(b"{}").unwrap();
        let body = Full::new(Bytes::from(encoder.finish().unwrap()));
        assert_eq!(read(body, Some("zstd"), 100, TIMEOUT, &Lookout::nobody()).await, Err(IntakeError::Corrupt("zstd")));
    }

    #[tokio::test]
    async fn what_is_not_as_its_encoding_says_is_refused() {
        let body = || Full::new(Bytes::from_static(b"{}"));
        assert_eq!(
            read(body(), Some("gzip"), 100, TIMEOUT, &Lookout::nobody()).await,
            Err(IntakeError::Corrupt("gzip"))
        );
        assert_eq!(
            read(body(), Some("br"), 100, TIMEOUT, &Lookout::nobody()).await,
            Err(IntakeError::UnknownEncoding("br".into()))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_times_out() {
        let (_sender, receiver) = futures::channel::mpsc::unbounded::<Result<http_body::Frame<Bytes>, io::Error>>();
        let body = http_body_util::StreamBody::new(receiver);
        assert_eq!(read(body, None, 100, TIMEOUT, &Lookout::nobody()).await, Err(IntakeError::TimedOut(TIMEOUT)));
    }
}
