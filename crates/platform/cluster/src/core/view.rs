//! From members and rows to the snapshots that others read.

use std::{collections::BTreeMap, sync::Arc};

use bifrust_model::NodeId;

use crate::{
    Agent, AgentAddress, Core, Effect, Host, HostState, HostView, Row, RowKey, RowKind,
    ServiceName, Snapshot,
    message::{Part, Standing},
    planted::planted,
};

impl Core {
    /// Shows what has changed since it was shown last.
    pub(super) fn show(&mut self, effects: &mut Vec<Effect>) {
        if let Some(shown) = self.renewed(Part::Topology) {
            self.topology_shown = Arc::clone(&shown);
            effects.push(Effect::Topology(shown));
        }
        if let Some(shown) = self.renewed(Part::Load) {
            self.load_shown = Arc::clone(&shown);
            effects.push(Effect::Load(shown));
        }
    }

    /// What is shown now; hosts that did not change are shared with the one before.
    pub fn topology(&self) -> &Arc<Snapshot> {
        &self.topology_shown
    }

    /// The load figures shown now.
    pub fn load(&self) -> &Arc<Snapshot> {
        &self.load_shown
    }

    fn renewed(&mut self, part: Part) -> Option<Arc<Snapshot>> {
        let (stale, shown) = match part {
            Part::Topology => (&mut self.stale_topology, &self.topology_shown),
            Part::Load => (&mut self.stale_load, &self.load_shown),
        };
        let stale = std::mem::take(stale);
        if stale.is_empty() && shown.cluster == self.cluster {
            return None;
        }
        let shown = Arc::clone(shown);
        let mut changes: Vec<(NodeId, Option<Arc<HostView>>)> = Vec::new();
        for node in stale {
            let view = self.host_in_sight(node);
            let view = view.map(|(host, state)| self.view(part, host, state));
            if shown.hosts.get(&node).map(Arc::as_ref) != view.as_ref() {
                changes.push((node, view.map(Arc::new)));
            }
        }
        if changes.is_empty() && shown.cluster == self.cluster {
            return None;
        }
        let mut next = Snapshot {
            cluster: self.cluster,
            version: shown.version + 1,
            hosts: shown.hosts.clone(),
        };
        for (node, view) in changes {
            match view {
                Some(view) => next.hosts.insert(node, view),
                None => next.hosts.remove(&node),
            };
        }
        Some(Arc::new(next))
    }

    fn host_in_sight(&self, node: NodeId) -> Option<(Host, HostState)> {
        let own = self.swim.own();
        if own.node.id == node {
            return Some((own, HostState::Alive));
        }
        let mut members = self.swim.active();
        let member = members.find(|member| member.host.node.id == node)?;
        let spoken = self.topology.version(node);
        if spoken.is_some_and(|spoken| spoken.incarnation > member.host.node.incarnation) {
            // The node's next start has written rows already, so this one is over.
            return None;
        }
        let state = match member.standing {
            Standing::Suspect => HostState::Suspect,
            Standing::Alive | Standing::Down => HostState::Alive,
        };
        Some((member.host, state))
    }

    fn view(&self, part: Part, host: Host, state: HostState) -> HostView {
        let replica = match part {
            Part::Topology => &self.topology,
            Part::Load => &self.load,
        };
        let mut view = HostView {
            host,
            // Suspicions are of no interest to who reads load.
            state: match part {
                Part::Topology => state,
                Part::Load => HostState::Alive,
            },
            agents: BTreeMap::new(),
            rows: BTreeMap::new(),
        };
        let owner = match planted("rows of any start") {
            true => {
                let version = replica.version(host.node.id);
                let incarnation = version.map_or(host.node.incarnation, |known| known.incarnation);
                bifrust_model::NodeRef {
                    incarnation,
                    ..host.node
                }
            }
            false => host.node,
        };
        for (key, sequence, value) in replica.rows(owner) {
            if key.kind == RowKind::Agent {
                if let Some((service, instance)) = agent(key) {
                    let address = AgentAddress {
                        service: service.clone(),
                        host: host.node,
                        instance,
                    };
                    let detail = value.clone();
                    view.agents
                        .insert((service, instance), Agent { address, detail });
                }
                continue;
            }
            let row = Row {
                owner: host.node,
                key: key.clone(),
                sequence,
                value: value.clone(),
            };
            view.rows.insert(key.clone(), row);
        }
        view
    }
}

/// What an agent's row is called after; others may write what they like.
fn agent(key: &RowKey) -> Option<(ServiceName, u32)> {
    let (service, instance) = key.name.as_str().split_once('/')?;
    Some((ServiceName::new(service).ok()?, instance.parse().ok()?))
}
