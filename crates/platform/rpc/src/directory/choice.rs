//! Choosing among servers with weights.

use std::sync::atomic::{AtomicUsize, Ordering};

use bifrust_cluster::NodeRef;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Server;

/// Servers that share calls, each with its weight.
#[derive(Debug, Default)]
pub(super) struct Weighted {
    servers: Vec<(Server, u16)>,
    /// Places in `servers`, each as often as its weight says and as evenly as can be.
    turns: Vec<u32>,
    turn: AtomicUsize,
}

impl Weighted {
    /// Those with a weight of 0 are left out.
    pub(super) fn new(servers: impl IntoIterator<Item = (Server, u16)>) -> Self {
        let servers: Vec<_> = servers
            .into_iter()
            .filter(|(_, weight)| *weight > 0)
            .collect();
        let divisor = servers
            .iter()
            .fold(0, |divisor, (_, weight)| gcd(divisor, *weight));
        let reduce = |(server, weight): (Server, u16)| (server, weight / divisor.max(1));
        let servers: Vec<_> = servers.into_iter().map(reduce).collect();
        let turns = turns(&servers);
        Self {
            servers,
            turns,
            turn: AtomicUsize::new(0),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().map(|(server, _)| server)
    }

    pub(super) fn next(&self) -> Option<&Server> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let place = self.turns.get(turn % self.turns.len().max(1))?;
        self.servers.get(*place as usize).map(|(server, _)| server)
    }

    pub(super) fn on(&self, node: NodeRef) -> Option<&Server> {
        self.all().find(|server| server.node == node)
    }

    /// The highest of hashes over key and server, as many for each as its weight says. A server's start is
    /// not part of it, so that it has its keys again when it comes back.
    pub(super) fn by_hash(&self, key: &[u8]) -> Option<&Server> {
        let key = xxh3_64_with_seed(key, 0);
        let score = |server: &Server, replica: u16| {
            let mut name = [0; 22];
            name[..16].copy_from_slice(&server.node.id.0.to_le_bytes());
            name[16..20].copy_from_slice(&server.instance.to_le_bytes());
            name[20..].copy_from_slice(&replica.to_le_bytes());
            xxh3_64_with_seed(&name, key)
        };
        let best = |(server, weight): &(Server, u16)| {
            let replicas = 0..*weight;
            replicas.map(|replica| score(server, replica)).max()
        };
        let best = self.servers.iter().max_by_key(|server| best(server));
        best.map(|(server, _)| server)
    }
}

/// Each turn all gain their weight, and the one that has gained most pays for all.
fn turns(servers: &[(Server, u16)]) -> Vec<u32> {
    let total: i64 = servers.iter().map(|(_, weight)| i64::from(*weight)).sum();
    let mut gained = vec![0_i64; servers.len()];
    let mut turns = Vec::new();
    for _ in 0..total {
        for (gained, (_, weight)) in gained.iter_mut().zip(servers) {
            *gained += i64::from(*weight);
        }
        // The first of equals.
        let most = (0..gained.len()).rev().max_by_key(|place| gained[*place]);
        let Some(most) = most else { break };
        gained[most] -= total;
        turns.push(u32::try_from(most).unwrap_or(0));
    }
    turns
}

fn gcd(a: u16, b: u16) -> u16 {
    match b {
        0 => a,
        b => gcd(b, a % b),
    }
}
