//! What the counting tests share.

pub(crate) mod baseline;
pub(crate) mod relay;
pub(crate) mod tools;
