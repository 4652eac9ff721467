//! Tokens of one answer, each counted once: normalised when they are read from a shape, and only there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Tokens of one answer, each counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Input that was neither read from nor written to a cache.
    pub input: u64,
    /// Input read from a cache.
    pub cache_read: u64,
    /// Input written to a cache for five minutes, or for the provider's default time.
    pub cache_write_5m: u64,
    /// Input written to a cache for an hour or longer.
    pub cache_write_1h: u64,
    /// All output, reasoning included.
    pub output: u64,
    /// Reasoning within the output.
    pub reasoning: u64,
    /// Sound within the input.
    pub audio_input: u64,
    /// Sound within the output.
    pub audio_output: u64,
    /// Requests of tools that the provider ran, by its name for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub server_tools: BTreeMap<String, u64>,
    /// Whether the upstream did not say and this was estimated from bytes.
    #[serde(default)]
    pub estimated: bool,
}

impl Usage {
    /// All input: fresh, read from and written to caches.
    pub fn input_total(&self) -> u64 {
        self.input + self.cache_read + self.cache_write()
    }

    /// Input written to caches.
    pub fn cache_write(&self) -> u64 {
        self.cache_write_5m + self.cache_write_1h
    }

    /// All input and all output.
    pub fn total(&self) -> u64 {
        self.input_total() + self.output
    }
}
