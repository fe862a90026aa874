//! Persistent sessions: from their queue to the socket, and what the client did with it back.

use bifrust_inbox::{Delivery, Fetched, InboxError, PageLimit, Settle};
use bifrust_model::{EventKind, Qos};
use bifrust_mqtt_codec::{Ack, Packet, PacketId, ReasonCode};

use super::Shard;
use super::deliver::OUT_MAX;
use super::timer::Timer;
use crate::connection::Ending;
use crate::mailbox::{Completion, Seat};
use crate::session::queue::{Body, Outgoing};
use crate::session::window::packet_id;

/// How long until a refused call to the inbox service is made again.
const RETRY_MS: u64 = 500;

impl Shard {
    /// Entries of the session's queue have become durable while the client is connected.
    pub(crate) fn pushed(&mut self, seat: Seat, epoch: u64, deliveries: Vec<Delivery>) {
        let Some(session) = self.session(seat) else {
            return;
        };
        if session.epoch != epoch {
            return;
        }
        if let Some(scans) = &mut session.scans {
            for delivery in deliveries.iter().filter(|delivery| delivery.message.retain) {
                scans.note_live(&delivery.message.topic, delivery.message.stamp);
            }
        }
        let Some(durable) = &mut session.durable else {
            return;
        };
        let (direct, queued): (Vec<_>, Vec<_>) = deliveries
            .into_iter()
            .partition(|delivery| delivery.seq == 0);
        durable.take_push(queued.into_iter());
        for delivery in direct {
            // QoS 0 while online: never queued in the service, so bounded here.
            let ids = (!delivery.subscription_ids.is_empty())
                .then(|| delivery.subscription_ids.as_slice().into());
            let item = Outgoing {
                body: Body::Stored(delivery.message),
                qos: Qos::AtMostOnce,
                retain: delivery.retain,
                ids,
            };
            self.offer(seat.slot, item);
        }
        self.mark_dirty(seat.slot);
    }

    /// Writes entries while there is room in the window and on the socket.
    pub(crate) fn fill_durable(&mut self, slot: u32) {
        loop {
            let Some(connection) = self.connections.get_mut(slot as usize) else {
                return;
            };
            let pending = connection.pending();
            let Some(session) = connection.session() else {
                return;
            };
            let Some(durable) = &mut session.durable else {
                return;
            };
            let Some(front) = durable.front() else {
                return;
            };
            let has_room = front.qos == Qos::AtMostOnce || session.window.has_room(front.seq);
            if pending >= OUT_MAX || !has_room {
                return;
            }
            let Some(delivery) = durable.pop() else {
                return;
            };
            self.write_entry(slot, &delivery);
        }
    }

    fn write_entry(&mut self, slot: u32, delivery: &Delivery) {
        let id = match delivery.qos {
            Qos::AtMostOnce => None,
            _ => PacketId::new(packet_id(delivery.seq)),
        };
        let written = self.write_stored(
            slot,
            &delivery.message,
            delivery.qos,
            delivery.retain,
            &delivery.subscription_ids,
            delivery.possibly_sent,
            id,
        );
        let Some(session) = self.session_at(slot) else {
            return;
        };
        if written.is_ok() && delivery.qos != Qos::AtMostOnce {
            session.window.sent(delivery.seq, delivery.qos);
        } else if let Some(durable) = &mut session.durable {
            // Written at QoS 0, expired, or larger than the client takes: done with.
            durable.settle(Settle::Done(delivery.seq));
        }
    }

    /// Asks for more entries and settles what has gathered, one call of each at a time.
    pub(crate) fn pump_durable(&mut self, slot: u32) {
        let inbox = self.edge.services.inbox.clone();
        let Some(seat) = self.seat(slot) else {
            return;
        };
        let Some(connection) = self.connection(seat) else {
            return;
        };
        if connection.is_retrying {
            return;
        }
        let Some(durable) = connection
            .session()
            .and_then(|session| session.durable.as_mut())
        else {
            return;
        };
        let (fetch, settle) = (durable.start_fetch(), durable.start_settle());
        if fetch.is_none() && settle.is_none() {
            return;
        }
        let reference = durable.session.clone();
        if let Some(settled) = settle {
            let done = self.reply(seat, Completion::Settled);
            inbox.settle(&reference, settled, done);
        }
        if let Some(fetch) = fetch {
            let limit = PageLimit {
                messages: fetch.messages,
                bytes: fetch.bytes,
            };
            let done = self.reply(seat, Completion::Fetched);
            inbox.fetch(&reference, fetch.from, limit, done);
        }
    }

    pub(crate) fn fetched(&mut self, seat: Seat, result: Result<Fetched, InboxError>) {
        let Some(durable) = self.durable(seat) else {
            return;
        };
        match result {
            Ok(Fetched {
                deliveries,
                next,
                more,
            }) => {
                durable.take_fetched(deliveries, next, more);
                self.mark_dirty(seat.slot);
            }
            Err(error) => {
                durable.fetch_failed();
                self.inbox_failed(seat, error);
            }
        }
    }

    /// What was settled is durable: places in the window are free, PUBRELs may go.
    pub(crate) fn settled(&mut self, seat: Seat, result: Result<(), InboxError>) {
        let Some(durable) = self.durable(seat) else {
            return;
        };
        if let Err(error) = result {
            // Settling twice does no harm, so an unknown outcome is tried again too.
            durable.settle_failed();
            self.inbox_failed(seat, error);
            return;
        }
        for settle in durable.settled() {
            let Some(session) = self.session(seat) else {
                return;
            };
            match settle {
                Settle::Done(seq) => session.window.done(seq),
                Settle::Received(seq) => {
                    if session.window.received(seq) {
                        self.send_pubrel(seat, packet_id(seq), ReasonCode::SUCCESS);
                    }
                }
            }
        }
        self.mark_dirty(seat.slot);
    }

    /// A call to the inbox service failed: again in a while, or not at all if a newer connection
    /// has the session.
    pub(crate) fn inbox_failed(&mut self, seat: Seat, error: InboxError) {
        self.emit(seat, EventKind::InboxTransientError, |event| {
            event.detail(error.to_string())
        });
        if matches!(error, InboxError::Fenced | InboxError::OtherUser) {
            let ending = Ending::taken_over();
            self.end(seat, ending);
            return;
        }
        let due = self.now_ms + RETRY_MS;
        if let Some(connection) = self.connection(seat)
            && !connection.is_retrying
        {
            connection.is_retrying = true;
            self.wheel.arm(due, seat, Timer::Retry);
        }
    }

    pub(crate) fn send_pubrel(&mut self, seat: Seat, id: u16, reason: ReasonCode) {
        if let Some(id) = PacketId::new(id) {
            self.send_packet(seat, &Packet::Pubrel(Ack::with_reason(id, reason)));
        }
    }

    fn durable(&mut self, seat: Seat) -> Option<&mut crate::session::durable::Durable> {
        self.session(seat)?.durable.as_deref_mut()
    }
}
