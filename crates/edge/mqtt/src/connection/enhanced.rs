//! Enhanced authentication: AUTH packets before CONNACK, and once more later (MQTT-5 4.12).

use bifrust_model::EventKind;
use bifrust_mqtt_codec::{Auth, AuthProperties, Frame, Packet, ReasonCode, decode};
use bifrust_plugin_api::{
    Answer, AuthError, AuthRequest, ExchangeAnswer, ExchangeRequest, Exchanged, Granted, Refusal,
};
use bytes::Bytes;
use bytestring::ByteString;

use super::{Ending, Pause, Phase, protocol_error};
use crate::mailbox::{Completion, Seat};
use crate::shard::Shard;
use crate::shard::timer::Timer;

/// Steps of the client's in one conversation.
const STEPS_MAX: u8 = 16;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// No conversation is under way.
    Nobody,
    Provider,
    Client,
}

/// The enhanced authentication of a connection, from its CONNECT to its end.
pub(crate) struct Exchange {
    method: ByteString,
    /// The CONNECT, without its password after the first step.
    connect: AuthRequest,
    turn: Turn,
    state: Option<Bytes>,
    steps: u8,
    /// Since when the present conversation runs.
    since_ms: u64,
    /// What goes with the success.
    data: Option<Bytes>,
}

impl Exchange {
    pub(super) fn new(method: ByteString, connect: AuthRequest) -> Self {
        Self {
            method,
            connect,
            turn: Turn::Nobody,
            state: None,
            steps: 0,
            since_ms: 0,
            data: None,
        }
    }

    pub(super) fn method(&self) -> &ByteString {
        &self.method
    }

    /// What CONNACK carries, once.
    pub(super) fn data(&self) -> Option<&Bytes> {
        self.data.as_ref()
    }

    fn begin(&mut self, now_ms: u64) {
        self.state = None;
        self.steps = 0;
        self.since_ms = now_ms;
    }

    fn request(&mut self, data: Option<Bytes>, current: Option<Granted>) -> ExchangeRequest {
        self.turn = Turn::Provider;
        self.steps += 1;
        let request = ExchangeRequest {
            method: self.method.to_string(),
            data,
            state: self.state.take(),
            connect: self.connect.clone(),
            current,
        };
        self.connect.credentials.password = None;
        request
    }

    fn packet(&self, reason: ReasonCode, data: Option<Bytes>) -> Packet {
        Packet::Auth(Auth {
            reason,
            properties: Some(Box::new(AuthProperties {
                method: self.method.clone(),
                data,
                ..AuthProperties::default()
            })),
        })
    }
}

impl Shard {
    fn exchange(&mut self, seat: Seat) -> Option<&mut Exchange> {
        match &mut self.connection(seat)?.phase {
            Phase::Connecting(connecting) => connecting.exchange.as_deref_mut(),
            Phase::Serving(session) => session.exchange.as_deref_mut(),
            Phase::Fresh | Phase::Closing(_) => None,
        }
    }

    /// The first step: what CONNECT brought.
    pub(super) fn begin_exchange(&mut self, seat: Seat, data: Option<Bytes>) {
        let now_ms = self.now_ms;
        if let Some(exchange) = self.exchange(seat) {
            exchange.begin(now_ms);
            self.step_exchange(seat, data);
        }
    }

    fn step_exchange(&mut self, seat: Seat, data: Option<Bytes>) {
        let edge = self.edge.clone();
        let current = self.session(seat).map(|session| Granted {
            tenant: session.client.tenant.clone(),
            user: session.client.user.clone(),
        });
        let Some(exchange) = self.exchange(seat) else {
            return;
        };
        let request = exchange.request(data, current);
        if exchange.steps > STEPS_MAX {
            return self.exchanged(seat, Ok(Err(Refusal::NotAuthorized)));
        }
        match edge.services.auth.exchange(request) {
            Answer::Now(answer) => self.exchanged(seat, answer),
            Answer::Later(later) => {
                self.ask(seat, later, |answer| {
                    Completion::Exchanged(Box::new(answer))
                });
            }
        }
    }

    /// The provider has judged a step.
    pub(crate) fn exchanged(&mut self, seat: Seat, answer: ExchangeAnswer) {
        let is_serving = self.session(seat).is_some();
        let Some(exchange) = self.exchange(seat) else {
            return;
        };
        exchange.turn = Turn::Nobody;
        match answer {
            Ok(Ok(Exchanged::Challenge { data, state })) => {
                exchange.turn = Turn::Client;
                exchange.state = Some(state);
                // MQTT-4.12.0-2, -3.
                let packet = exchange.packet(ReasonCode::CONTINUE_AUTHENTICATION, Some(data));
                self.send_packet(seat, &packet);
                if !is_serving {
                    self.resume(seat, Pause::Connect);
                }
            }
            Ok(Ok(Exchanged::Granted { granted, data })) if is_serving => {
                self.reauthenticated(seat, &granted, data);
            }
            Ok(Ok(Exchanged::Granted { granted, data })) => {
                exchange.data = data;
                self.authenticated(seat, Ok(Ok(granted)));
            }
            Ok(Err(refusal)) if is_serving => self.reauth_failed(seat, &refusal.to_string()),
            Ok(Err(refusal)) => self.authenticated(seat, Ok(Err(refusal))),
            Err(error) if is_serving => self.reauth_failed(seat, &error.to_string()),
            Err(error) => self.authenticated(seat, Err(error)),
        }
    }

    fn reauthenticated(&mut self, seat: Seat, granted: &Granted, data: Option<Bytes>) {
        let Some(session) = self.session(seat) else {
            return;
        };
        // The session is one user's (contract C4).
        let client = &session.client;
        if client.tenant != granted.tenant || client.user != granted.user {
            return self.reauth_failed(seat, "another user");
        }
        if let Some(exchange) = self.exchange(seat) {
            let packet = exchange.packet(ReasonCode::SUCCESS, data);
            self.send_packet(seat, &packet);
        }
    }

    fn reauth_failed(&mut self, seat: Seat, why: &str) {
        let ending = Ending::of(
            EventKind::ReAuthFailed,
            ReasonCode::NOT_AUTHORIZED,
            why.to_owned(),
        );
        self.end(seat, ending);
    }

    /// AUTH of a client that is served.
    pub(super) fn handle_auth(&mut self, seat: Seat, auth: Auth) -> Result<(), Ending> {
        let now_ms = self.now_ms;
        let timeout = self.edge.config.auth_timeout;
        let Some(exchange) = self.exchange(seat) else {
            return Err(protocol_error("AUTH without a method at CONNECT"));
        };
        let data = data_of(exchange, &auth)?;
        match (auth.reason, exchange.turn) {
            (ReasonCode::REAUTHENTICATE, Turn::Nobody) => {
                // MQTT-4.12.1-1.
                exchange.begin(now_ms);
                let due = now_ms + u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                self.wheel.arm(due, seat, Timer::Exchange);
                self.step_exchange(seat, data);
                Ok(())
            }
            (ReasonCode::CONTINUE_AUTHENTICATION, Turn::Client) => {
                self.step_exchange(seat, data);
                Ok(())
            }
            _ => Err(protocol_error("AUTH out of turn")),
        }
    }

    /// A packet between CONNECT and CONNACK: the answer to a challenge.
    pub(super) fn handle_exchange(
        &mut self,
        seat: Seat,
        frame: Frame,
        body: &[u8],
    ) -> Result<(), Ending> {
        let now_ms = self.now_ms;
        let Some(connection) = self.connection(seat) else {
            return Ok(());
        };
        let version = connection.version;
        let Some(exchange) = self.exchange(seat) else {
            return Err(protocol_error("a packet before CONNACK"));
        };
        let packet =
            decode(version, frame.first, body).map_err(|error| super::read::malformed(&error))?;
        match packet {
            Packet::Auth(auth)
                if auth.reason == ReasonCode::CONTINUE_AUTHENTICATION
                    && exchange.turn == Turn::Client =>
            {
                let data = data_of(exchange, &auth)?;
                if let Some(connection) = self.connection(seat) {
                    connection.pause(Pause::Connect, now_ms);
                }
                self.step_exchange(seat, data);
                Ok(())
            }
            Packet::Disconnect(_) => Err(Ending::silent(
                EventKind::EnhancedAuthAbortByClient,
                "DISCONNECT during authentication",
            )),
            // MQTT-3.1.0-2 and 4.12: nothing but AUTH and DISCONNECT.
            _ => Err(protocol_error("not AUTH during authentication")),
        }
    }

    /// A conversation of a served client that takes too long fails.
    pub(crate) fn check_exchange(&mut self, seat: Seat) {
        let now_ms = self.now_ms;
        let timeout = self.edge.config.auth_timeout.as_millis();
        let is_late = self.session(seat).is_some()
            && self.exchange(seat).is_some_and(|exchange| {
                exchange.turn != Turn::Nobody
                    && u128::from(now_ms.saturating_sub(exchange.since_ms)) >= timeout
            });
        if is_late {
            self.reauth_failed(
                seat,
                &AuthError::Failed("no answer in time".to_owned()).to_string(),
            );
        }
    }
}

/// What came with an AUTH, if it is of the method named at CONNECT (MQTT-4.12.0-5).
fn data_of(exchange: &Exchange, auth: &Auth) -> Result<Option<Bytes>, Ending> {
    match &auth.properties {
        Some(properties) if properties.method == exchange.method => Ok(properties.data.clone()),
        Some(_) => Err(protocol_error("another method than at CONNECT")),
        None => Err(protocol_error("AUTH without its method")),
    }
}
