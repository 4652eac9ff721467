//! The codec of OpenAI Chat Completions and of the many hosts that speak it: requests, answers, streams and errors, read
//! into canonical form and written from it.
//!
//! Hosts differ in data ([`crate::Dialect`], [`crate::Traits`]), never in branches on their names. Decoders take every
//! dialect at once; encoders write what the target's data say.

mod answer_decode;
mod answer_encode;
mod brief;
mod choice_decode;
mod choice_encode;
mod chunk;
mod error;
mod fields;
mod outbound;
mod reasoning;
mod request_decode;
mod request_encode;
mod stop;
mod stream_decode;
mod stream_encode;
mod usage;

pub use answer_decode::decode_answer;
pub use answer_encode::encode_answer;
pub(crate) use brief::brief;
pub use error::{decode_error, encode_error, encode_error_event, error_status, keep_alive};
pub use request_decode::decode_request;
pub use request_encode::encode_request;
pub use stream_decode::StreamDecoder;
pub use stream_encode::StreamEncoder;
