//! What must hold for any bytes: the checks of the property tests and of the fuzzer.

use bytes::{Bytes, BytesMut};

use crate::{
    DecodeError, ForwardProperties, Packet, PublishHead, Version, connect_version, decode,
    decode_connect, decode_owned, encode, encode_publish, peek, validate_forward,
};

/// Takes packets off a stream as a connection does; each is decoded or refused.
pub fn check_stream(version: Version, mut bytes: &[u8]) {
    while let Ok(Some(frame)) = peek(bytes) {
        let Some(body) = bytes.get(frame.header_len..frame.total_len()) else {
            return;
        };
        check_packet(version, frame.first, body);
        bytes = &bytes[frame.total_len()..];
    }
}

/// Decodes both ways, which agree. What decodes must encode, and decode again to the same.
pub fn check_packet(version: Version, first: u8, body: &[u8]) {
    let copied = decode(version, first, body);
    let shared = decode_owned(version, first, Bytes::copy_from_slice(body));
    assert_eq!(copied, shared);
    let _ = connect_version(body); // no panic
    let _ = decode_connect(body); // no panic
    let Ok(packet) = copied else { return };
    let mut out = BytesMut::new();
    encode(&packet, version, &mut out).expect("what was decoded can be encoded");
    let spoken = match &packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };
    if let Packet::Publish(publish) = &packet {
        check_forward(&publish.properties.forward);
        if publish.properties.topic_alias.is_none() {
            let head = PublishHead {
                forward: &publish.properties.forward,
                message_expiry: publish.properties.message_expiry,
                subscription_ids: &publish.properties.subscription_ids,
                ..PublishHead::new(version, publish.qos, publish.retain, &publish.topic)
            };
            let mut direct = BytesMut::new();
            let id = publish.packet_id;
            encode_publish(&head, publish.dup, id, &publish.payload, &mut direct)
                .expect("what was decoded can be sent on");
            assert_eq!(direct, out);
        }
    }
    assert_eq!(decoded(spoken, &out), Ok(packet));
}

/// Properties in wire format, as they are stored and passed on: valid to their end or refused.
pub fn check_forward(body: &[u8]) {
    let properties = ForwardProperties::new(body).count();
    if validate_forward(body).is_ok() {
        assert_eq!(properties == 0, body.is_empty());
    }
}

/// Frames and decodes exactly one packet.
fn decoded(version: Version, bytes: &[u8]) -> Result<Packet, DecodeError> {
    let frame = peek(bytes)?.expect("a whole frame was encoded");
    assert_eq!(frame.total_len(), bytes.len(), "one packet, nothing else");
    decode(version, frame.first, &bytes[frame.header_len..])
}
