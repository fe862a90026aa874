//! Nodes with disks and clocks, and the events between them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bifrust_cluster::{
    ClusterId, ClusterKey, Core, CoreConfig, Effect, Event, Host, Incarnation, NodeId, NodeRef,
    PROTOCOL_VERSION, RowKey, RowKind, RowName, ServiceName,
};
use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::{
    check::{Checks, Violation},
    network::Network,
    plan::{Fault, Plan, Planned},
};

/// How many old packets are kept to be played again.
const RECORDED_MAX: usize = 256;

/// How long a node is away that left or was evicted.
const AWAY: Duration = Duration::from_secs(3);

enum Happening {
    Start(usize),
    Wake(usize),
    Packet {
        to: usize,
        from: SocketAddr,
        packet: Bytes,
    },
    Message {
        to: usize,
        /// A link leads to one start of a node.
        start: NodeRef,
        from: NodeRef,
        message: Bytes,
    },
    LinkReset {
        node: usize,
        peer: NodeRef,
    },
    Persisted {
        node: usize,
        start: NodeRef,
        cluster: ClusterId,
    },
    FaultBegins(usize),
    FaultEnds(usize),
    Write,
}

/// A node with what it keeps over a crash.
pub struct Node {
    core: Option<Core>,
    id: NodeId,
    incarnation: u64,
    cluster: Option<ClusterId>,
    udp: SocketAddr,
    rate: f64,
    /// Where its clock stood when the world began.
    offset: Duration,
    wakes_at: Option<Duration>,
}

impl Node {
    /// Which node in which of its starts this is now.
    pub fn start(&self) -> NodeRef {
        NodeRef {
            id: self.id,
            incarnation: Incarnation(self.incarnation),
        }
    }

    /// The node's core while it runs.
    pub fn core(&self) -> Option<&Core> {
        self.core.as_ref()
    }

    fn clock(&self, now: Duration) -> Duration {
        self.offset + now.mul_f64(self.rate)
    }

    /// When the node's clock shows `clock`, a little late rather than early.
    fn at_clock(&self, clock: Duration) -> Duration {
        let at = clock.saturating_sub(self.offset).div_f64(self.rate);
        at + Duration::from_micros(1)
    }
}

/// What came of a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of all that happened, in order.
    pub trace: u64,
    /// How many packets and messages arrived.
    pub arrivals: u64,
}

/// All nodes and what is under way.
pub struct World {
    plan: Plan,
    seed: u64,
    rng: SmallRng,
    now: Duration,
    happenings: BinaryHeap<Reverse<(Duration, u64)>>,
    bodies: BTreeMap<u64, Happening>,
    count: u64,
    nodes: Vec<Node>,
    addresses: BTreeMap<SocketAddr, usize>,
    network: Network,
    recorded: Vec<(usize, SocketAddr, Bytes)>,
    checks: Checks,
    trace: blake3::Hasher,
    arrivals: u64,
    effects: Vec<Effect>,
    /// Of one node: bytes that it sent.
    bytes_out: Vec<u64>,
}

impl World {
    /// A world before its first event.
    pub fn new(plan: Plan, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x51_4d);
        let nodes: Vec<Node> = (0..plan.nodes)
            .map(|index| Node {
                core: None,
                id: NodeId(rng.random()),
                incarnation: 0,
                cluster: None,
                udp: address(index, 0),
                rate: plan.rates[index],
                offset: Duration::from_millis(rng.random_range(0..100_000)),
                wakes_at: None,
            })
            .collect();
        let addresses = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (node.udp, index))
            .collect();
        let mut world = Self {
            seed,
            rng,
            now: Duration::ZERO,
            happenings: BinaryHeap::new(),
            bodies: BTreeMap::new(),
            count: 0,
            checks: Checks::new(nodes.len()),
            bytes_out: vec![0; nodes.len()],
            nodes,
            addresses,
            network: Network::new(Duration::from_millis(1)),
            recorded: Vec::new(),
            trace: blake3::Hasher::new(),
            arrivals: 0,
            effects: Vec::new(),
            plan,
        };
        for index in 0..world.nodes.len() {
            world.plan_at(world.plan.starts[index], Happening::Start(index));
        }
        for index in 0..world.plan.faults.len() {
            let Planned { at, lasts, .. } = world.plan.faults[index];
            world.plan_at(at, Happening::FaultBegins(index));
            world.plan_at(at + lasts, Happening::FaultEnds(index));
        }
        world.plan_at(world.plan.writes_every, Happening::Write);
        world
    }

    /// Runs to the end of the plan, checks on the way and at the end.
    pub fn run(mut self) -> Result<Report, Violation> {
        self.run_until(self.plan.end)?;
        self.check_agreement()?;
        Ok(self.report())
    }

    /// The hash of all that happened so far, and how much it was.
    pub fn report(&self) -> Report {
        let mut trace = [0; 8];
        trace.copy_from_slice(&self.trace.finalize().as_bytes()[..8]);
        Report {
            trace: u64::from_be_bytes(trace),
            arrivals: self.arrivals,
        }
    }

    /// Lets time pass.
    pub fn run_until(&mut self, end: Duration) -> Result<(), Violation> {
        while let Some(Reverse((at, number))) = self.happenings.peek().copied() {
            if at > end {
                break;
            }
            self.happenings.pop();
            self.now = at;
            if let Some(happening) = self.bodies.remove(&number) {
                self.happen(happening)?;
            }
        }
        self.now = end;
        Ok(())
    }

    /// Now.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// All nodes, in the order of the plan.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// How many bytes each node has sent so far, over both ways.
    pub fn bytes_out(&self) -> &[u64] {
        &self.bytes_out
    }

    /// What nodes told their operators, with the time and the node.
    pub fn told(&self) -> &[(Duration, usize, Event)] {
        &self.checks.told
    }

    /// Whether all nodes that run see each other and nobody else, with all rows as they are.
    pub fn check_agreement(&self) -> Result<(), Violation> {
        let violation = |what: String| Violation {
            seed: self.seed,
            at: self.now,
            what,
        };
        self.checks.agreement(&self.nodes).map_err(violation)
    }

    /// Has a node write a row of topology.
    pub fn put_row(&mut self, node: usize, name: &str, value: &str) -> Result<(), Violation> {
        let key = row_key(RowKind::Topology, name);
        self.write(node, key, Some(Bytes::copy_from_slice(value.as_bytes())))
    }

    /// Has a node remove one.
    pub fn remove_row(&mut self, node: usize, name: &str) -> Result<(), Violation> {
        self.write(node, row_key(RowKind::Topology, name), None)
    }

    fn plan_at(&mut self, at: Duration, happening: Happening) {
        self.count += 1;
        self.bodies.insert(self.count, happening);
        self.happenings.push(Reverse((at, self.count)));
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::Start(index) => self.start(index),
            Happening::Wake(index) => self.wake(index),
            Happening::Packet { to, from, packet } => {
                self.note(b"packet", to, &packet);
                self.with(to, |core, now, effects| {
                    core.handle_packet(now, from, &packet, effects);
                })
            }
            Happening::Message {
                to,
                start,
                from,
                message,
            } => {
                if self.nodes[to].start() != start {
                    return Ok(());
                }
                self.note(b"message", to, &message);
                self.with(to, |core, now, effects| {
                    core.handle_link(now, from, &message, effects);
                })
            }
            Happening::LinkReset { node, peer } => self.with(node, |core, now, effects| {
                core.handle_link_reset(now, peer, effects);
            }),
            Happening::Persisted {
                node,
                start,
                cluster,
            } => {
                if self.nodes[node].start() != start || self.nodes[node].core.is_none() {
                    return Ok(());
                }
                self.nodes[node].cluster = Some(cluster);
                self.with(node, |core, now, effects| {
                    core.handle_persisted(now, cluster, effects);
                })
            }
            Happening::FaultBegins(index) => self.begin(index),
            Happening::FaultEnds(index) => self.end(index),
            Happening::Write => self.write_something(),
        }
    }

    fn note(&mut self, kind: &[u8], node: usize, bytes: &[u8]) {
        self.arrivals += 1;
        self.trace.update(kind);
        self.trace.update(&self.now.as_nanos().to_be_bytes());
        self.trace.update(&node.to_be_bytes());
        self.trace.update(bytes);
    }

    fn start(&mut self, index: usize) -> Result<(), Violation> {
        if self.nodes[index].core.is_some() {
            return Ok(());
        }
        let seeds: Vec<SocketAddr> = (0..self.nodes.len().min(3))
            .map(|node| address(node, 0))
            .collect();
        let mut secret = [0; 32];
        self.rng.fill(&mut secret);
        let seed = self.rng.random();
        let expect = u16::try_from(self.nodes.len().min(32)).expect("bounded");
        let node = &mut self.nodes[index];
        node.incarnation += 1;
        let own = Host {
            node: node.start(),
            revision: 0,
            udp: node.udp,
            rpc: node.udp,
            protocol: PROTOCOL_VERSION,
        };
        let key = ClusterKey::new("the key of the simulation").expect("long enough");
        let config = CoreConfig {
            cluster: node.cluster,
            expect: Some(expect).filter(|_| self.plan.nodes <= 32 || index == 0),
            seeds,
            ..CoreConfig::new(own, key, secret)
        };
        let config = match self.plan.nodes > 32 {
            // More than any `expect`: one begins, the others join.
            true => CoreConfig {
                expect: (index == 0).then_some(1),
                ..config
            },
            false => config,
        };
        node.core = Some(Core::new(config, node.clock(self.now), seed));
        self.checks
            .started(self.now, index, self.nodes[index].start());
        self.wake(index)
    }

    fn wake(&mut self, index: usize) -> Result<(), Violation> {
        self.nodes[index].wakes_at = None;
        self.with(index, |core, now, effects| {
            if core.next_timeout().is_some_and(|due| due <= now) {
                core.handle_timeout(now, effects);
            }
        })
    }

    /// Lets a running node do something, and takes its effects.
    fn with(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Core, Duration, &mut Vec<Effect>),
    ) -> Result<(), Violation> {
        let node = &mut self.nodes[index];
        let clock = node.clock(self.now);
        let Some(core) = &mut node.core else {
            return Ok(());
        };
        let mut effects = std::mem::take(&mut self.effects);
        act(core, clock, &mut effects);
        let mut result = Ok(());
        for effect in effects.drain(..) {
            if result.is_ok() {
                result = self.perform(index, effect);
            }
        }
        self.effects = effects;
        self.schedule(index);
        result
    }

    fn schedule(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let Some(due) = node.core.as_ref().and_then(Core::next_timeout) else {
            return;
        };
        let at = node.at_clock(due).max(self.now + Duration::from_micros(1));
        if node.wakes_at.is_none_or(|planned| at < planned) {
            node.wakes_at = Some(at);
            self.plan_at(at, Happening::Wake(index));
        }
    }

    fn perform(&mut self, index: usize, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::SendUdp { to, packet } => {
                self.bytes_out[index] += packet.len() as u64 + 28;
                if let Some(&to) = self.addresses.get(&to) {
                    self.send(index, to, packet);
                }
            }
            Effect::SendLink { to, message } => {
                self.bytes_out[index] += message.len() as u64 + 60;
                self.send_message(index, to, message);
            }
            Effect::Persist { cluster, .. } => {
                let wait = Duration::from_millis(self.rng.random_range(1..40));
                let start = self.nodes[index].start();
                self.plan_at(
                    self.now + wait,
                    Happening::Persisted {
                        node: index,
                        start,
                        cluster,
                    },
                );
            }
            Effect::Topology(snapshot) => {
                let checked = self.checks.shown(index, &self.nodes, &snapshot);
                return checked.map_err(|what| self.violation(what));
            }
            Effect::Load(_) => {}
            Effect::Event(event) => {
                self.trace.update(format!("{event:?}").as_bytes());
                let checked = self.checks.told(self.now, index, &self.nodes, event);
                return checked.map_err(|what| self.violation(what));
            }
            Effect::Stopped(_) => {
                self.nodes[index].core = None;
                self.checks.ended(self.now, index);
                self.plan_at(self.now + AWAY, Happening::Start(index));
            }
        }
        Ok(())
    }

    fn violation(&self, what: String) -> Violation {
        Violation {
            seed: self.seed,
            at: self.now,
            what,
        }
    }

    fn send(&mut self, from: usize, to: usize, packet: Bytes) {
        let source = self.nodes[from].udp;
        if self.recorded.len() < RECORDED_MAX {
            self.recorded.push((to, source, packet.clone()));
        } else {
            let at = self.rng.random_range(0..RECORDED_MAX * 8);
            if let Some(recorded) = self.recorded.get_mut(at) {
                *recorded = (to, source, packet.clone());
            }
        }
        for delay in self.network.packet(&mut self.rng, from, to) {
            let packet = packet.clone();
            let from = source;
            self.plan_at(self.now + delay, Happening::Packet { to, from, packet });
        }
    }

    fn send_message(&mut self, from: usize, to: Host, message: Bytes) {
        let target = self.nodes.iter().position(|node| node.start() == to.node);
        let Some(target) = target.filter(|&target| self.nodes[target].udp == to.rpc) else {
            return;
        };
        let arrival = self.network.message(&mut self.rng, self.now, from, target);
        if let Some(arrival) = arrival {
            let from = self.nodes[from].start();
            self.plan_at(
                arrival,
                Happening::Message {
                    to: target,
                    start: to.node,
                    from,
                    message,
                },
            );
        }
    }

    fn begin(&mut self, index: usize) -> Result<(), Violation> {
        let Planned { fault, lasts, .. } = self.plan.faults[index].clone();
        self.checks.fault(self.now, lasts, &fault, &self.nodes);
        match fault {
            Fault::Loss(share) => self.network.loss = share,
            Fault::Duplicates(share) => self.network.duplicates = share,
            Fault::Delay(max) => self.network.delay_max = max,
            Fault::Split(_) | Fault::Deaf(_) | Fault::Mute(_) | Fault::Pair(..) => {
                let ways = self.ways(&fault);
                self.network.block(&ways);
            }
            Fault::Crash {
                node,
                is_reset,
                is_emptied,
            } => self.crash(node, is_reset, is_emptied),
            Fault::Leave(node) => {
                return self.with(node, |core, now, effects| core.leave(now, effects));
            }
            Fault::Evict(by, node) => {
                let node = self.nodes[node].id;
                return self.with(by, |core, now, effects| {
                    let _ = core.evict(now, node, effects); // unknown: nothing to evict
                });
            }
            Fault::Move(node) => return self.move_node(node),
            Fault::Reset(a, b) => {
                for (node, peer) in [(a, b), (b, a)] {
                    let peer = self.nodes[peer].start();
                    self.plan_at(self.now, Happening::LinkReset { node, peer });
                }
            }
            Fault::Replay => {
                for (to, from, packet) in self.recorded.clone() {
                    let at = self.now + Duration::from_millis(self.rng.random_range(0..500));
                    self.plan_at(at, Happening::Packet { to, from, packet });
                }
            }
            Fault::Churn(node) => {
                for row in 0..300 {
                    let key = row_key(RowKind::Topology, &format!("churn{}", row % 150));
                    let value = (row < 150).then(Bytes::new);
                    self.write(node, key, value)?;
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, index: usize) -> Result<(), Violation> {
        let fault = self.plan.faults[index].fault.clone();
        match fault {
            Fault::Loss(_) => self.network.loss = 0.0,
            Fault::Duplicates(_) => self.network.duplicates = 0.0,
            Fault::Delay(_) => self.network.delay_max = Duration::from_millis(1),
            Fault::Split(_) | Fault::Deaf(_) | Fault::Mute(_) | Fault::Pair(..) => {
                let ways = self.ways(&fault);
                self.network.unblock(&ways);
            }
            Fault::Crash { node, .. } => return self.start(node),
            _ => {}
        }
        Ok(())
    }

    fn ways(&self, fault: &Fault) -> BTreeSet<(usize, usize)> {
        let all = || (0..self.nodes.len()).flat_map(|a| (0..self.nodes.len()).map(move |b| (a, b)));
        let is_cut = |from: usize, to: usize| match fault {
            Fault::Split(groups) => !groups
                .iter()
                .any(|group| group.contains(&from) && group.contains(&to)),
            Fault::Deaf(node) => to == *node,
            Fault::Mute(node) => from == *node,
            Fault::Pair(a, b) => (from, to) == (*a, *b) || (from, to) == (*b, *a),
            _ => false,
        };
        all().filter(|&(from, to)| is_cut(from, to)).collect()
    }

    fn crash(&mut self, index: usize, is_reset: bool, is_emptied: bool) {
        if self.nodes[index].core.take().is_none() {
            return;
        }
        let gone = self.nodes[index].start();
        self.checks.ended(self.now, index);
        if is_reset {
            for node in (0..self.nodes.len()).filter(|node| *node != index) {
                let peer = gone;
                self.plan_at(self.now, Happening::LinkReset { node, peer });
            }
        }
        if is_emptied {
            let node = &mut self.nodes[index];
            node.id = NodeId(self.rng.random());
            node.incarnation = 0;
            node.cluster = None;
        }
    }

    fn move_node(&mut self, index: usize) -> Result<(), Violation> {
        let round = self.rng.random_range(1..200);
        let udp = address(index, round);
        self.addresses.remove(&self.nodes[index].udp);
        self.addresses.insert(udp, index);
        self.nodes[index].udp = udp;
        self.with(index, |core, now, effects| {
            core.handle_addresses(now, udp, udp, effects);
        })
    }

    fn write_something(&mut self) -> Result<(), Violation> {
        if self.now < self.plan.calm {
            let next = self
                .plan
                .writes_every
                .mul_f64(self.rng.random_range(0.1..2.0));
            self.plan_at(self.now + next, Happening::Write);
        }
        let node = self.rng.random_range(0..self.nodes.len());
        let row = self.rng.random_range(0..6u8);
        let key = match row {
            0 | 1 => row_key(RowKind::Agent, &format!("dist/{row}")),
            2 => row_key(RowKind::Load, "busy"),
            row => row_key(RowKind::Topology, &row.to_string()),
        };
        let is_removal = self.rng.random_bool(0.3);
        let value = Bytes::from(self.rng.random_range(0..100u8).to_string());
        self.write(node, key, (!is_removal).then_some(value))
    }

    fn write(&mut self, node: usize, key: RowKey, value: Option<Bytes>) -> Result<(), Violation> {
        if self.nodes[node].core.is_none() {
            return Ok(());
        }
        self.checks
            .wrote(self.nodes[node].start(), &key, value.clone());
        let agent = agent(&key);
        self.with(node, |core, now, effects| {
            let result = match (agent, value) {
                (Some((service, instance)), Some(detail)) => {
                    core.announce_agent(now, &service, instance, detail, effects)
                }
                (Some((service, instance)), None) => {
                    core.leave_agent(now, &service, instance, effects);
                    Ok(())
                }
                (None, Some(value)) => core.put_row(now, key, value, effects),
                (None, None) => {
                    core.remove_row(now, key, effects);
                    Ok(())
                }
            };
            result.expect("far from its bounds");
        })
    }
}

fn agent(key: &RowKey) -> Option<(ServiceName, u32)> {
    let name = (key.kind == RowKind::Agent).then_some(key.name.as_str())?;
    let (service, instance) = name.split_once('/')?;
    Some((ServiceName::new(service).ok()?, instance.parse().ok()?))
}

fn row_key(kind: RowKind, name: &str) -> RowKey {
    RowKey {
        kind,
        name: RowName::new(name).expect("short"),
    }
}

fn address(node: usize, round: u8) -> SocketAddr {
    let ip = Ipv4Addr::new(10, round, (node / 250) as u8, (node % 250) as u8 + 1);
    (ip, 7_400).into()
}

/// What a node shows, for tests that look closer.
pub fn topology(node: &Node) -> Option<&Arc<bifrust_cluster::Snapshot>> {
    node.core().map(Core::topology)
}
