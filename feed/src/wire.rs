//! The messages, generated from `proto/relay/config/v1/config.proto`. Those that hold rows show no bytes in `Debug`:
//! rows may be credentials.

use std::fmt;

use table::Digest;

#[expect(unreachable_pub, clippy::allow_attributes, reason = "generated")]
mod generated {
    include!("generated/relay.config.v1.rs");
}

pub use generated::{
    Ack, AheadOf, Breaker, BreakerState, ClientMessage, Codec, Delta, Fault, FleetNews, GatherEnd, Held, Hello, Nack,
    Op, Ops, Part, Ping, PodNews, Pong, Rebalance, RebalanceReason, RefusedRevision, Rejection, Report, Resume,
    RowItem, SealedBody, SealedHeader, SealedQuarantine, SealedTable, ServerMessage, SnapshotBegin, SnapshotChunk,
    SnapshotEnd, Welcome, client_message::Kind as FromClient, config_client::ConfigClient, config_server,
    server_message::Kind as FromServer,
};

/// At most so many rejections stand in one [`Nack`].
pub const MAX_REJECTIONS: usize = 64;

/// At most so many bytes has a text for people in a [`Nack`].
pub const MAX_MESSAGE: usize = 512;

impl From<FromServer> for ServerMessage {
    fn from(kind: FromServer) -> Self {
        Self { kind: Some(kind) }
    }
}

impl From<FromClient> for ClientMessage {
    fn from(kind: FromClient) -> Self {
        Self { kind: Some(kind) }
    }
}

/// A digest as it travels.
pub(crate) fn bytes_of(digest: &Digest) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(digest.as_bytes())
}

/// A digest as it arrived; none where it has not 16 bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> Option<Digest> {
    bytes.try_into().ok().map(Digest::from_bytes)
}

/// A text for people, cut to what a [`Nack`] may hold.
pub(crate) fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

impl fmt::Debug for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl fmt::Debug for FromServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FromServer::Welcome(message) => message.fmt(f),
            FromServer::Begin(message) => message.fmt(f),
            FromServer::Chunk(message) => message.fmt(f),
            FromServer::End(message) => message.fmt(f),
            FromServer::Delta(message) => message.fmt(f),
            FromServer::Rebalance(message) => message.fmt(f),
            FromServer::Ping(message) => message.fmt(f),
        }
    }
}

impl fmt::Debug for SnapshotChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotChunk")
            .field("revision", &self.revision)
            .field("part", &self.part)
            .field("sequence", &self.sequence)
            .field("bytes", &self.data.len())
            .finish()
    }
}

impl fmt::Debug for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delta")
            .field("revision", &self.revision)
            .field("source_vector", &self.source_vector)
            .field("urgent", &self.urgent)
            .field("bytes", &self.ops.len())
            .finish()
    }
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.ops).finish()
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.row.as_ref().map(|row| row.len());
        f.debug_struct("Op").field("table", &self.table).field("key", &self.key).field("bytes", &bytes).finish()
    }
}

impl fmt::Debug for RowItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowItem").field("key", &self.key).field("bytes", &self.row.len()).finish()
    }
}

impl fmt::Debug for SealedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedBody").field("tables", &self.tables).field("quarantine", &self.quarantine).finish()
    }
}

impl fmt::Debug for SealedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedTable").field("table", &self.table).field("rows", &self.rows.len()).finish()
    }
}

impl fmt::Debug for SealedQuarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedQuarantine").field("rejection", &self.rejection).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_shows_the_bytes_of_a_row() {
        let canary = bytes::Bytes::from_static(b"sk-canary");
        let row = RowItem { key: "a/b".into(), row: canary.clone() };
        let op = Op { table: 7, key: "a/b".into(), row: Some(canary.clone()) };
        let shown = [
            format!("{row:?}"),
            format!("{:?}", Ops { ops: vec![op] }),
            format!("{:?}", ServerMessage::from(FromServer::Delta(Delta { ops: canary.clone(), ..Delta::default() }))),
            format!("{:?}", SnapshotChunk { data: canary.clone(), ..SnapshotChunk::default() }),
            format!(
                "{:?}",
                SealedBody {
                    tables: vec![SealedTable { table: 7, rows: vec![row] }],
                    quarantine: vec![SealedQuarantine { rejection: None, good: Some(canary) }],
                }
            ),
        ];
        let bytes = format!("{:?}", b"sk-canary");
        for text in shown {
            assert!(!text.contains("canary") && !text.contains(&bytes[1..bytes.len() - 1]), "{text}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "é".repeat(400);
        assert_eq!(cut(&text).len(), MAX_MESSAGE);
        assert_eq!(cut(&text[..500]), text[..500]);
    }
}
