//! What a node's links have to tell an operator.

use std::net::SocketAddr;

use bifrust_cluster::{NodeRef, ServiceName};

use crate::hello::Refusal;

/// Something that happened to the links of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link is up.
    Connected {
        /// Who is at the other end.
        node: NodeRef,
        /// Where.
        address: SocketAddr,
        /// Whether this node made the connection.
        is_dialled: bool,
    },
    /// A link is down.
    Ended {
        /// Who was at the other end.
        node: NodeRef,
        /// Where.
        address: SocketAddr,
        /// Why; `None` if one side closed it in good order.
        why: Option<String>,
    },
    /// A connection did not become a link. Told at most once in a while for one address and reason.
    Refused {
        /// The other end.
        address: SocketAddr,
        /// By which side, and why.
        refusal: Refusal,
    },
    /// A traffic rule names no server in sight; others take the calls. Told when that begins.
    EmptyGroup {
        /// The service.
        service: ServiceName,
        /// The rule's tenants.
        prefix: String,
    },
}

/// Who is told of events; called on the threads of links, and does not wait.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn observe(&self, event: &Event);
}

/// Writes events to the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Logged;

impl Observer for Logged {
    fn observe(&self, event: &Event) {
        match event {
            Event::Connected { node, address, .. } => {
                tracing::debug!(node = %node.id, %address, "link is up");
            }
            Event::Ended { node, address, why } => {
                let why = why.as_deref().unwrap_or("closed");
                tracing::info!(node = %node.id, %address, why, "link is down");
            }
            Event::Refused { address, refusal } => {
                tracing::warn!(%address, %refusal, "no link");
            }
            Event::EmptyGroup { service, prefix } => {
                tracing::warn!(%service, prefix, "a traffic rule names no server in sight");
            }
        }
    }
}
