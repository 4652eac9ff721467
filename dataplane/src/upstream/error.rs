//! Why a request got no answer. No text here holds a credential, a query or a body.

use std::{error::Error, net::IpAddr, time::Duration};

use super::h1::Fault;

/// Why a request got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The name has no address.
    #[error("cannot resolve `{name}`: {reason}")]
    Resolve {
        /// The name.
        name: String,
        /// What the resolver says.
        reason: String,
    },
    /// The name leads to an address that the host may not be reached at.
    #[error("address {address} is not public: set `network.allowPrivateAddresses` on the Host to reach it")]
    Forbidden {
        /// The address.
        address: IpAddr,
    },
    /// No connection.
    #[error("cannot connect to {to}: {reason}")]
    Connect {
        /// Name or address, and port.
        to: String,
        /// What the system says.
        reason: String,
    },
    /// No TLS session.
    #[error("cannot establish TLS with {to}: {reason}")]
    Tls {
        /// Name or address, and port.
        to: String,
        /// What is wrong.
        reason: String,
    },
    /// Name resolution, connection and TLS together took too long.
    #[error("no connection within {} ms", .0.as_millis())]
    ConnectTimeout(Duration),
    /// All connections that may be opened to the host stayed in use.
    #[error("all {most} connections to the host are in use (`http.maxConnections`)")]
    Full {
        /// How many may be open.
        most: usize,
    },
    /// The connection broke before the headers of an answer.
    #[error("the connection was closed before an answer")]
    Reset {
        /// Whether it is certain that the host saw nothing of the request.
        unsent: bool,
    },
    /// What came back is not HTTP, or more than is taken.
    #[error("the answer is not valid HTTP: {0}")]
    Protocol(String),
    /// The request itself cannot be sent.
    #[error("the request cannot be sent: {0}")]
    Request(String),
}

impl SendError {
    /// What an error of an HTTP/2 connection means.
    pub(super) fn of(error: &hyper::Error, unsent: bool) -> Self {
        // Of errors on this side only a body's has a cause; the other one is a connection that ended meanwhile.
        if error.is_user() && error.source().is_some() {
            return SendError::Request(error.to_string());
        }
        if error.is_parse() {
            return SendError::Protocol(error.to_string());
        }
        SendError::Reset { unsent: unsent || error.is_canceled() }
    }
}

impl From<Fault> for SendError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unsent => SendError::Reset { unsent: true },
            Fault::Broken(_) => SendError::Reset { unsent: false },
            Fault::Malformed(malformed) => SendError::Protocol(malformed.to_string()),
            Fault::Upload(_) => SendError::Request(fault.to_string()),
        }
    }
}
