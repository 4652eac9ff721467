//! Tells conversations apart by how they begin: their instructions and their first user message.

use std::hash::{DefaultHasher, Hasher};

/// Hashes the beginning of a conversation while it is read.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    /// Of the request's own instructions, which may stand before or after the messages.
    instructions: u64,
    opening: DefaultHasher,
    user_spoke: bool,
}

impl Beginning {
    /// Whether the hash of the next message is still needed.
    pub(super) fn is_open(&self) -> bool {
        !self.user_spoke
    }

    /// Forgets the messages: they stand a second time.
    pub(super) fn restart_messages(&mut self) {
        *self = Self { instructions: self.instructions, ..Self::default() };
    }

    /// Takes the hash of the request's own instructions.
    pub(super) fn instruct(&mut self, hash: u64) {
        self.instructions = hash;
    }

    /// Takes a message by its role and the hash of its content.
    pub(super) fn message(&mut self, role: &str, content: u64) {
        if !self.user_spoke && matches!(role, "system" | "developer" | "user") {
            self.opening.write_u64(content);
            self.user_spoke = role == "user";
        }
    }

    /// The hash of the beginning.
    pub(super) fn hash(&self) -> u64 {
        let mut all = self.opening.clone();
        all.write_u64(self.instructions);
        all.finish()
    }
}
