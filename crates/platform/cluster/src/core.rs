//! The deterministic heart: packets, link messages, timers and calls in, effects out.
//!
//! `now` is the time since some fixed moment, by a clock that only goes forward; all randomness comes
//! from the seed and the secret. The same inputs make the same effects.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bifrust_model::{NodeId, NodeRef};
use bytes::{BufMut, Bytes};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::{
    ClusterId, CoreConfig, Counters, Departure, Effect, Event, Host, RowError, RowKey, RowKind,
    RowName, ServiceName, Snapshot, Waiting,
    departures::{Departed, Departures},
    forming::{Forming, Step},
    message::{MEMBERS_MAX, Message, Part, Reply, Standing, put_departed},
    packet::{Bound, Packet, Seal},
    peers::Peers,
    replica::{Bounds, Replica},
    swim::{Change, Swim, Via},
    wire::Write,
};

mod exchange;
mod intake;
mod view;

/// How often an empty or lonely node asks around.
const ASK: Duration = Duration::from_millis(500);

/// Agents and rows of topology of one host.
const TOPOLOGY: Bounds = Bounds {
    rows_max: 4_096,
    bytes_max: 1024 * 1024,
    tombstones_max: 128,
    owners_max: MEMBERS_MAX,
};

/// Rows of load of one host.
const LOAD: Bounds = Bounds {
    rows_max: 1_024,
    bytes_max: 256 * 1024,
    tombstones_max: 64,
    owners_max: MEMBERS_MAX,
};

/// How often the same address is told of in events about refusals.
const REFUSED_AGAIN: Duration = Duration::from_secs(10);

/// How many addresses are remembered for that.
const REFUSED_MAX: usize = 64;

/// Why an operator's eviction was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvictError {
    /// No such node is known here.
    #[error("no such node is known")]
    Unknown,
    /// A node does not evict itself; it leaves.
    #[error("a node does not evict itself: let it leave")]
    Own,
}

/// A member as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Who and where.
    pub host: Host,
    /// What is thought of it.
    pub standing: MemberStanding,
}

/// What is thought of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberStanding {
    /// It answers.
    Alive,
    /// It did not answer somebody, and has time to object.
    Suspect,
    /// It was declared down.
    Down,
    /// It departed.
    Departed(Departure),
}

/// The node's place in its cluster, for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub own: Host,
    /// Its cluster, if it has one.
    pub cluster: Option<ClusterId>,
    /// Why it has none.
    pub waiting: Option<Waiting>,
    /// All other nodes that are known.
    pub members: Vec<MemberStatus>,
}

/// The cluster as one node takes part in it.
pub struct Core {
    config: CoreConfig,
    seal: Seal,
    cluster: Option<ClusterId>,
    /// What is being written to disk.
    persisting: Option<ClusterId>,
    peers: Peers,
    swim: Swim,
    forming: Forming,
    departures: Departures,
    topology: Replica,
    load: Replica,
    rng: SmallRng,
    next_ask: Duration,
    next_seeds: Duration,
    next_announce: Duration,
    next_exchange: Duration,
    exchanges: u64,
    /// Owners of topology with news to pass on, from these sequences on, and when.
    rumours: BTreeMap<NodeId, u64>,
    rumours_due: Option<Duration>,
    /// Seeds that turned out to be this node.
    own_seeds: BTreeSet<SocketAddr>,
    refused: BTreeMap<SocketAddr, Duration>,
    stale_topology: BTreeSet<NodeId>,
    stale_load: BTreeSet<NodeId>,
    topology_shown: Arc<Snapshot>,
    load_shown: Arc<Snapshot>,
    stopped: Option<Departure>,
    counters: Counters,
}

impl Core {
    /// A core at its start. Its first timeout is `now`.
    pub fn new(config: CoreConfig, now: Duration, seed: u64) -> Self {
        let own = config.own;
        let mut rng = SmallRng::seed_from_u64(seed);
        Self {
            seal: Seal::new(&config.key),
            cluster: config.cluster,
            persisting: None,
            peers: Peers::new(config.secret),
            swim: Swim::new(own, &config, rng.random()),
            forming: Forming::new(own.node, config.expect, now),
            departures: Departures::default(),
            topology: Replica::new(own.node, TOPOLOGY),
            load: Replica::new(own.node, LOAD),
            rng,
            next_ask: now,
            next_seeds: now,
            next_announce: now + config.announce_period,
            next_exchange: now + config.exchange_period,
            exchanges: 0,
            rumours: BTreeMap::new(),
            rumours_due: None,
            own_seeds: BTreeSet::new(),
            refused: BTreeMap::new(),
            stale_topology: BTreeSet::from([own.node.id]),
            stale_load: BTreeSet::from([own.node.id]),
            topology_shown: Arc::default(),
            load_shown: Arc::default(),
            stopped: None,
            counters: Counters::default(),
            config,
        }
    }

    /// When [`Core::handle_timeout`] is due; `None` once stopped.
    pub fn next_timeout(&self) -> Option<Duration> {
        if self.stopped.is_some() {
            return None;
        }
        let own = [self.next_ask, self.next_announce, self.next_exchange];
        let others = [self.rumours_due, self.swim.next_timer()];
        own.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.stopped.is_some() {
            return;
        }
        self.swim.handle_timers(now);
        self.settle(now, effects);
        if now >= self.next_ask {
            self.next_ask = now + ASK;
            self.ask(now, effects);
        }
        if now >= self.next_announce {
            self.next_announce = now + self.jittered(self.config.announce_period);
            let departures = &self.departures;
            self.swim
                .announce_to_down(now, |node| departures.ended(node).is_some());
            self.swim.prune(now);
            self.forget_owners();
        }
        if now >= self.next_exchange {
            self.next_exchange = now + self.jittered(self.config.exchange_period);
            self.exchange(effects);
        }
        if self.rumours_due.is_some_and(|due| now >= due) {
            self.spread_rumours(effects);
        }
        self.settle(now, effects);
    }

    /// The cluster's id is on disk.
    pub fn handle_persisted(
        &mut self,
        now: Duration,
        cluster: ClusterId,
        effects: &mut Vec<Effect>,
    ) {
        self.persisting = None;
        if self.cluster.is_some() {
            return;
        }
        self.cluster = Some(cluster);
        effects.push(Effect::Event(Event::InCluster { cluster }));
        self.greet_peers(now, effects);
        self.settle(now, effects);
    }

    /// Something about this node has changed that its peers learn from a handshake.
    fn greet_peers(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let known: Vec<SocketAddr> = self.peers.iter().map(|peer| peer.host.udp).collect();
        for address in known {
            self.say_hello(now, address, effects);
        }
    }

    /// The seeds' names were resolved anew.
    pub fn handle_seeds(&mut self, now: Duration, seeds: Vec<SocketAddr>) {
        self.config.seeds = seeds;
        self.next_seeds = now;
    }

    /// This node is reached at other addresses from now on. It stays the same node.
    pub fn handle_addresses(
        &mut self,
        now: Duration,
        udp: SocketAddr,
        rpc: SocketAddr,
        effects: &mut Vec<Effect>,
    ) {
        let own = self.swim.own();
        if self.stopped.is_some() || (own.udp, own.rpc) == (udp, rpc) {
            return;
        }
        let revision = own.revision.saturating_add(1);
        self.swim.rebind(
            now,
            Host {
                revision,
                udp,
                rpc,
                ..own
            },
        );
        self.stale_topology.insert(own.node.id);
        self.stale_load.insert(own.node.id);
        self.greet_peers(now, effects);
        self.settle(now, effects);
    }

    /// The link to a host broke, rather than being closed in order.
    pub fn handle_link_reset(&mut self, now: Duration, node: NodeRef, effects: &mut Vec<Effect>) {
        if self.cluster.is_some() && self.stopped.is_none() {
            self.swim.suspect(now, node);
            self.settle(now, effects);
        }
    }

    /// Announces an instance of a service on this host, or tells something else about it.
    pub fn announce_agent(
        &mut self,
        now: Duration,
        service: &ServiceName,
        instance: u32,
        detail: Bytes,
        effects: &mut Vec<Effect>,
    ) -> Result<(), RowError> {
        self.put_row(now, agent_key(service, instance), detail, effects)
    }

    /// An instance of a service on this host goes; the host and its other agents stay.
    pub fn leave_agent(
        &mut self,
        now: Duration,
        service: &ServiceName,
        instance: u32,
        effects: &mut Vec<Effect>,
    ) {
        self.remove_row(now, agent_key(service, instance), effects);
    }

    /// Writes a row of this host.
    pub fn put_row(
        &mut self,
        now: Duration,
        key: RowKey,
        value: Bytes,
        effects: &mut Vec<Effect>,
    ) -> Result<(), RowError> {
        let part = part_of(key.kind);
        if let Some(before) = self.replica(part).put(key, value)? {
            self.wrote(now, part, before, effects);
        }
        Ok(())
    }

    /// Removes a row of this host.
    pub fn remove_row(&mut self, now: Duration, key: RowKey, effects: &mut Vec<Effect>) {
        let part = part_of(key.kind);
        if let Some(before) = self.replica(part).remove(key) {
            self.wrote(now, part, before, effects);
        }
    }

    /// This node leaves the cluster: the others see it go at once, and not as a failure.
    pub fn leave(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.stopped.is_some() {
            return;
        }
        let own = self.swim.own().node;
        if let Some(departed) = self.departures.depart(own, Departure::Left) {
            let all: Vec<Host> = self.swim.active().map(|member| member.host).collect();
            self.tell_departure(now, &all, departed, effects);
        }
        self.stop(Departure::Left, effects);
    }

    /// An operator puts a node out of the cluster, in the incarnation that is known and all before it.
    pub fn evict(
        &mut self,
        now: Duration,
        node: NodeId,
        effects: &mut Vec<Effect>,
    ) -> Result<(), EvictError> {
        if node == self.swim.own().node.id {
            return Err(EvictError::Own);
        }
        let host = self
            .swim
            .known()
            .map(|member| member.host)
            .find(|host| host.node.id == node)
            .ok_or(EvictError::Unknown)?;
        if let Some(departed) = self.departures.depart(host.node, Departure::Evicted) {
            let mut all: Vec<Host> = self.swim.active().map(|member| member.host).collect();
            if !all.contains(&host) {
                all.push(host);
            }
            self.tell_departure(now, &all, departed, effects);
            self.swim.depart(now, host.node);
            self.settle(now, effects);
        }
        Ok(())
    }

    /// How things stand, for an operator.
    pub fn status(&self) -> Status {
        let members = self.swim.known().map(|member| MemberStatus {
            host: member.host,
            standing: match (self.departures.ended(member.host.node), member.standing) {
                (Some(how), _) => MemberStanding::Departed(how),
                (None, Standing::Alive) => MemberStanding::Alive,
                (None, Standing::Suspect) => MemberStanding::Suspect,
                (None, Standing::Down) => MemberStanding::Down,
            },
        });
        let mut members: Vec<MemberStatus> = members.collect();
        members.sort_unstable_by_key(|member| member.host.node.id);
        let waiting = self.cluster.is_none().then(|| self.forming.waiting());
        Status {
            own: self.swim.own(),
            cluster: self.cluster,
            waiting: waiting.flatten(),
            members,
        }
    }

    /// This node as it presents itself now.
    pub fn own(&self) -> Host {
        self.swim.own()
    }

    /// The cluster, once its id is on disk.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// What was received, sent and refused so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn replica(&mut self, part: Part) -> &mut Replica {
        match part {
            Part::Topology => &mut self.topology,
            Part::Load => &mut self.load,
        }
    }

    fn wrote(&mut self, now: Duration, part: Part, before: u64, effects: &mut Vec<Effect>) {
        let own = self.swim.own().node.id;
        self.has_news(now, part, own, before);
        self.settle(now, effects);
    }

    /// Asks around: for a cluster while there is none, for members while there are none.
    fn ask(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.cluster.is_none() && self.persisting.is_none() {
            self.form(now, effects);
        }
        if now >= self.next_seeds {
            let is_lonely = self.cluster.is_none() || self.swim.active_count() == 0;
            self.next_seeds = now
                + match is_lonely {
                    true => ASK * 2,
                    false => self.jittered(self.config.announce_period),
                };
            for seed in self.config.seeds.clone() {
                let is_member = self.swim.active().any(|member| member.host.udp == seed);
                if !is_member && !self.own_seeds.contains(&seed) {
                    self.say_hello(now, seed, effects);
                }
            }
        }
        // Suspicions come and go without a notice.
        let own = self.swim.own().node.id;
        let suspects = self.swim.active().map(|member| member.host.node.id);
        let suspects: Vec<NodeId> = suspects.filter(|node| *node != own).collect();
        self.stale_topology.extend(suspects);
    }

    fn form(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        match self.forming.step(now) {
            Step::Wait => {}
            Step::SayWhy(waiting) => effects.push(Effect::Event(Event::Waiting(waiting))),
            Step::Form(founders) => {
                if let Some(cluster) = self.peers.draw_cluster(self.swim.own().node) {
                    self.persist(cluster, founders, effects);
                    return;
                }
            }
        }
        let sight = self.sight();
        let empty: Vec<Host> = self
            .peers
            .iter()
            .filter(|peer| peer.cluster.is_none())
            .filter(|peer| now.saturating_sub(peer.heard) < self.config.announce_period)
            .map(|peer| peer.host)
            .collect();
        for host in empty {
            self.send_bound(now, &host, sight.clone(), effects);
        }
    }

    fn sight(&mut self) -> Bytes {
        let mut payload = vec![intake::SIGHT];
        self.forming.sight().put(&mut payload);
        payload.into()
    }

    fn persist(&mut self, cluster: ClusterId, founders: Vec<NodeId>, effects: &mut Vec<Effect>) {
        self.persisting = Some(cluster);
        effects.push(Effect::Persist { cluster, founders });
    }

    fn stop(&mut self, how: Departure, effects: &mut Vec<Effect>) {
        self.stopped = Some(how);
        effects.push(Effect::Stopped(how));
    }

    /// Tells hosts of a departure, over both ways.
    fn tell_departure(
        &mut self,
        now: Duration,
        hosts: &[Host],
        departed: Departed,
        effects: &mut Vec<Effect>,
    ) {
        let mut payload = vec![intake::DEPARTURES];
        payload.put_list(&[departed], put_departed);
        let payload = Bytes::from(payload);
        let message = Message::State {
            reply: Reply::Not,
            members: Vec::new(),
            departures: vec![departed],
        };
        for host in hosts {
            self.send_bound(now, host, payload.clone(), effects);
            self.send_link(*host, &message, effects);
        }
    }

    /// Somebody told of a departure.
    fn learn_departure(&mut self, now: Duration, departed: Departed, effects: &mut Vec<Effect>) {
        if !self.departures.learn(departed) {
            return;
        }
        let own = self.swim.own().node;
        if departed.node.id == own.id {
            if departed.node.incarnation >= own.incarnation {
                self.stop(departed.how, effects);
            }
            return;
        }
        self.swim.depart(now, departed.node);
        let some = self.swim.some_active(exchange::FAN_OUT);
        self.tell_departure(now, &some, departed, effects);
    }

    fn say_hello(&mut self, now: Duration, to: SocketAddr, effects: &mut Vec<Effect>) {
        if to == self.swim.own().udp {
            return;
        }
        if let Some(nonce) = self.peers.begin_hello(now, to) {
            let hello = Packet::Hello(crate::packet::Hello {
                nonce,
                from: self.swim.own(),
                cluster: self.cluster,
            });
            self.send(to, &hello, effects);
        }
    }

    /// Sends a payload to a host that has proven itself, or once it has.
    fn send_bound(&mut self, now: Duration, to: &Host, payload: Bytes, effects: &mut Vec<Effect>) {
        if self.peers.get(to.node).is_some() {
            let bound = Packet::Bound(Bound {
                from: self.swim.own().node,
                to: to.node,
                cluster: self.cluster,
                count: self.peers.next_count(),
                payload,
            });
            self.send(to.udp, &bound, effects);
            return;
        }
        self.say_hello(now, to.udp, effects);
        if !self.peers.wait(to, payload) {
            self.counters.waiting_dropped += 1;
        }
    }

    fn send(&mut self, to: SocketAddr, packet: &Packet, effects: &mut Vec<Effect>) {
        let packet = self.seal.seal(packet);
        self.counters.packets_out += 1;
        self.counters.packet_bytes_out += packet.len() as u64;
        effects.push(Effect::SendUdp { to, packet });
    }

    fn send_link(&mut self, to: Host, message: &Message, effects: &mut Vec<Effect>) {
        let message = message.encode();
        self.counters.messages_out += 1;
        self.counters.message_bytes_out += message.len() as u64;
        effects.push(Effect::SendLink { to, message });
    }

    /// Passes on what the membership protocol wants, and shows what has changed.
    fn settle(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let outcome = std::mem::take(&mut self.swim.outcome);
        if self.cluster.is_none() || self.stopped.is_some() {
            return;
        }
        for change in outcome.changes {
            self.changed(now, change, effects);
        }
        for send in outcome.sends {
            match send.via {
                Via::Udp => {
                    let mut payload = Vec::with_capacity(1 + send.packet.len());
                    payload.put_u8(intake::SWIM);
                    payload.put_slice(&send.packet);
                    self.send_bound(now, &send.to, payload.into(), effects);
                }
                Via::Link => self.send_link(send.to, &Message::Swim(send.packet), effects),
            }
        }
        self.show(effects);
    }

    fn changed(&mut self, now: Duration, change: Change, effects: &mut Vec<Effect>) {
        let own = self.swim.own().node.id;
        let node = match change {
            Change::Up(host) | Change::Down(host) | Change::Renewed { to: host, .. } => {
                host.node.id
            }
            Change::Rejoined => own,
        };
        self.stale_topology.insert(node);
        self.stale_load.insert(node);
        let event = match change {
            Change::Up(host) => {
                if self.swim.active_count() == 1 {
                    // The first in sight: it has heard nothing of this node.
                    self.has_news(now, Part::Topology, own, 0);
                }
                Event::HostUp(host)
            }
            Change::Down(host) => Event::HostDown {
                host,
                how: self.departures.ended(host.node),
            },
            Change::Renewed { from, to } => Event::HostRenewed { from, to },
            Change::Rejoined => Event::Rejoined,
        };
        effects.push(Effect::Event(event));
    }

    /// A period, give or take a fifth, so that nodes do not fall into step.
    fn jittered(&mut self, period: Duration) -> Duration {
        period.mul_f64(self.rng.random_range(0.8..1.2))
    }
}

fn part_of(kind: RowKind) -> Part {
    match kind {
        RowKind::Agent | RowKind::Topology => Part::Topology,
        RowKind::Load => Part::Load,
    }
}

fn agent_key(service: &ServiceName, instance: u32) -> RowKey {
    let name = format!("{service}/{instance}");
    RowKey {
        kind: RowKind::Agent,
        name: RowName::new(&name).expect("a service's name and a number are short"),
    }
}

#[cfg(test)]
mod tests;
