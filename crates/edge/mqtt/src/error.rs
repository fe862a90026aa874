//! Why the server does not start.

use std::io;
use std::net::SocketAddr;

/// Why listeners or shards could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else listens there.
    #[error("address {0} is in use")]
    AddressInUse(SocketAddr),
    /// The system refuses to listen there.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A listener of TLS has no certificate.
    #[error("the listener on {0} speaks TLS and has no certificate")]
    NoCertificate(SocketAddr),
    /// No thread or event loop could be made.
    #[error("cannot start a connection shard: {0}")]
    Thread(#[from] io::Error),
}
