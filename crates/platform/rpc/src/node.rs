//! A node that can be called: another one over links, or this one as a function.

use std::future::poll_fn;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bifrust_cluster::NodeRef;
use tokio::sync::oneshot;

use crate::error::{CallError, Status};
use crate::frame::{HEADER_MAX, Priority};
use crate::link::{Body, CallId, Outgoing};
use crate::rpc::{Inner, PeerLinks};
use crate::service::{Hold, Reply, Request, Service};
use crate::shell::{Clock, Shared, Waiter};
use crate::stream::Stream;

/// A node that can be called. Cheap to clone; calls look the same wherever the node is.
#[derive(Clone)]
pub struct Node(Way);

#[derive(Clone)]
enum Way {
    Here(Arc<Inner>),
    There { peer: Arc<PeerLinks>, clock: Clock },
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Node").field(&self.id()).finish()
    }
}

/// A call whose answer is awaited.
#[derive(Debug)]
pub struct Pending(Of);

enum Of {
    Link(Arc<Shared>, CallId),
    Here(Arc<AtomicBool>),
    Nothing,
}

impl std::fmt::Debug for Of {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Of")
    }
}

impl Pending {
    /// Nobody waits for the answer any more, and the service is told so. On another node, who waited
    /// is not called.
    pub fn cancel(&self) {
        match &self.0 {
            Of::Link(shared, call) => shared.with(|core| core.link.cancel(*call)),
            Of::Here(flag) => flag.store(true, Ordering::Relaxed),
            Of::Nothing => {}
        }
    }
}

impl Node {
    pub(crate) fn here(inner: Arc<Inner>) -> Self {
        Self(Way::Here(inner))
    }

    pub(crate) fn there(peer: Arc<PeerLinks>, clock: Clock) -> Self {
        Self(Way::There { peer, clock })
    }

    /// Which node, in which of its starts.
    pub fn id(&self) -> NodeRef {
        match &self.0 {
            Way::Here(inner) => inner.own,
            Way::There { peer, .. } => peer.node,
        }
    }

    /// Asks for something. `waiter` is called once with the outcome: by this very call if nothing can be
    /// sent or the service is here and quick, else on the thread that reads the link, where it must not
    /// wait. Another node's answer is awaited until the deadline at most; a service here gets the deadline
    /// and is trusted to answer.
    pub fn request(
        &self,
        outgoing: Outgoing,
        deadline: Instant,
        waiter: impl FnOnce(Result<Body, CallError>) + Send + 'static,
    ) -> Pending {
        let waiter: Waiter = Box::new(waiter);
        let (peer, clock) = match &self.0 {
            Way::Here(inner) => return request_here(inner, outgoing, deadline, waiter),
            Way::There { peer, clock } => (peer, clock),
        };
        let shared = link(peer, &outgoing);
        let now_ms = clock.now_ms();
        let deadline_ms = clock.ms_of(deadline);
        let asked = shared.with(|core| match core.check(now_ms) {
            Ok(()) => core.link.request(now_ms, deadline_ms, outgoing, waiter),
            Err(error) => Err((error, waiter)),
        });
        match asked {
            Ok(call) => Pending(Of::Link(shared.clone(), call)),
            Err((error, waiter)) => {
                waiter(Err(error));
                Pending(Of::Nothing)
            }
        }
    }

    /// As [`request`](Self::request), for those who wait. Dropped before the answer, it cancels the call.
    pub async fn call(&self, outgoing: Outgoing, timeout: Duration) -> Result<Body, CallError> {
        let (answer, mut answered) = oneshot::channel();
        let deadline = Instant::now() + timeout;
        let pending = self.request(outgoing, deadline, move |result| {
            let _ = answer.send(result); // nobody waits any more
        });
        let pending = CancelOnDrop(pending);
        let answered = poll_fn(|context| {
            let answered = std::pin::Pin::new(&mut answered);
            let polled = std::future::Future::poll(answered, context);
            polled.map(|result| result.unwrap_or(Err(CallError::Lost)))
        });
        let result = match &self.0 {
            Way::There { .. } => answered.await,
            Way::Here(_) => {
                let limited = tokio::time::timeout_at(deadline.into(), answered).await;
                limited.unwrap_or(Err(CallError::Unknown))
            }
        };
        if !matches!(result, Err(CallError::Unknown)) {
            pending.forget();
        }
        result
    }

    /// Tells something. It may be lost with the connection; an error says that it is lost already.
    pub fn one_way(&self, outgoing: Outgoing) -> Result<(), CallError> {
        match &self.0 {
            Way::Here(inner) => one_way_here(inner, outgoing),
            Way::There { peer, clock } => {
                let now_ms = clock.now_ms();
                link(peer, &outgoing).with(|core| {
                    core.check(now_ms)?;
                    core.link.one_way(now_ms, outgoing)
                })
            }
        }
    }

    /// Tells several things of one priority, flow and lane, as much at once as there is room for. Those
    /// that are not taken stay in `batch`, and the error says why.
    pub fn one_way_batch(
        &self,
        batch: &mut std::collections::VecDeque<Outgoing>,
    ) -> Result<(), CallError> {
        let (peer, clock) = match &self.0 {
            Way::There { peer, clock } => (peer, clock),
            Way::Here(inner) => {
                while let Some(outgoing) = batch.pop_front() {
                    one_way_here(inner, outgoing)?;
                }
                return Ok(());
            }
        };
        let Some(first) = batch.front() else {
            return Ok(());
        };
        let now_ms = clock.now_ms();
        link(peer, first).with(|core| {
            core.check(now_ms)?;
            while let Some(outgoing) = batch.front() {
                // Cloning is counting references; what is refused has to stay.
                core.link.one_way(now_ms, outgoing.clone())?;
                batch.pop_front();
            }
            Ok(())
        })
    }

    /// Opens a stream to a service.
    pub fn open(&self, outgoing: Outgoing) -> Result<Stream, CallError> {
        let (peer, clock) = match &self.0 {
            Way::Here(inner) => return open_here(inner, outgoing),
            Way::There { peer, clock } => (peer, clock),
        };
        let now_ms = clock.now_ms();
        let shared = link(peer, &outgoing);
        let opened = shared.with(|core| {
            core.check(now_ms)?;
            let id = core.link.open(now_ms, outgoing)?;
            Ok((id, core.open_stream(id)))
        });
        opened.map(|(id, state)| Stream::link(shared.clone(), id, state))
    }
}

/// The link for a message: consensus has its own, a lane and a flow always the same.
fn link<'a>(peer: &'a PeerLinks, outgoing: &Outgoing) -> &'a Arc<Shared> {
    let links = &peer.links;
    let data = links.len() - 1;
    if outgoing.priority == Priority::Consensus || data == 0 {
        return &links[0];
    }
    if data == 1 {
        return &links[1];
    }
    let mut hasher = xxhash_rust::xxh3::Xxh3Default::default();
    match outgoing.lane {
        0 => outgoing.flow.hash(&mut hasher),
        lane => lane.hash(&mut hasher),
    }
    let place = hasher.finish() % data as u64;
    &links[1 + usize::try_from(place).unwrap_or(0)]
}

fn server(inner: &Inner, outgoing: &Outgoing) -> Option<Arc<dyn Service>> {
    let services = inner.around.services.load();
    let target = &outgoing.target;
    services.get(&(target.service, target.instance)).cloned()
}

fn request_of(inner: &Inner, outgoing: Outgoing, deadline: Option<Instant>) -> Request {
    Request {
        peer: inner.own,
        target: outgoing.target,
        priority: outgoing.priority,
        deadline,
        body: outgoing.body,
    }
}

fn request_here(inner: &Inner, outgoing: Outgoing, deadline: Instant, waiter: Waiter) -> Pending {
    let flag = Arc::new(AtomicBool::new(false));
    let reply = Reply::here(waiter, Some(flag.clone()));
    match server(inner, &outgoing) {
        Some(server) => server.request(request_of(inner, outgoing, Some(deadline)), reply),
        None => reply.fail(Status::NO_SERVICE, Body::default()),
    }
    Pending(Of::Here(flag))
}

fn one_way_here(inner: &Inner, outgoing: Outgoing) -> Result<(), CallError> {
    if outgoing.body.header.len() > HEADER_MAX {
        return Err(CallError::TooLarge);
    }
    let Some(server) = server(inner, &outgoing) else {
        inner.around.metrics.dropped.add(1);
        return Ok(()); // as on another node, where nobody would know either
    };
    let mut hold = Hold {
        shared: None,
        priority: outgoing.priority,
        cost: 0,
        is_taken: false,
    };
    server.one_way(request_of(inner, outgoing, None), &mut hold);
    Ok(())
}

fn open_here(inner: &Inner, outgoing: Outgoing) -> Result<Stream, CallError> {
    let (own, theirs) = Stream::here();
    match server(inner, &outgoing) {
        Some(server) => server.stream(request_of(inner, outgoing, None), theirs),
        None => {
            return Err(CallError::Refused {
                status: Status::NO_SERVICE,
                header: bytes::Bytes::new(),
            });
        }
    }
    Ok(own)
}

struct CancelOnDrop(Pending);

impl CancelOnDrop {
    fn forget(self) {
        let mut this = self;
        this.0.0 = Of::Nothing;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
