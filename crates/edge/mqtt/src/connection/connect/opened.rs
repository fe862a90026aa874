//! The session is there: CONNACK, and the connection is served.

use std::num::{NonZeroU16, NonZeroU32};

use bifrust_inbox::{Opened, SessionRef};
use bifrust_model::EventKind;
use bifrust_mqtt_codec::{
    Connack, ConnackProperties, Packet, Qos, ReasonCode, Version, encode_within,
};
use bytes::BytesMut;

use super::{Accepted, Connecting};
use crate::connection::{Pause, Phase};
use crate::fault::{Fault, planted};
use crate::mailbox::Seat;
use crate::session::Session;
use crate::session::durable::Durable;
use crate::session::filters::Filters;
use crate::session::inbound::Inbound;
use crate::session::known_topics::KnownTopics;
use crate::session::rate::Rate;
use crate::session::window::{Window, packet_id};
use crate::shard::Shard;
use crate::shard::timer::Timer;

impl Shard {
    pub(super) fn open_session(&mut self, seat: Seat, opened: Opened) {
        let now_ms = self.now_ms;
        let Some(connection) = self.connection(seat) else {
            return;
        };
        let Phase::Connecting(connecting) = &mut connection.phase else {
            return;
        };
        let Some(accepted) = connecting.accepted.take() else {
            return;
        };
        let is_kicked = connecting.is_kicked;
        let connack = connack(connecting, &accepted, opened.session_present);
        let exchange = connecting.exchange.take();
        let wants_explanations = connecting.connect.properties.request_problem_information;
        let aliases_taken =
            (connecting.connect.properties.topic_alias_maximum).min(accepted.topic_alias_max());
        let client_packet_max = connecting.client_packet_max();
        let client = accepted.client.clone();
        let packet_max = accepted.settings.max_user_payload_bytes as usize;
        let mut session = session(&accepted, &opened, client_packet_max);
        session.exchange = exchange;
        session.wants_explanations = wants_explanations;
        if let Some(known) = KnownTopics::new(aliases_taken) {
            session.topic_aliases.get_or_insert_default().to_client = Some(known);
        }
        connection.phase = Phase::Serving(Box::new(session));
        connection.packet_max = packet_max;
        connection.keep_alive = accepted.keep_alive;
        connection.heard_ms = now_ms;
        connection.rate = Rate::of(&accepted.settings).map(Box::new);
        if let Some(transport) = &mut connection.transport {
            transport.limit_packets(packet_max);
        }
        self.send_packet(seat, &Packet::Connack(connack));
        if (opened.subscriptions.iter()).any(|subscription| subscription.filter.is_shared()) {
            self.attend_inbox(seat);
        }
        let released = match planted(Fault::PubrelNotRepeated) {
            true => Vec::new(),
            false => opened.released,
        };
        for seq in released {
            // 4.4: PUBREL again, in order, before new messages.
            self.send_pubrel(seat, packet_id(seq), ReasonCode::SUCCESS);
        }
        self.emit_client(&client, EventKind::ClientConnected, |event| event);
        if !opened.session_present {
            self.emit_client(&client, EventKind::MqttSessionStart, |event| event);
        }
        if accepted.keep_alive > 0 && !planted(Fault::KeepAliveIgnored) {
            let due = now_ms + u64::from(accepted.keep_alive) * 1500;
            self.wheel.arm(due, seat, Timer::KeepAlive);
        }
        self.resume(seat, Pause::Connect);
        self.mark_dirty(seat.slot);
        if is_kicked {
            self.kicked(seat);
        }
    }
}

fn session(accepted: &Accepted, opened: &Opened, client_packet_max: u32) -> Session {
    let mut inbound = Inbound::default();
    for id in opened.inbound.iter().filter(|id| id.is_routed) {
        // An id that was begun and not routed is begun again when its PUBLISH comes again.
        inbound.begin(id.packet_id, true);
    }
    let mut window = Window::new(accepted.window);
    for seq in &opened.released {
        window.released(*seq);
    }
    let reference = SessionRef {
        tenant: accepted.tenant.clone(),
        client: accepted.client.client.clone(),
        epoch: opened.epoch,
    };
    let durable = opened
        .is_durable
        .then(|| Box::new(Durable::new(reference, opened.incarnation, opened.next_seq)));
    Session {
        tenant: accepted.tenant.clone(),
        client: accepted.client.clone(),
        epoch: opened.epoch,
        expiry_seconds: accepted.expiry_seconds,
        has_rows: opened.is_durable || accepted.has_will,
        client_packet_max,
        subscriptions: Filters::default(),
        filter_request: None,
        scans: None,
        queue: Default::default(),
        window,
        next_seq: 1,
        durable,
        shares: None,
        acks: Default::default(),
        inbound,
        memo: None,
        topic_aliases: None,
        topic_alias_max: accepted.topic_alias_max(),
        is_doomed: false,
        wants_explanations: true,
        exchange: None,
    }
}

pub(super) fn connack(
    connecting: &Connecting,
    accepted: &Accepted,
    session_present: bool,
) -> Connack {
    let settings = &accepted.settings;
    let asked = &connecting.connect;
    let properties = (asked.version == Version::V5).then(|| {
        let expiry = accepted.expiry_seconds;
        let expiry_asked = asked.properties.session_expiry.unwrap_or(0);
        let receive_maximum = u16::try_from(settings.receiving_maximum).unwrap_or(u16::MAX);
        Box::new(ConnackProperties {
            session_expiry: (expiry != expiry_asked).then_some(expiry),
            receive_maximum: NonZeroU16::new(receive_maximum).filter(|max| max.get() < u16::MAX),
            maximum_qos: match settings.maximum_qos {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                _ => Qos::ExactlyOnce,
            },
            retain_available: settings.retain_enabled,
            topic_alias_maximum: accepted.topic_alias_max(),
            maximum_packet_size: NonZeroU32::new(settings.max_user_payload_bytes),
            assigned_client_id: (connecting.is_id_assigned
                && !planted(Fault::AssignedIdentifierUntold))
            .then(|| connecting.client_id.as_str().into()),
            wildcard_subscription_available: settings.wildcard_subscription_enabled,
            subscription_ids_available: settings.subscription_identifier_enabled,
            // MQTT-4.12.0-5: as at CONNECT.
            authentication_method: (connecting.exchange.as_ref())
                .map(|exchange| exchange.method().clone()),
            authentication_data: (connecting.exchange.as_ref())
                .and_then(|exchange| exchange.data().cloned()),
            shared_subscription_available: settings.shared_subscription_enabled,
            server_keep_alive: (accepted.keep_alive != asked.keep_alive)
                .then_some(accepted.keep_alive),
            ..ConnackProperties::default()
        })
    });
    Connack {
        session_present: session_present && !planted(Fault::SessionPresentZero),
        reason: ReasonCode::SUCCESS,
        properties,
    }
}

/// Whether CONNACK is within the client's Maximum Packet Size (MQTT-3.1.2-24).
pub(super) fn takes_connack(connecting: &Connecting, accepted: &Accepted) -> bool {
    let max = connecting.client_packet_max();
    if max == u32::MAX {
        return true;
    }
    let packet = Packet::Connack(connack(connecting, accepted, false));
    encode_within(
        &packet,
        connecting.connect.version,
        max,
        &mut BytesMut::new(),
    )
    .is_ok()
}
