//! The HTTP request that opens a WebSocket (RFC 6455, 4.2): judged whole, answered once.

use std::net::{IpAddr, SocketAddr};

use tungstenite::handshake::derive_accept_key;

use crate::config::Listener;
use crate::network::Network;

/// Paths that are served.
const PATHS: [&str; 2] = ["/mqtt", "/"];
/// Sub-protocols that are spoken (MQTT-6.0.0-3); the others are old names of the first.
const PROTOCOLS: [&str; 3] = ["mqtt", "mqttv3.1", "mqttv3.1.1"];
/// The longest request.
pub(super) const REQUEST_MAX: usize = 16 << 10;
/// The most header fields of a request.
const FIELDS_MAX: usize = 64;
/// Base64 of 16 bytes.
const KEY_LEN: usize = 24;

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Upgrade {
    /// It is not there yet.
    Partial,
    /// It is taken.
    Accepted {
        /// The bytes it has.
        len: usize,
        /// What is answered.
        answer: String,
        /// The client that the proxy spoke for.
        source: Option<SocketAddr>,
    },
    Refused(Status),
}

/// Why a request is refused, as HTTP says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    BadRequest(&'static str),
    Forbidden(&'static str),
    NotFound,
    MethodNotAllowed,
    UpgradeRequired(&'static str),
    TooLarge,
}

impl Status {
    pub(super) fn answer(self) -> String {
        let (line, field) = match self {
            Self::BadRequest(_) => ("400 Bad Request", ""),
            Self::Forbidden(_) => ("403 Forbidden", ""),
            Self::NotFound => ("404 Not Found", ""),
            Self::MethodNotAllowed => ("405 Method Not Allowed", "Allow: GET\r\n"),
            Self::UpgradeRequired(_) => (
                "426 Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            ),
            Self::TooLarge => ("431 Request Header Fields Too Large", ""),
        };
        format!("HTTP/1.1 {line}\r\n{field}Connection: close\r\nContent-Length: 0\r\n\r\n")
    }

    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::BadRequest(detail) | Self::Forbidden(detail) | Self::UpgradeRequired(detail) => {
                detail
            }
            Self::NotFound => "HTTP 404: another path than /mqtt and /",
            Self::MethodNotAllowed => "HTTP 405: another method than GET",
            Self::TooLarge => "HTTP 431: a request of more than 16 KiB or 64 fields",
        }
    }
}

/// Judges the request at the start of `bytes`.
pub(super) fn judge(bytes: &[u8], listener: &Listener, peer: IpAddr) -> Upgrade {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len <= REQUEST_MAX => {
            match accept(&request, listener, peer) {
                Ok((answer, source)) => Upgrade::Accepted {
                    len,
                    answer,
                    source,
                },
                Err(status) => Upgrade::Refused(status),
            }
        }
        Ok(httparse::Status::Partial) if bytes.len() < REQUEST_MAX => Upgrade::Partial,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Upgrade::Refused(Status::TooLarge),
        Err(_) => Upgrade::Refused(Status::BadRequest("HTTP 400: no request")),
    }
}

fn accept(
    request: &httparse::Request<'_, '_>,
    listener: &Listener,
    peer: IpAddr,
) -> Result<(String, Option<SocketAddr>), Status> {
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    if !PATHS.contains(&path) {
        return Err(Status::NotFound);
    }
    if request.method != Some("GET") {
        return Err(Status::MethodNotAllowed);
    }
    let asks = |field, token: &str| words(request, field).any(|w| w.eq_ignore_ascii_case(token));
    if !asks("Upgrade", "websocket") || !asks("Connection", "upgrade") {
        return Err(Status::UpgradeRequired("HTTP 426: no upgrade to WebSocket"));
    }
    if request.version != Some(1) {
        return Err(Status::BadRequest("HTTP 400: not HTTP/1.1"));
    }
    if !asks("Sec-WebSocket-Version", "13") {
        return Err(Status::UpgradeRequired(
            "HTTP 426: another WebSocket version than 13",
        ));
    }
    let key = values(request, "Sec-WebSocket-Key").next();
    if cfg!(planted_bugs) {
        let padding = key.map(|key| &key[KEY_LEN - 2..]);
        debug_assert!(padding.is_none_or(|padding| padding == "=="));
    }
    let Some(key) = key.filter(|key| key.len() == KEY_LEN) else {
        return Err(Status::BadRequest("HTTP 400: no WebSocket key"));
    };
    let source = source(request, listener, peer)?;
    check_origin(request, &listener.websocket.allowed_origins)?;
    let protocol = protocol(request, listener.websocket.needs_protocol)?;
    let accepted = derive_accept_key(key.as_bytes());
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accepted}\r\n"
    );
    if let Some(protocol) = protocol {
        answer.push_str("Sec-WebSocket-Protocol: ");
        answer.push_str(protocol);
        answer.push_str("\r\n");
    }
    answer.push_str("\r\n");
    Ok((answer, source))
}

/// The first of the client's choices that is spoken.
fn protocol(
    request: &httparse::Request<'_, '_>,
    needs_protocol: bool,
) -> Result<Option<&'static str>, Status> {
    let mut has_offered = false;
    for offered in words(request, "Sec-WebSocket-Protocol") {
        has_offered = true;
        let known = PROTOCOLS.into_iter().find(|known| *known == offered);
        if known.is_some() {
            return Ok(known);
        }
    }
    match has_offered || needs_protocol {
        true => Err(Status::BadRequest("HTTP 400: no MQTT sub-protocol")),
        false => Ok(None),
    }
}

fn check_origin(request: &httparse::Request<'_, '_>, allowed: &[String]) -> Result<(), Status> {
    let is_allowed = |origin: &str| {
        allowed
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(origin))
    };
    if allowed.is_empty() || values(request, "Origin").all(is_allowed) {
        return Ok(());
    }
    Err(Status::Forbidden("HTTP 403: a page of another origin"))
}

/// The client that trusted proxies speak for: the last address that is not one of them.
fn source(
    request: &httparse::Request<'_, '_>,
    listener: &Listener,
    peer: IpAddr,
) -> Result<Option<SocketAddr>, Status> {
    let proxies = &listener.proxies;
    if !proxies.has_forwarded_for {
        return Ok(None);
    }
    let is_trusted = |address: IpAddr| {
        proxies
            .trusted
            .iter()
            .any(|n: &Network| n.contains(address))
    };
    let mut addresses: Vec<&str> = words(request, "X-Forwarded-For").collect();
    if addresses.is_empty() {
        return Ok(None);
    }
    if !is_trusted(peer) {
        return Err(Status::Forbidden(
            "HTTP 403: X-Forwarded-For of somebody who is no proxy",
        ));
    }
    let mut source = None;
    while let Some(text) = addresses.pop() {
        let address = text
            .parse::<IpAddr>()
            .map(|address| SocketAddr::new(address, 0))
            .or_else(|_| text.parse::<SocketAddr>())
            .map_err(|_| Status::BadRequest("HTTP 400: X-Forwarded-For with no address"))?;
        source = Some(address);
        if !is_trusted(address.ip()) {
            break;
        }
    }
    Ok(source)
}

/// All values of a field, in order.
fn values<'a>(
    request: &'a httparse::Request<'_, '_>,
    name: &'a str,
) -> impl Iterator<Item = &'a str> {
    request
        .headers
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name))
        .filter_map(|field| std::str::from_utf8(field.value).ok())
}

/// The entries of a field that holds lists.
fn words<'a>(
    request: &'a httparse::Request<'_, '_>,
    name: &'a str,
) -> impl Iterator<Item = &'a str> {
    values(request, name)
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::ListenerKind;

    const GOOD: &str = "GET /mqtt HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n\
                        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                        Sec-WebSocket-Protocol: amqp, mqtt\r\n\r\n";

    fn listener() -> Listener {
        Listener::new(ListenerKind::Ws, ([127, 0, 0, 1], 0).into())
    }

    fn peer() -> IpAddr {
        [127, 0, 0, 1].into()
    }

    fn status(request: &str, listener: &Listener) -> String {
        match judge(request.as_bytes(), listener, peer()) {
            Upgrade::Refused(status) => status.answer()[9..12].to_owned(),
            Upgrade::Accepted { answer, .. } => answer[9..12].to_owned(),
            Upgrade::Partial => "...".to_owned(),
        }
    }

    #[test]
    fn a_good_request_is_answered_as_the_standard_says() {
        let bytes = [GOOD.as_bytes(), b"\x82"].concat();
        let Upgrade::Accepted { len, answer, .. } = judge(&bytes, &listener(), peer()) else {
            panic!("refused");
        };
        assert_eq!(len, GOOD.len());
        // The example of RFC 6455, 1.3.
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(answer.contains("Sec-WebSocket-Protocol: mqtt\r\n"));
        assert!(answer.ends_with("\r\n\r\n"));
    }

    #[test]
    fn each_fault_has_its_status() {
        let listener = listener();
        let with = |from: &str, to: &str| status(&GOOD.replace(from, to), &listener);
        assert_eq!(with("/mqtt", "/other"), "404");
        assert_eq!(with("/mqtt", "/?x=/other"), "101");
        assert_eq!(with("GET", "POST"), "405");
        assert_eq!(with("Upgrade: websocket", "Upgrade: h2c"), "426");
        assert_eq!(with("keep-alive, Upgrade", "keep-alive"), "426");
        assert_eq!(with("Version: 13", "Version: 8"), "426");
        assert_eq!(with("dGhlIHNhbXBsZSBub25jZQ==", "short"), "400");
        assert_eq!(with("amqp, mqtt", "amqp"), "400");
        assert_eq!(with("amqp, mqtt", "mqttv3.1"), "101");
        assert_eq!(with("Sec-WebSocket-Protocol: amqp, mqtt\r\n", ""), "400");
        assert_eq!(with("HTTP/1.1", "HTTP/1.0"), "400");
        assert_eq!(status("\x10\x0c\0\x04MQTT\r\n\r\n", &listener), "400");
        assert_eq!(status("\x16\x03\x01\x02\0", &listener), "400");
        let long = format!("Host: {}", "h".repeat(REQUEST_MAX));
        assert_eq!(with("Host: h", &long), "431");
        let many = format!("{}Host: h", "X: y\r\n".repeat(FIELDS_MAX));
        assert_eq!(with("Host: h", &many), "431");
        assert_eq!(status(&GOOD[..40], &listener), "...");
    }

    #[test]
    fn what_is_allowed_can_be_said() {
        let mut listener = listener();
        listener.websocket.needs_protocol = false;
        let bare = GOOD.replace("Sec-WebSocket-Protocol: amqp, mqtt\r\n", "");
        assert_eq!(status(&bare, &listener), "101");
        assert_eq!(
            status(&GOOD.replace("amqp, mqtt", "amqp"), &listener),
            "400"
        );
        listener.websocket.allowed_origins = vec!["https://a.example".to_owned()];
        assert_eq!(status(GOOD, &listener), "101", "no page, no origin");
        let of = |origin: &str| GOOD.replace("Host: h", &format!("Host: h\r\nOrigin: {origin}"));
        assert_eq!(status(&of("https://A.example"), &listener), "101");
        assert_eq!(status(&of("https://b.example"), &listener), "403");
        assert_eq!(status(&of("null"), &listener), "403");
    }

    #[test]
    fn only_proxies_name_other_clients() {
        let forwarded =
            |list: &str| GOOD.replace("Host: h", &format!("Host: h\r\nX-Forwarded-For: {list}"));
        let source = |list: &str, listener: &Listener| match judge(
            forwarded(list).as_bytes(),
            listener,
            peer(),
        ) {
            Upgrade::Accepted { source, .. } => source.map(|source| source.ip().to_string()),
            other => panic!("{other:?}"),
        };
        let mut listener = listener();
        assert_eq!(source("192.0.2.1", &listener), None, "not switched on");
        listener.proxies.has_forwarded_for = true;
        assert_eq!(status(&forwarded("192.0.2.1"), &listener), "403");
        assert_eq!(status(GOOD, &listener), "101");
        listener.proxies.trusted = vec![
            "127.0.0.0/8".parse().unwrap(),
            "10.0.0.0/8".parse().unwrap(),
        ];
        let found = |list| source(list, &listener);
        assert_eq!(found("192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(
            found("6.6.6.6, 192.0.2.1, 10.1.1.1").as_deref(),
            Some("192.0.2.1")
        );
        assert_eq!(found("10.2.2.2, 10.1.1.1").as_deref(), Some("10.2.2.2"));
        assert_eq!(found("[2001:db8::1]:443").as_deref(), Some("2001:db8::1"));
        assert_eq!(status(&forwarded("unknown"), &listener), "400");
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>, cut in 0..GOOD.len(), by in "\\PC{0,9}") {
            judge(&bytes, &listener(), peer());
            let mut request = GOOD.to_owned();
            request.insert_str(cut, &by);
            judge(request.as_bytes(), &listener(), peer());
        }
    }
}
