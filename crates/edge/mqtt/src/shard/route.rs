//! From a publish to its receivers, and filters into the node's routes.

use std::sync::Arc;

use bifrust_dist::{Matched, Picks, Publication, PublishError, Receiver, RouteError, Taken};
use bifrust_model::{Event, EventKind, Qos, TenantNumber, Topic};
use bifrust_mqtt_codec::ReasonCode;

use super::Shard;
use super::timer::Timer;
use crate::connection::Pause;
use crate::mailbox::{Completion, Mail, Seat};
use crate::metrics::Drop;
use crate::session::acks::AckKind;
use crate::subscriptions::RouteStep;

/// The largest message that durable stores take; see [`Message::weight`](bifrust_model::Message).
pub(crate) const DURABLE_MAX: usize = 16 << 20;

/// Mail for one other shard above which it is posted before the turn ends.
const OUTGOING_MAX: usize = 256;

/// Lookups of receivers that may be out, over all shards.
const LOOKUPS_MAX: usize = 4096;

/// How long until a route that could not be taken out is tried again.
const ROUTE_RETRY_MS: u64 = 1000;

impl Shard {
    /// What is known of the topic's receivers without asking the range. An answer that a route
    /// change has outdated is not used (contract C2).
    pub(crate) fn lookup(&mut self, seat: Seat, topic: &Topic) -> Option<Arc<Matched>> {
        let edge = self.edge.clone();
        let session = self.session(seat)?;
        let tenant = session.tenant.number;
        let Some(memo) = session.memo.as_mut().filter(|memo| memo.topic == *topic) else {
            return edge.services.dist.matched(tenant, topic.as_str());
        };
        if let Some(matched) = &memo.matched
            && !matched.is_stale()
        {
            return Some(matched.clone());
        }
        memo.matched = edge.services.dist.matched(tenant, topic.as_str());
        memo.matched.clone()
    }

    /// Hands a publication to everybody it matches. Its acknowledgement leaves at once, or when the
    /// durable receivers have it. `picks` of its groups, if they are known already.
    pub(crate) fn route(
        &mut self,
        seat: Seat,
        publication: Publication,
        matched: &Arc<Matched>,
        picks: Option<Picks>,
        token: Option<u64>,
        packet_id: u16,
    ) {
        if matched.is_empty() {
            // 5.0, 3.4.2.1: whoever publishes may want to know.
            let reason = ReasonCode::NO_MATCHING_SUBSCRIBERS;
            return self.publish_done(seat, token, packet_id, reason);
        }
        let picks = picks.unwrap_or_else(|| self.pick_members(seat, &publication, matched));
        let is_durable = !matched.inboxes.is_empty() || Taken::by(matched, &picks).durable;
        let weight = publication.message.weight();
        if is_durable && weight > DURABLE_MAX && token.is_some() {
            return self.refuse_durable(seat, token, packet_id, &publication.message);
        }
        let publication = Arc::new(publication);
        self.route_live(seat, &publication, matched);
        self.route_shared(seat, &publication, matched, &picks);
        if !is_durable {
            return self.publish_done(seat, token, packet_id, ReasonCode::SUCCESS);
        }
        if weight > DURABLE_MAX {
            return self.publish_oversize(seat, &publication.message);
        }
        let bytes = publication.message.weight();
        let done: crate::mailbox::Then<Result<(), PublishError>> = match token {
            Some(token) => {
                // Its retained copy is stored: it cannot be refused any more (contract C3).
                let is_stored = publication.message.retain;
                self.store_reply(seat, bytes, move |result: Result<(), PublishError>| {
                    let result = result.map_err(|error| match is_stored {
                        true => PublishError::Unknown,
                        false => error,
                    });
                    Completion::Delivered(token, result)
                })
            }
            None => self.store_reply(seat, bytes, Completion::DeliveredUnasked),
        };
        let edge = self.edge.clone();
        edge.services
            .dist
            .durable()
            .deliver(&publication, matched, &picks, done);
        self.wait_for_stores(seat);
    }

    fn route_live(&mut self, seat: Seat, publication: &Arc<Publication>, matched: &Arc<Matched>) {
        let node = self.edge.services.node;
        let mut shards = 0;
        for live in &matched.live {
            if live.node == node {
                shards |= live.shards;
            }
        }
        if shards >> self.id & 1 == 1 {
            let local = self.local_match(seat, publication);
            self.deliver_live(publication, &local);
            shards &= !(1 << self.id);
        }
        while shards != 0 {
            let shard = shards.trailing_zeros() as usize;
            shards &= shards - 1;
            let Some(outgoing) = self.outgoing.get_mut(shard) else {
                continue;
            };
            outgoing.push(Mail::Publish(publication.clone()));
            self.sent_outgoing(shard, seat, publication.tenant.number);
        }
    }

    /// There is one more mail of a publisher for another shard.
    pub(super) fn sent_outgoing(&mut self, shard: usize, publisher: Seat, tenant: TenantNumber) {
        if self.outgoing[shard].len() >= OUTGOING_MAX {
            self.post_outgoing(shard);
        }
        let from = usize::from(self.id);
        if self.edge.mailboxes.must_wait(shard, tenant, from) {
            self.hold_publisher(publisher);
        }
        self.wake_flusher();
    }

    fn local_match(
        &mut self,
        seat: Seat,
        publication: &Arc<Publication>,
    ) -> std::rc::Rc<crate::subscriptions::LocalMatch> {
        let topic = &publication.message.topic;
        if let Some(memo) = self
            .publisher(seat)
            .and_then(|session| session.memo.as_ref())
            && memo.topic == *topic
            && let Some(local) = &memo.local
            && !local.is_stale()
        {
            return local.clone();
        }
        let local = self
            .subscriptions
            .matches(publication.tenant.number, topic.as_str());
        if let Some(memo) = self
            .publisher(seat)
            .and_then(|session| session.memo.as_mut())
            && memo.topic == *topic
        {
            memo.local = Some(local.clone());
        }
        local
    }

    /// Posts what has gathered for another shard.
    pub(super) fn post_outgoing(&mut self, shard: usize) {
        if self.outgoing[shard].is_empty() {
            return;
        }
        let mails = &mut self.outgoing[shard];
        self.edge.mailboxes.post_publishes(shard, mails);
    }

    /// Posts what has gathered for all other shards.
    pub(crate) fn post_all_outgoing(&mut self) {
        for shard in 0..self.outgoing.len() {
            self.post_outgoing(shard);
        }
    }

    /// The durable receivers of a publish have answered.
    pub(crate) fn delivered(&mut self, seat: Seat, token: u64, result: Result<(), PublishError>) {
        let Some(answer) = self
            .publisher(seat)
            .and_then(|session| session.acks.get(token))
        else {
            return;
        };
        let packet_id = answer.packet_id;
        let qos = match answer.kind {
            AckKind::Pubrec => Qos::ExactlyOnce,
            _ => Qos::AtLeastOnce,
        };
        match result {
            Ok(()) => self.publish_done(seat, Some(token), packet_id, ReasonCode::SUCCESS),
            Err(error) => {
                self.emit(seat, EventKind::DeliverError, |event| {
                    event.detail(error.to_string())
                });
                let is_refused = matches!(error, PublishError::Refused);
                self.publish_undone(seat, Some(token), packet_id, qos, None, is_refused);
            }
        }
    }

    /// A QoS 0 publish did or did not reach its durable receivers; nobody waits for it.
    pub(crate) fn delivered_unasked(&mut self, seat: Seat, result: Result<(), PublishError>) {
        if let Err(error) = result {
            self.emit(seat, EventKind::DeliverError, |event| {
                event.detail(error.to_string())
            });
            self.publish_undone(seat, None, 0, Qos::AtMostOnce, None, true);
        }
    }

    /// A publish has reached all its receivers.
    pub(crate) fn publish_done(
        &mut self,
        seat: Seat,
        token: Option<u64>,
        packet_id: u16,
        reason: ReasonCode,
    ) {
        let (Some(token), Some(session)) = (token, self.publisher(seat)) else {
            return;
        };
        let is_qos2 = matches!(
            session.acks.get(token),
            Some(answer) if answer.kind == AckKind::Pubrec
        );
        if is_qos2 {
            session.inbound.routed(packet_id);
        }
        session.acks.ready(token, reason);
        self.release_acks(seat);
    }

    /// A publish has not reached its receivers, or nobody knows whether it has.
    pub(crate) fn publish_undone(
        &mut self,
        seat: Seat,
        token: Option<u64>,
        packet_id: u16,
        qos: Qos,
        topic: Option<&Topic>,
        is_refused: bool,
    ) {
        let kind = undelivered_kind(qos);
        self.metrics.dropped(Drop::Undelivered);
        self.emit(seat, kind, |event| match topic {
            Some(topic) => event.topic(topic),
            None => event,
        });
        let edge = self.edge.clone();
        let (Some(token), Some(connection)) = (token, self.connection(seat)) else {
            return;
        };
        let is_v5 = connection.is_v5();
        let is_told = connection.session().is_some();
        let Some(session) = connection.publisher() else {
            return;
        };
        if is_refused && is_v5 {
            if qos == Qos::ExactlyOnce {
                session.inbound.release(packet_id);
                if let (true, Some(durable)) = (is_told, &session.durable) {
                    // PUBREC with a failure ends the exchange (MQTT-4.3.3-9): the id's next use is a
                    // new message. If this is lost, it counts as the same one.
                    let inbox = &edge.services.inbox;
                    inbox.release_inbound(&durable.session, packet_id, Box::new(|_| ()));
                }
            }
            session.acks.ready(token, ReasonCode::QUOTA_EXCEEDED);
            self.release_acks(seat);
            return;
        }
        // No answer: the client will send it again, on a new connection, with the same id.
        session.acks.give_up(token);
        self.pause(seat, Pause::Unknown);
        self.leave_if_done(seat);
    }

    /// Stops reading from a publisher while too much is on its way to durable stores.
    pub(crate) fn wait_for_stores(&mut self, seat: Seat) {
        let is_crowded = self.lookups > self.lookups_max();
        if is_crowded || self.store_bytes > self.edge.config.max_store_bytes {
            self.hold_publisher(seat);
        }
    }

    fn hold_publisher(&mut self, seat: Seat) {
        let is_held = self
            .connection(seat)
            .is_none_or(|connection| connection.pauses.has(Pause::Store));
        if !is_held {
            self.pause(seat, Pause::Store);
            self.waiting_for_stores.push(seat);
        }
    }

    /// Lookups of receivers that may be out: all shards share the range's queue.
    fn lookups_max(&self) -> usize {
        LOOKUPS_MAX / self.outgoing.len().max(1)
    }

    /// Bytes have arrived at their store.
    pub(crate) fn stored(&mut self, bytes: usize) {
        self.store_bytes = self.store_bytes.saturating_sub(bytes);
    }

    /// Lets publishers go on if stores and other shards have caught up.
    pub(super) fn resume_publishers(&mut self) {
        if self.waiting_for_stores.is_empty()
            || self.store_bytes > self.edge.config.max_store_bytes / 2
            || self.lookups > self.lookups_max() / 2
        {
            return;
        }
        let (edge, from) = (self.edge.clone(), usize::from(self.id));
        for seat in std::mem::take(&mut self.waiting_for_stores) {
            let tenant = self.publisher(seat).map(|session| session.tenant.number);
            let must_wait = tenant.is_some_and(|tenant| {
                (0..edge.mailboxes.shards()).any(|at| edge.mailboxes.must_wait(at, tenant, from))
            });
            match must_wait {
                true => self.waiting_for_stores.push(seat),
                false => self.resume(seat, Pause::Store),
            }
        }
    }

    /// Does the next thing about a filter's route.
    pub(crate) fn step_route(&mut self, at: usize, step: RouteStep) {
        match step {
            RouteStep::Add | RouteStep::Remove => {
                if let Some((tenant, _)) = self.subscriptions.filter(at) {
                    self.route_calls.add(tenant, (at, step));
                    self.call_routes();
                }
            }
            RouteStep::RetryRemoval => self.retry_route_later(at),
            RouteStep::Nothing | RouteStep::Wait => {}
        }
    }

    fn call_routes(&mut self) {
        while let Some((tenant, (at, step))) = self.route_calls.next() {
            self.call_route(tenant, at, step);
        }
    }

    fn call_route(&mut self, tenant: TenantNumber, at: usize, step: RouteStep) {
        let edge = self.edge.clone();
        let Some((_, filter)) = self.subscriptions.filter(at) else {
            return self.route_calls.ended(tenant);
        };
        let filter = &filter.clone();
        let (receiver, members_max) = match self.subscriptions.member(at) {
            Some((seat, options)) => {
                let session = self.member(seat);
                let session_of = self.connections.get_mut(seat.slot as usize);
                let settings = session_of.and_then(|connection| connection.session());
                let max = settings.map(|s| s.tenant.settings.load().max_shared_group_members);
                (Receiver::Member { session, options }, max)
            }
            None => {
                let (node, shard) = (edge.services.node, self.id);
                (Receiver::Live { node, shard }, None)
            }
        };
        let (mailboxes, shard) = (edge.mailboxes.clone(), usize::from(self.id));
        let done = Box::new(move |result| {
            let mail = Mail::Routed {
                tenant,
                filter: at,
                result,
            };
            mailboxes.post(shard, mail);
        });
        let dist = &edge.services.dist;
        match (step, members_max) {
            (RouteStep::Remove, _) => dist.remove_route(tenant, filter, receiver, done),
            (_, Some(max)) => dist.join_group(tenant, filter, receiver, max as usize, done),
            (_, None) => dist.add_route(tenant, filter, receiver, done),
        }
    }

    fn retry_route_later(&mut self, at: usize) {
        let seat = Seat {
            slot: u32::try_from(at).unwrap_or(u32::MAX),
            generation: 0,
        };
        let due = self.now_ms + ROUTE_RETRY_MS;
        self.wheel.arm(due, seat, Timer::Route);
    }

    /// It is time to try again what was refused.
    pub(super) fn retry_route(&mut self, at: usize) {
        let Some((tenant, _)) = self.subscriptions.filter(at) else {
            return;
        };
        let step = self.subscriptions.retry_removal(at);
        self.step_route(at, step);
        self.route_calls.wake(tenant);
        self.call_routes();
    }

    /// A route call has ended.
    pub(super) fn routed(
        &mut self,
        tenant: TenantNumber,
        at: usize,
        result: &Result<(), RouteError>,
    ) {
        if result.as_ref().is_err_and(|error| error.is_busy())
            && let Some(step) = self.subscriptions.step_under_way(at)
        {
            if self.route_calls.refused(tenant, (at, step)) {
                self.retry_route_later(at);
            }
            return;
        }
        self.route_calls.ended(tenant);
        self.route_ended(at, result);
        self.call_routes();
    }

    fn route_ended(&mut self, at: usize, result: &Result<(), RouteError>) {
        if let Err(error) = result {
            tracing::warn!(%error, "route not changed");
        }
        let failure = result.as_ref().err().map(|error| match error {
            RouteError::GroupFull => ReasonCode::QUOTA_EXCEEDED,
            _ => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
        });
        let (step, waiters) = self.subscriptions.routed(at, failure.is_none());
        if let (RouteStep::RetryRemoval, Err(error), Some((_, filter))) =
            (&step, result, self.subscriptions.filter(at))
        {
            let services = &self.edge.services;
            services.events.emit(EventKind::UnmatchError, || {
                let event = Event::new(EventKind::UnmatchError, services.clock.stamp());
                event.detail(format!("{filter}: {error}"))
            });
        }
        self.step_route(at, step);
        for seat in waiters {
            self.filter_routed(seat, at, failure);
        }
    }
}

pub(crate) fn undelivered_kind(qos: Qos) -> EventKind {
    match qos {
        Qos::AtMostOnce => EventKind::Qos0DistError,
        Qos::AtLeastOnce => EventKind::Qos1DistError,
        Qos::ExactlyOnce => EventKind::Qos2DistError,
    }
}
