//! Sockets, clocks and tasks around the links. Nothing is decided here.

mod accept;
mod connection;
mod dial;
mod wire;

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Instant;

use arc_swap::ArcSwap;
use bifrust_cluster::NodeRef;
use hashbrown::HashMap;

use crate::error::{CallError, Status};
use crate::frame::Side;
use crate::link::{Body, Bounds, Effect, Incoming, Link, StreamId};
use crate::metrics::Metrics;
use crate::service::{Hold, Reply, Request, Service};
use crate::stream::{State, Stream, Streams};

pub(crate) use accept::accept;
pub(crate) use connection::Ended;
pub(crate) use dial::dial;

/// Who waits for an answer.
pub(crate) type Waiter = Box<dyn FnOnce(Result<Body, CallError>) + Send>;

/// Milliseconds since the node began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now_ms(self) -> u64 {
        self.ms_of(Instant::now())
    }

    pub(crate) fn ms_of(self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.0);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn at_ms(self, ms: u64) -> Instant {
        self.0 + std::time::Duration::from_millis(ms)
    }
}

/// One link, as all who use it share it.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    core: Mutex<Core>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// A link with its streams, under one lock that is held for as long as a message takes to be encoded.
pub(crate) struct Core {
    pub(crate) link: Link<Waiter>,
    pub(crate) streams: Streams,
    /// The task of the link, while it sleeps.
    sleeper: Option<Waker>,
    /// Calls fail at once until then, because the peer could not be reached.
    rests_until_ms: u64,
    is_closing: bool,
}

impl Shared {
    pub(crate) fn new(clock: Clock, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            clock,
            core: Mutex::new(Core {
                link: Link::new(bounds),
                streams: Streams::default(),
                sleeper: None,
                rests_until_ms: 0,
                is_closing: false,
            }),
        })
    }

    /// Does something with the link and wakes its task, if it sleeps.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut core);
        let sleeper = core.sleeper.take();
        drop(core);
        sleeper.into_iter().for_each(Waker::wake);
        result
    }

    /// As [`with`](Self::with), by the task itself.
    fn within<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut core)
    }

    /// Ends the link; what waits for it fails.
    pub(crate) fn close(&self) {
        self.with(|core| core.is_closing = true);
    }
}

impl Core {
    /// An error if calls fail at once.
    pub(crate) fn check(&self, now_ms: u64) -> Result<(), CallError> {
        match self.is_closing || now_ms < self.rests_until_ms {
            true => Err(CallError::Unreachable),
            false => Ok(()),
        }
    }

    /// Sleeps until something is new.
    fn sleep(&mut self, waker: &Waker) {
        match &mut self.sleeper {
            Some(sleeper) => sleeper.clone_from(waker),
            None => self.sleeper = Some(waker.clone()),
        }
    }

    pub(crate) fn open_stream(&mut self, id: StreamId) -> Arc<State> {
        let state = Arc::new(State::default());
        self.streams.insert(id, state.clone());
        state
    }
}

/// The services of a node, by number and instance.
pub(crate) type Services = ArcSwap<HashMap<(u16, u32), Arc<dyn Service>>>;

/// What the tasks of a node's links have in common.
pub(crate) struct Surroundings {
    pub(crate) services: Services,
    pub(crate) metrics: Metrics,
}

impl Surroundings {
    /// Performs what a link asks for, without its lock. Costs of one-way messages that are done with
    /// are added to `done`.
    fn perform(
        &self,
        shared: &Arc<Shared>,
        peer: NodeRef,
        effects: &mut Vec<Effect<Waiter>>,
        done: &mut [u32; 3],
    ) {
        if effects.is_empty() {
            return;
        }
        let services = self.services.load();
        for effect in effects.drain(..) {
            match effect {
                Effect::OneWay(incoming) => {
                    let service = find(&services, &incoming);
                    self.tell(shared, peer, service, incoming, done);
                }
                Effect::Request(incoming) => {
                    let service = find(&services, &incoming);
                    ask(shared, peer, service, incoming);
                }
                Effect::Opened(incoming) => {
                    let service = find(&services, &incoming);
                    open(shared, peer, service, incoming);
                }
                Effect::Answered { waiter, result } => waiter(result),
                Effect::Item { stream, body, cost } => {
                    if let Some(state) = stream_of(shared, stream) {
                        state.item(body, cost);
                    }
                }
                Effect::Ended {
                    stream,
                    status,
                    header,
                } => {
                    if let Some(state) = stream_of(shared, stream) {
                        state.end(status, header);
                    }
                }
                Effect::Closed { stream, error } => {
                    let state = shared.within(|core| core.streams.remove(&stream));
                    if let Some(state) = state {
                        state.close(error);
                    }
                }
                Effect::Writable(stream) => {
                    if let Some(state) = stream_of(shared, stream) {
                        state.writable();
                    }
                }
                Effect::Leaving => {}
            }
        }
    }

    fn tell(
        &self,
        shared: &Arc<Shared>,
        peer: NodeRef,
        service: Option<&Arc<dyn Service>>,
        incoming: Incoming,
        done: &mut [u32; 3],
    ) {
        let (priority, cost) = (incoming.priority, incoming.cost);
        let mut hold = Hold {
            shared: Some(shared),
            priority,
            cost,
            is_taken: false,
        };
        match service {
            Some(service) => service.one_way(request_of(shared, peer, incoming), &mut hold),
            None => self.metrics.dropped.add(1),
        }
        if !hold.is_taken {
            done[priority.index()] += cost;
        }
    }
}

fn find<'a>(
    services: &'a HashMap<(u16, u32), Arc<dyn Service>>,
    incoming: &Incoming,
) -> Option<&'a Arc<dyn Service>> {
    services.get(&(incoming.target.service, incoming.target.instance))
}

fn stream_of(shared: &Shared, stream: StreamId) -> Option<Arc<State>> {
    shared.within(|core| core.streams.get(&stream).cloned())
}

fn request_of(shared: &Shared, peer: NodeRef, incoming: Incoming) -> Request {
    let deadline = match incoming.timeout_ms {
        0 => None,
        ms => Some(shared.clock.at_ms(shared.clock.now_ms() + u64::from(ms))),
    };
    Request {
        peer,
        target: incoming.target,
        priority: incoming.priority,
        deadline,
        body: incoming.body,
    }
}

fn ask(
    shared: &Arc<Shared>,
    peer: NodeRef,
    service: Option<&Arc<dyn Service>>,
    mut incoming: Incoming,
) {
    let cancelled = incoming.cancelled.take();
    let (id, priority, cost) = (incoming.id, incoming.priority, incoming.cost);
    let reply = Reply::link(shared.clone(), id, priority, cost, cancelled);
    match service {
        Some(service) => service.request(request_of(shared, peer, incoming), reply),
        None => reply.fail(Status::NO_SERVICE, Body::default()),
    }
}

fn open(
    shared: &Arc<Shared>,
    peer: NodeRef,
    service: Option<&Arc<dyn Service>>,
    incoming: Incoming,
) {
    let id = StreamId {
        side: Side::Answering,
        id: incoming.id,
    };
    let state = shared.within(|core| core.open_stream(id));
    let stream = Stream::link(shared.clone(), id, state);
    match service {
        Some(service) => service.stream(request_of(shared, peer, incoming), stream),
        None => shared.with(|core| {
            // The rest of the stream is given up as it is dropped.
            core.link.end(id, Status::NO_SERVICE, bytes::Bytes::new());
        }),
    }
}
