//! What a server has sent and whom it has refused, counted since it was made.

use std::sync::atomic::{AtomicU64, Ordering};

use prost::Message;
use tonic::{Code, Status};

use crate::wire::{FromServer, RebalanceReason, ServerMessage};

/// Why somebody was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The TLS handshake failed or took too long: also whoever only looks whether the port is open.
    Handshake,
    /// The token is missing, unknown or expired.
    Unauthenticated,
    /// The token's owner may not have this, or is not who Hello says.
    Forbidden,
    /// It cannot read rows of the form that is written here.
    Incompatible,
    /// It cannot be said now.
    Unavailable,
    /// No Hello came, or it came too late.
    Malformed,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Handshake,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Incompatible,
        Self::Unavailable,
        Self::Malformed,
    ];

    /// In one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Incompatible => "incompatible",
            Self::Unavailable => "unavailable",
            Self::Malformed => "malformed",
        }
    }

    fn of(status: &Status) -> Self {
        match status.code() {
            Code::Unauthenticated => Self::Unauthenticated,
            Code::PermissionDenied => Self::Forbidden,
            Code::FailedPrecondition => Self::Incompatible,
            Code::Unavailable => Self::Unavailable,
            _ => Self::Malformed,
        }
    }
}

/// How often something was sent, and how many bytes that were.
#[derive(Debug, Default)]
pub struct Sent {
    times: AtomicU64,
    bytes: AtomicU64,
}

impl Sent {
    /// How often.
    pub fn times(&self) -> u64 {
        self.times.load(Ordering::Relaxed)
    }

    /// How many bytes of messages, before encryption.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, times: u64, message: &ServerMessage) {
        self.times.fetch_add(times, Ordering::Relaxed);
        self.bytes.fetch_add(message.encoded_len() as u64, Ordering::Relaxed);
    }
}

/// Counters of a server.
#[derive(Debug, Default)]
pub struct Counts {
    snapshots: Sent,
    deltas: Sent,
    refused: [AtomicU64; Refusal::ALL.len()],
    rebalances: [AtomicU64; 3],
}

impl Counts {
    /// Snapshots, whole or of what differs.
    pub fn snapshots(&self) -> &Sent {
        &self.snapshots
    }

    /// Deltas.
    pub fn deltas(&self) -> &Sent {
        &self.deltas
    }

    /// How many were refused for that reason.
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refused[why as usize].load(Ordering::Relaxed)
    }

    /// How many data planes were asked to come anew for that reason.
    pub fn rebalances(&self, why: RebalanceReason) -> u64 {
        self.rebalances[why as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn refuse(&self, why: Refusal) {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refuse_for(&self, status: &Status) {
        self.refuse(Refusal::of(status));
    }

    pub(crate) fn send(&self, message: &ServerMessage) {
        match &message.kind {
            Some(FromServer::Delta(_)) => self.deltas.add(1, message),
            Some(FromServer::Begin(_)) => self.snapshots.add(1, message),
            Some(FromServer::Chunk(_) | FromServer::End(_)) => self.snapshots.add(0, message),
            Some(FromServer::Rebalance(said)) => {
                self.rebalances[said.reason() as usize].fetch_add(1, Ordering::Relaxed);
            }
            Some(FromServer::Welcome(_) | FromServer::Ping(_)) | None => {}
        }
    }
}
