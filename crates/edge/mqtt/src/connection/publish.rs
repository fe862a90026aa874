//! PUBLISH from a client: checks, then the order in which publishes reach their receivers.
//!
//! Most publishes are routed at once. One that has to wait for something (a permission, a durable
//! QoS 2 identifier, its retained copy, the lookup of its receivers) takes a place in the
//! session's pipeline, and all behind it wait for their turn, so that order is kept
//! (MQTT-4.6.0-6). A retained QoS 1 or 2 publish is stored before it is routed: a subscriber that
//! comes in between finds it in the store or gets it live, or both (contract C3).

use std::sync::Arc;

use bifrust_dist::{MatchError, Matched, Publication};
use bifrust_inbox::{InboundId, InboxError};
use bifrust_model::{EventKind, ForbiddenPublish, Message, Qos, Settings, Topic, TopicError};
use bifrust_mqtt_codec::{PacketId, Publish, ReasonCode};
use bifrust_plugin_api::{Access, Action, Answer};
use bifrust_retain::RetainError;
use bytestring::ByteString;

use super::{Ending, Pause, model_qos};
use crate::mailbox::{Completion, Seat};
use crate::metrics::Drop;
use crate::session::acks::AckKind;
use crate::session::inbound::{Seen, Stage, Waiting};
use crate::session::{Memo, Session};
use crate::shard::Shard;

/// Publishes that may wait in the pipeline before reading stops.
const PIPELINE_MAX: usize = 256;

/// What became of the checks.
enum Verdict {
    Allowed(Topic),
    /// Ask again when the permission answer is there.
    Asked(Topic),
    Refused(Refusal),
}

/// A publish that is not taken.
struct Refusal {
    reason: ReasonCode,
    event: EventKind,
    topic: Option<Topic>,
}

impl Shard {
    pub(super) fn handle_publish(&mut self, seat: Seat, publish: Publish) -> Result<(), Ending> {
        let now_ms = self.now_ms;
        let qos = model_qos(publish.qos);
        self.metrics.received(qos);
        let Some(connection) = self.connection(seat) else {
            return Ok(());
        };
        let is_v5 = connection.is_v5();
        let Some(session) = connection.session() else {
            return Ok(());
        };
        let settings = session.tenant.settings.load();
        check_features(&publish, &settings)?;
        let packet_id = publish.packet_id.map_or(0, PacketId::get);
        if qos == Qos::ExactlyOnce {
            match session.inbound.seen(packet_id) {
                Seen::New => {}
                Seen::Pending => return Ok(()),
                Seen::Routed => {
                    // MQTT-4.3.3-9, -10: acknowledged again, not delivered again.
                    if !is_v5 {
                        session.inbound.count();
                    }
                    let token = session.acks.wait(packet_id, AckKind::Pubrec, now_ms);
                    session.acks.ready(token, ReasonCode::SUCCESS);
                    self.release_acks(seat);
                    return Ok(());
                }
            }
        }
        let token = match qos {
            Qos::AtMostOnce => None,
            _ => {
                if session.inbound.unanswered() >= settings.receiving_maximum && is_v5 {
                    // MQTT-3.3.4-7.
                    return Err(Ending::of(
                        EventKind::ExceedReceivingLimit,
                        ReasonCode::RECEIVE_MAXIMUM_EXCEEDED,
                        "more publishes in flight than the receive maximum",
                    ));
                }
                session.inbound.count();
                let kind = match qos {
                    Qos::ExactlyOnce => AckKind::Pubrec,
                    _ => AckKind::Puback,
                };
                if kind == AckKind::Pubrec {
                    session.inbound.begin(packet_id, false);
                }
                Some(session.acks.wait(packet_id, kind, now_ms))
            }
        };
        drop(settings);
        let verdict = self.judge(seat, &publish, qos)?;
        let (topic, is_asked) = match verdict {
            Verdict::Allowed(topic) => (topic, false),
            Verdict::Asked(topic) => (topic, true),
            Verdict::Refused(refusal) => {
                return self.refuse_publish(seat, token, packet_id, qos, refusal);
            }
        };
        self.accept_publish(seat, publish, topic, token, packet_id, is_asked);
        if token.is_some() {
            self.limit_reading(seat);
        }
        Ok(())
    }

    /// Topic, permission and payload format.
    fn judge(&mut self, seat: Seat, publish: &Publish, qos: Qos) -> Result<Verdict, Ending> {
        let auth = self.edge.services.auth.clone();
        let Some(session) = self.session(seat) else {
            return Err(Ending::lost("the session has ended"));
        };
        let settings = session.tenant.settings.load();
        let topic = match topic_of(session, &publish.topic, &settings) {
            Ok(topic) => topic,
            Err(TopicError::Empty | TopicError::Wildcard | TopicError::Nul) => {
                // MQTT-3.3.2-2.
                return Err(Ending::of(
                    EventKind::InvalidTopic,
                    ReasonCode::TOPIC_NAME_INVALID,
                    "not a topic name",
                ));
            }
            Err(_) => {
                return Ok(Verdict::Refused(Refusal {
                    reason: ReasonCode::TOPIC_NAME_INVALID,
                    event: EventKind::InvalidTopic,
                    topic: None,
                }));
            }
        };
        let says_utf8 = publish.properties.payload_format_utf8 == Some(true);
        if says_utf8
            && settings.payload_format_validation_enabled
            && std::str::from_utf8(&publish.payload).is_err()
        {
            return Ok(Verdict::Refused(Refusal {
                reason: ReasonCode::PAYLOAD_FORMAT_INVALID,
                event: EventKind::ProtocolViolation,
                topic: Some(topic),
            }));
        }
        let version = auth.version();
        let bit = 1 << (qos.level() * 2 + u8::from(publish.retain));
        if let Some(memo) = &session.memo
            && memo.access.0 == version
            && memo.access.1 & bit != 0
        {
            return Ok(Verdict::Allowed(topic));
        }
        let action = Action::Publish {
            topic: topic.as_str(),
            qos,
            retain: publish.retain,
        };
        let bypass = settings.by_pass_perm_check_error;
        drop(settings);
        match auth.access(&session.client, action) {
            Answer::Now(access) => {
                if matches!(access, Ok(true))
                    && let Some(memo) = &mut session.memo
                {
                    if memo.access.0 != version {
                        memo.access = (version, 0);
                    }
                    memo.access.1 |= bit;
                }
                Ok(match self.is_granted(seat, access, bypass) {
                    true => Verdict::Allowed(topic),
                    false => Verdict::Refused(Refusal {
                        reason: ReasonCode::NOT_AUTHORIZED,
                        event: EventKind::PubActionDisallow,
                        topic: Some(topic),
                    }),
                })
            }
            Answer::Later(later) => {
                // The number it will have once it takes its place.
                let number = session.inbound.next_number();
                self.ask(seat, later, move |access| {
                    Completion::PublishAccess(number, access)
                });
                Ok(Verdict::Asked(topic))
            }
        }
    }

    pub(super) fn is_granted(&mut self, seat: Seat, access: Access, bypass: bool) -> bool {
        match access {
            Ok(is_granted) => is_granted,
            Err(error) => {
                self.emit(seat, EventKind::AccessControlError, |event| {
                    event.detail(error.to_string())
                });
                bypass
            }
        }
    }

    /// Answers a publish that is not taken.
    fn refuse_publish(
        &mut self,
        seat: Seat,
        token: Option<u64>,
        packet_id: u16,
        qos: Qos,
        refusal: Refusal,
    ) -> Result<(), Ending> {
        let Refusal {
            reason,
            event,
            topic,
        } = refusal;
        self.metrics.dropped(Drop::Refused);
        self.emit(seat, event, |event| {
            let event = event.reason(reason_byte(reason));
            match &topic {
                Some(topic) => event.topic(topic),
                None => event,
            }
        });
        let Some(connection) = self.connection(seat) else {
            return Ok(());
        };
        let is_v5 = connection.is_v5();
        let Some(session) = connection.session() else {
            return Ok(());
        };
        if !is_v5 {
            // v3 has no way to refuse: it is closed, or told a white lie if the tenant says so.
            let settings = session.tenant.settings.load();
            let is_forbidden = reason == ReasonCode::NOT_AUTHORIZED;
            if !is_forbidden || settings.forbidden_publish_v3 == ForbiddenPublish::Close {
                let event = match is_forbidden {
                    true => EventKind::NoPubPermission,
                    false => EventKind::ProtocolViolation,
                };
                return Err(Ending::of(event, reason, "publish refused"));
            }
        } else if qos == Qos::AtMostOnce && reason == ReasonCode::PAYLOAD_FORMAT_INVALID {
            return Err(Ending::violation(reason, "payload is not UTF-8"));
        }
        if qos == Qos::ExactlyOnce && is_v5 {
            // MQTT-4.3.3-9: PUBREC with a failure ends the exchange.
            session.inbound.release(packet_id);
        } else if qos == Qos::ExactlyOnce {
            session.inbound.routed(packet_id);
        }
        if let Some(token) = token {
            let reason = if is_v5 { reason } else { ReasonCode::SUCCESS };
            session.acks.ready(token, reason);
            self.release_acks(seat);
        }
        Ok(())
    }

    /// A publish that may go: routed at once, or put into the pipeline.
    fn accept_publish(
        &mut self,
        seat: Seat,
        publish: Publish,
        topic: Topic,
        token: Option<u64>,
        packet_id: u16,
        is_asked: bool,
    ) {
        let stamp = self.edge.services.clock.stamp();
        let Some(session) = self.session(seat) else {
            return;
        };
        let publication = Publication {
            tenant: session.tenant.clone(),
            message: Message {
                topic,
                payload: publish.payload,
                qos: model_qos(publish.qos),
                retain: publish.retain,
                stamp,
                expiry_seconds: publish.properties.message_expiry,
                properties: publish.properties.forward,
                publisher: session.client.client.clone(),
            },
            key: None,
        };
        let needs_row = session.durable.is_some() && publication.message.qos == Qos::ExactlyOnce;
        let mut is_stored = false;
        let needs_store = publication.message.retain && token.is_some();
        if !is_asked && !needs_row && !needs_store && session.inbound.is_clear() {
            if publication.message.retain {
                self.store_unasked(seat, &publication);
            }
            let topic = publication.message.topic.clone();
            is_stored = true;
            if let Some(matched) = self.lookup(seat, &topic) {
                self.route(seat, publication, &matched, token, packet_id);
                return;
            }
        }
        let Some(session) = self.session(seat) else {
            return;
        };
        let number = session.inbound.push(Waiting {
            stage: if is_asked {
                Stage::Access
            } else {
                Stage::Match
            },
            publication,
            token,
            packet_id,
            matched: None,
            is_stored,
            is_rematched: false,
            is_dropped: false,
        });
        let is_full = session.inbound.len() >= PIPELINE_MAX;
        if is_asked || is_full {
            self.pause(seat, Pause::Publish);
        }
        if !is_asked {
            self.prepare(seat, number);
        }
    }

    /// Asks for what this publish needs before its turn.
    fn prepare(&mut self, seat: Seat, number: u64) {
        let inbox = self.edge.services.inbox.clone();
        let Some(session) = self.session(seat) else {
            return;
        };
        let reference = session
            .durable
            .as_ref()
            .map(|durable| durable.session.clone());
        let Some(waiting) = session.inbound.get(number) else {
            return;
        };
        let packet_id = waiting.packet_id;
        match reference {
            Some(reference) if waiting.publication.message.qos == Qos::ExactlyOnce => {
                waiting.stage = Stage::Begin;
                let done = self.reply(seat, move |result| Completion::Begun(number, result));
                inbox.begin_inbound(&reference, packet_id, done);
            }
            _ => self.store_copy(seat, number),
        }
    }

    /// The retained copy of a QoS 1 or 2 message becomes durable before the message is routed.
    fn store_copy(&mut self, seat: Seat, number: u64) {
        let retain = self.edge.services.retain.clone();
        let Some(session) = self.session(seat) else {
            return;
        };
        let Some(waiting) = session.inbound.get(number) else {
            return;
        };
        if !waiting.publication.message.retain || waiting.is_stored {
            return self.match_waiting(seat, number);
        }
        if waiting.token.is_none() {
            let publication = waiting.publication.clone();
            self.store_unasked(seat, &publication);
            return self.match_waiting(seat, number);
        }
        waiting.stage = Stage::Store;
        let (tenant, message) = (
            waiting.publication.tenant.clone(),
            waiting.publication.message.clone(),
        );
        let done = self.store_reply(seat, message.weight(), move |result| {
            Completion::Retained(number, result)
        });
        retain.store(&tenant, &message, done);
        self.wait_for_stores(seat);
    }

    /// Nobody waits for the retained copy of a QoS 0 message.
    fn store_unasked(&mut self, seat: Seat, publication: &Publication) {
        let retain = self.edge.services.retain.clone();
        let message = &publication.message;
        let topic = message.topic.clone();
        let is_cleared = message.payload.is_empty();
        let done = self.store_reply(seat, message.weight(), move |result| {
            Completion::RetainedUnasked(topic, is_cleared, result)
        });
        retain.store(&publication.tenant, message, done);
        self.wait_for_stores(seat);
    }

    pub(crate) fn retained_unasked(
        &mut self,
        seat: Seat,
        topic: &Topic,
        is_cleared: bool,
        result: Result<(), RetainError>,
    ) {
        match result {
            Ok(()) => {
                let kind = retained_kind(is_cleared);
                self.emit(seat, kind, |event| event.topic(topic));
            }
            Err(error) => self.emit(seat, EventKind::MsgRetainedError, |event| {
                event.topic(topic).detail(error.to_string())
            }),
        }
    }

    pub(crate) fn publish_access(&mut self, seat: Seat, number: u64, access: Access) {
        let Some(session) = self.session(seat) else {
            return;
        };
        let bypass = session.tenant.settings.load().by_pass_perm_check_error;
        if self.is_granted(seat, access, bypass) {
            self.prepare(seat, number);
            return;
        }
        let Some((token, packet_id, qos, topic)) = self.drop_waiting(seat, number) else {
            return;
        };
        let refusal = Refusal {
            reason: ReasonCode::NOT_AUTHORIZED,
            event: EventKind::PubActionDisallow,
            topic: Some(topic),
        };
        match self.refuse_publish(seat, token, packet_id, qos, refusal) {
            Ok(()) => self.advance(seat),
            Err(ending) => self.end(seat, ending),
        }
    }

    /// A publish keeps its place in the pipeline and does nothing there.
    fn drop_waiting(&mut self, seat: Seat, number: u64) -> Option<(Option<u64>, u16, Qos, Topic)> {
        let waiting = self.session(seat)?.inbound.get(number)?;
        waiting.is_dropped = true;
        waiting.stage = Stage::Ready;
        let message = &waiting.publication.message;
        Some((
            waiting.token.take(),
            waiting.packet_id,
            message.qos,
            message.topic.clone(),
        ))
    }

    pub(crate) fn publish_begun(
        &mut self,
        seat: Seat,
        number: u64,
        result: Result<InboundId, InboxError>,
    ) {
        match result {
            Ok(id) => {
                let Some(waiting) = self
                    .session(seat)
                    .and_then(|session| session.inbound.get(number))
                else {
                    return;
                };
                if !id.is_routed {
                    waiting.publication.key = Some(id.key);
                    self.store_copy(seat, number);
                    return;
                }
                // An earlier connection routed it: only the answer is missing.
                let packet_id = waiting.packet_id;
                let token = waiting.token.take();
                waiting.is_dropped = true;
                waiting.stage = Stage::Ready;
                self.publish_done(seat, token, packet_id);
                self.advance(seat);
            }
            Err(error) => self.publish_failed(seat, number, is_refusal(&error)),
        }
    }

    pub(crate) fn publish_retained(
        &mut self,
        seat: Seat,
        number: u64,
        result: Result<(), RetainError>,
    ) {
        let Some(waiting) = self
            .session(seat)
            .and_then(|session| session.inbound.get(number))
        else {
            return;
        };
        let topic = waiting.publication.message.topic.clone();
        let is_cleared = waiting.publication.message.payload.is_empty();
        match result {
            Ok(()) => {
                let kind = retained_kind(is_cleared);
                self.emit(seat, kind, |event| event.topic(&topic));
                self.match_waiting(seat, number);
            }
            Err(error) => {
                self.emit(seat, EventKind::MsgRetainedError, |event| {
                    event.topic(&topic).detail(error.to_string())
                });
                self.publish_failed(seat, number, is_retain_refusal(&error));
            }
        }
    }

    /// A publish cannot go on. Refused means that nothing of it was done.
    fn publish_failed(&mut self, seat: Seat, number: u64, is_refused: bool) {
        let Some((token, packet_id, qos, topic)) = self.drop_waiting(seat, number) else {
            return;
        };
        self.publish_undone(seat, token, packet_id, qos, Some(&topic), is_refused);
        self.advance(seat);
    }

    /// Everything it needs is there but its receivers. They are looked up at once, whatever waits
    /// before it, so that the lookups of a burst share their way.
    fn match_waiting(&mut self, seat: Seat, number: u64) {
        let edge = self.edge.clone();
        let Some(session) = self.session(seat) else {
            return;
        };
        let tenant = session.tenant.number;
        let Some(waiting) = session.inbound.get(number) else {
            return;
        };
        waiting.stage = Stage::Match;
        let topic = waiting.publication.message.topic.clone();
        let done = self.reply(seat, move |result| Completion::Matched(number, result));
        self.lookups += 1;
        edge.services.dist.match_topic(tenant, &topic, done);
        self.wait_for_stores(seat);
    }

    pub(crate) fn publish_matched(
        &mut self,
        seat: Seat,
        number: u64,
        result: Result<Arc<Matched>, MatchError>,
    ) {
        let Some(waiting) = self
            .session(seat)
            .and_then(|session| session.inbound.get(number))
        else {
            return;
        };
        match result {
            Ok(matched) => {
                waiting.matched = Some(matched);
                waiting.stage = Stage::Ready;
                self.advance(seat);
            }
            Err(error) => {
                self.emit(seat, EventKind::DistError, |event| {
                    event.detail(error.to_string())
                });
                self.publish_failed(seat, number, true);
            }
        }
    }

    /// Routes all publishes whose turn has come.
    pub(crate) fn advance(&mut self, seat: Seat) {
        while let Some(session) = self.session(seat) {
            let Some((number, head)) = session.inbound.head() else {
                break;
            };
            if head.stage != Stage::Ready {
                break;
            }
            if head.is_dropped {
                session.inbound.pop();
                continue;
            }
            // A route may have changed while it waited for those before it (contract C2).
            let is_stale = head.matched.as_ref().is_none_or(|found| found.is_stale());
            if is_stale && !head.is_rematched {
                head.is_rematched = head.matched.is_some();
                self.match_waiting(seat, number);
                break;
            }
            let Some(Waiting {
                publication,
                token,
                packet_id,
                matched: Some(matched),
                ..
            }) = session.inbound.pop()
            else {
                break;
            };
            if let Some(memo) = &mut session.memo
                && memo.topic == publication.message.topic
            {
                memo.matched = Some(matched.clone());
            }
            self.route(seat, publication, &matched, token, packet_id);
        }
        let Some(session) = self.session(seat) else {
            return;
        };
        // A permission that is awaited keeps reading off: the answer belongs to one place.
        let is_asked = session.inbound.is_asking();
        if !is_asked && session.inbound.len() < PIPELINE_MAX {
            self.resume(seat, Pause::Publish);
        }
    }
}

/// The topic, shared with the memo of the last one where it is the same.
fn topic_of(
    session: &mut Session,
    name: &ByteString,
    settings: &Settings,
) -> Result<Topic, TopicError> {
    if let Some(memo) = &session.memo
        && memo.topic.as_bytestring() == name
    {
        return Ok(memo.topic.clone());
    }
    // A copy: the name given shares its memory with a whole packet.
    let topic = Topic::within(ByteString::from(&**name), &settings.topic_limits())?;
    session.memo = Some(Box::new(Memo {
        topic: topic.clone(),
        access: (0, 0),
        matched: None,
        local: None,
    }));
    Ok(topic)
}

/// What the tenant's settings and the standard say about a PUBLISH whatever its topic.
fn check_features(publish: &Publish, settings: &Settings) -> Result<(), Ending> {
    let properties = &publish.properties;
    if properties.topic_alias.is_some() {
        // CONNACK offered none (MQTT-3.2.2-17, 3.3.2.3.4).
        return Err(Ending::violation(
            ReasonCode::TOPIC_ALIAS_INVALID,
            "topic aliases are not offered",
        ));
    }
    if !properties.subscription_ids.is_empty() {
        // MQTT-3.3.4-6.
        return Err(super::protocol_error(
            "a subscription identifier from a client",
        ));
    }
    if u32::from(model_qos(publish.qos).level()) > settings.maximum_qos {
        // MQTT-3.2.2-11.
        return Err(Ending::violation(
            ReasonCode::QOS_NOT_SUPPORTED,
            "QoS above the maximum",
        ));
    }
    if publish.retain && !settings.retain_enabled {
        // MQTT-3.2.2-14.
        return Err(Ending::violation(
            ReasonCode::RETAIN_NOT_SUPPORTED,
            "retained messages are not available",
        ));
    }
    if let Some(topic) = &properties.response_topic
        && topic.contains(['+', '#'])
    {
        // MQTT-3.3.2-14.
        return Err(super::protocol_error("a wildcard in the response topic"));
    }
    Ok(())
}

pub(super) fn reason_byte(reason: ReasonCode) -> u8 {
    reason.0
}

/// Whether the command is known not to be applied.
pub(crate) fn is_refusal(error: &InboxError) -> bool {
    !matches!(error, InboxError::Unknown)
}

fn retained_kind(is_cleared: bool) -> EventKind {
    match is_cleared {
        true => EventKind::RetainMsgCleared,
        false => EventKind::MsgRetained,
    }
}

/// The same of the retained store.
fn is_retain_refusal(error: &RetainError) -> bool {
    !matches!(error, RetainError::Unknown)
}
