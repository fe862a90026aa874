//! Section 4.2 and chapter 6: TCP and WebSocket.

use bifrust_e2e::client::Transport;
use bifrust_e2e::websocket::{Opcode, WebSocket};

use crate::Scene;
use crate::bytes::bytes;
use crate::rows;

rows! {
    tcp_and_websockets_are_served: "4.2.0-1";
    text_frames_are_refused: "6.0.0-1";
    packets_and_frames_need_not_align: "6.0.0-2";
    mqtt_is_the_sub_protocol: "6.0.0-3", "6.0.0-4";
}

fn connected(scene: &Scene<'_>, id: &str) -> WebSocket {
    let (mut socket, upgrade) = scene.upgrade("mqtt");
    assert_eq!(upgrade.status, 101, "{}", upgrade.head);
    let connect = bytes(&format!("10 [<MQTT> 05 02 0000 [] <{id}>]"), "");
    socket.send(&connect).expect("sent");
    socket
}

fn tcp_and_websockets_are_served(scene: &Scene<'_>) {
    let mut tcp = scene.send("10 [<MQTT> 05 02 0000 [] <tcp5>]");
    tcp.expect("20 [00 00 *]");
    tcp.ask("82 [0001 [] <both5> 00]", "90 [0001 [] 00]");
    let mut web = scene.over(connected(scene, "web5"));
    web.expect("20 [00 00 *]");
    web.send("30 [<both5> [] 'x']");
    tcp.expect("30 [<both5> [] 'x']");
}

fn text_frames_are_refused(scene: &Scene<'_>) {
    let mut socket = connected(scene, "text5");
    // Text by all rules of WebSockets.
    let packet = bytes("30 [<t> [] 'x']", "");
    socket
        .send_frame(Opcode::Text, true, &packet)
        .expect("sent");
    let mut peer = scene.over(socket);
    peer.expect("20 [00 00 *]");
    match peer.packet() {
        None => {}
        Some(packet) if packet[0] == 0xE0 => peer.expect_end(),
        Some(_) => peer.fail("expected: the end"),
    }
}

fn packets_and_frames_need_not_align(scene: &Scene<'_>) {
    let mut socket = connected(scene, "align5");
    let text = "82 [0001 [] <align5> 01] 32 [<align5> 0001 [] 'x'] c000 c000";
    let packets = bytes(text, "");
    // Cut into single bytes, then all in one frame.
    for byte in &packets {
        socket
            .send_frame(Opcode::Binary, true, &[*byte])
            .expect("sent");
    }
    socket
        .send_frame(Opcode::Binary, true, &packets)
        .expect("sent");
    let mut peer = scene.over(socket);
    peer.expect("20 [00 00 *]");
    let half = [
        "90 [0001 [] 01]",
        "40 [0001 *]",
        "32 [<align5> ?? ?? [] 'x']",
        "d0 []",
        "d0 []",
    ];
    peer.expect_all(&[half, half].concat());
}

fn mqtt_is_the_sub_protocol(scene: &Scene<'_>) {
    for offer in ["mqtt", "chat, mqtt"] {
        let (_, upgrade) = scene.upgrade(offer);
        assert_eq!(upgrade.status, 101, "{}", upgrade.head);
        assert_eq!(upgrade.header("sec-websocket-protocol"), Some("mqtt"));
    }
}
