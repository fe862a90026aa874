//! Frames on their way to the socket, by priority. They have their credit, so there are never more
//! than the other side's windows allow.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;

use crate::frame::{Answer, Call, Frame, PAYLOAD_MAX, Priority, Side};

/// Payloads up to this size are copied behind their heads; longer ones go as they are.
const COPY_MAX: usize = 4 << 10;

/// Small frames are gathered into pieces of about this size.
const PIECE: usize = 32 << 10;

/// All that waits for the socket.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queues: [Queue; 3],
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    /// Frames are encoded to its end.
    tail: BytesMut,
    /// Payloads that go on in parts; they take turns.
    long: VecDeque<Long>,
    /// Lanes with a payload in `long`, and what waits behind it.
    lanes: HashMap<u32, VecDeque<Call>>,
}

#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    /// The next piece belongs to the same frame.
    goes_on: bool,
    /// What follows in parts once this piece is gone.
    then: Option<Long>,
}

#[derive(Debug)]
struct Long {
    id: u64,
    side: Side,
    lane: u32,
    rest: Bytes,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(Queue::is_empty)
    }

    pub(super) fn clear(&mut self) {
        self.queues = <[Queue; 3]>::default();
    }

    pub(super) fn call(&mut self, call: Call) {
        self.queues[call.priority.index()].call(call);
    }

    pub(super) fn answer(&mut self, mut answer: Answer) {
        let queue = &mut self.queues[answer.priority.index()];
        let rest = split_long(&mut answer.payload);
        answer.write_head(&mut queue.tail);
        let long = rest.map(|rest| Long {
            id: answer.id,
            side: Side::Answering,
            lane: 0,
            rest,
        });
        queue.payload(&answer.payload, long);
    }

    /// Any frame but the beginning of a message.
    pub(super) fn frame(&mut self, priority: Priority, frame: &Frame) {
        let queue = &mut self.queues[priority.index()];
        frame.write_head(&mut queue.tail);
        match frame.payload() {
            Some(payload) => queue.payload(payload, None),
            None => queue.cut(),
        }
    }

    /// Moves about `budget` bytes to `out`, what is urgent first. Every priority has at least a piece, so
    /// that none starves.
    pub(super) fn take(&mut self, budget: usize, out: &mut VecDeque<Bytes>) {
        let mut left = budget;
        let bulk_waits = !self.queues[Priority::Bulk.index()].is_empty();
        for priority in Priority::ALL {
            let reserved = match priority {
                Priority::Data if bulk_waits => left / 4,
                _ => 0,
            };
            let taken = self.queues[priority.index()].take(left - reserved, out);
            left = left.saturating_sub(taken);
        }
    }
}

/// Leaves what one frame carries in `payload` and gives back the rest.
fn split_long(payload: &mut Bytes) -> Option<Bytes> {
    match payload.len() > PAYLOAD_MAX {
        true => Some(payload.split_off(PAYLOAD_MAX)),
        false => None,
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.tail.is_empty() && self.long.is_empty()
    }

    fn call(&mut self, call: Call) {
        if call.lane != 0
            && let Some(behind) = self.lanes.get_mut(&call.lane)
        {
            behind.push_back(call);
            return;
        }
        self.write_call(call);
    }

    fn write_call(&mut self, mut call: Call) {
        let rest = split_long(&mut call.payload);
        call.write_head(&mut self.tail);
        if rest.is_some() && call.lane != 0 {
            self.lanes.entry(call.lane).or_default();
        }
        let long = rest.map(|rest| Long {
            id: call.id,
            side: Side::Asking,
            lane: call.lane,
            rest,
        });
        self.payload(&call.payload, long);
    }

    /// The payload of the frame whose head was just written, and what follows it in parts.
    #[inline]
    fn payload(&mut self, payload: &Bytes, then: Option<Long>) {
        if payload.len() <= COPY_MAX {
            self.tail.extend_from_slice(payload);
            return self.cut();
        }
        let bytes = self.tail.split().freeze();
        self.pieces.push_back(Piece {
            bytes,
            goes_on: true,
            then: None,
        });
        self.pieces.push_back(Piece {
            bytes: payload.clone(),
            goes_on: false,
            then,
        });
    }

    #[inline]
    fn cut(&mut self) {
        if self.tail.len() >= PIECE {
            self.cut_tail();
        }
    }

    fn cut_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(Piece {
                bytes: self.tail.split().freeze(),
                goes_on: false,
                then: None,
            });
        }
    }

    /// Small frames and parts of long payloads in turn; at least one of each.
    fn take(&mut self, budget: usize, out: &mut VecDeque<Bytes>) -> usize {
        self.cut_tail();
        let mut taken = 0;
        loop {
            taken += self.take_piece(out);
            taken += self.take_part(out);
            if taken >= budget || self.is_empty() {
                return taken;
            }
        }
    }

    fn take_piece(&mut self, out: &mut VecDeque<Bytes>) -> usize {
        let mut taken = 0;
        while let Some(piece) = self.pieces.pop_front() {
            taken += piece.bytes.len();
            out.push_back(piece.bytes);
            self.long.extend(piece.then);
            if !piece.goes_on {
                break;
            }
        }
        taken
    }

    fn take_part(&mut self, out: &mut VecDeque<Bytes>) -> usize {
        let Some(mut long) = self.long.pop_front() else {
            return 0;
        };
        let payload = long.rest.split_to(long.rest.len().min(PAYLOAD_MAX));
        let part = Frame::Part {
            id: long.id,
            side: long.side,
            payload: payload.clone(),
        };
        let mut head = BytesMut::new();
        part.write_head(&mut head);
        let taken = head.len() + payload.len();
        out.push_back(head.freeze());
        out.push_back(payload);
        match long.rest.is_empty() {
            true => self.free_lane(long.lane),
            false => self.long.push_back(long),
        }
        taken
    }

    /// What waited behind a long payload goes, up to the next long one.
    fn free_lane(&mut self, lane: u32) {
        let Some(mut behind) = self.lanes.remove(&lane) else {
            return;
        };
        while let Some(call) = behind.pop_front() {
            let is_long = call.payload.len() > PAYLOAD_MAX;
            self.write_call(call);
            if is_long {
                self.lanes.insert(lane, behind);
                return;
            }
        }
        self.cut_tail();
    }
}
