//! What `mqtt-proto` reads in a packet of version 3.

use mqtt_proto::v3::{Connack, Connect, Header, Packet, Publish, SubscribeReturnCode};
use mqtt_proto::{Error, PollHeader as _};

use super::meaning::Meaning;

/// Decodes exactly one packet.
pub(super) fn decode(first: u8, body: &[u8]) -> Result<Meaning, Error> {
    let length = u32::try_from(body.len()).map_err(|_| Error::InvalidRemainingLength)?;
    let header = Header::new_with(first, length, length)?;
    let mut used = 0;
    let packet = match header.build_empty_packet() {
        Some(packet) => packet,
        None => header.decode_buffer(body, &mut used)?,
    };
    if used != body.len() {
        // A stream would go on with these bytes as another packet.
        return Err(Error::InvalidRemainingLength);
    }
    Ok(meaning(&packet))
}

fn meaning(packet: &Packet) -> Meaning {
    match packet {
        Packet::Connect(connect) => self::connect(connect),
        Packet::Connack(connack) => self::connack(connack),
        Packet::Publish(publish) => self::publish(publish),
        Packet::Puback(id) => ack("PUBACK", id.value()),
        Packet::Pubrec(id) => ack("PUBREC", id.value()),
        Packet::Pubrel(id) => ack("PUBREL", id.value()),
        Packet::Pubcomp(id) => ack("PUBCOMP", id.value()),
        Packet::Subscribe(subscribe) => {
            let filters = subscribe.topics.iter();
            let filters = filters.map(|(filter, qos)| (&**filter, *qos as u8, false, false, 0u8));
            Meaning::of("SUBSCRIBE")
                .and("id", subscribe.pid.value())
                .list("filters", filters)
        }
        Packet::Suback(suback) => {
            let reasons = suback.topics.iter().map(|code| match code {
                SubscribeReturnCode::MaxLevel0 => 0u8,
                SubscribeReturnCode::MaxLevel1 => 1,
                SubscribeReturnCode::MaxLevel2 => 2,
                SubscribeReturnCode::Failure => 0x80,
            });
            Meaning::of("SUBACK")
                .and("id", suback.pid.value())
                .list("reasons", reasons)
        }
        Packet::Unsubscribe(unsubscribe) => Meaning::of("UNSUBSCRIBE")
            .and("id", unsubscribe.pid.value())
            .list("filters", unsubscribe.topics.iter().map(|filter| &**filter)),
        Packet::Unsuback(id) => Meaning::of("UNSUBACK").and("id", id.value()),
        Packet::Pingreq => Meaning::of("PINGREQ"),
        Packet::Pingresp => Meaning::of("PINGRESP"),
        Packet::Disconnect => Meaning::of("DISCONNECT").and("reason", 0u8),
    }
}

fn ack(packet: &'static str, id: u16) -> Meaning {
    Meaning::of(packet).and("id", id).and("reason", 0u8)
}

fn connect(connect: &Connect) -> Meaning {
    let said = Meaning::of("CONNECT")
        .and("level", connect.protocol as u8)
        .and("clean", connect.clean_session)
        .and("keep alive", connect.keep_alive)
        .and("client", &*connect.client_id)
        .maybe("user name", connect.username.as_deref())
        .maybe("password", connect.password.as_deref())
        .and("topic alias maximum", 0u16)
        .and("request response", false)
        .and("request problem", true);
    let Some(will) = &connect.last_will else {
        return said;
    };
    let will = Meaning::of("will")
        .and("topic", &*will.topic_name)
        .and("payload", &will.message[..])
        .and("qos", will.qos as u8)
        .and("retain", will.retain)
        .and("delay", 0u32);
    said.and("will", will)
}

fn connack(connack: &Connack) -> Meaning {
    // Our codec translates return codes to the reason codes of version 5.
    let reason = [0u8, 0x84, 0x85, 0x88, 0x86, 0x87][connack.code as usize];
    Meaning::of("CONNACK")
        .and("session present", connack.session_present)
        .and("reason", reason)
        .and("maximum qos", 2u8)
        .and("retain available", true)
        .and("topic alias maximum", 0u16)
        .and("wildcards", true)
        .and("subscription ids", true)
        .and("shared", true)
}

fn publish(publish: &Publish) -> Meaning {
    Meaning::of("PUBLISH")
        .and("dup", publish.dup)
        .and("retain", publish.retain)
        .and("qos", publish.qos_pid.qos() as u8)
        .maybe("id", publish.qos_pid.pid().map(|id| id.value()))
        .and("topic", &*publish.topic_name)
        .and("payload", &publish.payload[..])
}
