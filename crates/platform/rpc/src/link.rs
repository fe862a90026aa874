//! One link: what both ends may send, what waits for whom, and by when. Input and `now` in, frames and
//! effects out; no socket, clock or thread.
//!
//! ```text
//! request, one_way, open, answer, item --> credit? --yes--> outbox --take--> bytes for the socket
//!                                             '--no--> waiting: flows take turns, bounded
//! bytes of the socket --receive--> effects: calls for services, answers for those who asked
//! ```
//!
//! A link lives as long as somebody may call over it; connections come and go below it. Calls that
//! were sent over a connection that ended are lost, those that wait go on waiting.

mod limits;
mod outbox;
mod receive;
mod send;
mod stream;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;
use slab::Slab;

use crate::error::{CallError, LinkError, Status};
use crate::frame::{Answer, Call, Frame, Priority, Side, Start, Target};

pub(crate) use limits::COPY_MAX;
pub use limits::Limits;
use outbox::Outbox;
use waiting::Waiting;

/// What a message consists of: a header that the service knows, and bytes that nobody looks into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// A prost message of the service; at most [`HEADER_MAX`](crate::frame::HEADER_MAX) bytes.
    pub header: Bytes,
    /// Raw bytes.
    pub payload: Bytes,
}

impl Body {
    /// A body without a header.
    pub fn payload(payload: impl Into<Bytes>) -> Self {
        Self {
            header: Bytes::new(),
            payload: payload.into(),
        }
    }
}

/// A message for a service on the other node.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// Where it goes.
    pub target: Target,
    /// Which messages it goes before.
    pub priority: Priority,
    /// Who it is counted to when messages wait: flows take turns. A tenant's number, or 0.
    pub flow: u64,
    /// Messages of one lane and priority reach the service in the order they were sent; 0: no lane.
    pub lane: u32,
    /// What it says.
    pub body: Body,
}

/// What an own link keeps of others, beside what it takes from its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What it takes from its peer.
    pub limits: Limits,
    /// Bytes of own messages that wait for credit, per priority; as much again of answers.
    pub waiting_bytes: usize,
    /// Own messages that wait for credit, per priority; as many again of answers.
    pub waiting_messages: usize,
    /// A peer that owes something is asked for a sign of life after this silence.
    pub ping_after_ms: u64,
    /// And one that owes nothing after this.
    pub idle_ping_after_ms: u64,
    /// The connection is given up when no sign came for so long after it was asked for.
    pub silence_ms: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            waiting_bytes: 32 << 20,
            waiting_messages: 16 << 10,
            ping_after_ms: 1_000,
            idle_ping_after_ms: 15_000,
            silence_ms: 3_000,
        }
    }
}

/// A stream, as seen from this end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    /// `Asking` if this end opened it.
    pub side: Side,
    /// Its id.
    pub id: u64,
}

/// What the shell must do next, in order.
#[derive(Debug)]
pub enum Effect<W> {
    /// A service is asked. Its answer, even of nothing, goes to [`Link::answer`].
    Request(Incoming),
    /// A service is told something. Once it is done with, [`Link::calls_done`] gives the credit back.
    OneWay(Incoming),
    /// The peer opened a stream to a service.
    Opened(Incoming),
    /// A call of this side has its answer, or never will.
    Answered {
        /// Who waits.
        waiter: W,
        /// The answer.
        result: Result<Body, CallError>,
    },
    /// An item of a stream; once it is done with, [`Link::item_done`] gives the credit back.
    Item {
        /// Which stream.
        stream: StreamId,
        /// The item.
        body: Body,
        /// What it counts.
        cost: u32,
    },
    /// The peer sends no more on this stream.
    Ended {
        /// Which stream.
        stream: StreamId,
        /// Whether it is complete.
        status: Status,
        /// What the peer says about it.
        header: Bytes,
    },
    /// The stream is over in both directions.
    Closed {
        /// Which stream.
        stream: StreamId,
        /// Why.
        error: CallError,
    },
    /// The stream may have items again, after one was refused for want of credit.
    Writable(StreamId),
    /// The peer takes nothing new.
    Leaving,
}

/// A message that came in.
#[derive(Debug)]
pub struct Incoming {
    /// The request's or stream's id.
    pub id: u64,
    /// Its priority; the answer has the same.
    pub priority: Priority,
    /// Where it goes.
    pub target: Target,
    /// Milliseconds until nobody waits for the answer; 0: no limit.
    pub timeout_ms: u32,
    /// What it says.
    pub body: Body,
    /// What it counts until it is answered or done with.
    pub cost: u32,
    /// Turns true when nobody waits any more.
    pub cancelled: Option<Arc<AtomicBool>>,
}

/// A request of this side.
#[derive(Debug)]
struct Asked<W> {
    generation: u32,
    priority: Priority,
    deadline_ms: u64,
    state: AskedState,
    /// Nobody waits any more; the slot is the peer's until it answers.
    waiter: Option<W>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AskedState {
    Waiting,
    Sent,
}

/// A message of this side that waits for credit.
#[derive(Debug)]
struct Held {
    call: Call,
    deadline_ms: u64,
}

/// A request of the peer.
#[derive(Debug)]
struct Open {
    cancelled: Arc<AtomicBool>,
}

/// A payload that comes in parts.
#[derive(Debug)]
struct Assembly {
    first: Frame,
    payload: BytesMut,
    total: usize,
}

/// A place that calls of this side can be given up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(u64);

/// State of a link. `W` is who waits for an answer.
#[derive(Debug)]
pub struct Link<W> {
    bounds: Bounds,
    /// What both sides take, the lower of each; `None` while there is no connection.
    agreed: Option<Limits>,
    is_leaving: bool,
    peer_is_leaving: bool,
    /// Something that waits may go now.
    wants_pump: bool,
    outbox: Outbox,
    /// What may still be sent: calls, answers.
    credit: [[u32; 3]; 2],
    /// What came and was not given back: calls, answers.
    taken: [[u32; 3]; 2],
    /// What is done with and not yet told: calls, answers.
    returned: [[u32; 3]; 2],
    waiting: [Waiting<Held>; 3],
    waiting_answers: [VecDeque<Answer>; 3],
    waiting_answer_bytes: usize,
    asked: Slab<Asked<W>>,
    generation: u32,
    /// Requests on their way; those given up count until the peer has answered.
    asked_sent: u32,
    long_one_ways: u64,
    /// No deadline is earlier.
    earliest_ms: u64,
    open: HashMap<u64, Open>,
    assemblies: HashMap<(u64, Side), Assembly>,
    streams: HashMap<StreamId, stream::Stream>,
    stream_count: u64,
    heard_ms: u64,
    pinged_ms: Option<u64>,
}

/// Deadlines are looked at so often at most.
const TICK_MS: u64 = 5;

impl<W> Link<W> {
    /// A link without a connection.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            agreed: None,
            is_leaving: false,
            peer_is_leaving: false,
            wants_pump: false,
            outbox: Outbox::default(),
            credit: [[0; 3]; 2],
            taken: [[0; 3]; 2],
            returned: [[0; 3]; 2],
            waiting: <[Waiting<Held>; 3]>::default(),
            waiting_answers: <[VecDeque<Answer>; 3]>::default(),
            waiting_answer_bytes: 0,
            asked: Slab::new(),
            generation: 0,
            asked_sent: 0,
            long_one_ways: 0,
            earliest_ms: u64::MAX,
            open: HashMap::new(),
            assemblies: HashMap::new(),
            streams: HashMap::new(),
            stream_count: 0,
            heard_ms: 0,
            pinged_ms: None,
        }
    }

    /// There is a connection, to a peer that takes so much. What waits is sent.
    pub fn connect(&mut self, now_ms: u64, peer: &Limits, effects: &mut Vec<Effect<W>>) {
        let agreed = peer.lower(&self.bounds.limits);
        self.agreed = Some(agreed);
        self.is_leaving = false;
        self.peer_is_leaving = false;
        self.credit = [agreed.windows; 2];
        self.heard_ms = now_ms;
        self.pinged_ms = None;
        self.refuse_too_large(effects);
        self.pump(now_ms, effects);
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.agreed.is_some()
    }

    /// The connection is gone: what was sent over it is lost, what waits may wait for the next one.
    pub fn disconnect(&mut self, effects: &mut Vec<Effect<W>>) {
        self.agreed = None;
        self.outbox.clear();
        self.credit = [[0; 3]; 2];
        self.taken = [[0; 3]; 2];
        self.returned = [[0; 3]; 2];
        self.waiting_answers = <[VecDeque<Answer>; 3]>::default();
        self.waiting_answer_bytes = 0;
        self.assemblies.clear();
        self.asked_sent = 0;
        for (_, open) in self.open.drain() {
            open.cancelled.store(true, Ordering::Relaxed);
        }
        for (stream, _) in self.streams.drain() {
            effects.push(Effect::Closed {
                stream,
                error: CallError::Lost,
            });
        }
        self.asked.retain(|_, asked| {
            if asked.state == AskedState::Waiting {
                return true;
            }
            answered(effects, asked.waiter.take(), Err(CallError::Lost));
            false
        });
    }

    /// No connection can be had for now: nothing waits for one any more.
    pub fn refuse_waiting(&mut self, error: &CallError, effects: &mut Vec<Effect<W>>) {
        for waiting in &mut self.waiting {
            drop(waiting.drain());
        }
        self.asked.retain(|_, asked| {
            if asked.state == AskedState::Sent {
                return true;
            }
            answered(effects, asked.waiter.take(), Err(error.clone()));
            false
        });
        let streams = &mut self.streams;
        streams.retain(|stream, state| {
            if !state.waits() {
                return true;
            }
            effects.push(Effect::Closed {
                stream: *stream,
                error: error.clone(),
            });
            false
        });
    }

    /// Whether messages wait for a connection or for credit.
    pub fn has_waiting(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.is_empty())
    }

    /// Whether nothing is under way on the connection.
    pub fn is_drained(&self) -> bool {
        self.asked_sent == 0
            && self.open.is_empty()
            && self.streams.is_empty()
            && self.outbox.is_empty()
    }

    /// Whether nothing is going on, so that the connection could be closed.
    pub fn is_idle(&self) -> bool {
        self.asked.is_empty()
            && self.open.is_empty()
            && self.streams.is_empty()
            && !self.has_waiting()
            && self.outbox.is_empty()
    }

    /// Takes nothing new from the peer, and says so.
    pub fn leave(&mut self) {
        if !self.is_leaving && self.agreed.is_some() {
            self.is_leaving = true;
            self.outbox.frame(Priority::Consensus, &Frame::Leave);
        }
    }

    /// Whether the peer takes nothing new on this connection.
    pub fn peer_is_leaving(&self) -> bool {
        self.peer_is_leaving
    }

    /// Bytes of the peer that are held by count of credit.
    pub(crate) fn held_bytes(&self) -> u64 {
        let counts = self.taken.iter().flatten();
        counts.map(|bytes| u64::from(*bytes)).sum()
    }

    /// Moves about `budget` bytes that are to be written to `out`.
    pub fn take(&mut self, budget: usize, out: &mut VecDeque<Bytes>) {
        self.outbox.take(budget, out);
    }

    /// Whether [`take`](Self::take) has something.
    pub fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn next_due_ms(&self) -> u64 {
        if self.wants_pump && self.agreed.is_some() {
            return 0;
        }
        let life = match (self.agreed, self.pinged_ms) {
            (None, _) => u64::MAX,
            (Some(_), Some(pinged)) => pinged + self.bounds.silence_ms,
            (Some(_), None) => self.heard_ms + self.ping_after_ms(),
        };
        self.earliest_ms.min(life)
    }

    /// Whether the peer owes an answer, credit or items.
    fn ping_after_ms(&self) -> u64 {
        let owes = self.asked_sent > 0 || !self.streams.is_empty() || self.has_waiting();
        match owes {
            true => self.bounds.ping_after_ms,
            false => self.bounds.idle_ping_after_ms,
        }
    }

    /// Ends what is over its deadline and watches for signs of life.
    pub fn tick(&mut self, now_ms: u64, effects: &mut Vec<Effect<W>>) -> Result<(), LinkError> {
        if now_ms >= self.earliest_ms {
            self.expire(now_ms, effects);
        }
        if self.agreed.is_none() {
            return Ok(());
        }
        if self.wants_pump {
            self.pump(now_ms, effects);
        }
        match self.pinged_ms {
            Some(pinged) if now_ms >= pinged + self.bounds.silence_ms => Err(LinkError::Silent),
            None if now_ms >= self.heard_ms + self.ping_after_ms() => {
                self.pinged_ms = Some(now_ms);
                let ping = Frame::Ping { id: now_ms };
                self.outbox.frame(Priority::Consensus, &ping);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn expire(&mut self, now_ms: u64, effects: &mut Vec<Effect<W>>) {
        let mut earliest = u64::MAX;
        let (mut removed, mut cancelled) = (false, Vec::new());
        self.asked.retain(|slot, asked| {
            if asked.waiter.is_none() {
                return true;
            }
            if asked.deadline_ms > now_ms {
                earliest = earliest.min(asked.deadline_ms);
                return true;
            }
            let is_sent = asked.state == AskedState::Sent;
            let error = match is_sent {
                true => CallError::Unknown,
                false => CallError::NotSent,
            };
            answered(effects, asked.waiter.take(), Err(error));
            match is_sent {
                true => cancelled.push((call_id(slot, asked.generation), asked.priority)),
                false => removed = true,
            }
            is_sent
        });
        if earliest < u64::MAX {
            // Few late milliseconds are fine, a look at all calls in each of them is not.
            earliest = earliest.max(now_ms + TICK_MS);
        }
        self.earliest_ms = earliest;
        for (id, priority) in cancelled {
            self.send_cancel(id, Side::Asking, priority, Status::CANCELLED);
        }
        if removed {
            self.drop_unwanted();
        }
    }

    /// What waited for a connection may be more than this peer takes.
    fn refuse_too_large(&mut self, effects: &mut Vec<Effect<W>>) {
        let limits = self.limits();
        let mut refused = Vec::new();
        for waiting in &mut self.waiting {
            waiting.retain(|held| {
                let is_fine = held.call.cost() <= limits.message_max(held.call.priority);
                if !is_fine {
                    refused.push((held.call.start, held.call.id));
                }
                is_fine
            });
        }
        for (start, id) in refused {
            let error = CallError::TooLarge;
            let stream = StreamId {
                side: Side::Asking,
                id,
            };
            match start {
                Start::Request => {
                    let asked = self.asked.try_remove(slot_of(id).0);
                    answered(effects, asked.and_then(|asked| asked.waiter), Err(error));
                }
                Start::Open if self.streams.remove(&stream).is_some() => {
                    effects.push(Effect::Closed { stream, error });
                }
                _ => {}
            }
        }
    }

    /// What counts: both sides' lower bounds while there is a connection, else the own ones.
    fn limits(&self) -> Limits {
        self.agreed.unwrap_or(self.bounds.limits)
    }

    /// Forgets waiting messages that nobody waits for any more.
    fn drop_unwanted(&mut self) {
        let (asked, streams) = (&self.asked, &self.streams);
        for waiting in &mut self.waiting {
            waiting.retain(|held| match held.call.start {
                Start::OneWay => true,
                Start::Request => {
                    let (slot, generation) = slot_of(held.call.id);
                    let asked = asked.get(slot);
                    asked.is_some_and(|asked| asked.generation == generation)
                }
                Start::Open => streams.contains_key(&StreamId {
                    side: Side::Asking,
                    id: held.call.id,
                }),
            });
        }
    }

    /// With the priority of what it cancels, so that it does not arrive first.
    fn send_cancel(&mut self, id: u64, side: Side, priority: Priority, status: Status) {
        let status = status.0;
        let frame = Frame::Cancel { id, side, status };
        self.outbox.frame(priority, &frame);
    }
}

fn answered<W>(effects: &mut Vec<Effect<W>>, waiter: Option<W>, result: Result<Body, CallError>) {
    if let Some(waiter) = waiter {
        effects.push(Effect::Answered { waiter, result });
    }
}

fn call_id(slot: usize, generation: u32) -> u64 {
    (u64::from(generation) << 32) | slot as u64
}

fn slot_of(id: u64) -> (usize, u32) {
    ((id & u64::from(u32::MAX)) as usize, (id >> 32) as u32)
}
