//! Why a call to Redis failed, by what has to be done about it, and which words of the server mean which.

/// A call that has no answer to give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No answer in time. The call may yet be executed, but before every later one of its connection.
    #[error("redis did not answer in time")]
    Timeout,
    /// There is no connection, or it broke. A call that was under way may have been executed.
    #[error("no connection to redis: {0}")]
    Lost(String),
    /// The server takes no writes: it is a replica, maybe since a moment ago.
    #[error("redis is a replica and takes no writes")]
    ReadOnly,
    /// The server cannot yet: it loads its data, is busy with a script, or moves the keys.
    #[error("redis is busy: {0}")]
    Busy(String),
    /// The server answered with an error that waiting does not mend: of the script, of permissions, of memory.
    #[error("redis refused: {0}")]
    Refused(String),
}
