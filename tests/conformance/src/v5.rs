//! MQTT 5.0.

pub mod acks;
pub mod auth;
pub mod connack;
pub mod connect;
pub mod format;
pub mod forward;
pub mod operation;
pub mod publish;
pub mod session;
pub mod shared;
pub mod subscribe;
pub mod topics;
pub mod transport;

use crate::{Row, Scene};

/// Malformed Packet and Protocol Error: which of them is often a matter of taste.
pub(crate) const BROKEN: &[u8] = &[0x81, 0x82];

/// All rows, by file.
pub const FILES: &[(&str, &[Row])] = &[
    ("format", format::ROWS),
    ("connect", connect::ROWS),
    ("connack", connack::ROWS),
    ("session", session::ROWS),
    ("publish", publish::ROWS),
    ("forward", forward::ROWS),
    ("acks", acks::ROWS),
    ("subscribe", subscribe::ROWS),
    ("operation", operation::ROWS),
    ("topics", topics::ROWS),
    ("shared", shared::ROWS),
    ("auth", auth::ROWS),
    ("transport", transport::ROWS),
];

/// All rows.
pub fn rows() -> Vec<Row> {
    crate::suite::rows_of(FILES)
}

/// A client that sends any of these is let go with one of these codes.
pub(crate) fn breaks<T: AsRef<str>>(scene: &Scene<'_>, packets: &[T], codes: &[u8]) {
    for packet in packets {
        let mut peer = scene.v5("c");
        peer.send(packet.as_ref());
        peer.expect_dropped(codes);
    }
}

/// Each of these CONNECTs is refused with one of these codes.
pub(crate) fn refuses<T: AsRef<str>>(scene: &Scene<'_>, connects: &[T], codes: &[u8]) {
    for connect in connects {
        scene.send(connect.as_ref()).expect_unconnected(codes);
    }
}

/// A PUBLISH that is expected, with its identifier as written.
pub(crate) fn id_of(packet: &[u8]) -> String {
    format!("{:04x}", crate::fields::Publish::of(packet).id)
}
