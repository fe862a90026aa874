//! Servers by rule, for one state of the landscape and the rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use bifrust_cluster::{ServiceName, Snapshot};
use prost::Message as _;

use super::choice::Weighted;
use super::rules::Rules;
use super::{Server, ServerDetail};

#[derive(Debug, Default)]
pub(super) struct Table {
    /// What it was made of; `None` at the start.
    made_of: Option<(Arc<Snapshot>, Arc<Rules>)>,
    all: Vec<Server>,
    /// For tenants without a rule, and those whose rule names nobody.
    others: Weighted,
    by_prefix: BTreeMap<String, Weighted>,
}

impl Table {
    pub(super) fn new(service: &ServiceName, topology: Arc<Snapshot>, rules: Arc<Rules>) -> Self {
        let servers = servers(service, &topology);
        let without_group = servers.iter().filter(|(_, groups)| groups.is_empty());
        let mut others = Weighted::new(without_group.map(|(server, _)| (server.clone(), 1)));
        if others.is_empty() {
            others = Weighted::new(servers.iter().map(|(server, _)| (server.clone(), 1)));
        }
        let by_prefix = rules.iter().map(|(prefix, weights)| {
            let weighted = servers.iter().map(|(server, groups)| {
                let weights = groups.iter().filter_map(|group| weights.get(group));
                (server.clone(), weights.max().copied().unwrap_or(0))
            });
            (prefix.to_owned(), Weighted::new(weighted))
        });
        Self {
            by_prefix: by_prefix.collect(),
            others,
            all: servers.into_iter().map(|(server, _)| server).collect(),
            made_of: Some((topology, rules)),
        }
    }

    pub(super) fn is_of(&self, topology: &Arc<Snapshot>, rules: &Arc<Rules>) -> bool {
        let made_of = self.made_of.as_ref();
        made_of.is_some_and(|(of, by)| Arc::ptr_eq(of, topology) && Arc::ptr_eq(by, rules))
    }

    pub(super) fn servers_of(&self, tenant: &str) -> &Weighted {
        let rules = self.made_of.as_ref().map(|(_, rules)| rules);
        let prefix = rules.and_then(|rules| rules.prefix_of(tenant));
        let servers = prefix.and_then(|prefix| self.by_prefix.get(prefix));
        servers
            .filter(|servers| !servers.is_empty())
            .unwrap_or(&self.others)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Server> {
        self.all.iter()
    }

    /// Prefixes whose rules name no server in sight.
    pub(super) fn empty(&self) -> impl Iterator<Item = &str> {
        self.by_prefix
            .iter()
            .filter(|(_, servers)| servers.is_empty())
            .map(|(prefix, _)| prefix.as_str())
    }
}

/// All agents of a service with their groups. One that cannot be read is in none.
fn servers(service: &ServiceName, topology: &Snapshot) -> Vec<(Server, Vec<String>)> {
    let agents = topology.agents(service).filter_map(|agent| {
        let host = topology.host(agent.address.host.id)?;
        let server = Server {
            node: agent.address.host,
            address: host.host.rpc,
            instance: agent.address.instance,
        };
        let detail = ServerDetail::decode(agent.detail.clone()).unwrap_or_default();
        Some((server, detail.groups))
    });
    agents.collect()
}
