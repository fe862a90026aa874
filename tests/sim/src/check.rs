//! What must hold: at every moment, and once all is calm.
//!
//! 1. What a node shows of an owner is what the owner had written at one moment, and never an earlier
//!    moment than it showed before: no dead row comes back, no live row is lost on the way.
//! 2. After a later start of a node, or after its departure, the earlier one is not shown again.
//! 3. A host is declared failed only if it ended, or a fault cut somebody off lately.
//! 4. In the end all running nodes are in one cluster and show exactly each other, with all rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use bifrust_cluster::{Event, HostView, NodeId, NodeRef, RowKey, RowKind, Snapshot};
use bytes::Bytes;

use crate::{plan::Fault, world::Node};

/// How long after a fault a host may still be declared down for it.
const AFTERMATH: Duration = Duration::from_secs(15);

/// What does not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    /// In which seed.
    pub seed: u64,
    /// When.
    pub at: Duration,
    /// What.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, at, what } = self;
        write!(
            f,
            "seed {seed} at {at:?}: {what}\nagain: cargo run --release -p bifrust-sim -- replay {seed}"
        )
    }
}

impl std::error::Error for Violation {}

/// All that one start of a node ever wrote: a hash of its live rows after each write.
#[derive(Default)]
struct History {
    rows: BTreeMap<RowKey, Bytes>,
    hash: u64,
    moments: Vec<u64>,
}

/// What one start of a node has shown.
#[derive(Default)]
struct Shown {
    last: Option<Arc<Snapshot>>,
    moments: BTreeMap<NodeRef, usize>,
    incarnations: BTreeMap<NodeId, u64>,
}

pub(crate) struct Checks {
    histories: BTreeMap<NodeRef, History>,
    shown: Vec<Shown>,
    /// When a node last started or ended, or moved.
    disturbed: Vec<Option<Duration>>,
    /// Until when everybody may be thought to be down.
    split_until: Duration,
    /// Until when these may be thought to be down, and may think so of others.
    cut_until: Vec<Duration>,
    pub(crate) told: Vec<(Duration, usize, Event)>,
}

impl Checks {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            histories: BTreeMap::new(),
            shown: (0..nodes).map(|_| Shown::default()).collect(),
            disturbed: vec![None; nodes],
            split_until: Duration::ZERO,
            cut_until: vec![Duration::ZERO; nodes],
            told: Vec::new(),
        }
    }

    pub(crate) fn started(&mut self, now: Duration, index: usize, start: NodeRef) {
        self.disturbed[index] = Some(now);
        self.shown[index] = Shown::default();
        let history = History {
            moments: vec![0],
            ..History::default()
        };
        self.histories.insert(start, history);
    }

    pub(crate) fn ended(&mut self, now: Duration, index: usize) {
        self.disturbed[index] = Some(now);
    }

    pub(crate) fn fault(&mut self, now: Duration, lasts: Duration, fault: &Fault, nodes: &[Node]) {
        let until = now + lasts + AFTERMATH;
        match fault {
            Fault::Split(_) => self.split_until = self.split_until.max(until),
            Fault::Deaf(node) | Fault::Mute(node) | Fault::Move(node) => {
                self.cut_until[*node] = self.cut_until[*node].max(until);
            }
            // With few nodes there is nobody left to ask in between.
            Fault::Pair(a, b) if nodes.len() < 5 => {
                for node in [*a, *b] {
                    self.cut_until[node] = self.cut_until[node].max(until);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn wrote(&mut self, owner: NodeRef, key: &RowKey, value: Option<Bytes>) {
        let history = self.histories.entry(owner).or_default();
        let old = match value.clone() {
            Some(value) => history.rows.insert(key.clone(), value),
            None => history.rows.remove(key),
        };
        if old == value {
            return;
        }
        if key.kind == RowKind::Load {
            return;
        }
        history.hash ^= old.map_or(0, |old| row_hash(key, &old));
        history.hash ^= value.map_or(0, |value| row_hash(key, &value));
        history.moments.push(history.hash);
    }

    pub(crate) fn shown(
        &mut self,
        index: usize,
        nodes: &[Node],
        snapshot: &Arc<Snapshot>,
    ) -> Result<(), String> {
        let _ = nodes;
        let shown = &mut self.shown[index];
        for (id, host) in &snapshot.hosts {
            let before = shown.last.as_ref().and_then(|last| last.hosts.get(id));
            if before.is_some_and(|before| Arc::ptr_eq(before, host)) {
                continue;
            }
            let start = host.host.node;
            let latest = shown.incarnations.entry(*id).or_default();
            if start.incarnation.0 < *latest {
                return Err(format!("node {index} shows an ended start of {id} again"));
            }
            *latest = start.incarnation.0;
            let Some(history) = self.histories.get(&start) else {
                return Err(format!("node {index} shows {id}, which never started so"));
            };
            let hash = view_hash(host);
            let from = shown.moments.get(&start).copied().unwrap_or(0);
            let moments = history.moments.iter().skip(from);
            let Some(moment) = moments.into_iter().position(|moment| *moment == hash) else {
                return Err(format!(
                    "node {index} shows rows of {id} that it had at no moment since the one shown \
                     before: {:?}",
                    rows_of(host)
                ));
            };
            shown.moments.insert(start, from + moment);
        }
        shown.last = Some(Arc::clone(snapshot));
        Ok(())
    }

    pub(crate) fn told(
        &mut self,
        now: Duration,
        index: usize,
        nodes: &[Node],
        event: Event,
    ) -> Result<(), String> {
        if let Event::HostDown { host, how } = &event {
            if how.is_some() {
                let latest = self.shown[index].incarnations.entry(host.node.id);
                let latest = latest.or_default();
                *latest = (*latest).max(host.node.incarnation.0 + 1);
            } else if !self.may_be_down(now, index, host.node, nodes) {
                return Err(format!(
                    "node {index} declares {} failed, which runs and is not cut off",
                    host.node.id
                ));
            }
        }
        self.told.push((now, index, event));
        Ok(())
    }

    fn may_be_down(&self, now: Duration, viewer: usize, host: NodeRef, nodes: &[Node]) -> bool {
        let index = nodes.iter().position(|node| node.start() == host);
        let Some(index) = index.filter(|&index| nodes[index].core().is_some()) else {
            return true;
        };
        let lately = |at: Option<Duration>| at.is_some_and(|at| now - at < AFTERMATH);
        now < self.split_until
            || now < self.cut_until[index]
            || now < self.cut_until[viewer]
            || lately(self.disturbed[index])
            || lately(self.disturbed[viewer])
    }

    pub(crate) fn agreement(&self, nodes: &[Node]) -> Result<(), String> {
        let running: Vec<(usize, &Node)> = nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.core().is_some())
            .collect();
        let starts: BTreeSet<NodeRef> = running.iter().map(|(_, node)| node.start()).collect();
        let mut cluster = None;
        for (index, node) in running {
            let Some(core) = node.core() else { continue };
            let Some(own) = core.cluster() else {
                return Err(format!("node {index} has no cluster: {:?}", core.status()));
            };
            if *cluster.get_or_insert(own) != own {
                return Err(format!("node {index} is in another cluster"));
            }
            let topology = core.topology();
            let seen: BTreeSet<NodeRef> =
                topology.hosts.values().map(|host| host.host.node).collect();
            if seen != starts {
                let missing: Vec<_> = starts.difference(&seen).collect();
                let wrong: Vec<_> = seen.difference(&starts).collect();
                return Err(format!(
                    "node {index} does not see {missing:?}, and sees {wrong:?}"
                ));
            }
            for host in topology.hosts.values() {
                let load = core.load().hosts.get(&host.host.node.id);
                self.same_rows(index, host, load)?;
            }
        }
        Ok(())
    }

    fn same_rows(
        &self,
        index: usize,
        host: &Arc<HostView>,
        load: Option<&Arc<HostView>>,
    ) -> Result<(), String> {
        let Some(history) = self.histories.get(&host.host.node) else {
            return Ok(());
        };
        let mut rows = rows_of(host);
        rows.extend(load.map(|load| rows_of(load)).unwrap_or_default());
        if rows != history.rows {
            return Err(format!(
                "node {index} shows of {}: {rows:?}, which wrote {:?}",
                host.host.node.id, history.rows
            ));
        }
        Ok(())
    }
}

fn rows_of(host: &HostView) -> BTreeMap<RowKey, Bytes> {
    let agents = host.agents.iter().map(|((service, instance), agent)| {
        let name = format!("{service}/{instance}");
        let key = RowKey {
            kind: RowKind::Agent,
            name: bifrust_cluster::RowName::new(&name).expect("short"),
        };
        (key, agent.detail.clone())
    });
    let rows = host.rows.values();
    let rows = rows.map(|row| (row.key.clone(), row.value.clone()));
    agents.chain(rows).collect()
}

fn view_hash(host: &HostView) -> u64 {
    let rows = rows_of(host);
    rows.iter()
        .fold(0, |hash, (key, value)| hash ^ row_hash(key, value))
}

fn row_hash(key: &RowKey, value: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[key.kind as u8]);
    hasher.update(key.name.as_str().as_bytes());
    hasher.update(&[0]);
    hasher.update(value);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(first)
}
