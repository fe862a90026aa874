//! What must hold for any bytes that a carrier reads: the checks of the fuzzer.

use std::net::{IpAddr, Ipv4Addr};

use bytes::BytesMut;

use super::certificate;
use super::proxy::{self, V1_START};
use super::ws::{Fed, Ws};
use crate::config::{Listener, ListenerKind};

/// A header of the PROXY protocol: every beginning waits for the rest, and what follows does not matter.
pub(crate) fn check_proxy(bytes: &[u8]) {
    let parsed = proxy::parse(bytes);
    let Ok(Some(header)) = parsed else { return };
    let whole = &bytes[..header.len];
    assert_eq!(proxy::parse(whole), parsed);
    for len in 0..whole.len() {
        assert_eq!(proxy::parse(&whole[..len]), Ok(None), "{len}");
    }
    let Some(line) = whole.strip_prefix(V1_START) else {
        return;
    };
    // What the line says, read naively.
    let line = std::str::from_utf8(line).expect("it was read as text");
    let words: Vec<_> = line.trim_end_matches("\r\n").split(' ').collect();
    let source = match words[..] {
        ["TCP4", from, _, port, _] => Some((from.parse().map(IpAddr::V4), port.parse())),
        ["TCP6", from, _, port, _] => Some((from.parse().map(IpAddr::V6), port.parse())),
        ["UNKNOWN", ..] => None,
        _ => panic!("not a line: {line:?}"),
    };
    let source = source.map(|(ip, port)| {
        let ip = ip.expect("an address of that family");
        (ip, port.expect("a port")).into()
    });
    assert_eq!(header.source, source);
}

/// A certificate's DER: names are text without U+0000.
pub(crate) fn check_certificate(der: &[u8]) {
    let found = certificate::read(der);
    let single = [
        &found.common_name,
        &found.organization,
        &found.organizational_unit,
    ];
    let lists = [&found.emails, &found.dns_names, &found.uris];
    let names = single
        .into_iter()
        .flatten()
        .chain(lists.into_iter().flatten());
    let mut bytes = 0;
    for name in names {
        assert!(!name.is_empty() && !name.contains('\0'), "{name:?}");
        bytes += name.len();
    }
    assert!(bytes <= der.len());
}

/// What came of bytes of a WebSocket.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unframed {
    mqtt: Vec<u8>,
    answers: Vec<u8>,
    is_over: bool,
}

/// However the bytes are cut into pieces on their way, the same bytes of MQTT and the same answers come
/// of them. The first byte says how.
pub(crate) fn check_websocket(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    let whole = unframed([bytes]);
    let pieces = unframed(bytes.chunks(usize::from(*cut % 32) + 1));
    assert_eq!(whole, pieces);
    // Nothing comes out that did not come in; answers are a handshake, pongs and a close.
    assert!(whole.mqtt.len() <= bytes.len());
    assert!(whole.answers.len() <= 2 * bytes.len() + 512);
}

fn unframed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Unframed {
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut listener = Listener::new(ListenerKind::Ws, (peer, 0).into());
    listener.proxies.has_forwarded_for = true;
    listener.proxies.trusted = "127.0.0.0/8".parse().into_iter().collect();
    let mut ws = Ws::new(1 << 20);
    let mut found = Unframed::default();
    for piece in pieces {
        let mut decoded = BytesMut::new();
        found.is_over = !matches!(ws.feed(piece, &mut decoded, &listener, peer), Fed::More(_));
        found.mqtt.extend_from_slice(&decoded);
        while !ws.output().is_empty() {
            found.answers.extend_from_slice(&ws.output().split());
        }
        if found.is_over {
            break;
        }
    }
    found
}
