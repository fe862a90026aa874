//! CONNECT: decode, judge, authenticate, find the tenant, claim the session, open it, answer.
//!
//! Each step may answer later, by mail. What the client sent behind CONNECT is held meanwhile.

mod judge;
mod opened;
mod refuse;

use std::num::NonZeroU32;
use std::sync::Arc;

use bifrust_inbox::{Cause, Detach, InboxError, Open, Opened, SessionRef, Will};
use bifrust_model::{
    ClientId, ClientInfo, EventKind, Message, Protocol, SessionKey, Settings, Tenant, Topic,
};
use bifrust_mqtt_codec::{Connect, Frame, ReasonCode, Version, decode_connect};
use bifrust_plugin_api::{Answer, AuthAnswer, AuthRequest, Credentials, Granted, Refusal};
use bifrust_registry::RegistryError;
use bifrust_session_dict::Claim;

use opened::takes_connack;
use refuse::Refused;

use super::{Ending, Exchange, Pause, Phase, model_protocol, model_qos, settings_of};
use crate::fault::{Fault, planted};
use crate::mailbox::{Completion, Seat};
use crate::shard::Shard;

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
}

/// An identifier nobody else has: 96 random bits.
fn assigned_id() -> Result<ClientId, bifrust_model::ClientIdError> {
    let (high, low) = (fastrand::u64(..), fastrand::u32(..));
    ClientId::new(&format!("auto-{high:016x}{low:08x}"))
}
