//! A connection shard: one thread, one event loop, and everything its connections own.

mod balance;
pub(crate) mod deliver;
mod durable;
mod flush;
mod lanes;
mod mail;
mod route;
mod route_calls;
pub(crate) mod share;
pub(crate) mod timer;
pub(crate) mod turns;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bifrust_model::{ClientInfo, Event, EventKind};
use bifrust_plugin_api::{AuthError, Later};
use bifrust_session_dict::ConnectionRef;
use bytes::BytesMut;
use slab::Slab;
use tokio::task::LocalSet;

use crate::connection::{Connection, Ending, Pause, Phase};
use crate::mailbox::{Completion, Mail, Seat, Then};
use crate::metrics::Metrics;
use crate::server::Edge;
use crate::session::Session;
use crate::session::charge::Room;
use crate::session::rate::Rate;
use crate::session::share::Shared;
use crate::subscriptions::Subscriptions;
use crate::transport::Transport;
pub(crate) use route::{DURABLE_MAX, undelivered_kind};
use route_calls::RouteCalls;
use timer::{STEP_MS, Timer, Wheel};
use turns::Turns;

/// Bytes read at once; shared by all connections of the shard.
pub(crate) const READ_BUFFER: usize = 64 << 10;

/// What a command to a durable store weighs besides its message: the stores bound their queues by
/// number too, and refuse what comes beyond.
const STORE_OVERHEAD: usize = 4 << 10;

/// TLS handshakes that go a step on before everybody else has a turn: each costs as much as
/// thousands of messages.
const HANDSHAKES_PER_TURN: u32 = 8;

/// Everything one shard owns. Borrowed once per turn, never across an await.
pub(crate) struct Shard {
    pub(crate) id: u16,
    pub(crate) edge: Arc<Edge>,
    /// Boxed: slots are many, and moving them would cost with each growth.
    pub(crate) connections: Slab<Box<Connection>>,
    next_generation: u32,
    pub(crate) subscriptions: Subscriptions,
    route_calls: RouteCalls,
    /// Of the queues of transient sessions.
    pub(crate) room: Room,
    pub(crate) metrics: Metrics,
    pub(crate) wheel: Wheel,
    pub(crate) turns: Turns,
    /// Work done so far, as turns count it.
    pub(crate) work: u64,
    pub(crate) read_buffer: Vec<u8>,
    /// Empty buffers to encode into.
    pub(crate) buffers: Vec<BytesMut>,
    /// Connections with something new to write.
    pub(crate) dirty: Vec<u32>,
    /// Connections that end as soon as the present work is through.
    pub(crate) doomed: Vec<(Seat, Ending)>,
    /// Publishes for the other shards.
    outgoing: Vec<Vec<Mail>>,
    /// Publishers that wait for durable stores or other shards.
    waiting_for_stores: Vec<Seat>,
    /// Bytes on their way to durable stores.
    store_bytes: usize,
    /// Lookups of receivers that are out.
    pub(crate) lookups: usize,
    /// The version of the tenants' settings that connections follow.
    settings_version: u64,
    /// Makes the choices between members of groups.
    seed: u64,
    /// Messages on their way from a member of a group to another one.
    moving: VecDeque<Shared>,
    /// The first of them is being moved, or its members looked up.
    is_moving: bool,
    /// The slot that the balancer was asked about last.
    balanced: usize,
    flusher: Option<Waker>,
    /// Steps of handshakes that may still be taken in this turn.
    handshakes_left: u32,
    /// Connections whose handshake goes on in the next turn.
    waiting_handshakes: Vec<Waker>,
    started: Instant,
    /// Milliseconds since the shard began, as of this turn.
    pub(crate) now_ms: u64,
    pub(crate) is_stopping: bool,
}

/// Runs a shard until it is stopped.
pub(crate) fn run(id: usize, edge: &Arc<Edge>, runtime: &tokio::runtime::Runtime) {
    let shard = Rc::new(RefCell::new(Shard::new(id, edge.clone())));
    let local = LocalSet::new();
    local.spawn_local(flush_when_asked(shard.clone()));
    local.spawn_local(tick(shard.clone()));
    local.block_on(runtime, mail::take_mail(shard.clone()));
    edge.mailboxes.close(id);
    shard.borrow_mut().metrics.publish();
}

/// Runs at the end of the queue of ready tasks, so that all of them share one flush.
async fn flush_when_asked(shard: Rc<RefCell<Shard>>) {
    poll_fn(|context| {
        let mut shard = shard.borrow_mut();
        match &mut shard.flusher {
            Some(waker) => waker.clone_from(context.waker()),
            None => shard.flusher = Some(context.waker().clone()),
        }
        shard.flush();
        Poll::Pending
    })
    .await
}

async fn tick(shard: Rc<RefCell<Shard>>) {
    let mut interval = tokio::time::interval(Duration::from_millis(STEP_MS));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        shard.borrow_mut().tick();
    }
}

impl Shard {
    fn new(id: usize, edge: Arc<Edge>) -> Self {
        let metrics = Metrics::new(&*edge.services.meters);
        let shards = edge.mailboxes.shards();
        let route_calls = RouteCalls::new(edge.mailboxes.shards());
        let room = Room::of(edge.config.max_queue_bytes);
        let results_max = edge.config.max_result_bytes;
        Self {
            id: u16::try_from(id).unwrap_or(u16::MAX),
            edge,
            connections: Slab::new(),
            next_generation: 0,
            subscriptions: Subscriptions::within(results_max),
            route_calls,
            room,
            metrics,
            wheel: Wheel::new(),
            turns: Turns::default(),
            work: 0,
            read_buffer: vec![0; READ_BUFFER],
            buffers: Vec::new(),
            dirty: Vec::new(),
            doomed: Vec::new(),
            outgoing: (0..shards).map(|_| Vec::new()).collect(),
            waiting_for_stores: Vec::new(),
            store_bytes: 0,
            lookups: 0,
            settings_version: 0,
            seed: fastrand::u64(..),
            moving: VecDeque::new(),
            is_moving: false,
            balanced: 0,
            flusher: None,
            handshakes_left: HANDSHAKES_PER_TURN,
            waiting_handshakes: Vec::new(),
            started: Instant::now(),
            now_ms: 0,
            is_stopping: false,
        }
    }

    pub(crate) fn refresh_clock(&mut self) {
        self.now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    }

    fn admit(&mut self, listener: usize, transport: Transport) -> Seat {
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let packet_max = self.edge.config.max_connect_bytes;
        let connection = Connection::new(generation, listener, transport, packet_max, self.now_ms);
        let slot = self.connections.insert(Box::new(connection));
        let seat = Seat {
            slot: u32::try_from(slot).unwrap_or(u32::MAX),
            generation,
        };
        self.metrics.connections(1);
        let timeout = self.edge.config.connect_timeout.as_millis();
        let due = self.now_ms + u64::try_from(timeout).unwrap_or(u64::MAX);
        self.wheel.arm(due, seat, Timer::Connect);
        seat
    }

    /// A connection that is not served after all.
    fn turn_away(&mut self, listener: usize) {
        let edge = &self.edge;
        edge.mailboxes.count_connections(usize::from(self.id), -1);
        edge.leave(listener);
    }

    pub(crate) fn remove_connection(&mut self, seat: Seat) {
        if self.connection(seat).is_none() {
            return;
        }
        self.connections.remove(seat.slot as usize);
        self.metrics.connections(-1);
        let mailboxes = &self.edge.mailboxes;
        mailboxes.count_connections(usize::from(self.id), -1);
        if self.is_stopping && self.connections.is_empty() {
            // Ends the wait for mail.
            mailboxes.post(usize::from(self.id), Mail::Nothing);
        }
    }

    #[inline]
    pub(crate) fn connection(&mut self, seat: Seat) -> Option<&mut Connection> {
        self.connections
            .get_mut(seat.slot as usize)
            .filter(|connection| connection.generation == seat.generation)
            .map(|connection| &mut **connection)
    }

    #[inline]
    pub(crate) fn session(&mut self, seat: Seat) -> Option<&mut Session> {
        self.connection(seat)?.session()
    }

    /// The session whose publishes are on their way, also when its connection has ended.
    #[inline]
    pub(crate) fn publisher(&mut self, seat: Seat) -> Option<&mut Session> {
        self.connection(seat)?.publisher()
    }

    #[inline]
    pub(crate) fn session_at(&mut self, slot: u32) -> Option<&mut Session> {
        self.connections.get_mut(slot as usize)?.session()
    }

    pub(crate) fn seat(&self, slot: u32) -> Option<Seat> {
        let connection = self.connections.get(slot as usize)?;
        Some(Seat {
            slot,
            generation: connection.generation,
        })
    }

    /// A connection as the services know it.
    pub(crate) fn reference(&self, seat: Seat) -> ConnectionRef {
        ConnectionRef {
            node: self.edge.services.node,
            shard: self.id,
            slot: seat.slot,
            generation: seat.generation,
        }
    }

    pub(crate) fn pause(&mut self, seat: Seat, pause: Pause) {
        let now_ms = self.now_ms;
        if let Some(connection) = self.connection(seat) {
            connection.pause(pause, now_ms);
        }
        if pause == Pause::Unknown {
            self.watch_answers(seat);
        }
    }

    pub(crate) fn resume(&mut self, seat: Seat, pause: Pause) {
        let now_ms = self.now_ms;
        if let Some(connection) = self.connection(seat) {
            connection.resume(pause, now_ms);
        }
    }

    /// A completion that comes back to this connection by mail.
    pub(crate) fn reply<T: Send + 'static>(
        &self,
        to: Seat,
        wrap: impl FnOnce(T) -> Completion + Send + 'static,
    ) -> Then<T> {
        self.reply_with(to, 0, wrap)
    }

    /// As [`reply`](Self::reply), for bytes that are on their way to a durable store until then.
    pub(crate) fn store_reply<T: Send + 'static>(
        &mut self,
        to: Seat,
        bytes: usize,
        wrap: impl FnOnce(T) -> Completion + Send + 'static,
    ) -> Then<T> {
        let bytes = bytes + STORE_OVERHEAD;
        self.store_bytes += bytes;
        self.reply_with(to, bytes, wrap)
    }

    fn reply_with<T: Send + 'static>(
        &self,
        to: Seat,
        bytes: usize,
        wrap: impl FnOnce(T) -> Completion + Send + 'static,
    ) -> Then<T> {
        let (mailboxes, shard) = (self.edge.mailboxes.clone(), usize::from(self.id));
        Box::new(move |answer| {
            let what = wrap(answer);
            mailboxes.post(shard, Mail::Completed { to, what, bytes });
        })
    }

    /// Waits for a provider's answer beside the shard's other work, but not for ever.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        to: Seat,
        answer: Later<Result<T, AuthError>>,
        wrap: impl FnOnce(Result<T, AuthError>) -> Completion + Send + 'static,
    ) {
        let done = self.reply(to, wrap);
        let timeout = self.edge.config.auth_timeout;
        tokio::task::spawn_local(async move {
            let late = || Err(AuthError::Failed("no answer in time".to_owned()));
            let bounded = tokio::time::timeout(timeout, answer).await;
            done(bounded.unwrap_or_else(|_| late()));
        });
    }

    fn tick(&mut self) {
        self.refresh_clock();
        let mut due = Vec::new();
        self.wheel.advance(self.now_ms, &mut due);
        for (seat, timer) in due {
            self.handle_timer(seat, timer);
        }
        if !self.edge.services.lease.is_held() && !self.is_stopping {
            self.end_all(|| {
                Ending::of(
                    EventKind::ServerBusy,
                    bifrust_mqtt_codec::ReasonCode::SERVER_BUSY,
                    "this node lost its lease",
                )
            });
        }
        self.follow_settings();
        self.follow_balancer();
        self.end_doomed();
        self.resume_publishers();
        self.metrics.publish();
    }

    /// Gives live connections the limits now in force, once they have changed.
    fn follow_settings(&mut self) {
        let version = self.edge.services.registry.settings_version();
        if std::mem::replace(&mut self.settings_version, version) == version {
            return;
        }
        for seat in self.seats() {
            let Some(session) = self.session(seat) else {
                continue;
            };
            let rate = Rate::of(&session.tenant.settings.load()).map(Box::new);
            if let Some(connection) = self.connection(seat) {
                connection.rate = rate;
            }
            self.resume(seat, Pause::Rate);
            self.mark_dirty(seat.slot);
        }
    }

    fn seats(&self) -> Vec<Seat> {
        let seats = self.connections.iter().filter_map(|(slot, connection)| {
            Some(Seat {
                slot: u32::try_from(slot).ok()?,
                generation: connection.generation,
            })
        });
        seats.collect()
    }

    fn handle_timer(&mut self, seat: Seat, timer: Timer) {
        if timer == Timer::Route {
            return self.retry_route(seat.slot as usize);
        }
        let Some(connection) = self.connection(seat) else {
            return;
        };
        match timer {
            Timer::Connect => {
                if matches!(connection.phase, Phase::Fresh | Phase::Connecting(_)) {
                    let ending = Ending::silent(EventKind::ConnectTimeout, "no CONNECT in time");
                    self.end(seat, ending);
                }
            }
            Timer::KeepAlive => self.check_keep_alive(seat),
            Timer::Exchange => self.check_exchange(seat),
            Timer::Publish => self.check_answers(seat),
            Timer::Linger if connection.is_deaf => self.end(seat, Ending::lost("it reads no more")),
            Timer::Linger => self.leave_socket(seat),
            Timer::Leave => self.leave_at_last(seat),
            Timer::Stall => self.check_stall(seat),
            Timer::Rate => {
                self.resume(seat, Pause::Rate);
                self.mark_dirty(seat.slot);
            }
            Timer::Retry => {
                connection.is_retrying = false;
                if matches!(connection.phase, Phase::Closing(_)) {
                    self.retry_detach(seat);
                } else {
                    self.retry_scans(seat);
                    self.mark_dirty(seat.slot);
                }
            }
            Timer::Route => {}
        }
    }

    /// Ends a client that was silent for one and a half times its keep alive (MQTT-3.1.2-22).
    fn check_keep_alive(&mut self, seat: Seat) {
        let now_ms = self.now_ms;
        let Some(connection) = self.connection(seat) else {
            return;
        };
        if !matches!(connection.phase, Phase::Serving(_)) {
            return;
        }
        let allowed = u64::from(connection.keep_alive) * 1500;
        let mut heard = connection.heard_ms;
        if !connection.pauses.is_empty() {
            // Not reading, we cannot say that it is silent.
            heard += now_ms.saturating_sub(connection.paused_ms.max(heard));
        }
        if heard + allowed > now_ms {
            self.wheel.arm(heard + allowed, seat, Timer::KeepAlive);
            return;
        }
        self.end(seat, Ending::idle());
    }

    fn end_all(&mut self, ending: impl Fn() -> Ending) {
        for seat in self.seats() {
            self.read_last(seat);
            self.end(seat, ending());
        }
    }

    /// Tells of something that concerns a connected client.
    pub(crate) fn emit(&mut self, seat: Seat, kind: EventKind, more: impl FnOnce(Event) -> Event) {
        let edge = self.edge.clone();
        let client = self.publisher(seat).map(|session| &session.client);
        edge.services.events.emit(kind, || {
            let event = Event::new(kind, edge.services.clock.stamp());
            more(match client {
                Some(client) => event.client(client),
                None => event,
            })
        });
    }

    /// Tells of something that concerns a client whose session is not at hand.
    pub(crate) fn emit_client(
        &self,
        client: &Arc<ClientInfo>,
        kind: EventKind,
        more: impl FnOnce(Event) -> Event,
    ) {
        let services = &self.edge.services;
        services.events.emit(kind, || {
            more(Event::new(kind, services.clock.stamp()).client(client))
        });
    }

    /// Tells of the end of a peer that never became a client.
    pub(crate) fn emit_stranger(&mut self, seat: Seat, ending: &Ending) {
        let edge = self.edge.clone();
        let peer = self
            .connection(seat)
            .and_then(|connection| connection.transport.as_ref())
            .map(|transport| transport.peer);
        let kind = match ending.event {
            EventKind::ClientChannelError => EventKind::ChannelError,
            EventKind::BadPacket | EventKind::ProtocolViolation => EventKind::ProtocolError,
            kind => kind,
        };
        edge.services.events.emit(kind, || {
            let mut event = Event::new(kind, edge.services.clock.stamp());
            event.peer = peer;
            event.detail(ending.detail.clone())
        });
    }
}
#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;
    use crate::connection::Task;

    #[test]
    fn an_idle_connection_stays_small() {
        assert!(size_of::<Connection>() + size_of::<Session>() <= 448);
        assert!(size_of::<Task>() <= 16);
    }
}
