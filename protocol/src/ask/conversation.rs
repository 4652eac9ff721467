//! Tells conversations apart by how they begin: their instructions and their first user message.

use std::hash::{DefaultHasher, Hasher};

/// Who speaks, as far as that tells how a conversation begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    /// `system` or `developer`.
    Operator,
    User,
    Other,
}

impl Speaker {
    pub(super) fn of(role: &str) -> Self {
        match role {
            "system" | "developer" => Self::Operator,
            "user" => Self::User,
            _ => Self::Other,
        }
    }
}

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
    pub(super) fn message(&mut self, role: Speaker, content: u64) {
        match role {
            Speaker::Operator | Speaker::User if !self.user_spoke => {
                self.opening.write_u64(content);
                self.user_spoke = role == Speaker::User;
            }
            Speaker::Operator | Speaker::User | Speaker::Other => {}
        }
    }

    /// The hash of the beginning.
    pub(super) fn hash(&self) -> u64 {
        let mut all = self.opening.clone();
        all.write_u64(self.instructions);
        all.finish()
    }
}
