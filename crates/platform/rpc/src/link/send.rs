//! Messages of this side on their way out: at once while there is credit, else after waiting.

use bytes::Bytes;

use super::limits::cost;
use super::{
    Asked, AskedState, Body, CallId, Effect, Held, Link, Outgoing, StreamId, answered, call_id,
    slot_of, stream,
};
use crate::error::{CallError, Status};
use crate::frame::{Answer, Call, Frame, HEADER_MAX, Kind, Priority, Side, Start};

pub(super) const CALLS: usize = 0;
pub(super) const ANSWERS: usize = 1;

impl<W> Link<W> {
    /// Asks the peer for something by `deadline_ms`. A refusal gives the waiter back.
    pub fn request(
        &mut self,
        now_ms: u64,
        deadline_ms: u64,
        outgoing: Outgoing,
        waiter: W,
    ) -> Result<CallId, (CallError, W)> {
        let cost = call_cost(&outgoing.body);
        let goes = match self.admit(outgoing.priority, cost, &outgoing.body) {
            Ok(has_credit) => has_credit && self.may_start(Start::Request),
            Err(error) => return Err((error, waiter)),
        };
        self.generation = (self.generation % GENERATION_MAX) + 1;
        let generation = self.generation;
        let slot = self.asked.insert(Asked {
            generation,
            priority: outgoing.priority,
            deadline_ms,
            state: AskedState::Waiting,
            waiter: Some(waiter),
        });
        let id = call_id(slot, generation);
        self.earliest_ms = self.earliest_ms.min(deadline_ms);
        let (flow, call) = to_call(outgoing, Start::Request, id);
        self.send_or_hold(now_ms, goes, flow, cost, Held { call, deadline_ms });
        Ok(CallId(id))
    }

    /// Tells the peer something. It may be lost with the connection.
    pub fn one_way(&mut self, now_ms: u64, outgoing: Outgoing) -> Result<(), CallError> {
        let cost = call_cost(&outgoing.body);
        let goes = self.admit(outgoing.priority, cost, &outgoing.body)?;
        self.long_one_ways = self.long_one_ways.wrapping_add(1);
        let id = LONG_ONE_WAYS | self.long_one_ways;
        let (flow, call) = to_call(outgoing, Start::OneWay, id);
        let deadline_ms = u64::MAX;
        self.send_or_hold(now_ms, goes, flow, cost, Held { call, deadline_ms });
        Ok(())
    }

    /// Opens a stream. Its items may follow at once.
    pub fn open(&mut self, now_ms: u64, outgoing: Outgoing) -> Result<StreamId, CallError> {
        let cost = call_cost(&outgoing.body);
        let goes = self.admit(outgoing.priority, cost, &outgoing.body)?;
        let goes = goes && self.may_start(Start::Open);
        self.stream_count = self.stream_count.wrapping_add(1);
        let id = STREAMS | self.stream_count;
        let stream = StreamId {
            side: Side::Asking,
            id,
        };
        let state = stream::Stream::asked(outgoing.priority);
        self.streams.insert(stream, state);
        let (flow, call) = to_call(outgoing, Start::Open, id);
        let deadline_ms = u64::MAX;
        self.send_or_hold(now_ms, goes, flow, cost, Held { call, deadline_ms });
        Ok(stream)
    }

    /// Nobody waits for this call any more.
    pub fn cancel(&mut self, call: CallId) {
        let (slot, generation) = slot_of(call.0);
        let Some(asked) = self.asked.get_mut(slot) else {
            return;
        };
        if asked.generation != generation || asked.waiter.take().is_none() {
            return;
        }
        let priority = asked.priority;
        match asked.state {
            AskedState::Sent => self.send_cancel(call.0, Side::Asking, priority, Status::CANCELLED),
            AskedState::Waiting => {
                self.asked.remove(slot);
                self.drop_unwanted();
            }
        }
    }

    /// Answers a request of the peer, which then counts no more; `cost` is that of the request.
    pub fn answer(&mut self, id: u64, priority: Priority, cost: u32, status: Status, body: Body) {
        if self.open.remove(&id).is_none() {
            return; // of a connection that is gone
        }
        self.give_back(CALLS, priority, cost);
        self.send_answer(id, priority, status, body);
    }

    pub(super) fn send_answer(&mut self, id: u64, priority: Priority, status: Status, body: Body) {
        if self.agreed.is_none() {
            return;
        }
        let bytes = cost(Kind::Answer, body.header.len(), body.payload.len());
        let is_too_large =
            bytes > self.limits().message_max(priority) || body.header.len() > HEADER_MAX;
        let queue = &self.waiting_answers[priority.index()];
        let is_full = !queue.is_empty()
            && (self.waiting_answer_bytes.saturating_add(bytes as usize)
                > self.bounds.waiting_bytes);
        let (status, body) = match (is_too_large, is_full) {
            (true, _) => (Status::TOO_LARGE, Body::default()),
            (_, true) => (Status::DROPPED, Body::default()),
            _ => (status, body),
        };
        let total = u32::try_from(body.payload.len()).unwrap_or(u32::MAX);
        let answer = Answer {
            id,
            priority,
            status: status.0,
            total,
            header: body.header,
            payload: body.payload,
        };
        let cost = answer_cost(&answer);
        let credit = &mut self.credit[ANSWERS][priority.index()];
        if queue.is_empty() && *credit >= cost {
            *credit -= cost;
            return self.outbox.answer(answer);
        }
        self.waiting_answer_bytes += cost as usize;
        self.waiting_answers[priority.index()].push_back(answer);
    }

    /// One-way messages are done with; what they cost, by priority.
    pub fn calls_done(&mut self, costs: [u32; 3]) {
        for (priority, cost) in Priority::ALL.into_iter().zip(costs) {
            self.give_back(CALLS, priority, cost);
        }
    }

    /// Credit goes back in lumps: a frame for each message would cost as much as the message.
    pub(super) fn give_back(&mut self, what: usize, priority: Priority, cost: u32) {
        if self.agreed.is_none() || cost == 0 {
            return;
        }
        let index = priority.index();
        // What came over an earlier connection counts no more.
        let cost = cost.min(self.taken[what][index] - self.returned[what][index]);
        let lump = self.limits().windows[index] / 8;
        let returned = &mut self.returned[what][index];
        *returned += cost;
        if *returned < lump {
            return;
        }
        let bytes = std::mem::take(returned);
        self.taken[what][index] -= bytes;
        let side = match what {
            CALLS => Side::Answering,
            _ => Side::Asking,
        };
        let frame = Frame::Credit {
            id: 0,
            side,
            priority,
            bytes,
        };
        self.outbox.frame(Priority::Consensus, &frame);
    }

    /// Whether there is credit and nothing waits before it; an error if there is no room to wait.
    fn admit(&self, priority: Priority, cost: u32, body: &Body) -> Result<bool, CallError> {
        if body.header.len() > HEADER_MAX || cost > self.limits().message_max(priority) {
            return Err(CallError::TooLarge);
        }
        let index = priority.index();
        let waiting = &self.waiting[index];
        if waiting.is_empty() && self.credit[CALLS][index] >= cost && !self.peer_is_leaving {
            return Ok(true);
        }
        let is_full = waiting.len() >= self.bounds.waiting_messages
            || waiting.bytes() + cost as usize > self.bounds.waiting_bytes;
        match is_full {
            true => Err(CallError::Full),
            false => Ok(false),
        }
    }

    /// Whether the peer takes one more of this kind.
    fn may_start(&self, start: Start) -> bool {
        let Some(agreed) = &self.agreed else {
            return false;
        };
        match start {
            Start::OneWay => true,
            Start::Request => self.asked_sent < agreed.requests,
            Start::Open => self.sent_streams() < agreed.streams as usize,
        }
    }

    fn send_or_hold(&mut self, now_ms: u64, goes: bool, flow: u64, cost: u32, held: Held) {
        match goes {
            true => self.send(now_ms, cost, held),
            false => self.waiting[held.call.priority.index()].push(flow, cost, held),
        }
    }

    #[inline]
    fn send(&mut self, now_ms: u64, cost: u32, held: Held) {
        let Held {
            mut call,
            deadline_ms,
        } = held;
        self.credit[CALLS][call.priority.index()] -= cost;
        match call.start {
            Start::OneWay => {}
            Start::Request => {
                let left = deadline_ms.saturating_sub(now_ms).max(1);
                call.timeout_ms = u32::try_from(left).unwrap_or(0);
                let (slot, _) = slot_of(call.id);
                if let Some(asked) = self.asked.get_mut(slot) {
                    asked.state = AskedState::Sent;
                    self.asked_sent += 1;
                }
            }
            Start::Open => self.stream_is_sent(call.id),
        }
        self.outbox.call(call);
    }

    /// Sends what waits as far as there is credit.
    pub(super) fn pump(&mut self, now_ms: u64, effects: &mut Vec<Effect<W>>) {
        self.wants_pump = false;
        for priority in Priority::ALL {
            self.pump_answers(priority);
            if self.peer_is_leaving {
                continue;
            }
            let index = priority.index();
            while let Some((cost, held)) = self.waiting[index].first() {
                let start = held.call.start;
                if cost > self.credit[CALLS][index] || !self.may_start(start) {
                    break;
                }
                let Some(held) = self.waiting[index].pop() else {
                    break;
                };
                let id = held.call.id;
                self.send(now_ms, cost, held);
                if start == Start::Open {
                    self.tell_writable(id, effects);
                }
            }
        }
    }

    fn pump_answers(&mut self, priority: Priority) {
        let index = priority.index();
        while let Some(answer) = self.waiting_answers[index].front() {
            let cost = answer_cost(answer);
            if cost > self.credit[ANSWERS][index] {
                break;
            }
            self.credit[ANSWERS][index] -= cost;
            self.waiting_answer_bytes -= cost as usize;
            if let Some(answer) = self.waiting_answers[index].pop_front() {
                self.outbox.answer(answer);
            }
        }
    }

    /// The peer has answered: the slot is free again.
    pub(super) fn settle(&mut self, answer: Answer, effects: &mut Vec<Effect<W>>) {
        let (slot, generation) = slot_of(answer.id);
        let is_asked = self
            .asked
            .get(slot)
            .is_some_and(|asked| asked.generation == generation);
        if !is_asked {
            return;
        }
        let asked = self.asked.remove(slot);
        self.asked_sent -= 1;
        let status = Status(answer.status);
        let result = match status {
            Status::DONE => Ok(Body {
                header: answer.header,
                payload: answer.payload,
            }),
            status => Err(CallError::Refused {
                status,
                header: answer.header,
            }),
        };
        answered(effects, asked.waiter, result);
    }
}

/// Leaves the bits that say what an id is of.
const GENERATION_MAX: u32 = (1 << 30) - 1;

/// Ids of one-way messages, which matter only if they are long.
const LONG_ONE_WAYS: u64 = 1 << 63;
/// Ids of streams.
const STREAMS: u64 = 1 << 62;

fn call_cost(body: &Body) -> u32 {
    cost(Kind::Request, body.header.len(), body.payload.len())
}

fn answer_cost(answer: &Answer) -> u32 {
    cost(Kind::Answer, answer.header.len(), answer.payload.len())
}

fn to_call(outgoing: Outgoing, start: Start, id: u64) -> (u64, Call) {
    let Body { header, payload } = outgoing.body;
    let call = Call {
        start,
        id,
        priority: outgoing.priority,
        target: outgoing.target,
        timeout_ms: 0,
        lane: outgoing.lane,
        total: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        header,
        payload,
    };
    (outgoing.flow, call)
}

impl Body {
    /// Bytes of both parts.
    pub fn len(&self) -> usize {
        self.header.len() + self.payload.len()
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.header.is_empty() && self.payload.is_empty()
    }

    /// A body of a header alone.
    pub fn header(header: impl Into<Bytes>) -> Self {
        Self {
            header: header.into(),
            payload: Bytes::new(),
        }
    }
}
