//! The scripts that Redis runs: their texts, and the hashes by which they are called.

use sha1_smol::Sha1;

/// A script.
#[derive(Clone, Debug)]
pub struct Script {
    /// For metrics and logs.
    pub name: &'static str,
    /// What Redis runs.
    pub text: String,
    /// The SHA-1 of the text, as `EVALSHA` takes it.
    pub sha: String,
}

impl Script {
    /// A script of this text.
    pub fn new(name: &'static str, text: String) -> Self {
        let sha = Sha1::from(&text).digest().to_string();
        Self { name, text, sha }
    }
}
