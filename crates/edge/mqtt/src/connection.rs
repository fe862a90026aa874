//! One connection: a slot in its shard, driven by readiness and by mail.
//!
//! The task of a connection owns nothing but its seat. It wakes the shard, which reads
//! ([`read`]), handles packets ([`connect`], [`publish`], [`subscribe`], [`answer`]), ends the
//! connection ([`close`]) and lets its session go ([`leave`]).

mod answer;
mod close;
mod connect;
mod enhanced;
mod explain;
mod leave;
pub(crate) mod publish;
mod read;
pub(crate) mod subscribe;

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bifrust_mqtt_codec::{ReasonCode, Version};
use bytes::BytesMut;

pub(crate) use close::{Closing, Ending, LINGER_MS};
pub(crate) use connect::Connecting;
pub(crate) use enhanced::Exchange;
use leave::Leaving;

use crate::mailbox::Seat;
use crate::session::Session;
use crate::session::rate::Rate;
use crate::shard::Shard;
use crate::transport::{Out, Transport};

/// The future of one connection.
pub(crate) struct Task {
    pub(crate) shard: Rc<RefCell<Shard>>,
    pub(crate) seat: Seat,
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.shard.borrow_mut().poll_connection(self.seat, context)
    }
}

/// How far a connection has come.
pub(crate) enum Phase {
    /// No CONNECT yet.
    Fresh,
    /// CONNECT is being answered.
    Connecting(Box<Connecting>),
    /// Let in.
    Serving(Box<Session>),
    /// Its session has ended; services are told, last bytes go out.
    Closing(Box<Closing>),
}

/// Why nothing is read from a connection: a set, empty while it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pauses(u16);

/// One reason not to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Pause {
    /// CONNECT is being answered.
    Connect = 1,
    /// The next publish has to be routed first.
    Publish = 2,
    /// A SUBSCRIBE or UNSUBSCRIBE is being answered.
    Filters = 4,
    /// As many publishes as allowed are unanswered.
    Window = 8,
    /// Too much is on its way to durable stores, or to another shard.
    Store = 16,
    /// The outcome of a publish is unknown; the connection ends soon.
    Unknown = 32,
    /// The client does not read its answers.
    Output = 64,
    /// It goes faster than its tenant allows.
    Rate = 128,
    /// Its tenant has had its share of this round.
    Turn = 256,
}

impl Pauses {
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn has(self, pause: Pause) -> bool {
        self.0 & pause as u16 != 0
    }
}

/// Everything about one connection but what its session says.
pub(crate) struct Connection {
    pub(crate) generation: u32,
    /// Index into the configured listeners.
    pub(crate) listener: u16,
    pub(crate) version: Version,
    pub(crate) phase: Phase,
    /// `None` once the peer is gone or has been left.
    pub(crate) transport: Option<Transport>,
    pub(crate) out: Out,
    /// Bytes read and not consumed: the beginning of a packet, or whole ones while paused.
    pub(crate) tail: BytesMut,
    /// Length of the packet that `tail` begins, once it is known.
    pub(crate) tail_packet: usize,
    pub(crate) pauses: Pauses,
    /// Whether `tail` may hold whole packets.
    pub(crate) is_held: bool,
    pub(crate) is_dirty: bool,
    pub(crate) is_write_blocked: bool,
    /// Since when the socket has taken nothing; `None` while it does.
    pub(crate) stalled_ms: Option<NonZeroU64>,
    /// Whether that has been told.
    pub(crate) is_stalled: bool,
    /// Whether a timer watches it.
    pub(crate) is_stall_timed: bool,
    /// The peer takes nothing any more. What it said before that is still read, up to DISCONNECT.
    pub(crate) is_deaf: bool,
    /// Whether a timer watches the oldest waiting answer.
    pub(crate) is_publish_timed: bool,
    /// Whether a timer will try again what a service refused.
    pub(crate) is_retrying: bool,
    /// The largest packet the client may send.
    pub(crate) packet_max: usize,
    /// Seconds the client may be silent; 0 for ever.
    pub(crate) keep_alive: u16,
    /// When the client was last heard of, on the shard's clock.
    pub(crate) heard_ms: u64,
    pub(crate) paused_ms: u64,
    /// Bytes of an incomplete packet since then.
    pub(crate) partial: u32,
    /// Set if its tenant limits how fast it goes.
    pub(crate) rate: Option<Box<Rate>>,
    pub(crate) waker: Option<Waker>,
}

impl Connection {
    pub(crate) fn new(
        generation: u32,
        listener: usize,
        transport: Transport,
        packet_max: usize,
        now_ms: u64,
    ) -> Self {
        Self {
            generation,
            listener: u16::try_from(listener).unwrap_or(u16::MAX),
            version: Version::V311,
            phase: Phase::Fresh,
            transport: Some(transport),
            out: Out::default(),
            tail: BytesMut::new(),
            tail_packet: 0,
            pauses: Pauses::default(),
            is_held: false,
            is_dirty: false,
            is_write_blocked: false,
            stalled_ms: None,
            is_stalled: false,
            is_stall_timed: false,
            is_deaf: false,
            is_publish_timed: false,
            is_retrying: false,
            packet_max,
            keep_alive: 0,
            heard_ms: now_ms,
            paused_ms: now_ms,
            partial: 0,
            rate: None,
            waker: None,
        }
    }

    pub(crate) fn session(&mut self) -> Option<&mut Session> {
        match &mut self.phase {
            Phase::Serving(session) => Some(session),
            _ => None,
        }
    }

    /// The session whose publishes are on their way to their receivers: served, or leaving.
    pub(crate) fn publisher(&mut self) -> Option<&mut Session> {
        match &mut self.phase {
            Phase::Serving(session) => Some(session),
            Phase::Closing(closing) => closing.leaving.as_mut().map(Leaving::session),
            Phase::Fresh | Phase::Connecting(_) => None,
        }
    }

    /// Bytes of the largest packet the client takes (MQTT-3.1.2-24).
    pub(crate) fn client_packet_max(&self) -> u32 {
        match &self.phase {
            Phase::Serving(session) => session.client_packet_max,
            Phase::Connecting(connecting) => connecting.client_packet_max(),
            Phase::Fresh | Phase::Closing(_) => u32::MAX,
        }
    }

    pub(crate) fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    /// Bytes that wait for the socket.
    pub(crate) fn pending(&self) -> usize {
        if self.is_deaf {
            return 0;
        }
        self.out.len() + self.transport.as_ref().map_or(0, Transport::unwritten)
    }

    pub(crate) fn pause(&mut self, pause: Pause, now_ms: u64) {
        if self.pauses.is_empty() {
            self.paused_ms = now_ms;
        }
        self.pauses.0 |= pause as u16;
    }

    /// Takes one reason away; the last one lets reading go on.
    pub(crate) fn resume(&mut self, pause: Pause, now_ms: u64) {
        if !self.pauses.has(pause) {
            return;
        }
        self.pauses.0 &= !(pause as u16);
        if self.pauses.is_empty() {
            // Time in which we did not read is not the client's silence.
            self.heard_ms += now_ms.saturating_sub(self.paused_ms.max(self.heard_ms));
            self.wake();
        }
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// The v5 reason code goes to v5 clients only; v3 has none for most of what can happen.
pub(crate) fn protocol_error(detail: &'static str) -> Ending {
    Ending::violation(ReasonCode::PROTOCOL_ERROR, detail)
}

/// Qualities of service have the same numbers in both crates.
pub(crate) fn model_qos(qos: bifrust_mqtt_codec::Qos) -> bifrust_model::Qos {
    match qos {
        bifrust_mqtt_codec::Qos::AtMostOnce => bifrust_model::Qos::AtMostOnce,
        bifrust_mqtt_codec::Qos::AtLeastOnce => bifrust_model::Qos::AtLeastOnce,
        bifrust_mqtt_codec::Qos::ExactlyOnce => bifrust_model::Qos::ExactlyOnce,
    }
}

/// The other way round.
pub(crate) fn codec_qos(qos: bifrust_model::Qos) -> bifrust_mqtt_codec::Qos {
    match qos {
        bifrust_model::Qos::AtMostOnce => bifrust_mqtt_codec::Qos::AtMostOnce,
        bifrust_model::Qos::AtLeastOnce => bifrust_mqtt_codec::Qos::AtLeastOnce,
        bifrust_model::Qos::ExactlyOnce => bifrust_mqtt_codec::Qos::ExactlyOnce,
    }
}

/// What a model protocol is called on the wire.
pub(crate) fn model_protocol(version: Version) -> bifrust_model::Protocol {
    match version {
        Version::V31 => bifrust_model::Protocol::V31,
        Version::V311 => bifrust_model::Protocol::V311,
        Version::V5 => bifrust_model::Protocol::V5,
    }
}

/// A tenant's settings as they are now.
pub(crate) fn settings_of(tenant: &bifrust_model::Tenant) -> Arc<bifrust_model::Settings> {
    tenant.settings.load_full()
}
