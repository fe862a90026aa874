//! PUBLISH from a client: checks, then the order in which publishes reach their receivers.
//!
//! Most publishes are routed at once. One that has to wait for something (a permission, a durable
//! QoS 2 identifier, its retained copy, the lookup of its receivers) takes a place in the
//! session's pipeline, and all behind it wait for their turn, so that order is kept
//! (MQTT-4.6.0-6). A retained QoS 1 or 2 publish is stored before it is routed: a subscriber that
//! comes in between finds it in the store or gets it live, or both (contract C3).

mod picks;
mod pipeline;

use bifrust_dist::Publication;
use bifrust_model::{EventKind, ForbiddenPublish, Message, Qos, Settings, Topic, TopicError};
use bifrust_mqtt_codec::{PacketId, Publish, ReasonCode};
use bifrust_plugin_api::{Access, Action, Answer};
use bytestring::ByteString;

use super::{Ending, Pause, model_qos};
use crate::fault::{Fault, planted};
use crate::mailbox::{Completion, Seat};
use crate::metrics::Drop;
use crate::session::acks::AckKind;
use crate::session::aliases::Meaning;
use crate::session::inbound::{Seen, Stage, Waiting};
use crate::session::{Memo, Session};
use crate::shard::{DURABLE_MAX, Shard};

pub(crate) use picks::Orphan;

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

impl Refusal {
    /// Its topic is over a limit.
    fn no_topic() -> Self {
        Self {
            reason: ReasonCode::TOPIC_NAME_INVALID,
            event: EventKind::InvalidTopic,
            topic: None,
        }
    }
}

impl Shard {
    pub(super) fn handle_publish(
        &mut self,
        seat: Seat,
        mut publish: Publish,
    ) -> Result<(), Ending> {
        let now_ms = self.now_ms;
        let qos = model_qos(publish.qos);
        self.metrics.received(qos);
        let Some(connection) = self.connection(seat) else {
            return Ok(());
        };
        let is_v5 = connection.is_v5();
        if let Some(rate) = &mut connection.rate
            && let Some(until_ms) = rate.published(now_ms)
        {
            self.slow_down(seat, Some(until_ms));
            self.emit(seat, EventKind::ExceedPubRate, |event| event);
        }
        let Some(session) = self.session(seat) else {
            return Ok(());
        };
        let settings = session.tenant.settings.load();
        check_features(&publish, &settings)?;
        let is_too_long = match publish.properties.topic_alias {
            Some(alias) => resolve_alias(session, alias, &mut publish.topic, &settings)?,
            None => false,
        };
        let packet_id = publish.packet_id.map_or(0, PacketId::get);
        if qos == Qos::ExactlyOnce {
            match session.inbound.seen(packet_id) {
                Seen::New => {}
                _ if planted(Fault::DuplicateTaken) => {}
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
        let verdict = match is_too_long {
            true => Ok(Verdict::Refused(Refusal::no_topic())),
            false => self.judge(seat, &publish, qos),
        };
        let (topic, is_asked) = match verdict {
            Ok(Verdict::Allowed(topic)) => (topic, false),
            Ok(Verdict::Asked(topic)) => (topic, true),
            Err(ending) => {
                self.give_up(seat, token);
                return Err(ending);
            }
            Ok(Verdict::Refused(refusal)) => {
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
            Err(_) => return Ok(Verdict::Refused(Refusal::no_topic())),
        };
        if is_reserved(&topic) {
            return Ok(Verdict::Refused(Refusal {
                reason: ReasonCode::NOT_AUTHORIZED,
                event: EventKind::PubActionDisallow,
                topic: Some(topic),
            }));
        }
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
        let bypass = settings.by_pass_perm_check_error;
        drop(settings);
        Ok(self.permit(seat, topic, qos, publish.retain, bypass))
    }

    /// Permission, remembered for the topic published to last.
    fn permit(
        &mut self,
        seat: Seat,
        topic: Topic,
        qos: Qos,
        retain: bool,
        bypass: bool,
    ) -> Verdict {
        let refused = |topic| {
            Verdict::Refused(Refusal {
                reason: ReasonCode::NOT_AUTHORIZED,
                event: EventKind::PubActionDisallow,
                topic: Some(topic),
            })
        };
        let auth = self.edge.services.auth.clone();
        let Some(session) = self.session(seat) else {
            return refused(topic);
        };
        let version = auth.version();
        let bit = 1 << (qos.level() * 2 + u8::from(retain));
        if let Some(memo) = &session.memo
            && memo.access.0 == version
            && memo.access.1 & bit != 0
        {
            return Verdict::Allowed(topic);
        }
        let action = Action::Publish {
            topic: topic.as_str(),
            qos,
            retain,
        };
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
                match self.is_granted(seat, access, bypass) {
                    true => Verdict::Allowed(topic),
                    false => refused(topic),
                }
            }
            Answer::Later(later) => {
                // The number it will have once it takes its place.
                let number = session.inbound.next_number();
                self.ask(seat, later, move |access| {
                    Completion::PublishAccess(number, access)
                });
                Verdict::Asked(topic)
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
        let Some(session) = connection.publisher() else {
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
                self.give_up(seat, token);
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

    /// Durable receivers cannot take a message of this size, so nobody gets it and the client is told.
    pub(crate) fn refuse_durable(
        &mut self,
        seat: Seat,
        token: Option<u64>,
        packet_id: u16,
        message: &Message,
    ) {
        let refusal = Refusal {
            // PUBACK knows no "packet too large": it is a bound of the store that is met.
            reason: ReasonCode::QUOTA_EXCEEDED,
            event: EventKind::ResourceThrottled,
            topic: Some(message.topic.clone()),
        };
        if let Err(ending) = self.refuse_publish(seat, token, packet_id, message.qos, refusal) {
            self.doom(seat, ending);
        }
    }

    /// Nobody is told of a QoS 0 message: what takes no such size goes without it.
    pub(crate) fn publish_oversize(&mut self, seat: Seat, message: &Message) {
        self.metrics.dropped(Drop::Oversize);
        self.emit(seat, EventKind::ResourceThrottled, |event| {
            event
                .topic(&message.topic)
                .detail("larger than durable stores take")
        });
    }

    /// A publish ends its connection: there will be no answer to it.
    fn give_up(&mut self, seat: Seat, token: Option<u64>) {
        if let (Some(token), Some(session)) = (token, self.publisher(seat)) {
            session.acks.give_up(token);
        }
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
                properties: match planted(Fault::PropertiesLost) {
                    true => Default::default(),
                    false => publish.properties.forward,
                },
                publisher: session.client.client.clone(),
            },
            key: None,
        };
        let is_kept = publication.message.retain && !publication.message.payload.is_empty();
        if is_kept && token.is_some() && publication.message.weight() > DURABLE_MAX {
            return self.refuse_durable(seat, token, packet_id, &publication.message);
        }
        let Some(session) = self.session(seat) else {
            return;
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
                self.route(seat, publication, &matched, None, token, packet_id);
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
            picks: None,
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

/// Puts a topic where its alias stands, or remembers the alias (3.3.2.3.4). Whether it stands for one
/// that is too long.
fn resolve_alias(
    session: &mut Session,
    alias: u16,
    topic: &mut ByteString,
    settings: &Settings,
) -> Result<bool, Ending> {
    if alias == 0 || alias > session.topic_alias_max && !planted(Fault::AliasMaximumIgnored) {
        // MQTT-3.3.2-8, -9.
        return Err(Ending::violation(
            ReasonCode::TOPIC_ALIAS_INVALID,
            "a topic alias above the maximum",
        ));
    }
    let aliases = session.topic_aliases.get_or_insert_default();
    if !topic.is_empty() {
        aliases.set(alias, topic, settings.max_topic_length as usize);
        return Ok(false);
    }
    match aliases.get(alias) {
        Meaning::Topic(known) => *topic = known.clone(),
        Meaning::TooLong => return Ok(true),
        Meaning::None => return Err(super::protocol_error("an unknown topic alias")),
    }
    Ok(false)
}

/// Topics that belong to the server.
fn is_reserved(topic: &Topic) -> bool {
    let name = topic.as_str();
    name.starts_with('$')
        && ["$SYS/", "$share/", "$oshare/", "$events/"]
            .iter()
            .any(|reserved| name.starts_with(reserved))
}

/// What the tenant's settings and the standard say about a PUBLISH whatever its topic.
fn check_features(publish: &Publish, settings: &Settings) -> Result<(), Ending> {
    let properties = &publish.properties;
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
