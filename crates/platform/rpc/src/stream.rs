//! Streams as services and callers hold them.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::error::{CallError, Status};
use crate::link::{Body, StreamId};
use crate::shell::Shared;

/// One end of a stream: items in both directions. Dropped before both ends have ended it, it is given up.
#[derive(Debug)]
#[must_use]
pub struct Stream {
    state: Arc<State>,
    to: To,
}

#[derive(Debug)]
enum To {
    Link {
        shared: Arc<Shared>,
        id: StreamId,
    },
    /// The other end is on this node.
    Here {
        other: Arc<State>,
    },
}

/// What came from the other end.
#[derive(Debug, Default)]
pub(crate) struct State(Mutex<Inbox>);

#[derive(Debug, Default)]
struct Inbox {
    items: VecDeque<(Body, u32)>,
    bytes: usize,
    end: Option<(Status, Bytes)>,
    closed: Option<CallError>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Bytes that a stream within this node holds in one direction.
const HERE_MAX: usize = 1 << 20;

/// The streams of one link, by id.
pub(crate) type Streams = HashMap<StreamId, Arc<State>>;

impl State {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn item(&self, body: Body, cost: u32) {
        let mut inbox = self.lock();
        inbox.bytes += weight(&body);
        inbox.items.push_back((body, cost));
        wake(inbox, |inbox| inbox.reader.take());
    }

    pub(crate) fn end(&self, status: Status, header: Bytes) {
        let mut inbox = self.lock();
        inbox.end = Some((status, header));
        wake(inbox, |inbox| inbox.reader.take());
    }

    pub(crate) fn close(&self, error: CallError) {
        let mut inbox = self.lock();
        inbox.closed.get_or_insert(error);
        let writer = inbox.writer.take();
        wake(inbox, |inbox| inbox.reader.take());
        writer.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn writable(&self) {
        wake(self.lock(), |inbox| inbox.writer.take());
    }
}

/// An item of no bytes takes room too.
fn weight(body: &Body) -> usize {
    body.len() + size_of::<Body>()
}

/// Wakes outside of the lock.
fn wake(mut inbox: MutexGuard<'_, Inbox>, take: impl FnOnce(&mut Inbox) -> Option<Waker>) {
    let waker = take(&mut inbox);
    drop(inbox);
    waker.into_iter().for_each(Waker::wake);
}

impl Stream {
    pub(crate) fn link(shared: Arc<Shared>, id: StreamId, state: Arc<State>) -> Self {
        Self {
            state,
            to: To::Link { shared, id },
        }
    }

    /// Both ends of a stream within this node.
    pub(crate) fn here() -> (Self, Self) {
        let (one, two) = (Arc::new(State::default()), Arc::new(State::default()));
        let end = |state: &Arc<State>, other: &Arc<State>| Self {
            state: state.clone(),
            to: To::Here {
                other: other.clone(),
            },
        };
        (end(&one, &two), end(&two, &one))
    }

    /// Sends an item once the other end has room for it.
    pub async fn send(&self, body: Body) -> Result<(), CallError> {
        poll_fn(|context| self.poll_send(context, &body)).await
    }

    /// As [`send`](Self::send), for those who poll.
    pub fn poll_send(&self, context: &mut Context<'_>, body: &Body) -> Poll<Result<(), CallError>> {
        let mut inbox = self.state.lock();
        if let Some(error) = &inbox.closed {
            return Poll::Ready(Err(error.clone()));
        }
        // Before the attempt, so that no credit is missed.
        inbox.writer = Some(context.waker().clone());
        drop(inbox);
        match self.try_send(body) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn try_send(&self, body: &Body) -> Result<bool, CallError> {
        match &self.to {
            To::Link { shared, id } => shared.with(|core| core.link.item(*id, body)),
            To::Here { other } => {
                let inbox = other.lock();
                if inbox.closed.is_some() {
                    return Err(CallError::Lost);
                }
                if inbox.bytes >= HERE_MAX {
                    return Ok(false);
                }
                drop(inbox);
                other.item(body.clone(), 0);
                Ok(true)
            }
        }
    }

    /// The next item; `None` once the other end has ended the stream as complete.
    pub async fn next(&self) -> Result<Option<Body>, CallError> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`next`](Self::next), for those who poll.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Result<Option<Body>, CallError>> {
        let mut inbox = self.state.lock();
        if let Some((body, cost)) = inbox.items.pop_front() {
            inbox.bytes -= weight(&body);
            drop(inbox);
            match &self.to {
                To::Link { shared, id } => shared.with(|core| core.link.item_done(*id, cost)),
                To::Here { other } => other.writable(),
            }
            return Poll::Ready(Ok(Some(body)));
        }
        if let Some((status, header)) = &inbox.end {
            return Poll::Ready(match *status {
                Status::DONE => Ok(None),
                status => Err(CallError::Refused {
                    status,
                    header: header.clone(),
                }),
            });
        }
        if let Some(error) = &inbox.closed {
            return Poll::Ready(Err(error.clone()));
        }
        inbox.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Sends no more; the other end may go on.
    pub async fn end(&self, status: Status, header: Bytes) {
        poll_fn(|context| {
            let mut inbox = self.state.lock();
            if inbox.closed.is_some() {
                return Poll::Ready(());
            }
            inbox.writer = Some(context.waker().clone());
            drop(inbox);
            let is_said = match &self.to {
                To::Link { shared, id } => {
                    shared.with(|core| core.link.end(*id, status, header.clone()))
                }
                To::Here { other } => {
                    other.end(status, header.clone());
                    true
                }
            };
            match is_said {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        match &self.to {
            To::Link { shared, id } => shared.with(|core| {
                core.streams.remove(id);
                core.link.abandon(*id);
            }),
            To::Here { other } => other.close(CallError::Lost),
        }
    }
}
