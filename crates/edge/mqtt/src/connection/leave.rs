//! How a session leaves its connection: what the client published goes on to its receivers, then
//! the session's owners are told.

use bifrust_inbox::{Cause, Detach};
use bifrust_model::EventKind;
use bifrust_mqtt_codec::{Disconnect, DisconnectProperties, Packet, ReasonCode};

use super::Ending;
use crate::mailbox::Seat;
use crate::metrics::Drop;
use crate::session::Session;
use crate::shard::Shard;
use crate::shard::timer::Timer;

/// A session whose connection has ended. It is kept until its publishes have reached their
/// receivers the ordinary way (permission, quota, order), so that the session's next connection
/// begins behind them (contracts C5, C6).
pub(crate) struct Leaving {
    session: Session,
    cause: Cause,
    /// A session expiry that DISCONNECT set.
    expiry_seconds: Option<u32>,
}

impl Leaving {
    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Shard {
    pub(super) fn end_session(&mut self, seat: Seat, mut session: Session, ending: &Ending) {
        self.emit_client(&session.client, ending.event, |event| {
            let event = event.detail(ending.detail.clone());
            match ending.reason {
                Some(reason) => event.reason(super::publish::reason_byte(reason)),
                None => event,
            }
        });
        let expiry = ending.expiry_seconds.unwrap_or(session.expiry_seconds);
        if expiry == 0 {
            self.emit_client(&session.client, EventKind::MqttSessionStop, |event| event);
        }
        for filter in session.subscriptions.drain() {
            let removed = self.remove_filter(seat, session.tenant.number, &filter);
            if let Some((at, step)) = removed {
                self.step_route(at, step);
            }
        }
        if !ending.is_gone
            && let Some(reason) = ending.reason
        {
            self.write_disconnect(seat, &session, reason, ending);
        }
        self.leave_groups(seat, &mut session);
        session.queue = Default::default();
        session.scans = None;
        if let Some(request) = session.filter_request.take() {
            session.acks.give_up(request.token);
        }
        let (cause, expiry_seconds) = (ending.cause, ending.expiry_seconds);
        if let Some(closing) = self.closing(seat) {
            closing.leaving = Some(Leaving {
                session,
                cause,
                expiry_seconds,
            });
        }
        if !self.leave_if_done(seat) {
            let due = self.now_ms + self.publish_timeout_ms();
            self.wheel.arm(due, seat, Timer::Leave);
        }
    }

    fn write_disconnect(
        &mut self,
        seat: Seat,
        session: &Session,
        reason: ReasonCode,
        ending: &Ending,
    ) {
        let is_v5 = self
            .connection(seat)
            .is_some_and(|connection| connection.is_v5());
        let mut disconnect = Disconnect::with_reason(reason);
        disconnect.properties = Some(Box::new(DisconnectProperties {
            reason_string: Some(ending.detail.as_ref().into()),
            server_reference: ending.reference.as_deref().map(Into::into),
            ..DisconnectProperties::default()
        }));
        // A client that does not take it even without the reason string is told nothing
        // (MQTT-3.1.2-24).
        if is_v5 {
            let max = session.client_packet_max;
            self.send_packet_within(seat, &Packet::Disconnect(disconnect), max);
        }
    }

    /// Lets a leaving session go once nothing of it is on its way. False if something is.
    pub(crate) fn leave_if_done(&mut self, seat: Seat) -> bool {
        let Some(closing) = self.closing(seat) else {
            return false;
        };
        let Some(leaving) = &mut closing.leaving else {
            return false;
        };
        // Nobody is left to be told.
        leaving.session.acks.drop_decided();
        if !leaving.session.inbound.is_clear() || !leaving.session.acks.is_empty() {
            return false;
        }
        if let Some(leaving) = closing.leaving.take() {
            self.leave(seat, leaving);
            self.free_if_done(seat);
        }
        true
    }

    /// It has had its time: what is still waiting reaches nobody.
    pub(crate) fn leave_at_last(&mut self, seat: Seat) {
        let Some(mut leaving) = self
            .closing(seat)
            .and_then(|closing| closing.leaving.take())
        else {
            return;
        };
        while let Some(waiting) = leaving.session.inbound.pop() {
            if waiting.is_dropped {
                continue;
            }
            self.hand_over_orphan(seat, &waiting);
            let message = &waiting.publication.message;
            self.metrics.dropped(Drop::Undelivered);
            let kind = crate::shard::undelivered_kind(message.qos);
            self.emit_client(&leaving.session.client, kind, |event| {
                event.topic(&message.topic)
            });
        }
        self.leave(seat, leaving);
        self.free_if_done(seat);
    }

    fn leave(&mut self, seat: Seat, leaving: Leaving) {
        let Leaving {
            mut session,
            cause,
            expiry_seconds,
        } = leaving;
        let key = session.key();
        if !session.has_rows {
            self.release(seat, &key);
            return;
        }
        if let Some(durable) = &mut session.durable {
            // Commands of a session are applied in order: these before the detach.
            let settles = durable.last_settles();
            if !settles.is_empty() {
                let inbox = &self.edge.services.inbox;
                inbox.settle(&durable.session, settles, Box::new(|_| ()));
            }
        }
        let detach = Detach {
            cause,
            expiry_seconds,
            sent_before: session
                .durable
                .as_ref()
                .map_or(0, |durable| durable.sent_before()),
            routed: session.inbound.routed_ids(),
        };
        self.detach(seat, key, session.reference(), detach);
    }
}
