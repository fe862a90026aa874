//! Tests that cross the packet families.

mod arbitrary;
mod clauses;
mod encoding;
mod roundtrip;
mod strategy;

use bytes::{Bytes, BytesMut};

use crate::{DecodeError, Packet, Version, decode, decode_owned, encode, peek};

/// Encodes a packet that must be encodable.
fn encoded(packet: &Packet, version: Version) -> Bytes {
    let mut out = BytesMut::new();
    encode(packet, version, &mut out).expect("packet is valid");
    out.freeze()
}

/// Frames and decodes exactly one packet, both ways of decoding agreeing.
fn decoded(version: Version, bytes: &[u8]) -> Result<Packet, DecodeError> {
    let frame = peek(bytes)?.expect("a whole frame");
    assert_eq!(
        frame.total_len(),
        bytes.len(),
        "one packet and nothing else"
    );
    let body = &bytes[frame.header_len..];
    let copied = decode(version, frame.first, body);
    let shared = decode_owned(version, frame.first, Bytes::copy_from_slice(body));
    assert_eq!(copied, shared);
    copied
}

/// A packet of this first byte and body.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let (len, used) = crate::varint::bytes(body.len() as u32);
    bytes.extend_from_slice(&len[..used]);
    bytes.extend_from_slice(body);
    bytes
}
