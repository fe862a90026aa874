//! MQTT over WebSocket.

use std::time::{Duration, Instant};

use bifrust_e2e::client::Transport;
use bifrust_e2e::websocket::{Opcode, WebSocket};
use bifrust_e2e::wire::PINGREQ;
use bifrust_e2e::{Broker, Client, Connect, Packet, Publish, Received, VERSIONS, Version};

fn open(broker: &Broker, version: Version, client_id: &str) -> Client {
    let (socket, upgrade) = WebSocket::open(broker.ws(), "/mqtt", Some("mqtt"));
    assert_eq!(upgrade.status, 101, "{}", upgrade.head);
    let mut client = Client::over(Box::new(socket), version);
    assert_eq!(client.greet(&Connect::new(version, client_id)), 0);
    client
}

/// Reads MQTT bytes until the connection ends.
fn read_to_end(socket: &mut WebSocket) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        match socket.receive(&mut chunk, deadline) {
            Ok(0) => return bytes,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                panic!("the broker did not close; it sent {bytes:?}")
            }
            Err(_) => return bytes,
        }
    }
}

fn read_some(socket: &mut WebSocket, at_least: usize) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    while bytes.len() < at_least {
        let count = socket.receive(&mut chunk, deadline).expect("bytes in time");
        assert_ne!(count, 0, "closed after {bytes:?}");
        bytes.extend_from_slice(&chunk[..count]);
    }
    bytes
}

#[test]
fn paths_and_sub_protocols() {
    let broker = Broker::start();
    for path in ["/mqtt", "/"] {
        for (offer, chosen) in [
            ("mqtt", "mqtt"), // MQTT-6.0.0-3, -4
            ("mqttv3.1.1", "mqttv3.1.1"),
            ("mqttv3.1.1, mqtt", "mqttv3.1.1"),
            ("chat, mqtt", "mqtt"),
        ] {
            let (_, upgrade) = WebSocket::open(broker.ws(), path, Some(offer));
            assert_eq!(upgrade.status, 101, "{path} {offer}: {}", upgrade.head);
            let said = upgrade.header("sec-websocket-protocol");
            assert!(
                said == Some(chosen) || said == Some("mqtt"),
                "{offer}: {said:?}"
            );
            // The accept key of RFC 6455's own example.
            let accept = upgrade.header("sec-websocket-accept").map(str::to_owned);
            assert_eq!(accept.as_deref(), Some("s3pplmbitxaq9kygzzhzrbk+xoo="));
        }
    }
    let (_, upgrade) = WebSocket::open(broker.ws(), "/elsewhere", Some("mqtt"));
    assert_eq!(upgrade.status, 404, "{}", upgrade.head);
    let (_, upgrade) = WebSocket::open(broker.ws(), "/mqtt", Some("chat"));
    assert!((400..500).contains(&upgrade.status), "{}", upgrade.head);
}

#[test]
fn messages_flow_between_websocket_and_tcp() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut socket = open(&broker, version, "socket");
        let mut stream = broker.connect(&Connect::new(version, "stream"));
        socket.subscribe("from/stream", 2);
        stream.subscribe("from/socket", 2);
        for qos in 0..=2 {
            for size in [0, 100, 200, 70_000, 900_000] {
                let payload = vec![b'p'; size];
                socket.publish(&Publish::new("from/socket", &payload).qos(qos));
                assert!(stream.receive().payload == payload);
                stream.publish(&Publish::new("from/stream", &payload).qos(qos));
                assert!(socket.receive().payload == payload);
            }
        }
        socket.disconnect();
    }
}

#[test]
fn packets_may_be_cut_into_frames_anyhow() {
    let broker = Broker::start();
    // MQTT-6.0.0-2: packets need not align with frames.
    let (mut socket, _) = WebSocket::open(broker.ws(), "/mqtt", Some("mqtt"));
    let mut bytes = Connect::v3("cut").encode();
    bytes.extend_from_slice(PINGREQ);
    bytes.extend_from_slice(PINGREQ);
    for byte in &bytes[..bytes.len() - 4] {
        socket
            .send_frame(Opcode::Binary, true, &[*byte])
            .expect("open");
    }
    assert_eq!(read_some(&mut socket, 4), [0x20, 2, 0, 0]);
    socket
        .send_frame(Opcode::Binary, true, &bytes[bytes.len() - 4..])
        .expect("open");
    assert_eq!(read_some(&mut socket, 4), [0xD0, 0, 0xD0, 0]);
    // One message in fragments, with control frames between them (RFC 6455, 5.4).
    socket
        .send_frame(Opcode::Binary, false, &[0xC0])
        .expect("open");
    socket
        .send_frame(Opcode::Ping, true, b"are you there")
        .expect("open");
    socket
        .send_frame(Opcode::Continuation, false, &[])
        .expect("open");
    socket
        .send_frame(Opcode::Pong, true, b"unasked")
        .expect("open");
    socket
        .send_frame(Opcode::Continuation, true, &[0, 0xC0, 0])
        .expect("open");
    assert_eq!(read_some(&mut socket, 4), [0xD0, 0, 0xD0, 0]);
    assert_eq!(socket.pongs(), [b"are you there".to_vec()]);
    socket.send_frame(Opcode::Binary, true, &[]).expect("open");
    socket
        .send_frame(Opcode::Binary, true, PINGREQ)
        .expect("open");
    assert_eq!(read_some(&mut socket, 2), [0xD0, 0]);
}

#[test]
fn text_frames_end_the_connection() {
    let broker = Broker::start();
    let (mut socket, _) = WebSocket::open(broker.ws(), "/mqtt", Some("mqtt"));
    socket
        .send_frame(Opcode::Text, true, &Connect::v3("text").encode())
        .expect("open");
    assert!(read_to_end(&mut socket).is_empty()); // MQTT-6.0.0-1
    let mut client = open(&broker, Version::V3, "later");
    client.ping();
    // After CONNECT too.
    let (mut socket, _) = WebSocket::open(broker.ws(), "/mqtt", Some("mqtt"));
    socket
        .send_frame(Opcode::Binary, true, &Connect::v3("then-text").encode())
        .expect("open");
    assert_eq!(read_some(&mut socket, 4), [0x20, 2, 0, 0]);
    socket
        .send_frame(Opcode::Text, true, b"hello")
        .expect("open");
    read_to_end(&mut socket);
}

#[test]
fn bad_frames_end_the_connection_and_nothing_else() {
    let broker = Broker::start();
    let mut bystander = open(&broker, Version::V5, "bystander");
    let mut long_ping = vec![0x89, 0xFE, 0, 126, 0, 0, 0, 0];
    long_ping.resize(8 + 126, 0);
    let cases: [(&str, &[u8]); 6] = [
        ("not masked", &[0x82, 0x02, 0xC0, 0x00]),
        ("reserved bit", &[0xC2, 0x82, 0, 0, 0, 0, 0xC0, 0]),
        ("unknown opcode", &[0x83, 0x82, 0, 0, 0, 0, 0xC0, 0]),
        (
            "continuation of nothing",
            &[0x80, 0x82, 0, 0, 0, 0, 0xC0, 0],
        ),
        ("long ping", &long_ping),
        (
            "a frame of 2^62 bytes",
            &[0x82, 0xFF, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
    ];
    for (what, bytes) in cases {
        let mut client = open(&broker, Version::V3, "framing");
        std::io::Write::write_all(&mut client.socket(), bytes).expect("open");
        match client.poll(Instant::now() + Duration::from_secs(10)) {
            Received::Closed => {}
            other => panic!("{what}: {other:?}"),
        }
    }
    bystander.ping();
}

#[test]
fn a_close_frame_behind_a_request_costs_nobody_else_anything() {
    let broker = Broker::start();
    let mut request = Connect::v5("goodbye").encode();
    request.extend(PINGREQ);
    for index in 0..8 {
        // The answers to the packets have no way out once the Close frame was seen.
        let (mut socket, _) = WebSocket::open(broker.ws(), "/mqtt", Some("mqtt"));
        let mut bytes = WebSocket::frame(Opcode::Binary, true, &request);
        bytes.extend(WebSocket::frame(Opcode::Close, true, &[]));
        socket.send_raw(&bytes).expect("open");
        drop(socket);
        // Connections are spread over the shards: each of them has to go on.
        let mut client = broker.connect(&Connect::v5(format!("next {index}")));
        client.ping();
    }
}

#[test]
fn frames_above_the_packet_limit_end_the_connection() {
    let broker = Broker::builder()
        .setting("MaxUserPayloadBytes", 4096)
        .setting("MaxLastWillBytes", 1024)
        .start();
    let mut client = open(&broker, Version::V5, "large");
    // Several packets in one frame are fine up to the limit.
    let mut bytes = Vec::new();
    for _ in 0..1000 {
        bytes.extend_from_slice(PINGREQ);
    }
    client.send(&bytes);
    for _ in 0..1000 {
        assert!(matches!(client.next_answer(), Packet::Pingresp));
    }
    client.send_publish(&Publish::new("large", vec![0; 5000]));
    loop {
        match client.poll(Instant::now() + Duration::from_secs(10)) {
            Received::Packet(Packet::Disconnect { code, .. }) => assert_eq!(code, 0x95),
            Received::Closed => break,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn closing_handshake_is_answered() {
    let broker = Broker::start();
    let (mut socket, _) = WebSocket::open(broker.ws(), "/mqtt", Some("mqtt"));
    socket
        .send_frame(Opcode::Binary, true, &Connect::v3("closing").encode())
        .expect("open");
    assert_eq!(read_some(&mut socket, 4), [0x20, 2, 0, 0]);
    socket
        .send_frame(Opcode::Close, true, &1000_u16.to_be_bytes())
        .expect("open");
    read_to_end(&mut socket);
    assert_eq!(socket.close_code(), Some(1000));
}

#[test]
fn what_is_no_upgrade_is_refused() {
    let broker = Broker::start();
    let requests: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /mqtt HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"GET /mqtt HTTP/1.0\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
    ];
    for request in requests {
        let mut stream = std::net::TcpStream::connect(broker.ws()).expect("accepts");
        std::io::Write::write_all(&mut stream, request).expect("open");
        std::io::Write::write_all(&mut stream, b"\r\n\r\n").expect("open");
        let mut answer = Vec::new();
        stream
            .set_read_timeout(Some(Duration::from_secs(15)))
            .expect("a socket option");
        let mut chunk = [0; 1024];
        loop {
            match std::io::Read::read(&mut stream, &mut chunk) {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(&chunk[..count]),
                Err(error) => {
                    let is_late = error.kind() == std::io::ErrorKind::WouldBlock;
                    assert!(!is_late, "not closed: {}", String::from_utf8_lossy(request));
                    break;
                }
            }
        }
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    open(&broker, Version::V5, "after").ping();
}
