//! From packets to bytes: count, check the limit, write.

use bytes::BytesMut;

use crate::ack;
use crate::error::EncodeError;
use crate::frame::{PacketType, REMAINING_LENGTH_MAX};
use crate::packet::{Packet, Version};
use crate::varint;
use crate::wire::{Counter, Detail, Shape, Sink};

/// Appends `packet` to `out`, which stays as it is if there is an error.
///
/// CONNECT is written in its own version, whatever `version` says.
#[inline]
pub fn encode(packet: &Packet, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
    if let Some(bytes) = fixed(packet) {
        out.extend_from_slice(&bytes);
        return Ok(());
    }
    let shape = Shape::full(version);
    let body_len = count(packet, shape)?;
    write(packet, shape, body_len, out)
}

/// Appends `packet` if it is no longer than `max_packet_size`, the peer's Maximum Packet Size.
///
/// Where the standard allows it, what does not fit is left out: first the reason string, then the
/// user properties (MQTT-3.2.2-19, MQTT-3.2.2-20, MQTT-3.4.2-2, MQTT-3.4.2-3 and their like).
/// If that is not enough, there is an error and `out` stays as it is.
pub fn encode_within(
    packet: &Packet,
    version: Version,
    max_packet_size: u32,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let max = usize::try_from(max_packet_size).unwrap_or(usize::MAX);
    let steps: &[Detail] = match packet.packet_type() {
        // Here user properties are content, not explanation (MQTT-3.1.2-25).
        PacketType::Connect
        | PacketType::Publish
        | PacketType::Subscribe
        | PacketType::Unsubscribe => &[Detail::Full],
        _ => &[Detail::Full, Detail::UserProperties, Detail::Bare],
    };
    let mut refused = EncodeError::TooLarge { len: 0, max };
    for &detail in steps {
        let shape = Shape { version, detail };
        let body_len = match count(packet, shape) {
            Ok(body_len) => body_len,
            // Too long to be said at all: a shorter form may do.
            Err(error @ (EncodeError::TooLarge { .. } | EncodeError::FieldTooLong { .. })) => {
                refused = error;
                continue;
            }
            Err(error) => return Err(error),
        };
        let len = total_len(body_len);
        if len <= max {
            return write(packet, shape, body_len, out);
        }
        refused = EncodeError::TooLarge { len, max };
    }
    Err(refused)
}

/// Packets that are always the same two bytes.
fn fixed(packet: &Packet) -> Option<[u8; 2]> {
    match packet {
        Packet::Pingreq => Some([PacketType::Pingreq.first(), 0]),
        Packet::Pingresp => Some([PacketType::Pingresp.first(), 0]),
        _ => None,
    }
}

/// Length of a packet with its fixed header.
pub(crate) const fn total_len(body_len: usize) -> usize {
    1 + varint::len(body_len) + body_len
}

fn count(packet: &Packet, shape: Shape) -> Result<usize, EncodeError> {
    let mut counter = Counter::default();
    write_body(packet, shape, &mut counter);
    let len = counter.finish()?;
    if len > REMAINING_LENGTH_MAX {
        return Err(EncodeError::TooLarge {
            len,
            max: REMAINING_LENGTH_MAX,
        });
    }
    Ok(len)
}

fn write(
    packet: &Packet,
    shape: Shape,
    body_len: usize,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    out.reserve(total_len(body_len));
    out.u8(match packet {
        Packet::Publish(publish) => publish.first(),
        other => other.packet_type().first(),
    });
    out.varint(body_len as u32); // `count` has checked that it fits
    write_body(packet, shape, out);
    Ok(())
}

fn write_body<S: Sink>(packet: &Packet, shape: Shape, out: &mut S) {
    match packet {
        Packet::Connect(connect) => connect.write(out),
        Packet::Connack(connack) => connack.write(shape, out),
        Packet::Publish(publish) => publish.write(shape, out),
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            ack::write(ack, packet.packet_type(), shape, out);
        }
        Packet::Subscribe(subscribe) => subscribe.write(shape, out),
        Packet::Suback(suback) => suback.write(shape, out),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.write(shape, out),
        Packet::Unsuback(unsuback) => unsuback.write(shape, out),
        Packet::Pingreq | Packet::Pingresp => {}
        Packet::Disconnect(disconnect) => disconnect.write(shape, out),
        Packet::Auth(auth) => auth.write(shape, out),
    }
}
