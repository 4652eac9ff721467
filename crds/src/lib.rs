//! The Relay resources as Rust types, and their generated CRDs.
