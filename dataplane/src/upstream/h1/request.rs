//! The head of a request as it is written.

use bytes::BytesMut;
use http::{
    HeaderValue, Method, Request,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
    uri::PathAndQuery,
};
use http_body::Body;

use crate::upstream::upload::Upload;

/// Writes the head of a request for `host`, in origin form, and says whether its body goes in chunks. How long the body is,
/// the body itself says, whatever the headers do.
pub(super) fn write(buffer: &mut BytesMut, request: &Request<Upload>, host: &HeaderValue) -> bool {
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    put(buffer, &[request.method().as_str().as_bytes(), b" "]);
    if !path.starts_with(['/', '*']) {
        put(buffer, &[b"/"]);
    }
    put(buffer, &[path.as_bytes(), b" HTTP/1.1\r\nhost: ", host.as_bytes(), b"\r\n"]);
    for (name, value) in request.headers() {
        if name != HOST && name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
            put(buffer, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    let length = request.body().size_hint().exact();
    match length {
        Some(0) if !expects_body(request.method()) => {}
        Some(length) => {
            put(buffer, &[b"content-length: ", itoa::Buffer::new().format(length).as_bytes(), b"\r\n"]);
        }
        None => put(buffer, &[b"transfer-encoding: chunked\r\n"]),
    }
    put(buffer, &[b"\r\n"]);
    length.is_none()
}

/// Whether a request of this method that has no body says so.
fn expects_body(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

fn put(buffer: &mut BytesMut, parts: &[&[u8]]) {
    for part in parts {
        buffer.extend_from_slice(part);
    }
}
