//! What comes and goes over links: comparing what is known, and passing on rows.

use std::time::Duration;

use bifrust_model::{NodeId, NodeRef};
use bytes::Bytes;

use crate::{
    Core, Effect, Host,
    message::{Digest, Hash, MEMBERS_MAX, MemberState, Message, Part, Reply},
    planted::planted,
    replica::{Applied, Delta, Version},
    swim::Via,
};

/// How many hosts each piece of news is passed on to, by each that hears it for the first time.
pub(super) const FAN_OUT: usize = 4;

/// News waits this long for more.
const RUMOUR: Duration = Duration::from_millis(100);

/// Load figures are compared in one of so many exchanges.
const LOAD_EVERY: u64 = 5;

/// One message holds deltas up to this, and at least one.
const DELTAS_BYTES: usize = 512 * 1024;

impl Core {
    /// Takes a message from a host that the link's hello has proven.
    pub fn handle_link(
        &mut self,
        now: Duration,
        from: NodeRef,
        message: &Bytes,
        effects: &mut Vec<Effect>,
    ) {
        if self.cluster.is_none() || self.stopped.is_some() {
            return;
        }
        let Some(message) = Message::decode(message) else {
            self.counters.messages_malformed += 1;
            return;
        };
        let departures = &self.departures;
        let ended = |node| departures.ended(node).is_some();
        if ended(from) {
            self.counters.ended += 1;
            return;
        }
        if let Message::Swim(packet) = message {
            if !self
                .swim
                .handle_packet(now, from, Via::Link, &packet, ended)
            {
                self.counters.messages_malformed += 1;
            }
            self.settle(now, effects);
            return;
        }
        let host = self.swim.active_host(from.id);
        let host = host.filter(|host| host.node == from);
        match message {
            Message::Swim(_) => {}
            Message::Digest(theirs) => {
                if let Some(host) = host {
                    self.handle_digest(host, theirs, effects);
                }
            }
            Message::State {
                reply,
                members,
                departures,
            } => {
                for departed in departures {
                    self.learn_departure(now, departed, effects);
                }
                let departures = &self.departures;
                self.swim
                    .merge(now, members, |node| departures.ended(node).is_some());
                if let (Some(host), Reply::Wanted) = (host, reply) {
                    let state = self.state(Reply::Not);
                    self.send_link(host, &state, effects);
                }
            }
            Message::Versions {
                part,
                is_complete,
                versions,
            } => {
                if let Some(host) = host {
                    self.handle_versions(host, part, is_complete, &versions, effects);
                }
            }
            Message::Deltas { part, deltas } => {
                self.handle_deltas(now, host, part, deltas, effects);
            }
        }
        self.settle(now, effects);
    }

    /// Compares with one host by chance.
    pub(super) fn exchange(&mut self, effects: &mut Vec<Effect>) {
        self.exchanges += 1;
        if planted("no anti-entropy") {
            return;
        }
        for host in self.swim.some_active(1) {
            let digest = self.digest();
            self.send_link(host, &Message::Digest(digest), effects);
        }
    }

    fn digest(&self) -> Digest {
        let mut members = Hash::new();
        for host in self.hosts() {
            members.add(&host.node.id.0.to_be_bytes());
            members.add(&host.node.incarnation.0.to_be_bytes());
            members.add(&host.revision.to_be_bytes());
        }
        for departed in self.departures.iter() {
            members.add(&departed.node.id.0.to_be_bytes());
            members.add(&departed.node.incarnation.0.to_be_bytes());
            members.add(&departed.stamp.to_be_bytes());
        }
        let is_load_due = self.exchanges.is_multiple_of(LOAD_EVERY);
        Digest {
            members: members.finish(),
            topology: hash(&self.versions(Part::Topology)),
            // 0 stands for "not compared now".
            load: match is_load_due {
                true => hash(&self.versions(Part::Load)).max(1),
                false => 0,
            },
        }
    }

    /// Hosts in sight and this one, by node.
    fn hosts(&self) -> Vec<Host> {
        let mut hosts: Vec<Host> = self.swim.active().map(|member| member.host).collect();
        hosts.push(self.swim.own());
        hosts.sort_unstable_by_key(|host| host.node.id);
        hosts
    }

    /// How far the rows of those in sight are known.
    fn versions(&self, part: Part) -> Vec<(NodeId, Version)> {
        let replica = match part {
            Part::Topology => &self.topology,
            Part::Load => &self.load,
        };
        let hosts = self.hosts().into_iter();
        let versions = hosts.filter_map(|host| {
            let version = replica.version(host.node.id)?;
            (version.sequence > 0).then_some((host.node.id, version))
        });
        versions.take(MEMBERS_MAX).collect()
    }

    fn handle_digest(&mut self, host: Host, theirs: Digest, effects: &mut Vec<Effect>) {
        let own = self.digest();
        if own.members != theirs.members {
            let state = self.state(Reply::Wanted);
            self.send_link(host, &state, effects);
        }
        let is_load_other =
            theirs.load != 0 && hash(&self.versions(Part::Load)).max(1) != theirs.load;
        let parts = [
            (Part::Topology, own.topology != theirs.topology),
            (Part::Load, is_load_other),
        ];
        for (part, differs) in parts {
            if differs {
                let versions = Message::Versions {
                    part,
                    is_complete: true,
                    versions: self.versions(part),
                };
                self.send_link(host, &versions, effects);
            }
        }
    }

    fn state(&self, reply: Reply) -> Message {
        let mut members: Vec<MemberState> = self.swim.known().take(MEMBERS_MAX - 1).collect();
        members.push(self.swim.own_state());
        Message::State {
            reply,
            members,
            departures: self.departures.iter().copied().collect(),
        }
    }

    /// Sends what the other one lacks, and asks for what it has and this one lacks.
    fn handle_versions(
        &mut self,
        host: Host,
        part: Part,
        is_complete: bool,
        theirs: &[(NodeId, Version)],
        effects: &mut Vec<Effect>,
    ) {
        let own = self.versions(part);
        let theirs: std::collections::BTreeMap<NodeId, Version> = theirs.iter().copied().collect();
        let replica = self.replica(part);
        let mut deltas = Vec::new();
        let mut bytes = 0;
        for (owner, version) in &own {
            let known = theirs.get(owner).copied();
            if (known.is_none() && !is_complete) || known.is_some_and(|known| known >= *version) {
                continue;
            }
            if let Some(delta) = replica.delta(*owner, known) {
                bytes += bytes_of(&delta);
                deltas.push(delta);
                if bytes > DELTAS_BYTES {
                    break;
                }
            }
        }
        let lacking = theirs.iter().filter_map(|(owner, version)| {
            let own = replica.version(*owner);
            let zero = Version {
                incarnation: version.incarnation,
                sequence: 0,
            };
            (own.is_none_or(|own| own < *version)).then_some((*owner, own.unwrap_or(zero)))
        });
        let lacking: Vec<(NodeId, Version)> = lacking.collect();
        if !deltas.is_empty() {
            self.send_link(host, &Message::Deltas { part, deltas }, effects);
        }
        // The answer to this one asks no more: what it names, the other has.
        if !lacking.is_empty() && is_complete {
            let versions = Message::Versions {
                part,
                is_complete: false,
                versions: lacking,
            };
            self.send_link(host, &versions, effects);
        }
    }

    fn handle_deltas(
        &mut self,
        now: Duration,
        host: Option<Host>,
        part: Part,
        deltas: Vec<Delta>,
        effects: &mut Vec<Effect>,
    ) {
        let mut gaps = Vec::new();
        for delta in deltas {
            let owner = delta.owner;
            // Rows of hosts that nobody has told of yet come again once they are known.
            let is_known = self
                .swim
                .known()
                .any(|member| member.host.node.id == owner.id);
            if !is_known && owner.id != self.swim.own().node.id {
                continue;
            }
            match self.replica(part).apply(delta) {
                Applied::From(before) => self.has_news(now, part, owner.id, before),
                Applied::Stale => {}
                Applied::Refused => self.counters.rows_refused += 1,
                Applied::Gap => {
                    let version = self.replica(part).version(owner.id);
                    let zero = Version {
                        incarnation: owner.incarnation,
                        sequence: 0,
                    };
                    gaps.push((owner.id, version.unwrap_or(zero)));
                }
            }
        }
        if let (Some(host), false) = (host, gaps.is_empty()) {
            let versions = Message::Versions {
                part,
                is_complete: false,
                versions: gaps,
            };
            self.send_link(host, &versions, effects);
        }
    }

    /// An owner's rows have changed here; they are shown, and those of topology passed on.
    pub(super) fn has_news(&mut self, now: Duration, part: Part, owner: NodeId, before: u64) {
        match part {
            Part::Load => {
                self.stale_load.insert(owner);
            }
            Part::Topology => {
                self.stale_topology.insert(owner);
                let base = self.rumours.entry(owner).or_insert(before);
                *base = before.min(*base);
                self.rumours_due.get_or_insert(now + RUMOUR);
            }
        }
    }

    pub(super) fn spread_rumours(&mut self, effects: &mut Vec<Effect>) {
        self.rumours_due = None;
        let rumours = std::mem::take(&mut self.rumours);
        let mut bytes = 0;
        let deltas: Vec<Delta> = rumours
            .into_iter()
            .filter_map(|(owner, sequence)| {
                let incarnation = self.topology.version(owner)?.incarnation;
                let base = Version {
                    incarnation,
                    sequence,
                };
                self.topology.delta(owner, Some(base))
            })
            .take_while(|delta| {
                // What does not fit is left to the exchanges.
                let is_first = bytes == 0;
                bytes += bytes_of(delta);
                is_first || bytes < DELTAS_BYTES
            })
            .collect();
        if deltas.is_empty() {
            return;
        }
        let part = Part::Topology;
        let message = Message::Deltas { part, deltas };
        for host in self.swim.some_active(FAN_OUT) {
            self.send_link(host, &message, effects);
        }
    }

    /// Rows of owners that are no longer known at all.
    pub(super) fn forget_owners(&mut self) {
        let known: std::collections::BTreeSet<NodeId> = self
            .swim
            .known()
            .map(|member| member.host.node.id)
            .collect();
        let departures = &self.departures;
        for replica in [&mut self.topology, &mut self.load] {
            replica.retain(|owner| known.contains(&owner.id) && departures.ended(owner).is_none());
        }
    }
}

fn hash(versions: &[(NodeId, Version)]) -> u64 {
    let mut hash = Hash::new();
    for (owner, version) in versions {
        hash.add(&owner.0.to_be_bytes());
        hash.add(&version.incarnation.0.to_be_bytes());
        hash.add(&version.sequence.to_be_bytes());
    }
    hash.finish()
}

fn bytes_of(delta: &Delta) -> usize {
    let writes = delta.writes.iter();
    let bytes = writes.map(|write| {
        let value = write.value.as_ref().map_or(0, Bytes::len);
        write.key.name.as_str().len() + value + 16
    });
    bytes.sum::<usize>() + 64
}
