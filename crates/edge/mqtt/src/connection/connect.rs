//! CONNECT: decode, judge, authenticate, find the tenant, claim the session, open it, answer.
//!
//! Each step may answer later, by mail. What the client sent behind CONNECT is held meanwhile.

mod judge;

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use bifrust_inbox::{Cause, Detach, InboxError, Open, Opened, SessionRef, Will};
use bifrust_model::{
    ClientId, ClientInfo, EventKind, Message, Protocol, SessionKey, Settings, Tenant, Topic,
};
use bifrust_mqtt_codec::{
    Connack, ConnackProperties, Connect, DecodeError, Frame, Packet, Qos, ReasonCode, Version,
    decode_connect, encode_within,
};
use bifrust_plugin_api::{Answer, AuthAnswer, AuthRequest, Credentials, Granted, Refusal};
use bifrust_registry::RegistryError;
use bifrust_session_dict::Claim;
use bytes::BytesMut;

use super::{Ending, Exchange, Pause, Phase, model_protocol, model_qos, settings_of};
use crate::fault::{Fault, planted};
use crate::mailbox::{Completion, Seat};
use crate::session::Session;
use crate::session::durable::Durable;
use crate::session::filters::Filters;
use crate::session::inbound::Inbound;
use crate::session::known_topics::KnownTopics;
use crate::session::rate::Rate;
use crate::session::window::{Window, packet_id};
use crate::shard::Shard;
use crate::shard::timer::Timer;

/// A CONNECT that is being answered.
pub(crate) struct Connecting {
    connect: Connect,
    packet_len: usize,
    client_id: ClientId,
    is_id_assigned: bool,
    /// Known once it has authenticated.
    granted: Option<Granted>,
    accepted: Option<Accepted>,
    is_claiming: bool,
    is_attaching: bool,
    is_kicked: bool,
    /// Of a client that named an authentication method.
    pub(super) exchange: Option<Box<Exchange>>,
}

impl Connecting {
    pub(super) fn client_packet_max(&self) -> u32 {
        let asked = self.connect.properties.maximum_packet_size;
        asked
            .filter(|_| !planted(Fault::PacketMaximumIgnored))
            .map_or(u32::MAX, NonZeroU32::get)
    }
}

/// What is known once the tenant is.
#[derive(Clone)]
struct Accepted {
    tenant: Arc<Tenant>,
    client: Arc<ClientInfo>,
    settings: Arc<Settings>,
    expiry_seconds: u32,
    keep_alive: u16,
    window: u16,
    has_will: bool,
}

impl Accepted {
    /// v3 has no topic aliases.
    fn topic_alias_max(&self) -> u16 {
        match self.client.protocol {
            Protocol::V5 => u16::try_from(self.settings.max_topic_alias).unwrap_or(u16::MAX),
            Protocol::V31 | Protocol::V311 => 0,
        }
    }

    fn key(&self) -> SessionKey {
        SessionKey {
            tenant: self.tenant.number,
            client: self.client.client.clone(),
        }
    }
}

/// Why a CONNECT is refused.
struct Refused {
    reason: ReasonCode,
    event: EventKind,
    detail: String,
    reference: Option<String>,
}

impl Refused {
    fn new(reason: ReasonCode, event: EventKind, detail: impl Into<String>) -> Self {
        Self {
            reason,
            event,
            detail: detail.into(),
            reference: None,
        }
    }
}

impl Shard {
    pub(super) fn handle_connect(
        &mut self,
        seat: Seat,
        frame: Frame,
        body: &[u8],
    ) -> Result<(), Ending> {
        let connect = match decode_connect(body) {
            Ok(connect) => connect,
            Err(error) => return self.refuse_bytes(seat, error.version, &error.source),
        };
        let Some(connection) = self.connection(seat) else {
            return Ok(());
        };
        connection.version = connect.version;
        if let Err(refused) = judge::packet(&connect) {
            if refused.reason == ReasonCode::TOPIC_NAME_INVALID && connect.version != Version::V5 {
                // 3.1.1, MQTT-3.1.4-1: malformed, and there is no code for it.
                return Err(Ending::silent(refused.event, refused.detail));
            }
            return self.refuse(seat, &refused);
        }
        let is_id_assigned = connect.client_id.is_empty();
        let client_id = if is_id_assigned {
            assigned_id()
        } else {
            ClientId::new(&connect.client_id)
        };
        let Ok(client_id) = client_id else {
            let refused = Refused::new(
                ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
                EventKind::IdentifierRejected,
                "client identifier",
            );
            return self.refuse(seat, &refused);
        };
        if !self.edge.services.lease.is_held() {
            let refused = Refused::new(
                ReasonCode::SERVER_UNAVAILABLE,
                EventKind::ServerBusy,
                "this node holds no lease",
            );
            return self.refuse(seat, &refused);
        }
        self.authenticate(seat, connect, client_id, is_id_assigned, frame.total_len());
        Ok(())
    }

    /// A CONNECT that does not decode gets an answer only if there is one that its sender
    /// understands.
    fn refuse_bytes(
        &mut self,
        seat: Seat,
        version: Option<Version>,
        error: &DecodeError,
    ) -> Result<(), Ending> {
        let version = match (version, error) {
            // MQTT-3.1.2-2: the answer is in a version that it may know.
            (None, DecodeError::UnsupportedVersion { level }) if *level > 5 => Version::V5,
            (None, DecodeError::UnsupportedVersion { .. }) => Version::V311,
            (Some(version), _) => version,
            (None, _) => return Err(super::read::malformed(error)),
        };
        let is_version = matches!(error, DecodeError::UnsupportedVersion { .. });
        if version != Version::V5 && !is_version {
            // 3.1.1, 3.1.4: closed without CONNACK.
            return Err(super::read::malformed(error));
        }
        if let Some(connection) = self.connection(seat) {
            connection.version = version;
        }
        let event = match is_version {
            true => EventKind::UnacceptedProtocolVer,
            false => EventKind::ProtocolError,
        };
        self.refuse(
            seat,
            &Refused::new(error.reason(), event, error.to_string()),
        )
    }

    /// CONNACK with a reason, then the end.
    fn refuse(&mut self, seat: Seat, refused: &Refused) -> Result<(), Ending> {
        let mut connack = Connack::refusal(refused.reason);
        let is_v5 = self
            .connection(seat)
            .is_some_and(|connection| connection.is_v5());
        if is_v5 {
            // What a provider says about its own failure is for the operator.
            let is_public = refused.event != EventKind::AuthError;
            connack.properties = Some(Box::new(ConnackProperties {
                reason_string: is_public.then(|| refused.detail.as_str().into()),
                server_reference: refused.reference.clone().map(Into::into),
                ..ConnackProperties::default()
            }));
        }
        self.send_packet(seat, &Packet::Connack(connack));
        Err(Ending::silent(refused.event, refused.detail.clone()))
    }

    fn refuse_and_end(&mut self, seat: Seat, refused: &Refused) {
        if let Err(ending) = self.refuse(seat, refused) {
            self.end(seat, ending);
        }
    }

    fn authenticate(
        &mut self,
        seat: Seat,
        mut connect: Connect,
        client_id: ClientId,
        is_id_assigned: bool,
        packet_len: usize,
    ) {
        let edge = self.edge.clone();
        let now_ms = self.now_ms;
        let Some(connection) = self.connection(seat) else {
            return;
        };
        let Some(transport) = &connection.transport else {
            return;
        };
        let peer = transport.peer;
        let tls = transport.tls_facts();
        let listener = edge.listeners.get(usize::from(connection.listener));
        let request = AuthRequest {
            credentials: Credentials {
                user_name: connect.user_name.as_ref().map(ToString::to_string),
                // Not kept longer than the question.
                password: connect.password.take(),
            },
            client_id: connect.client_id.to_string(),
            peer,
            protocol: model_protocol(connect.version),
            listener_tenant: listener.and_then(|listener| listener.tenant_of(tls.as_ref())),
            tls,
            methods: listener.map_or_else(Vec::new, |listener| listener.auth.clone()),
        };
        let method = connect.properties.authentication_method.take();
        let data = connect.properties.authentication_data.take();
        let is_enhanced = method.is_some();
        let exchange = method.map(|method| Box::new(Exchange::new(method, request.clone())));
        connection.phase = Phase::Connecting(Box::new(Connecting {
            connect,
            exchange,
            packet_len,
            client_id,
            is_id_assigned,
            granted: None,
            accepted: None,
            is_claiming: false,
            is_attaching: false,
            is_kicked: false,
        }));
        connection.pause(Pause::Connect, now_ms);
        if is_enhanced {
            return self.begin_exchange(seat, data);
        }
        match edge.services.auth.authenticate(request) {
            Answer::Now(answer) => self.authenticated(seat, answer),
            Answer::Later(later) => {
                self.ask(seat, later, |answer| {
                    Completion::Authenticated(Box::new(answer))
                });
            }
        }
    }

    fn connecting(&mut self, seat: Seat) -> Option<&mut Connecting> {
        match &mut self.connection(seat)?.phase {
            Phase::Connecting(connecting) => Some(connecting),
            _ => None,
        }
    }

    pub(crate) fn authenticated(&mut self, seat: Seat, answer: AuthAnswer) {
        let edge = self.edge.clone();
        let Some(connecting) = self.connecting(seat) else {
            return;
        };
        let granted = match answer {
            Ok(Ok(granted)) => granted,
            Ok(Err(refusal)) => return self.refuse_and_end(seat, &judge::refusal(refusal)),
            Err(error) => return self.refuse_and_end(seat, &judge::auth_error(&error)),
        };
        let client_id = connecting.client_id.clone();
        if !edge.services.auth.accepts_client_id(&granted, &client_id) {
            let refused = Refused::new(
                ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
                EventKind::IdentifierRejected,
                "the user may not use this client identifier",
            );
            return self.refuse_and_end(seat, &refused);
        }
        let name = granted.tenant.clone();
        connecting.granted = Some(granted);
        if let Some(tenant) = edge.services.registry.known(&name) {
            return self.tenant_found(seat, Ok(tenant));
        }
        let done = self.reply(seat, Completion::Tenant);
        edge.services.registry.tenant(&name, done);
    }

    pub(crate) fn tenant_found(&mut self, seat: Seat, result: Result<Arc<Tenant>, RegistryError>) {
        let edge = self.edge.clone();
        let peer = self
            .connection(seat)
            .and_then(|connection| connection.transport.as_ref())
            .map(|transport| transport.peer);
        let me = self.reference(seat);
        let Some(connecting) = self.connecting(seat) else {
            return;
        };
        let (Some(granted), Some(peer)) = (connecting.granted.take(), peer) else {
            return;
        };
        let tenant = match result {
            Ok(tenant) => tenant,
            Err(error) => {
                let refused = Refused::new(
                    ReasonCode::SERVER_UNAVAILABLE,
                    EventKind::ServerBusy,
                    error.to_string(),
                );
                return self.refuse_and_end(seat, &refused);
            }
        };
        let settings = settings_of(&tenant);
        let connect = &connecting.connect;
        let client = Arc::new(ClientInfo {
            tenant: tenant.name.clone(),
            user: granted.user,
            client: connecting.client_id.clone(),
            peer: Some(peer),
            protocol: model_protocol(connect.version),
        });
        let judged = judge::settings(connect, connecting.packet_len, &settings)
            .and_then(|()| judge::quotas(&edge.services, &tenant, &client));
        if let Err(refused) = judged {
            return self.refuse_and_end(seat, &refused);
        }
        let accepted = Accepted {
            expiry_seconds: judge::session_expiry(connect, &settings),
            keep_alive: judge::keep_alive(connect, &settings),
            window: judge::window(connect, &settings),
            has_will: connect.will.is_some(),
            tenant,
            client,
            settings,
        };
        if !takes_connack(connecting, &accepted) {
            // Before the session is claimed: nobody is taken over by a client that cannot come in.
            let refused = Refused::new(
                ReasonCode::PACKET_TOO_LARGE,
                EventKind::OversizePacketDropped,
                "CONNACK is larger than the client takes",
            );
            return self.refuse_and_end(seat, &refused);
        }
        let (key, user) = (accepted.key(), accepted.client.user.clone());
        connecting.accepted = Some(accepted);
        connecting.is_claiming = true;
        let done = self.reply(seat, Completion::Claimed);
        edge.services.dict.claim(key, user, peer, me, done);
    }

    pub(crate) fn claimed(&mut self, seat: Seat, claim: Claim) {
        let inbox = self.edge.services.inbox.clone();
        let stamp = self.edge.services.clock.stamp();
        let owner = self.reference(seat);
        let Some(connecting) = self.connecting(seat) else {
            return;
        };
        match claim {
            Claim::Granted { .. } => {}
            Claim::OtherUser => {
                connecting.is_claiming = false;
                return self.refuse_and_end(seat, &judge::other_user());
            }
            Claim::Superseded => {
                connecting.is_claiming = false;
                let refused = Refused::new(
                    ReasonCode::SERVER_BUSY,
                    EventKind::Kicked,
                    "a newer connection claims the session",
                );
                return self.refuse_and_end(seat, &refused);
            }
        }
        let Some(accepted) = &connecting.accepted else {
            return;
        };
        let kept = connecting.connect.will.take();
        let kept = kept.filter(|_| !planted(Fault::WillLost));
        let will = kept.and_then(|will| {
            let message = Message {
                topic: Topic::new(will.topic.clone()).ok()?,
                payload: will.payload.clone(),
                qos: model_qos(will.qos),
                retain: will.retain && !planted(Fault::WillNotRetained),
                stamp,
                expiry_seconds: will.message_expiry,
                properties: will.forward.clone(),
                publisher: accepted.client.client.clone(),
            };
            Some(Will {
                message,
                delay_seconds: will.delay,
                client: accepted.client.clone(),
            })
        });
        let request = Open {
            tenant: accepted.tenant.clone(),
            client: accepted.client.clone(),
            owner,
            clean_start: connecting.connect.clean_start && !planted(Fault::CleanStartIgnored),
            expiry_seconds: accepted.expiry_seconds,
            window: accepted.window,
            will,
        };
        connecting.is_attaching = true;
        let done = self.reply(seat, |result| Completion::Attached(Box::new(result)));
        inbox.attach(request, done);
    }

    pub(crate) fn attached(&mut self, seat: Seat, result: Result<Opened, InboxError>) {
        let Some(connection) = self.connection(seat) else {
            return;
        };
        match &mut connection.phase {
            Phase::Connecting(connecting) => {
                connecting.is_attaching = false;
                match result {
                    Ok(opened) => self.open_session(seat, opened),
                    Err(error) => self.refuse_and_end(seat, &judge::inbox_error(error)),
                }
            }
            Phase::Closing(closing) => {
                // It ended while it was being let in: nobody was told that it is in.
                closing.is_attaching = false;
                let Some((key, tenant)) = closing.attaching.take() else {
                    return;
                };
                match result {
                    Ok(opened) => {
                        let session = SessionRef {
                            tenant,
                            client: key.client.clone(),
                            epoch: opened.epoch,
                        };
                        let detach = Detach {
                            cause: Cause::Normal,
                            expiry_seconds: None,
                            sent_before: opened.next_seq,
                            routed: Vec::new(),
                        };
                        self.detach(seat, key, session, detach);
                    }
                    Err(_) => {
                        self.release(seat, &key);
                        self.free_if_done(seat);
                    }
                }
            }
            Phase::Fresh | Phase::Serving(_) => {}
        }
    }

    /// A newer connection claims the session. One that is being let in is let in first: clients
    /// that fight for a session would starve each other otherwise.
    pub(crate) fn kicked(&mut self, seat: Seat) {
        if planted(Fault::OlderConnectionStays) {
            return;
        }
        match self.connecting(seat) {
            Some(connecting) => connecting.is_kicked = true,
            None => {
                let edge = self.edge.clone();
                if let Some(session) = self.session(seat) {
                    edge.taken_over(session.key(), &session.client);
                }
                self.read_last(seat);
                self.end(seat, Ending::taken_over());
            }
        }
    }

    /// A connection ends while its CONNECT is being answered.
    pub(super) fn abort_connect(&mut self, seat: Seat, connecting: Connecting, ending: &Ending) {
        let client = connecting
            .accepted
            .as_ref()
            .map(|accepted| &accepted.client);
        match client {
            Some(client) => self.emit_client(client, ending.event, |event| {
                event.detail(ending.detail.clone())
            }),
            None => self.emit_stranger(seat, ending),
        }
        let Some(accepted) = &connecting.accepted else {
            return;
        };
        if !connecting.is_claiming {
            return;
        }
        let key = accepted.key();
        if !connecting.is_attaching {
            // Also withdraws a claim that waits.
            self.release(seat, &key);
            return;
        }
        if let Some(connection) = self.connection(seat)
            && let Phase::Closing(closing) = &mut connection.phase
        {
            closing.is_attaching = true;
            closing.attaching = Some((key, accepted.tenant.clone()));
        }
    }

    fn open_session(&mut self, seat: Seat, opened: Opened) {
        let now_ms = self.now_ms;
        let Some(connection) = self.connection(seat) else {
            return;
        };
        let Phase::Connecting(connecting) = &mut connection.phase else {
            return;
        };
        let Some(accepted) = connecting.accepted.take() else {
            return;
        };
        let is_kicked = connecting.is_kicked;
        let connack = connack(connecting, &accepted, opened.session_present);
        let exchange = connecting.exchange.take();
        let wants_explanations = connecting.connect.properties.request_problem_information;
        let aliases_taken =
            (connecting.connect.properties.topic_alias_maximum).min(accepted.topic_alias_max());
        let client_packet_max = connecting.client_packet_max();
        let client = accepted.client.clone();
        let packet_max = accepted.settings.max_user_payload_bytes as usize;
        let mut session = session(&accepted, &opened, client_packet_max);
        session.exchange = exchange;
        session.wants_explanations = wants_explanations;
        if let Some(known) = KnownTopics::new(aliases_taken) {
            session.topic_aliases.get_or_insert_default().to_client = Some(known);
        }
        connection.phase = Phase::Serving(Box::new(session));
        connection.packet_max = packet_max;
        connection.keep_alive = accepted.keep_alive;
        connection.heard_ms = now_ms;
        connection.rate = Rate::of(&accepted.settings).map(Box::new);
        if let Some(transport) = &mut connection.transport {
            transport.limit_packets(packet_max);
        }
        self.send_packet(seat, &Packet::Connack(connack));
        if (opened.subscriptions.iter()).any(|subscription| subscription.filter.is_shared()) {
            self.attend_inbox(seat);
        }
        let released = match planted(Fault::PubrelNotRepeated) {
            true => Vec::new(),
            false => opened.released,
        };
        for seq in released {
            // 4.4: PUBREL again, in order, before new messages.
            self.send_pubrel(seat, packet_id(seq), ReasonCode::SUCCESS);
        }
        self.emit_client(&client, EventKind::ClientConnected, |event| event);
        if !opened.session_present {
            self.emit_client(&client, EventKind::MqttSessionStart, |event| event);
        }
        if accepted.keep_alive > 0 && !planted(Fault::KeepAliveIgnored) {
            let due = now_ms + u64::from(accepted.keep_alive) * 1500;
            self.wheel.arm(due, seat, Timer::KeepAlive);
        }
        self.resume(seat, Pause::Connect);
        self.mark_dirty(seat.slot);
        if is_kicked {
            self.kicked(seat);
        }
    }
}

fn session(accepted: &Accepted, opened: &Opened, client_packet_max: u32) -> Session {
    let mut inbound = Inbound::default();
    for id in opened.inbound.iter().filter(|id| id.is_routed) {
        // An id that was begun and not routed is begun again when its PUBLISH comes again.
        inbound.begin(id.packet_id, true);
    }
    let mut window = Window::new(accepted.window);
    for seq in &opened.released {
        window.released(*seq);
    }
    let reference = SessionRef {
        tenant: accepted.tenant.clone(),
        client: accepted.client.client.clone(),
        epoch: opened.epoch,
    };
    let durable = opened
        .is_durable
        .then(|| Box::new(Durable::new(reference, opened.incarnation, opened.next_seq)));
    Session {
        tenant: accepted.tenant.clone(),
        client: accepted.client.clone(),
        epoch: opened.epoch,
        expiry_seconds: accepted.expiry_seconds,
        has_rows: opened.is_durable || accepted.has_will,
        client_packet_max,
        subscriptions: Filters::default(),
        filter_request: None,
        scans: None,
        queue: Default::default(),
        window,
        next_seq: 1,
        durable,
        shares: None,
        acks: Default::default(),
        inbound,
        memo: None,
        topic_aliases: None,
        topic_alias_max: accepted.topic_alias_max(),
        is_doomed: false,
        wants_explanations: true,
        exchange: None,
    }
}

fn connack(connecting: &Connecting, accepted: &Accepted, session_present: bool) -> Connack {
    let settings = &accepted.settings;
    let asked = &connecting.connect;
    let properties = (asked.version == Version::V5).then(|| {
        let expiry = accepted.expiry_seconds;
        let expiry_asked = asked.properties.session_expiry.unwrap_or(0);
        let receive_maximum = u16::try_from(settings.receiving_maximum).unwrap_or(u16::MAX);
        Box::new(ConnackProperties {
            session_expiry: (expiry != expiry_asked).then_some(expiry),
            receive_maximum: NonZeroU16::new(receive_maximum).filter(|max| max.get() < u16::MAX),
            maximum_qos: match settings.maximum_qos {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                _ => Qos::ExactlyOnce,
            },
            retain_available: settings.retain_enabled,
            topic_alias_maximum: accepted.topic_alias_max(),
            maximum_packet_size: NonZeroU32::new(settings.max_user_payload_bytes),
            assigned_client_id: (connecting.is_id_assigned
                && !planted(Fault::AssignedIdentifierUntold))
            .then(|| connecting.client_id.as_str().into()),
            wildcard_subscription_available: settings.wildcard_subscription_enabled,
            subscription_ids_available: settings.subscription_identifier_enabled,
            // MQTT-4.12.0-5: as at CONNECT.
            authentication_method: (connecting.exchange.as_ref())
                .map(|exchange| exchange.method().clone()),
            authentication_data: (connecting.exchange.as_ref())
                .and_then(|exchange| exchange.data().cloned()),
            shared_subscription_available: settings.shared_subscription_enabled,
            server_keep_alive: (accepted.keep_alive != asked.keep_alive)
                .then_some(accepted.keep_alive),
            ..ConnackProperties::default()
        })
    });
    Connack {
        session_present: session_present && !planted(Fault::SessionPresentZero),
        reason: ReasonCode::SUCCESS,
        properties,
    }
}

/// Whether CONNACK is within the client's Maximum Packet Size (MQTT-3.1.2-24).
fn takes_connack(connecting: &Connecting, accepted: &Accepted) -> bool {
    let max = connecting.client_packet_max();
    if max == u32::MAX {
        return true;
    }
    let packet = Packet::Connack(connack(connecting, accepted, false));
    encode_within(
        &packet,
        connecting.connect.version,
        max,
        &mut BytesMut::new(),
    )
    .is_ok()
}

/// An identifier nobody else has: 96 random bits.
fn assigned_id() -> Result<ClientId, bifrust_model::ClientIdError> {
    let (high, low) = (fastrand::u64(..), fastrand::u32(..));
    ClientId::new(&format!("auto-{high:016x}{low:08x}"))
}
