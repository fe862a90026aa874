//! Shared subscriptions: to the picked member of each group, and on to another one if that cannot
//! take it (5.0, 4.8.2).

use std::sync::Arc;

use bifrust_dist::{
    Group, LiveMember, MatchError, Matched, MemberId, Pick, Picks, Publication, PublishError,
    hash_publisher,
};
use bifrust_model::{Event, EventKind, Qos, SubscriptionOptions, TenantNumber, TopicFilter};
use bifrust_mqtt_codec::PacketId;

use super::Shard;
use super::deliver::{OUT_MAX, dropped_kind};
use crate::mailbox::{Handoff, Mail, Seat};
use crate::metrics::Drop;
use crate::session::Session;
use crate::session::queue::{Body, Outgoing};
use crate::session::share::{Shared, Shares};
use crate::session::window::packet_id;
use crate::subscriptions::RouteStep;

/// Members that a message is offered to before it is given up.
const MEMBERS_TRIED_MAX: usize = 8;

impl Shard {
    /// Who gets a publication, of the groups that its topic leads to.
    pub(super) fn pick_members(
        &mut self,
        seat: Seat,
        publication: &Publication,
        matched: &Matched,
    ) -> Picks {
        if matched.groups.is_empty() {
            return Picks::new();
        }
        let max = publication.tenant.settings.load().max_group_fanout as usize;
        if matched.groups.len() > max {
            let left_out = matched.groups.len() - max;
            self.metrics.dropped(Drop::Fanout);
            self.emit(seat, EventKind::GroupFanoutThrottled, |event| {
                event
                    .topic(&publication.message.topic)
                    .detail(format!("{left_out} groups were left out"))
            });
        }
        let seed = self.next_seed();
        matched.pick_members(&publication.message.publisher, seed, max)
    }

    /// The next of the numbers that make choices.
    pub(crate) fn next_seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(1);
        self.seed
    }

    /// Hands a publication to the live ones of the picked members.
    pub(crate) fn route_shared(
        &mut self,
        seat: Seat,
        publication: &Arc<Publication>,
        matched: &Matched,
        picks: &Picks,
    ) {
        for pick in picks {
            let Some((group, member)) = matched.picked(*pick) else {
                continue;
            };
            let MemberId::Live(live) = member.id else {
                continue;
            };
            let shared = Shared {
                publication: publication.clone(),
                filter: group.filter.clone(),
                avoid: Vec::new(),
            };
            if live.node == self.edge.services.node && live.shard == self.id {
                self.deliver_shared(seat_of(live), shared);
                continue;
            }
            let shard = usize::from(live.shard);
            let Some(outgoing) = self.outgoing.get_mut(shard) else {
                continue;
            };
            outgoing.push(Handoff::mail(live, shared));
            self.sent_outgoing(shard, seat, publication.tenant.number);
        }
    }

    /// Hands a message to a member of this shard, or to another one if this one cannot take it.
    pub(crate) fn deliver_shared(&mut self, to: Seat, shared: Shared) {
        if let Some(shared) = self.offer_shared(to, shared) {
            self.pass_on(to, shared);
        }
    }

    /// Hands a message to a member of this shard. Given back if that has gone, left the group, or is
    /// full.
    fn offer_shared(&mut self, to: Seat, shared: Shared) -> Option<Shared> {
        let message = &shared.publication.message;
        let Ok(expiry) = self.left_of(message) else {
            self.metrics.dropped(Drop::Expired);
            return None;
        };
        let Some(connection) = self.connection(to) else {
            return Some(shared);
        };
        let pending = connection.pending();
        let Some(session) = connection.session() else {
            return Some(shared);
        };
        let Some(options) = session.subscriptions.get(&shared.filter) else {
            return Some(shared);
        };
        let qos = message.qos.min(options.qos);
        let retain = message.retain && options.retain_as_published;
        if message.retain
            && let Some(scans) = &mut session.scans
        {
            scans.note_live(&message.topic, message.stamp);
        }
        let seq = session.next_seq;
        let is_free =
            session.queue.is_empty() && (qos == Qos::AtMostOnce || session.window.has_room(seq));
        if is_free && pending < OUT_MAX {
            let ids = options.id.map(u32::from);
            let (ids, id) = (ids.as_slice(), packet_id_of(qos, seq));
            let publication = shared.publication.clone();
            let message = &publication.message;
            let written = self.write_now(to.slot, message, qos, retain, expiry, ids, false, id);
            if written.is_ok() {
                self.note_sent(to.slot, seq, qos, Some(shared));
            }
            return None;
        }
        let settings = session.tenant.settings.load();
        let has_room = session.queue.has_room(message.weight() as u64, &settings);
        drop(settings);
        if !has_room {
            return Some(shared);
        }
        let item = Outgoing {
            qos,
            retain,
            ids: options.id.map(|id| [u32::from(id)].as_slice().into()),
            body: Body::Shared(Box::new(shared)),
        };
        if is_free {
            // Much came in one turn: what is there goes out first.
            self.flush_connection(to.slot);
        }
        self.offer(to.slot, item);
        self.note_load(to.slot);
        None
    }

    /// A QoS 1 or 2 message was written with this number.
    pub(super) fn note_sent(&mut self, slot: u32, seq: u64, qos: Qos, shared: Option<Shared>) {
        if qos == Qos::AtMostOnce {
            return;
        }
        let Some(session) = self.session_at(slot) else {
            return;
        };
        session.next_seq += 1;
        session.window.sent(seq, qos);
        if let (Some(shares), Some(shared)) = (&mut session.shares, shared) {
            shares.sent(seq, qos, shared);
        }
        session.note_load();
    }

    /// Tells publishers how busy a member is.
    pub(super) fn note_load(&mut self, slot: u32) {
        if let Some(session) = self.session_at(slot) {
            session.note_load();
        }
    }

    /// The member cannot take the message: another one gets it, after those that moved before. Nothing
    /// of it was written to this one's socket, or it has ended without acknowledging it (5.0, 4.8.2).
    fn pass_on(&mut self, from: Seat, mut shared: Shared) {
        shared.avoid.push(self.member(from));
        self.moving.push_back(shared);
        self.move_on();
    }

    /// Moves messages whose members are known, in order, and asks for those of the first other one.
    fn move_on(&mut self) {
        if self.is_moving {
            return;
        }
        self.is_moving = true;
        let edge = self.edge.clone();
        while let Some(shared) = self.moving.pop_front() {
            let tenant = shared.publication.tenant.number;
            let topic = shared.publication.message.topic.clone();
            if let Some(matched) = edge.services.dist.matched(tenant, topic.as_str()) {
                self.pass_to(&matched, shared);
                continue;
            }
            self.moving.push_front(shared);
            let (mailboxes, shard) = (edge.mailboxes.clone(), usize::from(self.id));
            let done = Box::new(move |result| mailboxes.post(shard, Mail::Rematched { result }));
            edge.services.dist.match_topic(tenant, &topic, done);
            return;
        }
        self.is_moving = false;
    }

    /// The members for the first message that moves are known again.
    pub(crate) fn rematched(&mut self, result: Result<Arc<Matched>, MatchError>) {
        if let Some(shared) = self.moving.pop_front() {
            match result {
                Ok(matched) => self.pass_to(&matched, shared),
                Err(error) => self.undelivered(&shared, &error.to_string()),
            }
        }
        self.is_moving = false;
        self.move_on();
    }

    fn pass_to(&mut self, matched: &Matched, mut shared: Shared) {
        let publisher = hash_publisher(&shared.publication.message.publisher);
        let is_stopping = self.is_stopping;
        let group = matched
            .groups
            .iter()
            .find(|group| group.filter == shared.filter);
        while shared.avoid.len() <= MEMBERS_TRIED_MAX {
            let seed = self.next_seed();
            let member = group.and_then(|group| {
                let picked = group.pick(publisher, seed, |member| match &member.id {
                    // All of them are about to go.
                    MemberId::Live(live) => !is_stopping && !shared.avoid.contains(live),
                    MemberId::Inbox { .. } => true,
                });
                group.members.get(picked?)
            });
            let Some(member) = member else {
                return self.drop_shared(&shared, Drop::Memberless, "no other member is left");
            };
            member.load.add();
            match &member.id {
                MemberId::Live(live) if live.shard == self.id => {
                    match self.offer_shared(seat_of(*live), shared) {
                        Some(refused) => shared = refused,
                        None => return,
                    }
                    shared.avoid.push(*live);
                }
                MemberId::Live(live) => {
                    let mailboxes = &self.edge.mailboxes;
                    return mailboxes.post(usize::from(live.shard), Handoff::mail(*live, shared));
                }
                MemberId::Inbox { .. } => {
                    let only = Group::new(shared.filter.clone(), vec![member.clone()]);
                    return self.pass_to_inbox(shared, only);
                }
            }
        }
        self.drop_shared(&shared, Drop::Full, "no member has room");
    }

    fn pass_to_inbox(&mut self, shared: Shared, only: Group) {
        let only = Arc::new(Matched::default().with_groups(vec![only]));
        let picks = [Pick {
            group: 0,
            member: 0,
        }];
        let edge = self.edge.clone();
        let publication = shared.publication.clone();
        let (mailboxes, shard) = (edge.mailboxes.clone(), usize::from(self.id));
        let done = Box::new(move |result: Result<(), PublishError>| {
            if let Err(error) = result {
                let shared = Box::new(shared);
                mailboxes.post(shard, Mail::Undelivered { shared, error });
            }
        });
        (edge.services.dist.durable()).deliver(&publication, &only, &picks, done);
    }

    /// A message that moved could not be handed to anybody.
    pub(crate) fn undelivered(&mut self, shared: &Shared, detail: &str) {
        self.drop_shared(shared, Drop::Undelivered, detail);
    }

    /// A session has ended. What its groups gave it goes on: what was never written and what is at
    /// QoS 1; QoS 2 that was written must not (MQTT-4.8.2-5).
    pub(crate) fn leave_groups(&mut self, seat: Seat, session: &mut Session) {
        let Some(mut shares) = session.shares.take() else {
            return;
        };
        if session.durable.is_some() {
            return;
        }
        for (qos, shared) in shares.take_out() {
            match qos {
                Qos::ExactlyOnce => {
                    self.drop_shared(&shared, Drop::Unfinished, "its member's session has ended");
                }
                _ => self.pass_on(seat, shared),
            }
        }
        while let Some(item) = session.queue.pop() {
            if let Body::Shared(shared) = item.body {
                self.pass_on(seat, *shared);
            }
        }
        // Only now publishers see that it has gone: what they hand to others comes behind this.
        drop(shares);
    }

    fn drop_shared(&mut self, shared: &Shared, reason: Drop, detail: &str) {
        self.metrics.dropped(reason);
        let services = &self.edge.services;
        let publication = &shared.publication;
        let kind = dropped_kind(publication.message.qos);
        services.events.emit(kind, || {
            Event::new(kind, services.clock.stamp())
                .tenant(&publication.tenant.name)
                .topic(&publication.message.topic)
                .detail(format!("{}: {detail}", shared.filter))
        });
    }

    /// Takes a filter of a live session into the node's routes: how, and which step is due.
    pub(crate) fn add_filter(
        &mut self,
        seat: Seat,
        tenant: TenantNumber,
        filter: &TopicFilter,
        options: SubscriptionOptions,
    ) -> (usize, RouteStep) {
        if !filter.is_shared() {
            return self.subscriptions.add(seat.slot, tenant, filter, options);
        }
        let id = MemberId::Live(self.member(seat));
        self.attend(seat, &id);
        self.subscriptions.join(seat, tenant, filter, options)
    }

    /// The other way round.
    pub(crate) fn remove_filter(
        &mut self,
        seat: Seat,
        tenant: TenantNumber,
        filter: &TopicFilter,
    ) -> Option<(usize, RouteStep)> {
        match filter.is_shared() {
            true => self.subscriptions.leave(seat, filter),
            false => self.subscriptions.remove(seat.slot, tenant, filter),
        }
    }

    /// Makes a persistent session known as one that is connected.
    pub(crate) fn attend_inbox(&mut self, seat: Seat) {
        let Some(session) = self.session(seat) else {
            return;
        };
        let Some(durable) = &session.durable else {
            return;
        };
        let id = MemberId::Inbox {
            client: session.client.client.clone(),
            incarnation: durable.incarnation,
        };
        self.attend(seat, &id);
    }

    fn attend(&mut self, seat: Seat, id: &MemberId) {
        let edge = self.edge.clone();
        let Some(session) = self.session(seat) else {
            return;
        };
        if session.shares.is_none() {
            let attendance = edge.services.dist.attend(session.tenant.number, id);
            session.shares = Some(Box::new(Shares::new(attendance)));
        }
    }

    pub(crate) fn member(&self, seat: Seat) -> LiveMember {
        LiveMember {
            node: self.edge.services.node,
            shard: self.id,
            slot: seat.slot,
            generation: seat.generation,
        }
    }
}

pub(crate) fn seat_of(live: LiveMember) -> Seat {
    Seat {
        slot: live.slot,
        generation: live.generation,
    }
}

fn packet_id_of(qos: Qos, seq: u64) -> Option<PacketId> {
    match qos {
        Qos::AtMostOnce => None,
        _ => PacketId::new(packet_id(seq)),
    }
}
