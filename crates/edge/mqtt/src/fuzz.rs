//! What must hold for any bytes: the checks of the fuzzer.

use bifrust_model::{Topic, TopicFilter};

use crate::{subscriptions, transport};

/// The bytes of a WebSocket's client, handshake included, behind a byte that says how they are cut.
pub fn check_websocket(bytes: &[u8]) {
    transport::fuzz::check_websocket(bytes);
}

/// The same for frames after a handshake.
pub fn check_websocket_frames(bytes: &[u8]) {
    let Some((cut, frames)) = bytes.split_first() else {
        return;
    };
    transport::fuzz::check_websocket(&[&[*cut], HANDSHAKE, frames].concat());
}

const HANDSHAKE: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// What a proxy sends first, version 1.
pub fn check_proxy_v1(bytes: &[u8]) {
    transport::fuzz::check_proxy(&[b"PROXY ", bytes].concat());
}

/// What a proxy sends first, version 2.
pub fn check_proxy_v2(bytes: &[u8]) {
    transport::fuzz::check_proxy(&[b"\r\n\r\n\0\r\nQUIT\n", bytes].concat());
}

/// A client's certificate.
pub fn check_certificate(der: &[u8]) {
    transport::fuzz::check_certificate(der);
}

/// The numbers of those filters, each with a wildcard, that a shard finds for the topic.
pub fn matching(filters: &[TopicFilter], topic: &Topic) -> Vec<usize> {
    subscriptions::matching(filters, topic.as_str())
}
