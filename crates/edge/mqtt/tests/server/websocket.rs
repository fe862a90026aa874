use std::net::TcpStream;

use bifrust_mqtt_codec::{Connect, Packet, Qos, Version, encode};
use bytes::BytesMut;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use crate::harness::{Broker, publish};

fn open(
    broker: &Broker,
    path: &str,
    protocol: Option<&str>,
) -> Result<WebSocket<TcpStream>, String> {
    let mut request = format!("ws://{}{path}", broker.ws)
        .into_client_request()
        .unwrap();
    if let Some(protocol) = protocol {
        let headers = request.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", protocol.parse().unwrap());
    }
    let stream = TcpStream::connect(broker.ws).unwrap();
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(5)))
        .unwrap();
    match tungstenite::client::client(request, stream) {
        Ok((ws, response)) => {
            assert_eq!(
                response.headers().get("Sec-WebSocket-Protocol").unwrap(),
                protocol.unwrap()
            );
            Ok(ws)
        }
        Err(error) => Err(error.to_string()),
    }
}

fn bytes(packets: &[Packet]) -> BytesMut {
    let mut out = BytesMut::new();
    for packet in packets {
        encode(packet, Version::V311, &mut out).unwrap();
    }
    out
}

#[test]
fn packets_may_span_frames_and_share_them() {
    let broker = Broker::start();
    let mut subscriber = broker.client(Version::V311, "s");
    subscriber.subscribe("t", Qos::AtMostOnce);
    for (path, protocol) in [("/mqtt", "mqtt"), ("/", "mqttv3.1.1")] {
        let mut ws = open(&broker, path, Some(protocol)).unwrap();
        let mut all = bytes(&[
            Packet::Connect(Box::new(Connect::new(Version::V311, "w"))),
            Packet::Publish(publish("t", Qos::AtMostOnce, 0, "1")),
            Packet::Publish(publish("t", Qos::AtMostOnce, 0, "2")),
            Packet::Pingreq,
        ]);
        let first = all.split_to(5).freeze();
        ws.send(Message::Binary(first)).unwrap();
        ws.send(Message::Ping("x".into())).unwrap();
        ws.send(Message::Binary(all.freeze())).unwrap();
        subscriber.expect("t", "1");
        subscriber.expect("t", "2");
        let mut got = Vec::new();
        while got.len() < 6 {
            if let Message::Binary(bytes) = ws.read().unwrap() {
                got.extend_from_slice(&bytes);
            }
        }
        assert_eq!(got, [0x20, 2, 0, 0, 0xd0, 0]);
    }
}

#[test]
fn other_paths_protocols_and_text_are_refused() {
    let broker = Broker::start();
    let error = open(&broker, "/other", Some("mqtt")).unwrap_err();
    assert!(error.contains("404"), "{error}");
    let error = open(&broker, "/mqtt", None).unwrap_err();
    assert!(error.contains("400"), "{error}");
    let mut ws = open(&broker, "/mqtt", Some("mqtt")).unwrap();
    ws.send(Message::Text("hello".into())).unwrap();
    assert!(matches!(ws.read(), Ok(Message::Close(_)) | Err(_)));
}

#[test]
fn the_end_says_why() {
    let mut broker = Broker::start();
    let connect = Packet::Connect(Box::new(Connect::new(Version::V311, "w")));
    let forbidden = Packet::Publish(publish("forbidden", Qos::AtMostOnce, 0, ""));
    let goodbye = [0xE0, 0];
    for (more, code) in [
        (bytes(std::slice::from_ref(&connect)), CloseCode::Protocol),
        (bytes(&[forbidden]), CloseCode::Policy),
        (BytesMut::from(&goodbye[..]), CloseCode::Normal),
        (BytesMut::new(), CloseCode::Away),
    ] {
        let mut ws = open(&broker, "/mqtt", Some("mqtt")).unwrap();
        let mut all = bytes(std::slice::from_ref(&connect));
        all.extend_from_slice(&more);
        ws.send(Message::Binary(all.freeze())).unwrap();
        if code == CloseCode::Away {
            assert!(matches!(ws.read(), Ok(Message::Binary(_))));
            broker.stop();
        }
        let said = loop {
            if let Message::Close(frame) = ws.read().unwrap() {
                break frame.unwrap().code;
            }
        };
        assert_eq!(said, code);
    }
}
