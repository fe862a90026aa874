//! What comes over UDP: who is let in, and what is answered.

use std::{net::SocketAddr, time::Duration};

use crate::{
    ClusterId, Core, Effect, Event, Host, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, Refusal,
    forming::Sight,
    message,
    packet::{Bound, Challenge, Hello, OpenError, Packet, Proof},
    peers::{Met, Take},
    swim::Via,
    wire::Reader,
};

/// The kinds of payload in a bound packet: its first byte.
pub(super) const SWIM: u8 = 1;
pub(super) const SIGHT: u8 = 2;
pub(super) const DEPARTURES: u8 = 3;

impl Core {
    /// Takes a packet from anybody.
    pub fn handle_packet(
        &mut self,
        now: Duration,
        from: SocketAddr,
        packet: &[u8],
        effects: &mut Vec<Effect>,
    ) {
        if self.stopped.is_some() {
            return;
        }
        self.counters.packets_in += 1;
        match self.seal.open(packet) {
            Ok(Packet::Hello(hello)) => self.handle_hello(now, from, &hello, effects),
            Ok(Packet::Challenge(challenge)) => {
                self.handle_challenge(now, from, &challenge, effects);
            }
            Ok(Packet::Proof(proof)) => self.handle_proof(now, from, &proof, effects),
            Ok(Packet::Bound(bound)) => self.handle_bound(now, from, &bound, effects),
            Ok(Packet::Refuse { nonce, reason }) => {
                self.handle_refuse(now, nonce, reason, effects);
            }
            Err(OpenError::Unauthentic) => self.counters.unauthentic += 1,
            Err(OpenError::Malformed) => self.counters.malformed += 1,
            Err(OpenError::Version { version, nonce }) => {
                self.counters.other_version += 1;
                let reason = Refusal::Version {
                    min: PROTOCOL_VERSION_MIN,
                    max: PROTOCOL_VERSION,
                };
                self.tell_refused(now, from, reason, Some(version), effects);
                if let Some(nonce) = nonce {
                    self.send(from, &Packet::Refuse { nonce, reason }, effects);
                }
            }
        }
        self.settle(now, effects);
    }

    /// Nothing is kept of a hello: it may be a recording.
    fn handle_hello(
        &mut self,
        now: Duration,
        from: SocketAddr,
        hello: &Hello,
        effects: &mut Vec<Effect>,
    ) {
        let own = self.swim.own();
        if hello.from.node == own.node {
            if let Some((seed, _)) = self.peers.end_hello(hello.nonce) {
                self.own_seeds.insert(seed);
            }
            return;
        }
        if let Some(reason) = self.refusal(&hello.from, hello.cluster) {
            self.tell_refused(now, from, reason, None, effects);
            let nonce = hello.nonce;
            self.send(from, &Packet::Refuse { nonce, reason }, effects);
            return;
        }
        let challenge = Packet::Challenge(Challenge {
            nonce: hello.nonce,
            from: own,
            cluster: self.cluster,
            to: hello.from.node,
            cookie: self.peers.cookie(now, hello.from.node, from),
            count: self.peers.next_count(),
        });
        self.send(from, &challenge, effects);
    }

    fn handle_challenge(
        &mut self,
        now: Duration,
        from: SocketAddr,
        challenge: &Challenge,
        effects: &mut Vec<Effect>,
    ) {
        if challenge.to != self.swim.own().node {
            self.counters.misdirected += 1;
            return;
        }
        let Some((_, waiting)) = self.peers.end_hello(challenge.nonce) else {
            self.counters.unasked += 1;
            return;
        };
        let host = challenge.from;
        if let Some(reason) = self.refusal(&host, challenge.cluster) {
            self.tell_refused(now, from, reason, None, effects);
            return;
        }
        if !self.meet(now, &host, challenge.cluster, challenge.count, effects) {
            return;
        }
        let proof = Packet::Proof(Proof {
            from: self.swim.own(),
            cluster: self.cluster,
            to: host.node,
            cookie: challenge.cookie,
            count: self.peers.next_count(),
        });
        self.send(from, &proof, effects);
        for (to, payload) in waiting {
            if to == host.node {
                self.send_bound(now, &host, payload, effects);
            }
        }
        self.greet(now, &host, effects);
    }

    fn handle_proof(
        &mut self,
        now: Duration,
        from: SocketAddr,
        proof: &Proof,
        effects: &mut Vec<Effect>,
    ) {
        if proof.to != self.swim.own().node {
            self.counters.misdirected += 1;
            return;
        }
        let host = proof.from;
        if !self.peers.is_cookie(now, host.node, from, proof.cookie) {
            self.counters.unproven += 1;
            return;
        }
        if let Some(reason) = self.refusal(&host, proof.cluster) {
            self.tell_refused(now, from, reason, None, effects);
            return;
        }
        if self.meet(now, &host, proof.cluster, proof.count, effects) {
            self.greet(now, &host, effects);
        }
    }

    /// Why a host is not welcome, if it is not.
    fn refusal(&self, host: &Host, cluster: Option<ClusterId>) -> Option<Refusal> {
        if let (Some(own), Some(theirs)) = (self.cluster, cluster)
            && own != theirs
        {
            return Some(Refusal::ForeignCluster(own));
        }
        if self.departures.ended(host.node).is_some() {
            return Some(Refusal::Departed);
        }
        let known = self.peers.incarnation(host.node.id);
        known
            .is_some_and(|known| known > host.node.incarnation)
            .then_some(Refusal::OldIncarnation)
    }

    /// A host has proven itself. Whether it is taken as a peer.
    fn meet(
        &mut self,
        now: Duration,
        host: &Host,
        cluster: Option<ClusterId>,
        count: u64,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if host.node.id == self.swim.own().node.id {
            self.counters.ended += 1;
            return false;
        }
        match self.peers.meet(now, *host, cluster, count) {
            Met::New | Met::Again => {}
            Met::OldIncarnation => {
                self.counters.ended += 1;
                return false;
            }
            Met::Replayed => {
                self.counters.replayed += 1;
                return false;
            }
        }
        if let Some(cluster) = cluster {
            self.forming.forget(host.node.id);
            self.adopt(cluster, effects);
        }
        true
    }

    /// An empty node joins the cluster of the first member it meets.
    fn adopt(&mut self, cluster: ClusterId, effects: &mut Vec<Effect>) {
        if self.cluster.is_none() && self.persisting.is_none() {
            self.persist(cluster, Vec::new(), effects);
        }
    }

    /// What is said first to a peer, now that both know each other.
    fn greet(&mut self, now: Duration, host: &Host, effects: &mut Vec<Effect>) {
        let peer = self.peers.get(host.node).and_then(|peer| peer.cluster);
        match (self.cluster, peer) {
            (Some(own), Some(theirs)) if own == theirs => {
                let active = self.swim.active_host(host.node.id);
                if active.is_none_or(|active| host.is_newer_than(&active)) {
                    self.swim.announce(now, *host);
                }
            }
            (None, None) => {
                let sight = self.sight();
                self.send_bound(now, host, sight, effects);
            }
            _ => {}
        }
    }

    fn handle_bound(
        &mut self,
        now: Duration,
        from: SocketAddr,
        bound: &Bound,
        effects: &mut Vec<Effect>,
    ) {
        let own = self.swim.own().node;
        if bound.to != own {
            self.counters.misdirected += 1;
            if bound.to.id == own.id {
                // It knows an earlier start of this node.
                self.say_hello(now, from, effects);
            }
            return;
        }
        if self.departures.ended(bound.from).is_some() {
            self.counters.ended += 1;
            self.tell_departed(now, bound, effects);
            return;
        }
        match self.peers.take(now, bound.from, bound.count) {
            Take::Fresh => {}
            Take::Unknown => {
                self.counters.unproven += 1;
                self.say_hello(now, from, effects);
                return;
            }
            Take::OldIncarnation => {
                self.counters.ended += 1;
                return;
            }
            Take::Replayed => {
                self.counters.replayed += 1;
                return;
            }
        }
        match (self.cluster, bound.cluster) {
            (Some(own), Some(theirs)) if own != theirs => {
                self.counters.foreign += 1;
                return;
            }
            (None, Some(cluster)) => {
                self.peers.note_cluster(bound.from.id, bound.cluster);
                self.forming.forget(bound.from.id);
                self.adopt(cluster, effects);
            }
            // It will see that this node has a cluster.
            (Some(_), None) => self.say_hello(now, from, effects),
            _ => self.peers.note_cluster(bound.from.id, bound.cluster),
        }
        if self.handle_payload(now, bound, effects).is_none() {
            self.counters.malformed += 1;
        }
    }

    fn handle_payload(
        &mut self,
        now: Duration,
        bound: &Bound,
        effects: &mut Vec<Effect>,
    ) -> Option<()> {
        let mut reader = Reader(&bound.payload);
        match reader.u8()? {
            SWIM if self.cluster.is_some() && self.cluster == bound.cluster => {
                let departures = &self.departures;
                let ended = |node| departures.ended(node).is_some();
                self.swim
                    .handle_packet(now, bound.from, Via::Udp, reader.0, ended)
                    .then_some(())
            }
            SIGHT => {
                let sight = Sight::read(&mut reader)?;
                reader.end(())?;
                if self.cluster.is_none() && bound.cluster.is_none() {
                    self.handle_sight(now, bound, sight, effects);
                }
                Some(())
            }
            DEPARTURES => {
                let departures = message::departures(&mut reader)?;
                reader.end(())?;
                for departed in departures {
                    self.learn_departure(now, departed, effects);
                }
                Some(())
            }
            SWIM => Some(()),
            _ => None,
        }
    }

    fn handle_sight(
        &mut self,
        now: Duration,
        bound: &Bound,
        sight: Sight,
        effects: &mut Vec<Effect>,
    ) {
        let Some(host) = self.peers.get(bound.from).map(|peer| peer.host) else {
            return;
        };
        let own = self.swim.own().node.id;
        for other in &sight.hosts {
            // Also one that was known and not heard for long: it may have moved or come back.
            if other.node.id != own && !self.forming.has_sighted(other.node.id) {
                self.say_hello(now, other.udp, effects);
            }
        }
        let is_new = sight.expect > 0 && !self.forming.has_sighted(host.node.id);
        self.forming.see(now, host, sight);
        if is_new {
            let sight = self.sight();
            self.send_bound(now, &host, sight, effects);
        }
    }

    /// Somebody goes on that has departed: it may not know.
    fn tell_departed(&mut self, now: Duration, bound: &Bound, effects: &mut Vec<Effect>) {
        let departed = self.departures.of(bound.from.id);
        let host = self.peers.get(bound.from).map(|peer| peer.host);
        if let (Some(departed), Some(host)) = (departed, host) {
            self.tell_departure(now, &[host], departed, effects);
        }
    }

    fn handle_refuse(
        &mut self,
        now: Duration,
        nonce: u64,
        reason: Refusal,
        effects: &mut Vec<Effect>,
    ) {
        let Some((address, _)) = self.peers.end_hello(nonce) else {
            self.counters.unasked += 1;
            return;
        };
        if self.is_news(now, address) {
            effects.push(Effect::Event(Event::RefusedBy { address, reason }));
        }
        if reason == Refusal::Departed {
            self.stop(crate::Departure::Evicted, effects);
        }
    }

    fn tell_refused(
        &mut self,
        now: Duration,
        address: SocketAddr,
        reason: Refusal,
        version: Option<u16>,
        effects: &mut Vec<Effect>,
    ) {
        if matches!(reason, Refusal::ForeignCluster(_)) {
            self.counters.foreign += 1;
        }
        if self.is_news(now, address) {
            effects.push(Effect::Event(Event::Refused {
                address,
                reason,
                version,
            }));
        }
    }

    /// Whether nothing was told about this address for a while.
    fn is_news(&mut self, now: Duration, address: SocketAddr) -> bool {
        self.refused
            .retain(|_, told| now.saturating_sub(*told) < super::REFUSED_AGAIN);
        if self.refused.contains_key(&address) || self.refused.len() >= super::REFUSED_MAX {
            return false;
        }
        self.refused.insert(address, now);
        true
    }
}
