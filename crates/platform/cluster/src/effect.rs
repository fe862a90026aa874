//! What the core wants done, and what it tells of.

use std::{fmt, net::SocketAddr, sync::Arc};

use bifrust_model::NodeId;
use bytes::Bytes;

use crate::{ClusterId, Departure, Host, Refusal, Snapshot, Waiting};

/// What the shell must do next, in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a packet; it may be lost.
    SendUdp {
        /// Where to.
        to: SocketAddr,
        /// All of it.
        packet: Bytes,
    },
    /// Send a message over the link to a host, opening one if there is none; it may be lost.
    SendLink {
        /// Whom to.
        to: Host,
        /// At most [`crate::LINK_MESSAGE_BYTES_MAX`] bytes.
        message: Bytes,
    },
    /// Write the cluster's id into the data folder, durably, then call
    /// [`crate::Core::handle_persisted`]. Nothing else is done in that cluster before.
    Persist {
        /// The cluster that this node belongs to from now on.
        cluster: ClusterId,
        /// The first nodes, if this node has just formed the cluster; else empty.
        founders: Vec<NodeId>,
    },
    /// Show readers this view of hosts, agents and rows of topology.
    Topology(Arc<Snapshot>),
    /// Show readers this view of rows of load.
    Load(Arc<Snapshot>),
    /// Tell the operator.
    Event(Event),
    /// This incarnation has ended: it said that it leaves, or it was evicted. The core does nothing
    /// any more.
    Stopped(Departure),
}

/// Something that an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node is in a cluster now.
    InCluster {
        /// Which.
        cluster: ClusterId,
    },
    /// This node has no cluster yet; told every ten seconds.
    Waiting(Waiting),
    /// A host came into sight.
    HostUp(Host),
    /// A host went out of sight.
    HostDown {
        /// Which.
        host: Host,
        /// How it departed; `None` if it failed.
        how: Option<Departure>,
    },
    /// A host changed its addresses, or was started anew before it was missed.
    HostRenewed {
        /// What was known.
        from: Host,
        /// What counts now.
        to: Host,
    },
    /// This host was declared down by mistake and came back.
    Rejoined,
    /// This node refused another one.
    Refused {
        /// Where the other one's packet came from.
        address: SocketAddr,
        /// Why.
        reason: Refusal,
        /// The packet's version, where that is why.
        version: Option<u16>,
    },
    /// Another node refused this one.
    RefusedBy {
        /// Where this node had asked.
        address: SocketAddr,
        /// Why.
        reason: Refusal,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InCluster { cluster } => write!(f, "this node is in cluster {cluster}"),
            Self::Waiting(waiting) => write!(f, "no cluster yet: {waiting}"),
            Self::HostUp(host) => write!(f, "node {} at {} is up", host.node.id, host.udp),
            Self::HostDown { host, how } => {
                let how = match how {
                    None => "is down",
                    Some(Departure::Left) => "has left",
                    Some(Departure::Evicted) => "was evicted",
                };
                write!(f, "node {} at {} {how}", host.node.id, host.udp)
            }
            Self::HostRenewed { from, to } if from.node == to.node => {
                write!(f, "node {} is at {} now", to.node.id, to.udp)
            }
            Self::HostRenewed { to, .. } => {
                write!(f, "node {} at {} was started anew", to.node.id, to.udp)
            }
            Self::Rejoined => f.write_str("this node was declared down by mistake and is back"),
            Self::Refused {
                address,
                reason,
                version,
            } => match (reason, version) {
                (Refusal::ForeignCluster(own), _) => write!(
                    f,
                    "refused a node at {address}: it belongs to another cluster than this one, {own}"
                ),
                (Refusal::Version { min, max }, Some(version)) => write!(
                    f,
                    "refused a node at {address}: it speaks version {version}, this node {min} to \
                     {max}"
                ),
                (reason, _) => write!(f, "refused a node at {address}: {reason}"),
            },
            Self::RefusedBy { address, reason } => {
                write!(f, "the node at {address} refuses this one: {reason}")
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignCluster(theirs) => write!(f, "it belongs to another cluster, {theirs}"),
            Self::Version { min, max } => write!(f, "it reads versions {min} to {max} only"),
            Self::Departed => f.write_str("this start of the node has left or was evicted"),
            Self::OldIncarnation => f.write_str("a later start of the same node is known"),
        }
    }
}

/// What was received and sent, and what was not taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Packets that arrived.
    pub packets_in: u64,
    /// Packets that were handed out to be sent.
    pub packets_out: u64,
    /// Bytes of these.
    pub packet_bytes_out: u64,
    /// Packets that the socket did not take.
    pub packets_unsent: u64,
    /// Messages handed out for links.
    pub messages_out: u64,
    /// Bytes of these.
    pub message_bytes_out: u64,
    /// Packets that were not made with the cluster key.
    pub unauthentic: u64,
    /// Packets of a version that this program does not read.
    pub other_version: u64,
    /// Authentic packets that could not be read.
    pub malformed: u64,
    /// Packets for another node, or for another start of this one.
    pub misdirected: u64,
    /// Packets of nodes of another cluster.
    pub foreign: u64,
    /// Packets that had been taken before.
    pub replayed: u64,
    /// Packets of a start that has departed, or that is older than the one known.
    pub ended: u64,
    /// Packets of nodes that have not proven who they are.
    pub unproven: u64,
    /// Answers to questions that this node did not ask.
    pub unasked: u64,
    /// Payloads dropped since too many waited for a peer's proof.
    pub waiting_dropped: u64,
    /// Messages over links that could not be read.
    pub messages_malformed: u64,
    /// Rows from others that broke a bound.
    pub rows_refused: u64,
}
