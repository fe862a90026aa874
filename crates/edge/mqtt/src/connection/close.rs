//! How connections end: the peer is told, the session's owners are told, the slot is freed.

use std::borrow::Cow;
use std::sync::Arc;

use bifrust_inbox::{Cause, Detach, InboxError, SessionRef};
use bifrust_model::{EventKind, SessionKey, Tenant};
use bifrust_mqtt_codec::{Disconnect, ReasonCode};
use bifrust_plugin_api::Redirect;
use bytes::BytesMut;

use super::leave::Leaving;
use super::{Pauses, Phase, protocol_error};
use crate::fault::{Fault, planted};
use crate::mailbox::{Completion, Seat};
use crate::shard::Shard;
use crate::shard::timer::Timer;

/// How long a peer has to read the last bytes, and we those of a peer that reads no more.
pub(crate) const LINGER_MS: u64 = 2000;
/// How long until a refused detach is tried again.
const DETACH_RETRY_MS: u64 = 500;

/// Why and how a connection ends.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) event: EventKind,
    /// What a v5 client is told; v3 clients are just closed.
    pub(crate) reason: Option<ReasonCode>,
    /// The server that a v5 client is told to use.
    pub(super) reference: Option<Box<str>>,
    pub(crate) cause: Cause,
    /// A session expiry that DISCONNECT set.
    pub(super) expiry_seconds: Option<u32>,
    /// The peer is not there to read anything.
    pub(super) is_gone: bool,
    /// The peer has long said nothing: its last bytes are not waited for.
    is_silent: bool,
    pub(crate) detail: Cow<'static, str>,
}

impl Ending {
    pub(crate) fn of(
        event: EventKind,
        reason: ReasonCode,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            event,
            reason: Some(reason),
            reference: None,
            cause: Cause::Lost,
            expiry_seconds: None,
            is_gone: false,
            is_silent: false,
            detail: detail.into(),
        }
    }

    pub(crate) fn violation(reason: ReasonCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::of(EventKind::ProtocolViolation, reason, detail)
    }

    pub(crate) fn bad_packet(reason: ReasonCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::of(EventKind::BadPacket, reason, detail)
    }

    /// The network or the peer is gone.
    pub(crate) fn lost(detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason: None,
            is_gone: true,
            ..Self::of(EventKind::ClientChannelError, ReasonCode::SUCCESS, detail)
        }
    }

    /// Closed without a word.
    pub(crate) fn silent(event: EventKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason: None,
            ..Self::of(event, ReasonCode::SUCCESS, detail)
        }
    }

    /// The client was silent for too long. Whatever it says from now on is refused by the system.
    pub(crate) fn idle() -> Self {
        Self {
            is_silent: true,
            ..Self::of(
                EventKind::Idle,
                ReasonCode::KEEP_ALIVE_TIMEOUT,
                "keep alive",
            )
        }
    }

    /// The status code of a WebSocket that ends like this (RFC 6455, 7.4.1).
    fn carrier_code(&self) -> u16 {
        match self.event {
            EventKind::ByClient => 1000,
            EventKind::ByServer | EventKind::ServerBusy | EventKind::ServerRedirected => 1001,
            EventKind::BadPacket | EventKind::ProtocolViolation | EventKind::ProtocolError => 1002,
            _ => 1008,
        }
    }

    pub(crate) fn taken_over() -> Self {
        Self {
            cause: Cause::TakenOver,
            ..Self::of(
                EventKind::Kicked,
                ReasonCode::SESSION_TAKEN_OVER,
                "taken over",
            )
        }
    }

    pub(crate) fn stopping() -> Self {
        Self {
            cause: Cause::ServerStopping,
            ..Self::of(
                EventKind::ByServer,
                ReasonCode::SERVER_SHUTTING_DOWN,
                "stopping",
            )
        }
    }

    /// The client is wanted elsewhere. Where that is no address to tell, 5.0 has "server shutting
    /// down" for a server that wants to be left.
    pub(crate) fn redirected(redirect: &Redirect) -> Self {
        let reference = redirect.told_reference();
        let reason = match (reference, redirect.is_permanent) {
            (None, _) => ReasonCode::SERVER_SHUTTING_DOWN,
            (Some(_), true) => ReasonCode::SERVER_MOVED,
            (Some(_), false) => ReasonCode::USE_ANOTHER_SERVER,
        };
        let detail = reference.unwrap_or("no address to tell").to_owned();
        Self {
            reference: reference.map(Into::into),
            ..Self::of(EventKind::ServerRedirected, reason, detail)
        }
    }

    /// The same, because the server stops.
    pub(crate) fn for_stop(self) -> Self {
        let cause = Cause::ServerStopping;
        Self { cause, ..self }
    }

    /// The client said goodbye.
    fn by_client(cause: Cause, expiry_seconds: Option<u32>) -> Self {
        Self {
            cause,
            expiry_seconds,
            is_gone: true,
            ..Self::silent(EventKind::ByClient, "DISCONNECT")
        }
    }
}

/// What is left to do for a connection that has ended.
#[derive(Default)]
pub(crate) struct Closing {
    /// The session that is released once its inbox knows.
    pub(crate) release: Option<SessionKey>,
    /// An answer of the inbox service is awaited: its CONNECT was still under way.
    pub(crate) is_attaching: bool,
    /// The session that is released or detached once that answer is there.
    pub(crate) attaching: Option<(SessionKey, Arc<Tenant>)>,
    /// The session, while what it published is on its way.
    pub(super) leaving: Option<Leaving>,
    detach: Option<(SessionRef, Detach)>,
    /// What a WebSocket says at the end.
    carrier_code: u16,
    has_said_all: bool,
}

impl Shard {
    pub(super) fn handle_disconnect(
        &mut self,
        seat: Seat,
        disconnect: &Disconnect,
    ) -> Result<(), Ending> {
        let Some(session) = self.session(seat) else {
            return Ok(());
        };
        let asked = disconnect
            .properties
            .as_ref()
            .and_then(|properties| properties.session_expiry);
        if asked.is_some_and(|seconds| seconds > 0) && session.expiry_seconds == 0 {
            // MQTT-3.14.2-2.
            return Err(protocol_error("DISCONNECT prolongs a session of expiry 0"));
        }
        let settings = session.tenant.settings.load();
        let expiry = asked.map(|seconds| settings.clamp_session_expiry(seconds));
        drop(settings);
        // MQTT-3.14.4-3: only 0x00 drops the will.
        let cause = match disconnect.reason {
            ReasonCode::NORMAL_DISCONNECTION if !planted(Fault::WillAfterDisconnect) => {
                Cause::Normal
            }
            _ => Cause::WithWill,
        };
        self.end(seat, Ending::by_client(cause, expiry));
        Ok(())
    }

    /// Ends a connection. What it had to say to the peer and to services is said; the slot is
    /// freed when all have heard.
    pub(crate) fn end(&mut self, seat: Seat, ending: Ending) {
        let Some(connection) = self.connection(seat) else {
            return;
        };
        if matches!(connection.phase, Phase::Closing(_)) {
            return;
        }
        let closing = Phase::Closing(Box::new(Closing {
            carrier_code: ending.carrier_code(),
            ..Closing::default()
        }));
        let phase = std::mem::replace(&mut connection.phase, closing);
        connection.tail = BytesMut::new();
        connection.is_held = false;
        connection.pauses = Pauses::default();
        tracing::debug!(
            peer = ?connection.transport.as_ref().map(|transport| transport.peer),
            event = %ending.event, detail = %ending.detail, "connection ends"
        );
        match phase {
            Phase::Serving(session) => self.end_session(seat, *session, &ending),
            Phase::Connecting(connecting) => self.abort_connect(seat, *connecting, &ending),
            Phase::Fresh => self.emit_stranger(seat, &ending),
            Phase::Closing(_) => {}
        }
        self.say_goodbye(seat, &ending);
        self.free_if_done(seat);
    }

    /// Tells the inbox service that the connection has left its session.
    pub(super) fn detach(
        &mut self,
        seat: Seat,
        key: SessionKey,
        session: SessionRef,
        detach: Detach,
    ) {
        let inbox = self.edge.services.inbox.clone();
        let done = self.reply(seat, Completion::Detached);
        if let Some(closing) = self.closing(seat) {
            closing.release = Some(key);
            closing.detach = Some((session.clone(), detach.clone()));
        }
        inbox.detach(&session, detach, done);
    }

    pub(crate) fn detached(&mut self, seat: Seat, result: Result<(), InboxError>) {
        let is_over = matches!(
            result,
            Ok(()) | Err(InboxError::Fenced | InboxError::OtherUser)
        ) || self.is_stopping;
        let Some(closing) = self.closing(seat) else {
            return;
        };
        if !is_over {
            let due = self.now_ms + DETACH_RETRY_MS;
            self.wheel.arm(due, seat, Timer::Retry);
            return;
        }
        closing.detach = None;
        if let Some(key) = closing.release.take() {
            self.release(seat, &key);
        }
        self.free_if_done(seat);
    }

    /// A detach that was refused is tried again.
    pub(crate) fn retry_detach(&mut self, seat: Seat) {
        let inbox = self.edge.services.inbox.clone();
        let done = self.reply(seat, Completion::Detached);
        if let Some((session, detach)) = self.closing(seat).and_then(|c| c.detach.clone()) {
            inbox.detach(&session, detach, done);
        }
    }

    /// The next owner of the session may come.
    pub(super) fn release(&mut self, seat: Seat, key: &SessionKey) {
        // What it published leaves for other shards first: the next owner may be on any of them and
        // publish behind it (contract C6).
        self.post_all_outgoing();
        let me = self.reference(seat);
        self.edge.services.dict.release(key, me);
    }

    /// Writes what is left; then the peer is left, or given time to read it.
    fn say_goodbye(&mut self, seat: Seat, ending: &Ending) {
        if ending.is_gone {
            let has_more = self
                .connection(seat)
                .is_some_and(|connection| connection.pending() > 0);
            if has_more {
                self.flush_connection(seat.slot);
            }
            self.close_carrier(seat);
            self.leave_socket(seat);
            return;
        }
        self.flush_connection(seat.slot);
        if ending.is_silent {
            self.close_carrier(seat);
            return self.leave_socket(seat);
        }
        let due = self.now_ms + LINGER_MS;
        self.wheel.arm(due, seat, Timer::Linger);
        if let Some(connection) = self.connection(seat) {
            connection.wake();
        }
    }

    /// All is written: the peer sees the end, and its own end is awaited, so that the system does
    /// not throw away what the peer has not read yet.
    pub(crate) fn say_no_more(&mut self, slot: u32) {
        let Some(seat) = self.seat(slot) else {
            return;
        };
        let Some(closing) = self.closing(seat) else {
            return;
        };
        if std::mem::replace(&mut closing.has_said_all, true) {
            return;
        }
        self.close_carrier(seat);
        if let Some(connection) = self.connection(seat)
            && let Some(transport) = &mut connection.transport
        {
            transport.shutdown();
        }
    }

    /// The carrier says goodbye in its own way.
    fn close_carrier(&mut self, seat: Seat) {
        let Some(carrier_code) = self.closing(seat).map(|closing| closing.carrier_code) else {
            return;
        };
        let Some(connection) = self.connection(seat) else {
            return;
        };
        if let Some(transport) = &mut connection.transport {
            transport.close_carrier(carrier_code);
            if transport.unwritten() > 0 {
                // Best effort: a peer that does not take even that is left at the linger's end.
                let _ = transport.write(&mut connection.out);
            }
        }
    }

    /// Drops the socket.
    pub(crate) fn leave_socket(&mut self, seat: Seat) {
        let Some(connection) = self.connection(seat) else {
            return;
        };
        if let Phase::Closing(_) = connection.phase {
            connection.transport = None;
            connection.out = crate::transport::Out::default();
            self.free_if_done(seat);
        }
    }

    pub(super) fn closing(&mut self, seat: Seat) -> Option<&mut Closing> {
        match &mut self.connection(seat)?.phase {
            Phase::Closing(closing) => Some(closing),
            _ => None,
        }
    }

    /// Frees the slot once the socket is gone and every service has answered.
    pub(super) fn free_if_done(&mut self, seat: Seat) {
        let Some(connection) = self.connection(seat) else {
            return;
        };
        let Phase::Closing(closing) = &connection.phase else {
            return;
        };
        let is_busy =
            closing.release.is_some() || closing.is_attaching || closing.leaving.is_some();
        if is_busy || connection.transport.is_some() {
            return;
        }
        connection.wake();
        let listener = usize::from(connection.listener);
        self.remove_connection(seat);
        self.edge.leave(listener);
    }

    /// Ends those that could not be ended while others were being served.
    pub(crate) fn end_doomed(&mut self) {
        while let Some((seat, ending)) = self.doomed.pop() {
            self.end(seat, ending);
        }
    }

    /// Ends a connection as soon as whatever runs now is through.
    pub(crate) fn doom(&mut self, seat: Seat, ending: Ending) {
        if let Some(session) = self.session(seat)
            && std::mem::replace(&mut session.is_doomed, true)
        {
            return;
        }
        self.doomed.push((seat, ending));
        self.wake_flusher();
    }
}
