//! What LLM requests and answers say: one canonical model, and one codec per wire shape.
//!
//! A codec decodes a shape's bytes into canonical values and encodes canonical values into the shape's bytes; there is
//! no translator between two shapes. What a target cannot carry is a [`Loss`] or a [`Refusal`], never silence.

pub mod answer;
pub mod anthropic_messages;
pub mod ask;
pub mod codec;
pub mod error;
pub mod event;
pub mod fold;
pub mod openai_chat;
pub mod pipe;
pub mod request;
pub mod splice;
pub mod sse;
pub mod surface;
pub mod translate;
pub mod usage;

mod dialect;
mod json;
mod loss;
mod shape;
mod skim;
mod traits;
mod watch;

pub use dialect::{Dialect, ErrorEnvelope, MaxTokensField, ReasoningField, StreamUsage, SystemRole, ToolCallIds};
pub use loss::{Loss, LossKind, Refusal, Strictness, Target};
pub use shape::WireShape;
pub use traits::{ReasoningStyle, Traits};
