//! Lines of headers as a map whose values are parts of the bytes that were read.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Most headers of an answer, and most trailers.
pub(super) const FIELDS_MOST: usize = 100;

/// The headers that were found in `bytes`.
pub(super) fn fields(bytes: &Bytes, parsed: &[httparse::Header<'_>]) -> Result<HeaderMap, httparse::Error> {
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| httparse::Error::HeaderName)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        headers.append(name, value.map_err(|_| httparse::Error::HeaderValue)?);
    }
    Ok(headers)
}
