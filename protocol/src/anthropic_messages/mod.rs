//! Anthropic Messages: requests, answers, streams and errors, decoded into and encoded from the canonical model.
//!
//! What this shape says in its own words stays in this folder. What a model or host takes comes in as data.

mod answer_decode;
mod answer_encode;
mod brief;
mod citations;
mod count;
mod error;
mod fields;
mod names;
mod request_decode;
mod request_encode;
mod stop;
mod stream_decode;
mod stream_encode;
mod usage;

#[cfg(test)]
mod properties;

pub use answer_decode::decode_answer;
pub use answer_encode::encode_answer;
pub(crate) use brief::brief;
pub use count::{decode_count, encode_count};
pub use error::{decode_error, encode_error, encode_error_event, error_status, keep_alive};
pub use names::RAW_ARGUMENTS;
pub use request_decode::decode_request;
pub use request_encode::encode_request;
pub use stream_decode::StreamDecoder;
pub use stream_encode::StreamEncoder;
