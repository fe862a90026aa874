//! Streams: items in both directions, each direction with a window of its own.

use bytes::Bytes;

use super::limits::{ITEM_COST_MAX, cost};
use super::{Body, Effect, Link, StreamId};
use crate::error::{CallError, LinkError, Status};
use crate::frame::{Frame, HEADER_MAX, Kind, PAYLOAD_MAX, Priority, Side};

/// One stream, of either side.
#[derive(Debug)]
pub(super) struct Stream {
    priority: Priority,
    /// The frame that opens it has not been sent yet.
    is_waiting: bool,
    credit: u32,
    /// An item was refused for want of credit.
    wants_credit: bool,
    taken: u32,
    returned: u32,
    own_end: bool,
    peer_end: bool,
}

impl Stream {
    pub(super) fn asked(priority: Priority) -> Self {
        Self {
            priority,
            is_waiting: true,
            credit: 0,
            wants_credit: false,
            taken: 0,
            returned: 0,
            own_end: false,
            peer_end: false,
        }
    }

    pub(super) fn opened(priority: Priority, credit: u32) -> Self {
        Self {
            is_waiting: false,
            credit,
            ..Self::asked(priority)
        }
    }

    #[cfg(test)]
    pub(super) fn grant(&mut self, credit: u32) {
        self.credit = credit;
    }

    pub(super) fn waits(&self) -> bool {
        self.is_waiting
    }
}

impl<W> Link<W> {
    pub(super) fn sent_streams(&self) -> usize {
        let sent = |(stream, state): &(&StreamId, &Stream)| {
            stream.side == Side::Asking && !state.is_waiting
        };
        self.streams.iter().filter(sent).count()
    }

    pub(super) fn stream_is_sent(&mut self, id: u64) {
        let side = Side::Asking;
        let window = self.limits().stream_window;
        if let Some(stream) = self.streams.get_mut(&StreamId { side, id }) {
            stream.is_waiting = false;
            stream.credit = window;
        }
    }

    /// Who wanted to send on a stream that was not open yet may do so now.
    pub(super) fn tell_writable(&mut self, id: u64, effects: &mut Vec<Effect<W>>) {
        let side = Side::Asking;
        let id = StreamId { side, id };
        if let Some(stream) = self.streams.get_mut(&id)
            && std::mem::take(&mut stream.wants_credit)
        {
            effects.push(Effect::Writable(id));
        }
    }

    /// Sends an item; false if there is no credit for it now, which [`Effect::Writable`] ends.
    pub fn item(&mut self, id: StreamId, body: &Body) -> Result<bool, CallError> {
        if body.header.len() > HEADER_MAX || body.payload.len() > PAYLOAD_MAX {
            return Err(CallError::TooLarge);
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return Err(CallError::Lost);
        };
        if stream.own_end {
            return Err(CallError::Lost);
        }
        let cost = cost(Kind::Item, body.header.len(), body.payload.len());
        if stream.is_waiting || stream.credit < cost {
            stream.wants_credit = true;
            return Ok(false);
        }
        stream.credit -= cost;
        let frame = Frame::Item {
            id: id.id,
            side: id.side,
            header: body.header.clone(),
            payload: body.payload.clone(),
        };
        self.outbox.frame(stream.priority, &frame);
        Ok(true)
    }

    /// Sends no more on this stream. False if it cannot be said yet, because the stream waits to be
    /// opened; [`Effect::Writable`] ends that.
    pub fn end(&mut self, id: StreamId, status: Status, header: Bytes) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else {
            return true;
        };
        if stream.is_waiting {
            stream.wants_credit = true;
            return false;
        }
        if stream.own_end {
            return true;
        }
        stream.own_end = true;
        let frame = Frame::End {
            id: id.id,
            side: id.side,
            status: status.0,
            header,
        };
        self.outbox.frame(stream.priority, &frame);
        if stream.peer_end {
            self.streams.remove(&id);
            self.wants_pump = self.has_waiting();
        }
        true
    }

    /// Gives a stream up in both directions.
    pub fn abandon(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        self.wants_pump = self.has_waiting();
        match stream.is_waiting {
            true => self.drop_unwanted(),
            false => self.send_cancel(id.id, id.side, stream.priority, Status::CANCELLED),
        }
    }

    /// An item is done with.
    pub fn item_done(&mut self, id: StreamId, cost: u32) {
        let window = self.limits().stream_window;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.returned += cost;
        if stream.peer_end || stream.returned < window / 4 {
            return;
        }
        let bytes = std::mem::take(&mut stream.returned);
        stream.taken -= bytes;
        let frame = Frame::Credit {
            id: id.id,
            side: id.side,
            priority: stream.priority,
            bytes,
        };
        self.outbox.frame(Priority::Consensus, &frame);
    }

    pub(super) fn receive_item(
        &mut self,
        id: StreamId,
        body: Body,
        effects: &mut Vec<Effect<W>>,
    ) -> Result<(), LinkError> {
        let window = self.limits().stream_window;
        // Of a stream that was given up: some items are always on their way then.
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        if stream.peer_end || stream.is_waiting {
            return Err(LinkError::OutOfPlace);
        }
        let cost = cost(Kind::Item, body.header.len(), body.payload.len());
        debug_assert!(cost <= ITEM_COST_MAX);
        stream.taken += cost;
        if stream.taken > window {
            return Err(LinkError::Overrun);
        }
        effects.push(Effect::Item {
            stream: id,
            body,
            cost,
        });
        Ok(())
    }

    pub(super) fn receive_end(
        &mut self,
        id: StreamId,
        status: Status,
        header: Bytes,
        effects: &mut Vec<Effect<W>>,
    ) -> Result<(), LinkError> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        if stream.peer_end || stream.is_waiting {
            return Err(LinkError::OutOfPlace);
        }
        stream.peer_end = true;
        if stream.own_end {
            self.streams.remove(&id);
        }
        effects.push(Effect::Ended {
            stream: id,
            status,
            header,
        });
        Ok(())
    }

    pub(super) fn receive_stream_cancel(
        &mut self,
        id: StreamId,
        status: Status,
        effects: &mut Vec<Effect<W>>,
    ) {
        if self.streams.remove(&id).is_some() {
            let header = Bytes::new();
            effects.push(Effect::Closed {
                stream: id,
                error: CallError::Refused { status, header },
            });
        }
    }

    pub(super) fn receive_stream_credit(
        &mut self,
        id: StreamId,
        bytes: u32,
        effects: &mut Vec<Effect<W>>,
    ) -> Result<(), LinkError> {
        let window = self.limits().stream_window;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        stream.credit = match stream.credit.checked_add(bytes) {
            Some(credit) if credit <= window => credit,
            _ => return Err(LinkError::Credit),
        };
        if std::mem::take(&mut stream.wants_credit) {
            effects.push(Effect::Writable(id));
        }
        Ok(())
    }
}
