//! Who is alive: foca's SWIM with what it leaves to its user.
//!
//! Added here: a probe that UDP did not carry goes over the link as well, and so do a suspicion (to
//! the suspect) and its refutation; a reset link raises suspicion; a host that hears nobody doubts
//! itself before it declares anyone down, and spreads no news meanwhile; what others say is checked
//! against our bounds, against departures, and against what was just heard from the host itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::{NonZeroU8, NonZeroUsize},
    time::Duration,
};

use bifrust_model::{NodeId, NodeRef};
use bytes::Bytes;
use foca::{
    AccumulatingRuntime, Foca, Header, Message, NoCustomBroadcast, OwnedNotification,
    PeriodicParams, Timer,
};
use rand::{SeedableRng, rngs::SmallRng, seq::IteratorRandom};

use crate::{
    CoreConfig, Host,
    message::{MEMBERS_MAX, MemberState, Standing},
    packet::PAYLOAD_BYTES_MAX,
    planted::planted,
};

pub(crate) mod codec;

use codec::{Peer, SwimCodec, SwimPacket, from_foca, into_foca};

/// Hosts asked to probe on our behalf, and hosts that a rumour is told to at a time.
const FAN_OUT: usize = 3;

/// Silent members in a row after which this host doubts itself.
const DEAF_AFTER: usize = 3;

/// How many suspicion times a host that hears nobody waits before it declares somebody down.
const PATIENCE: u32 = 4;

/// How often a postponed declaration is looked at again.
const DOUBT: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Udp,
    Link,
}

#[derive(Clone, Debug)]
pub(crate) struct Send {
    pub(crate) to: Host,
    pub(crate) packet: Bytes,
    pub(crate) via: Via,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Up(Host),
    Down(Host),
    /// The same node: another revision, or another start.
    Renewed {
        from: Host,
        to: Host,
    },
    /// This host came back as its next revision.
    Rejoined,
}

/// What came of an input.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) sends: Vec<Send>,
    pub(crate) changes: Vec<Change>,
}

struct Probing {
    target: Host,
    ping: Bytes,
    is_answered: bool,
}

pub(crate) struct Swim {
    foca: Foca<Peer, SwimCodec, SmallRng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Peer>,
    timers: BTreeMap<(Duration, u64), Timer<Peer>>,
    timers_made: u64,
    /// When suspects are told once more that they are.
    reminders: BTreeMap<(Duration, u64), MemberState>,
    /// foca ignores timers of an earlier token; this is the one of its present probes.
    token: u8,
    suspicion: Duration,
    rng: SmallRng,
    /// How often this host refuted, as its packets say.
    refutations: u16,
    probing: Option<Probing>,
    /// Members that did not answer since anybody did.
    failing: BTreeSet<NodeId>,
    /// When somebody answered again after nobody had.
    hears_since: Option<Duration>,
    /// Since when a declaration waits.
    postponed: BTreeMap<NodeId, Duration>,
    /// Whose packet over a link is being handled.
    answering: Option<NodeRef>,
    pub(crate) outcome: Outcome,
}

impl Swim {
    pub(crate) fn new(own: Host, config: &CoreConfig, seed: u64) -> Self {
        let foca = foca::Config {
            probe_period: config.probe_period,
            probe_rtt: config.probe_timeout,
            num_indirect_probes: count(FAN_OUT),
            max_transmissions: const { NonZeroU8::new(10).expect("not zero") },
            suspect_to_down_after: config.suspicion,
            remove_down_after: Some(config.forget_down),
            max_packet_size: count(PAYLOAD_BYTES_MAX - 1),
            notify_down_members: true,
            periodic_announce: Some(PeriodicParams {
                frequency: config.announce_period * 3,
                num_members: count(1),
            }),
            // Done by the core: foca does it only while it knows somebody alive.
            periodic_announce_to_down_members: None,
            periodic_gossip: Some(PeriodicParams {
                frequency: config.gossip_period,
                num_members: count(FAN_OUT),
            }),
        };
        Self {
            foca: Foca::new(Peer(own), foca, SmallRng::seed_from_u64(seed), SwimCodec),
            runtime: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            timers_made: 0,
            reminders: BTreeMap::new(),
            token: 0,
            suspicion: config.suspicion,
            rng: SmallRng::seed_from_u64(seed ^ 1),
            refutations: 0,
            probing: None,
            failing: BTreeSet::new(),
            hears_since: None,
            postponed: BTreeMap::new(),
            answering: None,
            outcome: Outcome::default(),
        }
    }

    /// This host as it presents itself now.
    pub(crate) fn own(&self) -> Host {
        self.foca.identity().0
    }

    pub(crate) fn next_timer(&self) -> Option<Duration> {
        let timers = self.timers.keys().next();
        let reminders = self.reminders.keys().next();
        timers.into_iter().chain(reminders).map(|(at, _)| *at).min()
    }

    /// Members in sight, without this one.
    pub(crate) fn active(&self) -> impl Iterator<Item = MemberState> {
        self.foca.iter_members().map(from_foca)
    }

    pub(crate) fn active_count(&self) -> usize {
        self.foca.num_members()
    }

    pub(crate) fn active_host(&self, node: NodeId) -> Option<Host> {
        let mut hosts = self.active().map(|member| member.host);
        hosts.find(|host| host.node.id == node)
    }

    /// All that is known, those that are down too, without this host.
    pub(crate) fn known(&self) -> impl Iterator<Item = MemberState> {
        let own = self.own().node.id;
        let known = self.foca.iter_membership_state().map(from_foca);
        known.filter(move |member| member.host.node.id != own)
    }

    /// This host's own line in what it tells others of all members.
    pub(crate) fn own_state(&self) -> MemberState {
        MemberState {
            host: self.own(),
            refutations: self.refutations,
            standing: Standing::Alive,
        }
    }

    /// Some members in sight, by chance.
    pub(crate) fn some_active(&mut self, count: usize) -> Vec<Host> {
        let active = self.foca.iter_members().map(|member| member.id().0);
        active.sample(&mut self.rng, count)
    }

    /// Asks a host to take this one in.
    pub(crate) fn announce(&mut self, now: Duration, host: Host) {
        let result = self.foca.announce(Peer(host), &mut self.runtime);
        self.settle(now, result);
    }

    /// Greets some of those that are down and did not leave: the way back after a partition.
    pub(crate) fn announce_to_down(&mut self, now: Duration, ended: impl Fn(NodeRef) -> bool) {
        let down = self.known();
        let down = down
            .filter(|member| member.standing == Standing::Down && !ended(member.host.node))
            .map(|member| member.host);
        let down: Vec<Host> = down.collect();
        for host in down.into_iter().sample(&mut self.rng, FAN_OUT) {
            self.announce(now, host);
        }
    }

    /// Takes a packet from a host that was authenticated. `false` if it is none.
    pub(crate) fn handle_packet(
        &mut self,
        now: Duration,
        from: NodeRef,
        via: Via,
        bytes: &[u8],
        ended: impl Fn(NodeRef) -> bool,
    ) -> bool {
        let Some(mut packet) = SwimPacket::decode(bytes) else {
            return false;
        };
        let src = packet.header.src.0;
        if src.node != from || ended(from) || !self.has_room_for(src.node.id) {
            return false;
        }
        self.hear(now, &packet.header);
        self.take_over(now, &mut packet.updates, &ended);
        if packet.header.dst.0 != self.own() && packet.header.message != Message::Announce {
            // It knows an earlier revision of this host.
            self.announce(now, src);
        }
        let refutations = self.refutations;
        let own = self.own().node;
        let mut updates = packet.updates.iter();
        let is_suspected =
            updates.any(|update| update.host.node == own && update.standing == Standing::Suspect);
        self.answering = (via == Via::Link).then_some(from);
        let encoded = packet.encode();
        let result = self.foca.handle_data(&encoded, &mut self.runtime);
        self.settle(now, result);
        self.answering = None;
        // Also what was refuted before: it did not arrive there.
        if self.refutations > refutations || is_suspected {
            self.refute(Some(src));
        }
        true
    }

    /// Takes what another host knows of all members, told over a link.
    pub(crate) fn merge(
        &mut self,
        now: Duration,
        members: Vec<MemberState>,
        ended: impl Fn(NodeRef) -> bool,
    ) {
        let mut members = members;
        self.take_over(now, &mut members, ended);
        let refutations = self.refutations;
        let updates = members.into_iter().map(into_foca);
        let result = self.foca.apply_many(updates, true, &mut self.runtime);
        self.settle(now, result);
        if self.refutations > refutations {
            self.refute(None);
        }
    }

    /// The link to a member broke: it may be gone.
    pub(crate) fn suspect(&mut self, now: Duration, node: NodeRef) {
        let member = self.active().find(|member| member.host.node == node);
        let Some(member) = member.filter(|member| member.standing == Standing::Alive) else {
            return;
        };
        let suspect = MemberState {
            standing: Standing::Suspect,
            ..member
        };
        let update = std::iter::once(into_foca(suspect));
        let result = self.foca.apply_many(update, true, &mut self.runtime);
        self.settle(now, result);
        self.arm_suspicion(now + self.suspicion, &member);
        self.tell_suspect(&suspect);
    }

    /// A member has departed: it is down, for good.
    pub(crate) fn depart(&mut self, now: Duration, node: NodeRef) {
        let members: Vec<MemberState> = self
            .active()
            .filter(|member| {
                member.host.node.id == node.id && member.host.node.incarnation <= node.incarnation
            })
            .map(|member| MemberState {
                standing: Standing::Down,
                ..member
            })
            .collect();
        let updates = members.into_iter().map(into_foca);
        let result = self.foca.apply_many(updates, true, &mut self.runtime);
        self.settle(now, result);
    }

    /// This host has other addresses from now on.
    pub(crate) fn rebind(&mut self, now: Duration, host: Host) {
        let result = self.foca.change_identity(Peer(host), &mut self.runtime);
        self.settle(now, result);
        self.resume(now);
    }

    /// Under a new identity foca waits until somebody talks to it; nobody may know where it is.
    fn resume(&mut self, now: Duration) {
        let nothing = std::iter::empty();
        let result = self.foca.apply_many(nothing, true, &mut self.runtime);
        self.settle(now, result);
        for host in self.some_active(FAN_OUT) {
            self.announce(now, host);
        }
    }

    pub(crate) fn handle_timers(&mut self, now: Duration) {
        self.remind(now);
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let timer = entry.remove();
            if let Some(timer) = self.before(now, timer) {
                let result = self.foca.handle_timer(timer, &mut self.runtime);
                self.settle(now, result);
            }
        }
    }

    /// Forgets those that have been down for longest when too many are known.
    pub(crate) fn prune(&mut self, now: Duration) {
        let excess = self.known().count().saturating_sub(MEMBERS_MAX / 2);
        let down = self
            .known()
            .filter(|member| member.standing == Standing::Down);
        let excess: Vec<Host> = down.take(excess).map(|member| member.host).collect();
        for host in excess {
            let timer = Timer::RemoveDown(Peer(host));
            let result = self.foca.handle_timer(timer, &mut self.runtime);
            self.settle(now, result);
        }
    }

    /// Whether this host has reason to think that the fault is its own.
    pub(crate) fn is_deaf(&self) -> bool {
        let others = self.active_count();
        others >= 2 && self.failing.len() >= others.min(DEAF_AFTER) && !planted("deaf and sure")
    }

    fn has_room_for(&self, node: NodeId) -> bool {
        self.known().count() < MEMBERS_MAX || self.known().any(|known| known.host.node.id == node)
    }

    /// Leaves of what somebody says of members what is taken over.
    fn take_over(
        &mut self,
        now: Duration,
        updates: &mut Vec<MemberState>,
        ended: impl Fn(NodeRef) -> bool,
    ) {
        let mut room = MEMBERS_MAX.saturating_sub(self.foca.iter_membership_state().len());
        updates.retain(|update| {
            let node = update.host.node;
            if update.standing != Standing::Down && ended(node) {
                return false;
            }
            let is_known = self.known().any(|known| known.host.node.id == node.id);
            let is_taken = is_known || room > 0;
            room -= usize::from(is_taken && !is_known);
            is_taken
        });
        for update in updates {
            if update.standing == Standing::Down && !ended(update.host.node) {
                self.question(now, update);
            }
        }
    }

    /// Somebody says that a member is down which nobody here has suspected: more likely that one was
    /// cut off. The member is suspected, and has time to object.
    fn question(&mut self, now: Duration, update: &mut MemberState) {
        let known = self.active().find(|known| known.host == update.host);
        let Some(known) = known.filter(|known| known.standing == Standing::Alive) else {
            return;
        };
        *update = MemberState {
            standing: Standing::Suspect,
            ..known
        };
        self.arm_suspicion(now + self.suspicion / 2, &known);
        self.tell_suspect(update);
    }

    fn hear(&mut self, now: Duration, header: &Header<Peer>) {
        let src = header.src.0;
        let is_answer = matches!(
            header.message,
            Message::Ack(_) | Message::ForwardedAck { .. }
        );
        if is_answer {
            if self.is_deaf() {
                self.hears_since = Some(now);
                self.postponed.clear();
            }
            self.failing.clear();
        }
        if let (Message::Ack(_), Some(probing)) = (&header.message, &mut self.probing) {
            probing.is_answered |= probing.target == src;
        }
    }

    /// What is to be done at a timer before foca gets it, and whether foca gets it.
    fn before(&mut self, now: Duration, timer: Timer<Peer>) -> Option<Timer<Peer>> {
        match timer {
            Timer::SendIndirectProbe { probed_id, .. } => {
                let probing = self.probing.as_ref();
                let unanswered =
                    probing.filter(|probing| !probing.is_answered && probing.target == probed_id.0);
                if let Some(probing) = unanswered {
                    self.outcome.sends.push(Send {
                        to: probing.target,
                        packet: probing.ping.clone(),
                        via: Via::Link,
                    });
                }
                Some(timer)
            }
            Timer::ChangeSuspectToDown {
                member_id,
                incarnation,
                token,
            } => {
                let node = member_id.0.node.id;
                if self.is_deaf() {
                    let since = *self.postponed.entry(node).or_insert(now);
                    if now.saturating_sub(since) < self.suspicion * (PATIENCE - 1) {
                        self.arm(now + DOUBT, timer);
                        return None;
                    }
                } else if self
                    .hears_since
                    .is_some_and(|since| now - since < self.suspicion)
                {
                    // It was raised when the fault was here, and nobody was told: once more.
                    self.suspect_again(now, node);
                    return None;
                }
                self.postponed.remove(&node);
                let incarnation = match planted("refutation ignored") {
                    true => self.active_refutations(node).unwrap_or(incarnation),
                    false => incarnation,
                };
                Some(Timer::ChangeSuspectToDown {
                    member_id,
                    incarnation,
                    token,
                })
            }
            timer => Some(timer),
        }
    }

    fn suspect_again(&mut self, now: Duration, node: NodeId) {
        let mut active = self.active();
        let member = active.find(|member| member.host.node.id == node);
        drop(active);
        if let Some(member) = member.filter(|member| member.standing == Standing::Suspect) {
            self.arm_suspicion(now + self.suspicion, &member);
            self.tell_suspect(&member);
        }
    }

    fn active_refutations(&self, node: NodeId) -> Option<u16> {
        let mut active = self.active();
        let member = active.find(|member| member.host.node.id == node)?;
        Some(member.refutations)
    }

    /// Takes what foca wants done. Its errors concern one packet or timer and change nothing.
    fn settle(&mut self, now: Duration, result: Result<(), foca::Error>) {
        let _ = result; // what is wrong with a packet was checked before; the rest foca recovers from
        while let Some((to, packet)) = self.runtime.to_send() {
            self.send(to.0, packet);
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            match &timer {
                Timer::ProbeRandomMember(token) => self.token = *token,
                Timer::ChangeSuspectToDown {
                    member_id,
                    incarnation,
                    ..
                } => {
                    self.failing.insert(member_id.0.node.id);
                    let suspect = MemberState {
                        host: member_id.0,
                        refutations: *incarnation,
                        standing: Standing::Suspect,
                    };
                    self.tell_suspect(&suspect);
                    self.arm_reminders(now, &suspect);
                }
                _ => {}
            }
            self.arm(now + after, timer);
        }
        let mut has_rejoined = false;
        while let Some(notification) = self.runtime.to_notify() {
            let change = match notification {
                OwnedNotification::MemberUp(peer) => Change::Up(peer.0),
                OwnedNotification::MemberDown(peer) => Change::Down(peer.0),
                OwnedNotification::Rename(from, to) => Change::Renewed {
                    from: from.0,
                    to: to.0,
                },
                OwnedNotification::Rejoin(_) => {
                    self.refutations = 0;
                    has_rejoined = true;
                    Change::Rejoined
                }
                OwnedNotification::Active
                | OwnedNotification::Idle
                | OwnedNotification::Defunct => {
                    continue;
                }
            };
            self.outcome.changes.push(change);
        }
        if has_rejoined {
            self.resume(now);
        }
    }

    fn send(&mut self, to: Host, packet: Bytes) {
        let Some(mut parsed) = SwimPacket::decode(&packet) else {
            return;
        };
        self.refutations = parsed.header.src_incarnation;
        let mut packet = packet;
        if self.is_deaf() && !parsed.updates.is_empty() {
            // What a host believes that hears nobody is worth nothing to others.
            parsed.updates.clear();
            packet = parsed.encode().into();
        }
        if let Message::Ping(_) = parsed.header.message {
            self.probing = Some(Probing {
                target: to,
                ping: packet.clone(),
                is_answered: false,
            });
        }
        let via = match self.answering == Some(to.node) {
            true => Via::Link,
            false => Via::Udp,
        };
        self.outcome.sends.push(Send { to, packet, via });
    }

    fn arm(&mut self, at: Duration, timer: Timer<Peer>) {
        self.timers_made += 1;
        self.timers.insert((at, self.timers_made), timer);
    }

    /// foca runs this timer only for probes of its own.
    fn arm_suspicion(&mut self, at: Duration, member: &MemberState) {
        let timer = Timer::ChangeSuspectToDown {
            member_id: Peer(member.host),
            incarnation: member.refutations,
            token: self.token,
        };
        self.arm(at, timer);
    }

    /// What tells a suspect may be lost while this host is cut off for a moment.
    fn arm_reminders(&mut self, now: Duration, suspect: &MemberState) {
        for quarter in 1..4 {
            self.timers_made += 1;
            let at = now + self.suspicion * quarter / 4;
            self.reminders.insert((at, self.timers_made), *suspect);
        }
    }

    fn remind(&mut self, now: Duration) {
        while let Some(entry) = self.reminders.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let suspect = entry.remove();
            if self.active().any(|member| member == suspect) {
                self.tell_suspect(&suspect);
            }
        }
    }

    /// Tells a member over both ways that it is suspected, so that it can object.
    fn tell_suspect(&mut self, suspect: &MemberState) {
        let packet = self.gossip_to(suspect.host, vec![*suspect]);
        for via in [Via::Udp, Via::Link] {
            self.outcome.sends.push(Send {
                to: suspect.host,
                packet: packet.clone(),
                via,
            });
        }
    }

    /// foca gossips the refutation over UDP; this says it over links as well.
    fn refute(&mut self, suspecting: Option<Host>) {
        let mut to = self.some_active(FAN_OUT);
        to.extend(suspecting.filter(|host| !to.contains(host)));
        for host in to {
            let packet = self.gossip_to(host, Vec::new());
            self.outcome.sends.push(Send {
                to: host,
                packet,
                via: Via::Link,
            });
        }
    }

    fn gossip_to(&self, to: Host, updates: Vec<MemberState>) -> Bytes {
        let header = Header {
            src: *self.foca.identity(),
            src_incarnation: self.refutations,
            dst: Peer(to),
            message: Message::Gossip,
        };
        SwimPacket { header, updates }.encode().into()
    }
}

fn count(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN)
}
