//! Which server gets a call: agents of the landscape, traffic rules, and three ways to choose.
//!
//! ```text
//! landscape: agents of a service --+
//! rules: tenant prefix -> group -> weight --> table: for each rule its servers with weights --> choice
//! ```
//!
//! The table is made anew when the landscape or the rules have changed, by whoever comes first then.

mod choice;
mod rules;
mod table;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bifrust_cluster::{AgentAddress, Landscape, NodeRef, ServiceName};
use bytes::Bytes;
use prost::Message as _;

use crate::error::CallError;
use crate::event::{Event, Observer};
use crate::frame::Target;
use crate::node::Node;
use crate::rpc::Rpc;

pub use rules::{InvalidRules, Rules};
use table::Table;

/// What a server says about itself in its agent's detail.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServerDetail {
    /// The groups it is in; none: it is a server for everybody without a rule.
    #[prost(string, repeated, tag = "1")]
    pub groups: Vec<String>,
}

impl ServerDetail {
    /// The detail of a server in these groups.
    pub fn of(groups: &[&str]) -> Bytes {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Self { groups }.encode_to_vec().into()
    }
}

/// A server that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its node.
    pub node: NodeRef,
    /// Where its node takes links.
    pub address: SocketAddr,
    /// Which instance of the service on that node.
    pub instance: u32,
}

/// How to choose a server.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// All in turn, by weight.
    RoundRobin,
    /// The one on this node if it has any weight, else all in turn.
    Nearest,
    /// The same one for the same key, while it is there. When servers come and go, only their keys move.
    Hash(&'a [u8]),
}

/// The servers of one service.
pub struct Directory {
    service: ServiceName,
    own: NodeRef,
    landscape: Landscape,
    rules: Arc<ArcSwap<Rules>>,
    observer: Arc<dyn Observer>,
    table: ArcSwap<Table>,
    /// Held by whoever makes the table.
    making: Mutex<()>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Directory").field(&self.service).finish()
    }
}

impl Directory {
    /// The servers of a service, as the node `own` sees them. New rules are stored into `rules`.
    pub fn new(
        service: ServiceName,
        own: NodeRef,
        landscape: Landscape,
        rules: Arc<ArcSwap<Rules>>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            service,
            own,
            landscape,
            rules,
            observer,
            table: ArcSwap::from_pointee(Table::default()),
            making: Mutex::new(()),
        }
    }

    /// A server for a call of this tenant.
    pub fn choose(&self, tenant: &str, choice: Choice<'_>) -> Result<Server, CallError> {
        let table = self.table();
        let servers = table.servers_of(tenant);
        let chosen = match choice {
            Choice::RoundRobin => servers.next(),
            Choice::Nearest => servers.on(self.own).or_else(|| servers.next()),
            Choice::Hash(key) => servers.by_hash(key),
        };
        chosen.cloned().ok_or(CallError::NoServer)
    }

    /// The server at this address, if it is in sight.
    pub fn direct(&self, address: &AgentAddress) -> Result<Server, CallError> {
        let table = self.table();
        let is_it =
            |server: &&Server| server.node == address.host && server.instance == address.instance;
        table.all().find(is_it).cloned().ok_or(CallError::NoServer)
    }

    /// All servers in sight.
    pub fn all(&self) -> Vec<Server> {
        self.table().all().cloned().collect()
    }

    fn table(&self) -> Arc<Table> {
        let (topology, rules) = (self.landscape.topology(), self.rules.load_full());
        let table = self.table.load_full();
        if table.is_of(&topology, &rules) {
            return table;
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.table.load_full();
        if before.is_of(&topology, &rules) {
            return before;
        }
        let table = Arc::new(Table::new(&self.service, topology, rules));
        for prefix in table.empty() {
            if !before.empty().any(|known| known == prefix) {
                self.observer.observe(&Event::EmptyGroup {
                    service: self.service.clone(),
                    prefix: prefix.to_owned(),
                });
            }
        }
        self.table.store(table.clone());
        table
    }
}

impl Rpc {
    /// The node of a server, and its target for a method.
    pub fn server(
        &self,
        server: &Server,
        service: u16,
        method: u16,
    ) -> Result<(Node, Target), CallError> {
        let target = Target {
            service,
            instance: server.instance,
            method,
        };
        Ok((self.node(server.node, server.address)?, target))
    }
}
