//! The cluster as this node sees it: a snapshot that readers take, and a way to wait for the next.

use std::{collections::BTreeMap, sync::Arc};

use bifrust_model::{NodeId, NodeRef};
use bytes::Bytes;
use tokio::sync::watch;

use crate::{AgentAddress, ClusterId, Host, Row, RowKey, RowKind, ServiceName};

/// What is thought of a host that is in sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostState {
    /// It answers.
    Alive,
    /// It did not answer somebody, and has time to object.
    Suspect,
}

/// An agent with what it says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Where calls to it go.
    pub address: AgentAddress,
    /// What its service tells callers; the service's own format.
    pub detail: Bytes,
}

/// A host in sight with its agents and rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// Who and where it is.
    pub host: Host,
    /// What is thought of it.
    pub state: HostState,
    /// Its agents, by service and instance.
    pub agents: BTreeMap<(ServiceName, u32), Agent>,
    /// Its rows of topology or of load, whichever this view is of.
    pub rows: BTreeMap<RowKey, Row>,
}

/// All hosts in sight at one moment, this one among them. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The cluster; `None` while this node has none.
    pub cluster: Option<ClusterId>,
    /// Counts the changes since this node's start.
    pub version: u64,
    /// By node; a node whose host is down or has left is not in it.
    pub hosts: BTreeMap<NodeId, Arc<HostView>>,
}

impl Snapshot {
    /// The host with this node id, if it is in sight.
    pub fn host(&self, node: NodeId) -> Option<&Arc<HostView>> {
        self.hosts.get(&node)
    }

    /// Whether this very incarnation of a node is in sight.
    pub fn is_live(&self, node: NodeRef) -> bool {
        let host = self.hosts.get(&node.id);
        host.is_some_and(|host| host.host.node == node)
    }

    /// All agents of a service, ordered by node and instance.
    pub fn agents<'a>(&'a self, service: &'a ServiceName) -> impl Iterator<Item = &'a Agent> {
        self.hosts.values().flat_map(move |host| {
            let of_service = (service.clone(), 0)..=(service.clone(), u32::MAX);
            host.agents.range(of_service).map(|(_, agent)| agent)
        })
    }

    /// All rows with this key, one per owner at most.
    pub fn rows<'a>(&'a self, key: &'a RowKey) -> impl Iterator<Item = &'a Row> {
        let hosts = self.hosts.values();
        hosts.filter_map(move |host| host.rows.get(key))
    }

    /// All rows whose names begin like this.
    pub fn rows_under<'a>(
        &'a self,
        kind: RowKind,
        prefix: &'a str,
    ) -> impl Iterator<Item = &'a Row> {
        let hosts = self.hosts.values();
        hosts
            .flat_map(|host| host.rows.values())
            .filter(move |row| row.key.kind == kind && row.key.name.as_str().starts_with(prefix))
    }
}

/// The reading side; every part of a node that looks for services holds a clone.
#[derive(Clone, Debug)]
pub struct Landscape {
    topology: watch::Receiver<Arc<Snapshot>>,
    load: watch::Receiver<Arc<Snapshot>>,
}

impl Landscape {
    /// A landscape with the side that writes it. The cluster holds that one; tests of what reads a
    /// landscape make their own.
    pub fn new() -> (LandscapeWriter, Self) {
        let (topology_writer, topology) = watch::channel(Arc::default());
        let (load_writer, load) = watch::channel(Arc::default());
        let writer = LandscapeWriter {
            topology: topology_writer,
            load: load_writer,
        };
        (writer, Self { topology, load })
    }

    /// Hosts with agents and rows of topology, as of now.
    pub fn topology(&self) -> Arc<Snapshot> {
        self.topology.borrow().clone()
    }

    /// Hosts with rows of load, as of now; it has no agents.
    pub fn load(&self) -> Arc<Snapshot> {
        self.load.borrow().clone()
    }

    /// A watcher of the topology: `changed().await` returns after each change, several at once
    /// taken together, and fails when the node stops.
    pub fn watch_topology(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.topology.clone()
    }

    /// The same for the load figures.
    pub fn watch_load(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.load.clone()
    }
}

/// The writing side of a landscape.
#[derive(Debug)]
pub struct LandscapeWriter {
    topology: watch::Sender<Arc<Snapshot>>,
    load: watch::Sender<Arc<Snapshot>>,
}

impl LandscapeWriter {
    /// Shows a new topology to all readers.
    pub fn publish_topology(&self, snapshot: Arc<Snapshot>) {
        self.topology.send_replace(snapshot);
    }

    /// Shows new load figures to all readers.
    pub fn publish_load(&self, snapshot: Arc<Snapshot>) {
        self.load.send_replace(snapshot);
    }
}

#[cfg(test)]
mod tests {
    use bifrust_model::Incarnation;

    use super::*;
    use crate::PROTOCOL_VERSION;

    #[test]
    fn agents_of_a_service_are_found_on_all_hosts() {
        let (dist, inbox) = (name("dist"), name("inbox"));
        let mut snapshot = Snapshot::default();
        for node in 1..=3 {
            let view = host(node, &[(&dist, 0), (&dist, 1), (&inbox, 0)]);
            snapshot.hosts.insert(NodeId(node), Arc::new(view));
        }
        let found: Vec<(u128, u32)> = snapshot
            .agents(&dist)
            .map(|agent| (agent.address.host.id.0, agent.address.instance))
            .collect();
        assert_eq!(found, [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]);
        assert_eq!(snapshot.agents(&name("dis")).count(), 0);
        let first = NodeRef {
            id: NodeId(1),
            incarnation: Incarnation(1),
        };
        let next = NodeRef {
            incarnation: Incarnation(2),
            ..first
        };
        assert!(snapshot.is_live(first) && !snapshot.is_live(next));
    }

    #[test]
    fn watchers_of_the_topology_are_not_woken_by_load() {
        let (writer, landscape) = Landscape::new();
        let mut watcher = landscape.watch_topology();
        writer.publish_load(Arc::default());
        assert!(!watcher.has_changed().unwrap());
        writer.publish_topology(Arc::default());
        assert!(watcher.has_changed().unwrap());
        watcher.mark_unchanged();
        drop(writer);
        assert!(watcher.has_changed().is_err());
    }

    fn name(name: &str) -> ServiceName {
        ServiceName::new(name).unwrap()
    }

    fn host(id: u128, agents: &[(&ServiceName, u32)]) -> HostView {
        let node = NodeRef {
            id: NodeId(id),
            incarnation: Incarnation(1),
        };
        let agents = agents.iter().map(|(service, instance)| {
            let address = AgentAddress {
                service: (*service).clone(),
                host: node,
                instance: *instance,
            };
            let detail = Bytes::new();
            (((*service).clone(), *instance), Agent { address, detail })
        });
        HostView {
            host: Host {
                node,
                revision: 0,
                udp: ([127, 0, 0, 1], 1).into(),
                rpc: ([127, 0, 0, 1], 2).into(),
                protocol: PROTOCOL_VERSION,
            },
            state: HostState::Alive,
            agents: agents.collect(),
            rows: BTreeMap::new(),
        }
    }
}
