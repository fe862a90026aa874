//! To the sessions of this shard: straight into the socket's buffer while there is room, into the
//! session's queue otherwise.

use std::rc::Rc;
use std::sync::Arc;

use bifrust_dist::Publication;
use bifrust_model::{EventKind, Expiry, Message, Qos};
use bifrust_mqtt_codec::{
    PacketId, PublishHead, PublishTemplate, ReasonCode, Version, encode_publish,
};
use bytes::BytesMut;

use super::Shard;
use super::turns::DELIVERY_WORK;
use crate::connection::{Connection, Ending, codec_qos};
use crate::fault::{Fault, planted};
use crate::mailbox::Seat;
use crate::metrics::Drop;
use crate::session::charge::Charge;
use crate::session::queue::{Body, Offered, Outgoing};
use crate::session::window::packet_id;
use crate::subscriptions::{LocalMatch, Target};

/// Bytes that may wait for a socket before messages are queued instead.
pub(crate) const OUT_MAX: usize = 64 << 10;

/// Payloads above this are not copied into the socket's buffer.
const COPY_MAX: usize = 8 << 10;

/// Why a message was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    Expired,
    Oversize,
}

/// A message encoded once for each kind of receiver. With one receiver nothing is kept.
struct Templates<'a> {
    message: &'a Message,
    expiry: Option<u32>,
    /// By version, QoS, RETAIN.
    made: [Option<Rc<PublishTemplate>>; 12],
    is_wanted: bool,
    /// Of the message in the shard's queues, once it waits in one.
    charge: Option<Charge>,
}

impl<'a> Templates<'a> {
    fn new(message: &'a Message, expiry: Option<u32>, receivers: usize) -> Self {
        Self {
            message,
            expiry,
            made: Default::default(),
            is_wanted: receivers > 1,
            charge: None,
        }
    }

    fn get(&mut self, version: Version, qos: Qos, retain: bool) -> Option<Rc<PublishTemplate>> {
        if !self.is_wanted {
            return None;
        }
        let is_v5 = version == Version::V5;
        let at = usize::from(is_v5) * 6 + usize::from(qos.level()) * 2 + usize::from(retain);
        let made = &mut self.made[at];
        if made.is_none() {
            let head = head(self.message, version, qos, retain, self.expiry, &[]);
            *made = PublishTemplate::from_head(&head, &self.message.payload)
                .ok()
                .map(Rc::new);
        }
        made.clone()
    }
}

fn head<'a>(
    message: &'a Message,
    version: Version,
    qos: Qos,
    retain: bool,
    expiry: Option<u32>,
    ids: &'a [u32],
) -> PublishHead<'a> {
    PublishHead {
        forward: &message.properties,
        message_expiry: expiry,
        subscription_ids: ids,
        ..PublishHead::new(version, codec_qos(qos), retain, message.topic.as_str())
    }
}

impl Shard {
    /// Hands a publication to the sessions it matches.
    pub(crate) fn deliver_live(&mut self, publication: &Arc<Publication>, local: &LocalMatch) {
        let message = &publication.message;
        let Ok(expiry) = self.left_of(message) else {
            self.metrics.dropped(Drop::Expired);
            return;
        };
        self.work += DELIVERY_WORK * local.targets.len() as u64;
        let mut templates = Templates::new(message, expiry, local.targets.len());
        for target in &local.targets {
            if target.has_no_local
                && !planted(Fault::NoLocalIgnored)
                && self.is_own(target, message)
            {
                let (tenant, topic) = (publication.tenant.number, message.topic.as_str());
                if let Some(own) = self.subscriptions.own_target(target.slot, tenant, topic) {
                    self.deliver_to(publication, &own, &mut templates);
                }
                continue;
            }
            self.deliver_to(publication, target, &mut templates);
        }
    }

    fn is_own(&mut self, target: &Target, message: &Message) -> bool {
        self.connections
            .get_mut(target.slot as usize)
            .and_then(|connection| connection.session())
            .is_some_and(|session| session.client.client == message.publisher)
    }

    fn deliver_to(
        &mut self,
        publication: &Arc<Publication>,
        target: &Target,
        templates: &mut Templates<'_>,
    ) {
        let slot = target.slot;
        let Some(connection) = self.connections.get_mut(slot as usize) else {
            return;
        };
        let (version, pending) = (connection.version, connection.pending());
        let Some(session) = connection.session() else {
            return;
        };
        let message = &publication.message;
        let qos = match planted(Fault::QosNotLowered) {
            true => message.qos,
            false => message.qos.min(target.qos),
        };
        let retain =
            message.retain && (target.retain_as_published || planted(Fault::RetainPassedOn));
        if message.retain
            && let Some(scans) = &mut session.scans
        {
            scans.note_live(&message.topic, message.stamp);
        }
        let is_free = session.queue.is_empty()
            && (qos == Qos::AtMostOnce || session.window.has_room(session.next_seq));
        if is_free && pending < OUT_MAX && target.ids.is_none() {
            // Aliases are each client's own.
            let is_alike = session.known_topics().is_none();
            let template = is_alike.then(|| templates.get(version, qos, retain));
            let template = template.flatten();
            self.write_live(slot, message, qos, retain, templates.expiry, template);
            return;
        }
        let item = Outgoing {
            body: Body::Live(publication.clone()),
            qos,
            retain,
            ids: target.ids.clone(),
        };
        if is_free && pending >= OUT_MAX {
            // Much came in one turn: what is there goes out first.
            self.flush_connection(slot);
        }
        let room = &self.room;
        let charge = (templates.charge).get_or_insert_with(|| room.charge(&publication.message));
        let charge = charge.clone();
        self.offer_charged(slot, item, charge);
    }

    /// Writes a message that has nothing before it.
    fn write_live(
        &mut self,
        slot: u32,
        message: &Message,
        qos: Qos,
        retain: bool,
        expiry: Option<u32>,
        template: Option<Rc<PublishTemplate>>,
    ) {
        self.lend_buffer(slot);
        let Some(connection) = self.connections.get_mut(slot as usize) else {
            return;
        };
        let version = connection.version;
        let Some(session) = connection.session() else {
            return;
        };
        let max = session.client_packet_max as usize;
        let seq = session.next_seq;
        let id = match qos {
            Qos::AtMostOnce => None,
            _ => PacketId::new(packet_id(seq)),
        };
        let written = match &template {
            Some(template) if template.len() > max => Err(Unsent::Oversize),
            Some(template) => {
                write_template(connection, template, false, id);
                Ok(())
            }
            None => {
                let head = head(message, version, qos, retain, expiry, &[]);
                write_publish(connection, head, message, false, id, max)
            }
        };
        if written.is_ok() {
            if qos != Qos::AtMostOnce
                && let Some(session) = connection.session()
            {
                session.next_seq += 1;
                session.window.sent(seq, qos);
            }
            self.metrics.sent(qos);
            self.mark_dirty(slot);
        } else {
            self.oversize(slot, message, qos);
        }
    }

    /// Puts a message behind those that wait, within the bounds of the session and of all queues.
    pub(crate) fn offer(&mut self, slot: u32, item: Outgoing) {
        let charge = self.room.charge(&item.body);
        self.offer_charged(slot, item, charge);
    }

    fn offer_charged(&mut self, slot: u32, item: Outgoing, charge: Charge) {
        let Some(connection) = self.connections.get_mut(slot as usize) else {
            return;
        };
        let generation = connection.generation;
        let Some(session) = connection.session() else {
            return;
        };
        let settings = session.tenant.settings.load();
        let qos = item.qos;
        let topic = item.body.topic.clone();
        let offered = session.queue.offer(item, charge, &settings);
        drop(settings);
        let seat = Seat { slot, generation };
        match offered {
            Offered::Taken => self.mark_dirty(slot),
            Offered::DroppedNew | Offered::DroppedOldest => {
                self.metrics.dropped(Drop::Full);
                self.emit(seat, dropped_kind(qos), |event| event.topic(&topic));
                self.mark_dirty(slot);
            }
            Offered::Overflow => {
                self.metrics.dropped(Drop::Full);
                self.emit(seat, dropped_kind(qos), |event| event.topic(&topic));
                self.doom(
                    seat,
                    Ending::of(
                        EventKind::Overflowed,
                        ReasonCode::QUOTA_EXCEEDED,
                        "the session's queue is full",
                    ),
                );
            }
        }
    }

    /// Moves waiting messages to the socket's buffer while there is room.
    pub(crate) fn fill(&mut self, slot: u32) {
        self.fill_queue(slot);
        self.fill_durable(slot);
    }

    fn fill_queue(&mut self, slot: u32) {
        loop {
            let Some(connection) = self.connections.get_mut(slot as usize) else {
                return;
            };
            let pending = connection.pending();
            let Some(session) = connection.session() else {
                return;
            };
            let seq = session.next_seq;
            let qos = match session.queue.front() {
                Some(front) => front.qos,
                None => return,
            };
            let has_room = qos == Qos::AtMostOnce || session.window.has_room(seq);
            if pending >= OUT_MAX || !has_room {
                return;
            }
            let Some(item) = session.queue.pop() else {
                return;
            };
            let id = match qos {
                Qos::AtMostOnce => None,
                _ => PacketId::new(packet_id(seq)),
            };
            let ids = item.ids.as_deref().unwrap_or_default();
            let written = self.write_stored(slot, &item.body, qos, item.retain, ids, false, id);
            if written.is_ok() {
                let shared = match item.body {
                    Body::Shared(shared) => Some(*shared),
                    Body::Live(_) | Body::Stored(_) => None,
                };
                self.note_sent(slot, seq, qos, shared);
            }
        }
    }

    /// Writes a message that has waited; its life may have ended meanwhile.
    #[expect(clippy::too_many_arguments, reason = "what a PUBLISH is made of")]
    pub(crate) fn write_stored(
        &mut self,
        slot: u32,
        message: &Message,
        qos: Qos,
        retain: bool,
        ids: &[u32],
        dup: bool,
        id: Option<PacketId>,
    ) -> Result<(), Unsent> {
        let expiry = match self.left_of(message) {
            Ok(expiry) => expiry,
            // MQTT-4.3.3-7: what may have been sent is finished, however late.
            Err(_) if dup => Some(0),
            Err(unsent) => {
                self.metrics.dropped(Drop::Expired);
                return Err(unsent);
            }
        };
        self.write_now(slot, message, qos, retain, expiry, ids, dup, id)
    }

    /// The same of a message that still has `expiry` seconds to live.
    #[expect(clippy::too_many_arguments, reason = "what a PUBLISH is made of")]
    pub(super) fn write_now(
        &mut self,
        slot: u32,
        message: &Message,
        qos: Qos,
        retain: bool,
        expiry: Option<u32>,
        ids: &[u32],
        dup: bool,
        id: Option<PacketId>,
    ) -> Result<(), Unsent> {
        self.lend_buffer(slot);
        let Some(connection) = self.connections.get_mut(slot as usize) else {
            return Err(Unsent::Expired);
        };
        let version = connection.version;
        let max = connection
            .session()
            .map_or(usize::MAX, |session| session.client_packet_max as usize);
        let head = head(message, version, qos, retain, expiry, ids);
        let written = write_publish(connection, head, message, dup, id, max);
        match written {
            Ok(()) => {
                self.metrics.sent(qos);
                self.mark_dirty(slot);
            }
            Err(_) => self.oversize(slot, message, qos),
        }
        written
    }

    /// What is left of a message's life.
    pub(super) fn left_of(&self, message: &Message) -> Result<Option<u32>, Unsent> {
        if message.expiry_seconds.is_none() {
            return Ok(None);
        }
        match message.expiry(self.edge.services.clock.now_ms()) {
            Expiry::Never => Ok(None),
            _ if planted(Fault::ExpiryStands) => Ok(message.expiry_seconds),
            Expiry::Left(seconds) => Ok(Some(seconds)),
            Expiry::Expired => Err(Unsent::Expired),
        }
    }

    /// MQTT-3.1.2-24, -25: not sent, and as if it were done.
    fn oversize(&mut self, slot: u32, message: &Message, qos: Qos) {
        self.metrics.dropped(Drop::Oversize);
        let Some(seat) = self.seat(slot) else {
            return;
        };
        self.emit(seat, EventKind::OversizePacketDropped, |event| {
            event
                .topic(&message.topic)
                .detail(format!("QoS {}", qos.level()))
        });
    }

    /// Gives a connection a buffer to write into, if it has none.
    pub(crate) fn lend_buffer(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else {
            return;
        };
        if connection.out.tail.capacity() == 0 {
            connection.out.tail = self.buffers.pop().unwrap_or_default();
        }
    }
}

fn write_template(
    connection: &mut Connection,
    template: &PublishTemplate,
    dup: bool,
    id: Option<PacketId>,
) {
    if template.payload().len() <= COPY_MAX {
        template.write(dup, id, &mut connection.out.tail);
    } else {
        template.head(dup, id, &mut connection.out.tail);
        connection.out.push(template.payload().clone());
    }
}

/// Writes a PUBLISH, its topic as a number if the client knows it by one (3.3.2.3.4).
fn write_publish(
    connection: &mut Connection,
    head: PublishHead<'_>,
    message: &Message,
    dup: bool,
    id: Option<PacketId>,
    max: usize,
) -> Result<(), Unsent> {
    let known = |connection: &mut Connection| {
        let session = connection.session()?;
        session.known_topics()?.alias(&message.topic)
    };
    let Some((alias, is_known)) = known(connection) else {
        return write_head(connection, &head, message, dup, id, max);
    };
    let by_alias = PublishHead {
        topic: if is_known { "" } else { head.topic },
        topic_alias: Some(alias),
        ..head
    };
    let written = write_head(connection, &by_alias, message, dup, id, max);
    if is_known {
        return written;
    }
    if written.is_err() {
        // The alias itself may be what is too much.
        return write_head(connection, &head, message, dup, id, max);
    }
    if let Some(session) = connection.session()
        && let Some(known) = session.known_topics()
    {
        known.learn(alias, &message.topic);
    }
    Ok(())
}

fn write_head(
    connection: &mut Connection,
    head: &PublishHead<'_>,
    message: &Message,
    dup: bool,
    id: Option<PacketId>,
    max: usize,
) -> Result<(), Unsent> {
    if message.payload.len() > COPY_MAX {
        let template =
            PublishTemplate::from_head(head, &message.payload).map_err(|_| Unsent::Oversize)?;
        if template.len() > max {
            return Err(Unsent::Oversize);
        }
        write_template(connection, &template, dup, id);
        return Ok(());
    }
    let out: &mut BytesMut = &mut connection.out.tail;
    let start = out.len();
    encode_publish(head, dup, id, &message.payload, out).map_err(|_| Unsent::Oversize)?;
    if out.len() - start > max {
        out.truncate(start);
        return Err(Unsent::Oversize);
    }
    Ok(())
}

pub(super) fn dropped_kind(qos: Qos) -> EventKind {
    match qos {
        Qos::AtMostOnce => EventKind::Qos0Dropped,
        Qos::AtLeastOnce => EventKind::Qos1Dropped,
        Qos::ExactlyOnce => EventKind::Qos2Dropped,
    }
}
