//! What runs on a node and is called: by other nodes over links, by this one as functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bifrust_cluster::NodeRef;

use crate::error::{CallError, Status};
use crate::frame::{Priority, Target};
use crate::link::Body;
use crate::shell::{Shared, Waiter};
use crate::stream::Stream;

/// A part of a node that others call. Its functions are called on the thread that reads the link, or on
/// the caller's own: they hand the work on and never wait.
pub trait Service: Send + Sync + 'static {
    /// Something is asked; the answer may be given later and from anywhere.
    fn request(&self, request: Request, reply: Reply);

    /// Something is told. The body is a part of a larger buffer: what is kept of it is copied.
    /// The peer may send more once this returns, or once what `hold` gives is dropped.
    fn one_way(&self, message: Request, hold: &mut Hold<'_>) {
        let _ = (message, hold);
    }

    /// A stream is opened.
    fn stream(&self, request: Request, stream: Stream) {
        let _ = request;
        drop(stream);
    }
}

/// What came for a service.
#[derive(Debug)]
pub struct Request {
    /// The node it comes from, as its hello has proven.
    pub peer: NodeRef,
    /// What is wanted.
    pub target: Target,
    /// The answer has the same.
    pub priority: Priority,
    /// Nobody waits for the answer afterwards; `None`: there is no limit.
    pub deadline: Option<Instant>,
    /// What it says.
    pub body: Body,
}

/// The way back for one answer. Dropped without one, it answers that nothing was done.
#[must_use]
pub struct Reply(Option<To>);

enum To {
    Link {
        shared: Arc<Shared>,
        id: u64,
        priority: Priority,
        cost: u32,
        cancelled: Option<Arc<AtomicBool>>,
    },
    Here {
        waiter: Waiter,
        cancelled: Option<Arc<AtomicBool>>,
    },
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

impl Reply {
    pub(crate) fn link(
        shared: Arc<Shared>,
        id: u64,
        priority: Priority,
        cost: u32,
        cancelled: Option<Arc<AtomicBool>>,
    ) -> Self {
        Self(Some(To::Link {
            shared,
            id,
            priority,
            cost,
            cancelled,
        }))
    }

    pub(crate) fn here(waiter: Waiter, cancelled: Option<Arc<AtomicBool>>) -> Self {
        Self(Some(To::Here { waiter, cancelled }))
    }

    /// It is done.
    pub fn done(self, body: Body) {
        self.answer(Status::DONE, body);
    }

    /// It is not done, or not as asked; the status is the service's own.
    pub fn fail(self, status: Status, body: Body) {
        self.answer(status, body);
    }

    /// Whether somebody still waits.
    pub fn is_wanted(&self) -> bool {
        let Some(To::Link { cancelled, .. } | To::Here { cancelled, .. }) = &self.0 else {
            return false;
        };
        let is_cancelled = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
        !cancelled.as_ref().is_some_and(is_cancelled)
    }

    fn answer(mut self, status: Status, body: Body) {
        if let Some(to) = self.0.take() {
            to.answer(status, body);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(to) = self.0.take() {
            to.answer(Status::DROPPED, Body::default());
        }
    }
}

impl To {
    fn answer(self, status: Status, body: Body) {
        match self {
            Self::Link {
                shared,
                id,
                priority,
                cost,
                ..
            } => shared.with(|core| core.link.answer(id, priority, cost, status, body)),
            Self::Here { waiter, .. } => waiter(match status {
                Status::DONE => Ok(body),
                status => Err(CallError::Refused {
                    status,
                    header: body.header,
                }),
            }),
        }
    }
}

/// Room that a one-way message takes; it is free again when the service returns, or later if it
/// asks for that.
#[derive(Debug)]
pub struct Hold<'a> {
    pub(crate) shared: Option<&'a Arc<Shared>>,
    pub(crate) priority: Priority,
    pub(crate) cost: u32,
    pub(crate) is_taken: bool,
}

impl Hold<'_> {
    /// The room stays taken until the answer is dropped, which holds back a peer that is too fast.
    pub fn take(&mut self) -> Held {
        let shared = match self.is_taken {
            true => None,
            false => self.shared.cloned(),
        };
        self.is_taken = true;
        Held {
            shared,
            priority: self.priority,
            cost: self.cost,
        }
    }
}

/// Room that a message takes as long as this lives.
#[derive(Debug)]
pub struct Held {
    shared: Option<Arc<Shared>>,
    priority: Priority,
    cost: u32,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            let mut costs = [0; 3];
            costs[self.priority.index()] = self.cost;
            shared.with(|core| core.link.calls_done(costs));
        }
    }
}
