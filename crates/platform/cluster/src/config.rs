//! What a node's cluster part is told at its start.

use std::{net::SocketAddr, time::Duration};

use crate::{ClusterId, ClusterKey, Host};

/// Settings of the core. The times are for one data centre; all nodes have the same.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// This node, at this start; the revision is 0.
    pub own: Host,
    /// The cluster that the data folder names; `None` for an empty folder.
    pub cluster: Option<ClusterId>,
    /// Shared by all nodes; whoever has it may join.
    pub key: ClusterKey,
    /// How many empty nodes form a new cluster, 1 to [`crate::EXPECT_MAX`]; `None`: this node only
    /// joins.
    pub expect: Option<u16>,
    /// Where other nodes may be found; this node's own address may be among them.
    pub seeds: Vec<SocketAddr>,
    /// Random bytes of this start that nobody else knows.
    pub secret: [u8; 32],
    /// How often one member, in turn, is asked whether it is there. More often finds failures sooner
    /// and costs two packets each time.
    pub probe_period: Duration,
    /// How long its answer may take before others are asked to ask; less than half of the period.
    pub probe_timeout: Duration,
    /// How long a silent member has to object before it is declared down.
    pub suspicion: Duration,
    /// How often news about members is passed on, while there is any.
    pub gossip_period: Duration,
    /// How often members that are down, and seeds that are not members, are greeted. Bounds how long
    /// a cluster takes to be one again after a partition.
    pub announce_period: Duration,
    /// How often a node compares with another one what they know. Bounds how long news takes to
    /// reach a node that every rumour missed.
    pub exchange_period: Duration,
    /// How long a member that is down is remembered.
    pub forget_down: Duration,
}

impl CoreConfig {
    /// The defaults for everything that has one.
    pub fn new(own: Host, key: ClusterKey, secret: [u8; 32]) -> Self {
        Self {
            own,
            cluster: None,
            key,
            expect: None,
            seeds: Vec::new(),
            secret,
            probe_period: Duration::from_millis(500),
            probe_timeout: Duration::from_millis(200),
            suspicion: Duration::from_secs(2),
            gossip_period: Duration::from_millis(200),
            announce_period: Duration::from_secs(10),
            exchange_period: Duration::from_secs(1),
            forget_down: Duration::from_secs(60 * 60),
        }
    }
}
