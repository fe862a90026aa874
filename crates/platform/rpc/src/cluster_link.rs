//! Messages of the cluster itself over links: what UDP does not carry.

use bifrust_cluster::{Host, LinkSender, NodeRef};
use bytes::Bytes;

use crate::frame::{Priority, Target};
use crate::link::{Body, Outgoing};
use crate::rpc::Rpc;
use crate::service::{Hold, Reply, Request, Service};

/// The number of the cluster among the services of a node.
pub const CLUSTER_SERVICE: u16 = 1;

/// What takes the cluster's messages on the other node, with the peer that its hello has proven.
pub trait ClusterMessages: Send + Sync + 'static {
    /// A message has come. It is a part of a larger buffer: what is kept is copied.
    fn handle_message(&self, peer: NodeRef, message: Bytes);
}

struct Taker<T>(T);

impl<T: ClusterMessages> Service for Taker<T> {
    fn request(&self, _request: Request, reply: Reply) {
        drop(reply); // the cluster asks nothing this way
    }

    fn one_way(&self, message: Request, _hold: &mut Hold<'_>) {
        self.0.handle_message(message.peer, message.body.payload);
    }
}

impl Rpc {
    /// Gives messages of other nodes' clusters to this node's.
    pub fn take_cluster_messages(&self, messages: impl ClusterMessages) {
        self.register(CLUSTER_SERVICE, 0, std::sync::Arc::new(Taker(messages)));
    }
}

impl LinkSender for Rpc {
    fn send(&self, to: &Host, message: Bytes) {
        let Ok(node) = self.node(to.node, to.rpc) else {
            return; // the cluster tells everything again
        };
        let outgoing = Outgoing {
            target: Target {
                service: CLUSTER_SERVICE,
                ..Target::default()
            },
            priority: Priority::Consensus,
            body: Body::payload(message),
            ..Outgoing::default()
        };
        let _ = node.one_way(outgoing); // as above
    }
}
