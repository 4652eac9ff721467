//! The codec of OpenAI Chat Completions and of the many hosts that speak it: requests, answers, streams and errors, read
//! into canonical form and written from it.
//!
//! Hosts differ in data ([`crate::Dialect`], [`crate::Traits`]), never in branches on their names. Decoders take every
//! dialect at once; encoders write what the target's data say.

mod fields;
mod reasoning;
mod request_decode;
mod request_encode;

pub use request_decode::decode_request;
pub use request_encode::encode_request;
