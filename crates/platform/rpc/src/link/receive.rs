//! Frames of the peer: what they lead to, and what they must not do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};

use super::limits::cost;
use super::send::{ANSWERS, CALLS};
use super::{Assembly, Body, COPY_MAX, Effect, Incoming, Link, Open, StreamId, slot_of, stream};
use crate::error::{LinkError, Status};
use crate::frame::{self, Answer, Call, Frame, Kind, PAYLOAD_MAX, Priority, Side, Start};

impl<W> Link<W> {
    /// Takes whole frames out of `buffer`. After an error the connection is of no use.
    pub fn receive(
        &mut self,
        now_ms: u64,
        buffer: &mut BytesMut,
        effects: &mut Vec<Effect<W>>,
    ) -> Result<(), LinkError> {
        if self.agreed.is_none() {
            return Ok(());
        }
        self.heard_ms = now_ms;
        self.pinged_ms = None;
        while let Some(frame) = frame::read(buffer)? {
            self.receive_frame(now_ms, frame, effects)?;
        }
        Ok(())
    }

    fn receive_frame(
        &mut self,
        now_ms: u64,
        frame: Frame,
        effects: &mut Vec<Effect<W>>,
    ) -> Result<(), LinkError> {
        match frame {
            Frame::Call(call) => self.receive_call(call, effects),
            Frame::Answer(answer) => self.receive_answer(now_ms, answer, effects),
            Frame::Part { id, side, payload } => {
                self.receive_part(now_ms, id, side, &payload, effects)
            }
            Frame::Item {
                id,
                side,
                header,
                payload,
            } => {
                let stream = own_view(id, side);
                let (header, payload) = (lasting(header), lasting(payload));
                self.receive_item(stream, Body { header, payload }, effects)
            }
            Frame::End {
                id,
                side,
                status,
                header,
            } => {
                let stream = own_view(id, side);
                let header = lasting(header);
                self.receive_end(stream, Status(status), header, effects)?;
                self.pump(now_ms, effects);
                Ok(())
            }
            Frame::Cancel { id, side, status } => {
                if side == Side::Asking
                    && let Some(open) = self.open.get(&id)
                {
                    open.cancelled.store(true, Ordering::Relaxed);
                }
                self.receive_stream_cancel(own_view(id, side), Status(status), effects);
                self.pump(now_ms, effects);
                Ok(())
            }
            Frame::Credit {
                id: 0,
                side,
                priority,
                bytes,
            } => self.receive_credit(now_ms, side, priority, bytes, effects),
            Frame::Credit {
                id, side, bytes, ..
            } => self.receive_stream_credit(own_view(id, side), bytes, effects),
            Frame::Ping { id } => {
                self.outbox.frame(Priority::Consensus, &Frame::Pong { id });
                Ok(())
            }
            Frame::Pong { .. } => Ok(()),
            Frame::Leave => {
                self.peer_is_leaving = true;
                effects.push(Effect::Leaving);
                Ok(())
            }
        }
    }

    fn receive_credit(
        &mut self,
        now_ms: u64,
        side: Side,
        priority: Priority,
        bytes: u32,
        effects: &mut Vec<Effect<W>>,
    ) -> Result<(), LinkError> {
        let index = priority.index();
        let what = match side {
            Side::Answering => CALLS,
            Side::Asking => ANSWERS,
        };
        let credit = match cfg!(planted_bugs) {
            true => Some(self.credit[what][index] + bytes),
            false => self.credit[what][index].checked_add(bytes),
        };
        let window = self.limits().windows[index];
        match credit {
            Some(credit) if credit <= window => self.credit[what][index] = credit,
            _ => return Err(LinkError::Credit),
        }
        self.pump(now_ms, effects);
        Ok(())
    }

    fn take_credit(&mut self, what: usize, priority: Priority, cost: u32) -> Result<(), LinkError> {
        let index = priority.index();
        let taken = self.taken[what][index].saturating_add(cost);
        if taken > self.limits().windows[index] {
            return Err(LinkError::Overrun);
        }
        self.taken[what][index] = taken;
        Ok(())
    }

    #[inline]
    fn receive_call(&mut self, call: Call, effects: &mut Vec<Effect<W>>) -> Result<(), LinkError> {
        let total = call.total as usize;
        let cost = cost(Kind::Request, call.header.len(), total);
        self.take_credit(CALLS, call.priority, cost)?;
        match call.payload.len() == total {
            true => self.deliver(call, cost, effects),
            false => self.begin(call.id, Side::Asking, total, Frame::Call(call)),
        }
    }

    fn receive_answer(
        &mut self,
        now_ms: u64,
        answer: Answer,
        effects: &mut Vec<Effect<W>>,
    ) -> Result<(), LinkError> {
        let (slot, generation) = slot_of(answer.id);
        let asked = self.asked.get(slot);
        if asked.is_none_or(|asked| asked.generation != generation || !asked.is_sent()) {
            return Err(LinkError::OutOfPlace);
        }
        let total = answer.total as usize;
        let cost = cost(Kind::Answer, answer.header.len(), total);
        self.take_credit(ANSWERS, answer.priority, cost)?;
        match answer.payload.len() == total {
            true => {
                self.finish(now_ms, answer, cost, effects);
                Ok(())
            }
            false => self.begin(answer.id, Side::Answering, total, Frame::Answer(answer)),
        }
    }

    /// The first frame of a payload in parts.
    fn begin(&mut self, id: u64, side: Side, total: usize, first: Frame) -> Result<(), LinkError> {
        // Not reserved by what is announced: the parts have to come first.
        let payload = first
            .payload()
            .map_or_else(BytesMut::new, |payload| BytesMut::from(&payload[..]));
        let first = without_payload(first);
        let assembly = Assembly {
            first,
            payload,
            total,
        };
        match self.assemblies.insert((id, side), assembly) {
            None => Ok(()),
            Some(_) => Err(LinkError::OutOfPlace),
        }
    }

    fn receive_part(
        &mut self,
        now_ms: u64,
        id: u64,
        side: Side,
        part: &[u8],
        effects: &mut Vec<Effect<W>>,
    ) -> Result<(), LinkError> {
        let Some(assembly) = self.assemblies.get_mut(&(id, side)) else {
            return Err(LinkError::OutOfPlace);
        };
        let missing = assembly.total - assembly.payload.len();
        if part.len() != missing.min(PAYLOAD_MAX) {
            return Err(LinkError::OutOfPlace);
        }
        assembly.payload.extend_from_slice(part);
        if part.len() < missing {
            return Ok(());
        }
        let Some(whole) = self.assemblies.remove(&(id, side)) else {
            return Ok(());
        };
        let payload = whole.payload.freeze();
        match whole.first {
            Frame::Call(mut call) => {
                let cost = cost(Kind::Request, call.header.len(), whole.total);
                call.payload = payload;
                self.deliver(call, cost, effects)
            }
            Frame::Answer(mut answer) => {
                let cost = cost(Kind::Answer, answer.header.len(), whole.total);
                answer.payload = payload;
                self.finish(now_ms, answer, cost, effects);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, now_ms: u64, answer: Answer, cost: u32, effects: &mut Vec<Effect<W>>) {
        self.give_back(ANSWERS, answer.priority, cost);
        self.settle(
            Answer {
                header: lasting(answer.header),
                payload: lasting(answer.payload),
                ..answer
            },
            effects,
        );
        if self.has_waiting() {
            self.pump(now_ms, effects);
        }
    }

    #[inline]
    fn deliver(
        &mut self,
        call: Call,
        cost: u32,
        effects: &mut Vec<Effect<W>>,
    ) -> Result<(), LinkError> {
        let start = call.start;
        let mut incoming = Incoming {
            id: call.id,
            priority: call.priority,
            target: call.target,
            timeout_ms: call.timeout_ms,
            body: Body {
                header: call.header,
                payload: call.payload,
            },
            cost,
            cancelled: None,
        };
        if start == Start::OneWay {
            effects.push(Effect::OneWay(incoming));
            return Ok(());
        }
        let body = &mut incoming.body;
        body.header = lasting(std::mem::take(&mut body.header));
        body.payload = lasting(std::mem::take(&mut body.payload));
        match start {
            Start::Open => self.deliver_stream(incoming, effects),
            _ => self.deliver_request(incoming, effects),
        }
    }

    fn deliver_request(
        &mut self,
        mut incoming: Incoming,
        effects: &mut Vec<Effect<W>>,
    ) -> Result<(), LinkError> {
        if self.open.len() >= self.limits().requests as usize {
            return Err(LinkError::TooMany);
        }
        if self.is_leaving {
            self.give_back(CALLS, incoming.priority, incoming.cost);
            let status = Status::LEAVING;
            self.send_answer(incoming.id, incoming.priority, status, Body::default());
            return Ok(());
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let open = Open {
            cancelled: cancelled.clone(),
        };
        if self.open.insert(incoming.id, open).is_some() {
            return Err(LinkError::OutOfPlace);
        }
        incoming.cancelled = Some(cancelled);
        effects.push(Effect::Request(incoming));
        Ok(())
    }

    fn deliver_stream(
        &mut self,
        incoming: Incoming,
        effects: &mut Vec<Effect<W>>,
    ) -> Result<(), LinkError> {
        // What opens a stream is small; the stream has a window of its own.
        self.give_back(CALLS, incoming.priority, incoming.cost);
        let theirs = |stream: &&StreamId| stream.side == Side::Answering;
        let count = self.streams.keys().filter(theirs).count();
        // No fault of the peer: what ended another stream may be on its way.
        let is_full = count >= self.limits().streams as usize;
        if is_full || self.is_leaving {
            let status = match self.is_leaving {
                true => Status::LEAVING,
                false => Status::OVERLOADED,
            };
            self.send_cancel(incoming.id, Side::Answering, incoming.priority, status);
            return Ok(());
        }
        let id = StreamId {
            side: Side::Answering,
            id: incoming.id,
        };
        let credit = self.limits().stream_window;
        let state = stream::Stream::opened(incoming.priority, credit);
        if self.streams.insert(id, state).is_some() {
            return Err(LinkError::OutOfPlace);
        }
        effects.push(Effect::Opened(incoming));
        Ok(())
    }
}

impl<W> super::Asked<W> {
    fn is_sent(&self) -> bool {
        self.state == super::AskedState::Sent
    }
}

/// A stream as this end sees it: the sender of a frame that asks is the one who opened it.
fn own_view(id: u64, side: Side) -> StreamId {
    let side = match side {
        Side::Asking => Side::Answering,
        Side::Answering => Side::Asking,
    };
    StreamId { side, id }
}

fn without_payload(mut first: Frame) -> Frame {
    match &mut first {
        Frame::Call(call) => {
            call.payload = Bytes::new();
            call.header = lasting(std::mem::take(&mut call.header));
        }
        Frame::Answer(answer) => {
            answer.payload = Bytes::new();
            answer.header = lasting(std::mem::take(&mut answer.header));
        }
        _ => {}
    }
    first
}

/// Bytes that may outlive the turn and do not keep the read buffer, which is much larger.
fn lasting(bytes: Bytes) -> Bytes {
    match bytes.len() {
        0 => Bytes::new(),
        1..=COPY_MAX => Bytes::copy_from_slice(&bytes),
        _ => bytes,
    }
}
