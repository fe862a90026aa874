//! Sections 4.3 to 4.6 and 4.8: delivery, order, errors; chapters 6 and 7.

use bifrust_e2e::client::Transport;
use bifrust_e2e::websocket::{Opcode, WebSocket};

use crate::Scene;
use crate::bytes::bytes;
use crate::rows;

rows! {
    qos_0_is_sent_as_qos_0: "4.3.1-1";
    qos_1_is_sent_until_it_is_acknowledged: "4.3.2-1";
    qos_1_is_taken_as_new_after_its_acknowledgement: "4.3.2-2";
    qos_2_is_sent_in_its_two_steps: "4.3.3-1";
    qos_2_is_not_sent_again_after_pubrel: "4.3.3-1", "4.4.0-1";
    qos_2_is_taken_once: "4.3.3-2";
    qos_2_is_taken_once_across_connections: "4.3.3-2";
    what_is_unacknowledged_is_sent_again: "4.4.0-1";
    nothing_is_sent_again_on_a_live_connection: "4.4.0-1";
    messages_go_into_the_session_of_each_subscriber: "4.5.0-1";
    what_is_sent_again_keeps_its_order: "4.6.0-1", "4.6.0-6";
    acknowledgements_keep_the_order_of_their_messages: "4.6.0-2", "4.6.0-3";
    releases_keep_the_order_of_pubrec: "4.6.0-4";
    topics_are_ordered: "4.6.0-5", "4.6.0-6";
    broken_rules_end_the_connection: "4.8.0-1";
    text_frames_end_the_connection: "6.0.0-1";
    frames_and_packets_need_not_align: "6.0.0-2";
    the_sub_protocol_is_mqtt: "6.0.0-3", "6.0.0-4";
    no_extension_is_needed: "7.0.0-2";
    tcp_and_websocket_are_served: "7.1.1-1";
}

fn qos_0_is_sent_as_qos_0(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 02]", "90 [0001 02]");
    for text in ["x", "y"] {
        peer.ask(&format!("30 [<t> '{text}']"), &format!("30 [<t> '{text}']"));
    }
    // Nothing waits for an answer.
    peer.ping();
}

fn qos_1_is_sent_until_it_is_acknowledged(scene: &Scene<'_>) {
    let mut peer = scene.v4_kept("c", 0);
    peer.ask("82 [0001 <t> 01]", "90 [0001 01]");
    let mut publisher = scene.v4("p");
    publisher.ask("32 [<t> 0001 'one']", "40 [0001]");
    publisher.ask("32 [<t> 0001 'two']", "40 [0001]");
    let one = peer.expect("32 [<t> ?? ?? 'one']");
    let two = peer.expect("32 [<t> ?? ?? 'two']");
    assert_ne!(one[5..7], two[5..7], "an identifier in use");
    peer.send(&format!("40 [{:02x}{:02x}]", two[5], two[6]));
    peer.ping();
    peer.cut();
    let again = format!("3a [<t> {:02x}{:02x} 'one']", one[5], one[6]);
    let mut peer = scene.v4_kept("c", 1);
    peer.expect(&again);
    peer.ping();
    peer.send(&format!("40 [{:02x}{:02x}]", one[5], one[6]));
    peer.leave();
    scene.v4_kept("c", 1).ping();
}

fn qos_1_is_taken_as_new_after_its_acknowledgement(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 00]", "90 [0001 00]");
    let mut publisher = scene.v4("p");
    for first in ["32", "3a", "32"] {
        publisher.ask(&format!("{first} [<t> 0007 'x']"), "40 [0007]");
        peer.expect("30 [<t> 'x']");
    }
}

fn qos_2_is_sent_in_its_two_steps(scene: &Scene<'_>) {
    let mut peer = scene.v4_kept("c", 0);
    peer.ask("82 [0001 <t> 02]", "90 [0001 02]");
    let mut publisher = scene.v4("p");
    publisher.ask("34 [<t> 0001 'one']", "50 [0001]");
    publisher.ask("34 [<t> 0002 'two']", "50 [0002]");
    let one = peer.expect("34 [<t> ?? ?? 'one']");
    let two = peer.expect("34 [<t> ?? ?? 'two']");
    assert_ne!(one[5..7], two[5..7], "an identifier in use");
    for packet in [one, two] {
        let id = format!("{:02x}{:02x}", packet[5], packet[6]);
        peer.ask(&format!("50 [{id}]"), &format!("62 [{id}]"));
        peer.send(&format!("70 [{id}]"));
    }
    peer.leave();
    scene.v4_kept("c", 1).ping();
}

fn qos_2_is_not_sent_again_after_pubrel(scene: &Scene<'_>) {
    let mut peer = scene.v4_kept("c", 0);
    peer.ask("82 [0001 <t> 02]", "90 [0001 02]");
    scene.v4("p").ask("34 [<t> 0001 'x']", "50 [0001]");
    let packet = peer.expect("34 [<t> ?? ?? 'x']");
    let id = format!("{:02x}{:02x}", packet[5], packet[6]);
    peer.ask(&format!("50 [{id}]"), &format!("62 [{id}]"));
    peer.cut();
    // PUBREL until PUBCOMP, never PUBLISH.
    for _ in 0..2 {
        let mut peer = scene.v4_kept("c", 1);
        peer.expect(&format!("62 [{id}]"));
        peer.ping();
        peer.cut();
    }
    let mut peer = scene.v4_kept("c", 1);
    peer.expect(&format!("62 [{id}]"));
    peer.send(&format!("70 [{id}]"));
    peer.leave();
    scene.v4_kept("c", 1).ping();
}

fn qos_2_is_taken_once(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 00]", "90 [0001 00]");
    let mut publisher = scene.v4("p");
    publisher.ask("34 [<t> 0007 'x']", "50 [0007]");
    publisher.ask("3c [<t> 0007 'x']", "50 [0007]");
    publisher.ask("3c [<t> 0007 'x']", "50 [0007]");
    publisher.ask("62 [0007]", "70 [0007]");
    // A release again is answered again.
    publisher.ask("62 [0007]", "70 [0007]");
    publisher.ask("34 [<t> 0007 'new']", "50 [0007]");
    peer.expect("30 [<t> 'x']");
    peer.expect("30 [<t> 'new']");
}

fn qos_2_is_taken_once_across_connections(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 00]", "90 [0001 00]");
    let mut publisher = scene.v4_kept("p", 0);
    publisher.ask("34 [<t> 0007 'x']", "50 [0007]");
    publisher.cut();
    let mut publisher = scene.v4_kept("p", 1);
    publisher.ask("3c [<t> 0007 'x']", "50 [0007]");
    publisher.ask("62 [0007]", "70 [0007]");
    publisher.ask("34 [<t> 0007 'new']", "50 [0007]");
    peer.expect("30 [<t> 'x']");
    peer.expect("30 [<t> 'new']");
}

fn what_is_unacknowledged_is_sent_again(scene: &Scene<'_>) {
    let mut peer = scene.v4_kept("c", 0);
    peer.ask("82 [0001 <t> 02]", "90 [0001 02]");
    let mut publisher = scene.v4("p");
    publisher.ask("34 [<t> 0001 'released']", "50 [0001]");
    publisher.ask("32 [<t> 0002 'one']", "40 [0002]");
    publisher.ask("34 [<t> 0003 'two']", "50 [0003]");
    let first = peer.expect("34 [<t> ?? ?? 'released']");
    let one = peer.expect("32 [<t> ?? ?? 'one']");
    let two = peer.expect("34 [<t> ?? ?? 'two']");
    let id = format!("{:02x}{:02x}", first[5], first[6]);
    peer.ask(&format!("50 [{id}]"), &format!("62 [{id}]"));
    peer.cut();
    let mut peer = scene.v4_kept("c", 1);
    peer.expect_all(&[
        &format!("62 [{id}]"),
        &format!("3a [<t> {:02x}{:02x} 'one']", one[5], one[6]),
        &format!("3c [<t> {:02x}{:02x} 'two']", two[5], two[6]),
    ]);
    peer.ping();
}

fn nothing_is_sent_again_on_a_live_connection(scene: &Scene<'_>) {
    let mut peer = scene.v4("c");
    peer.ask("82 [0001 <t> 02 <end> 00]", "90 [0001 02 00]");
    let mut publisher = scene.v4("p");
    publisher.ask("32 [<t> 0001 'x']", "40 [0001]");
    peer.expect("32 [<t> ?? ?? 'x']");
    for _ in 0..5 {
        publisher.send("30 [<end> 'x']");
        peer.expect("30 [<end> 'x']");
        peer.ping();
    }
}

fn messages_go_into_the_session_of_each_subscriber(scene: &Scene<'_>) {
    for id in ["a", "b", "c"] {
        let mut peer = scene.v4_kept(id, 0);
        peer.ask("82 [0001 <t> 01]", "90 [0001 01]");
        match id {
            "a" => peer.leave(),
            _ => peer.cut(),
        }
    }
    let mut live = scene.v4("live");
    live.ask("82 [0001 <t> 01]", "90 [0001 01]");
    scene.v4("p").ask("32 [<t> 0001 'x']", "40 [0001]");
    live.expect("32 [<t> ?? ?? 'x']");
    for id in ["a", "b", "c"] {
        scene.v4_kept(id, 1).expect("32 [<t> ?? ?? 'x']");
    }
}

fn what_is_sent_again_keeps_its_order(scene: &Scene<'_>) {
    let mut peer = scene.v4_kept("c", 0);
    peer.ask("82 [0001 <t/+> 02]", "90 [0001 02]");
    let mut publisher = scene.v4("p");
    let mut sent = Vec::new();
    for round in 1..=9 {
        let (first, again, answer) = match round % 2 {
            0 => ("32", "3a", "40"),
            _ => ("34", "3c", "50"),
        };
        publisher.send(&format!("{first} [<t/x> {round:04x} '{round}']"));
        publisher.expect(&format!("{answer} [{round:04x}]"));
        let packet = peer.expect(&format!("{first} [<t/x> ?? ?? '{round}']"));
        sent.push(format!(
            "{again} [<t/x> {:02x}{:02x} '{round}']",
            packet[7], packet[8]
        ));
    }
    peer.cut();
    let mut peer = scene.v4_kept("c", 1);
    for packet in &sent {
        peer.expect(packet);
    }
}

fn acknowledgements_keep_the_order_of_their_messages(scene: &Scene<'_>) {
    // Among subscribers whose messages are stored and such whose are not.
    let mut kept = scene.v4_kept("kept", 0);
    kept.ask("82 [0001 <slow> 02]", "90 [0001 02]");
    let mut publisher = scene.v4_kept("p", 0);
    let mut packets = String::new();
    for round in 1..=30 {
        let topic = if round % 3 == 0 { "fast" } else { "slow" };
        packets.push_str(&format!("32 [<{topic}> {:04x} 'x'] ", round));
        packets.push_str(&format!("34 [<{topic}> {:04x} 'x'] ", round + 100));
    }
    publisher.send(&packets);
    let (mut acks, mut recs) = (Vec::new(), Vec::new());
    for _ in 0..60 {
        let packet = publisher.expect_one(&["40 [?? ??]", "50 [?? ??]"]);
        let list = if packet[0] == 0x40 {
            &mut acks
        } else {
            &mut recs
        };
        list.push(packet[3]);
    }
    assert!(acks.is_sorted() && acks.len() == 30, "PUBACK: {acks:?}");
    assert!(recs.is_sorted() && recs.len() == 30, "PUBREC: {recs:?}");
}

fn releases_keep_the_order_of_pubrec(scene: &Scene<'_>) {
    let mut peer = scene.v4_kept("c", 0);
    peer.ask("82 [0001 <t> 02]", "90 [0001 02]");
    let mut publisher = scene.v4("p");
    let mut ids = Vec::new();
    for round in 1..=5 {
        publisher.send(&format!("34 [<t> {round:04x} 'x']"));
        publisher.expect("50 [?? ??]");
        let packet = peer.expect("34 [<t> ?? ?? 'x']");
        ids.push(format!("{:02x}{:02x}", packet[5], packet[6]));
    }
    // An order other than that of the messages.
    let order = [4, 0, 3, 1, 2].map(|at: usize| ids[at].clone());
    peer.send(&order.clone().map(|id| format!("50 [{id}] ")).concat());
    for id in order {
        peer.expect(&format!("62 [{id}]"));
    }
}

fn topics_are_ordered(scene: &Scene<'_>) {
    let mut live = scene.v4("live");
    let mut kept = scene.v4_kept("kept", 0);
    for peer in [&mut live, &mut kept] {
        peer.ask("82 [0001 <t/#> 02]", "90 [0001 02]");
    }
    let mut publisher = scene.v4("p");
    for first in ["30", "32", "34"] {
        let id = |round: u16| match first {
            "30" => String::new(),
            _ => format!("{round:04x}"),
        };
        let packets = (1..=50).map(|round| format!("{first} [<t/a> {} '{round:03}'] ", id(round)));
        publisher.send(&packets.collect::<String>());
        let any = if first == "30" { "" } else { "?? ??" };
        for peer in [&mut live, &mut kept] {
            for round in 1..=50 {
                peer.expect(&format!("{first} [<t/a> {any} '{round:03}']"));
            }
        }
        let answer = match first {
            "32" => "40",
            "34" => "50",
            _ => continue,
        };
        for round in 1..=50 {
            publisher.expect(&format!("{answer} [{round:04x}]"));
        }
    }
}

fn broken_rules_end_the_connection(scene: &Scene<'_>) {
    for packet in [
        "00 []",
        "f0 []",
        "20 [00 00]",
        "90 [0001 00]",
        "b0 [0001]",
        "d0 []",
        "40 [00]",
        "40 [0001 00]",
        "30 8080808001",
    ] {
        let mut peer = scene.v4("c");
        peer.send(packet);
        peer.expect_end();
    }
}

fn connected(scene: &Scene<'_>, id: &str) -> WebSocket {
    let (mut socket, upgrade) = scene.upgrade("mqtt");
    assert_eq!(upgrade.status, 101, "{}", upgrade.head);
    let connect = bytes(&format!("10 [<MQTT> 04 02 0000 <{id}>]"), "");
    socket.send(&connect).expect("sent");
    socket
}

fn text_frames_end_the_connection(scene: &Scene<'_>) {
    let mut socket = connected(scene, "text4");
    // Text by all rules of WebSockets.
    let packet = bytes("30 [<t> 'x']", "");
    socket
        .send_frame(Opcode::Text, true, &packet)
        .expect("sent");
    let mut peer = scene.over(socket);
    peer.expect("20 [00 00]");
    peer.expect_end();
}

fn frames_and_packets_need_not_align(scene: &Scene<'_>) {
    let mut socket = connected(scene, "align4");
    let packets = bytes("82 [0001 <align4> 01] 32 [<align4> 0001 'x'] c000 c000", "");
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
    peer.expect("20 [00 00]");
    let half = [
        "90 [0001 01]",
        "40 [0001]",
        "32 [<align4> ?? ?? 'x']",
        "d0 []",
        "d0 []",
    ];
    peer.expect_all(&[half, half].concat());
}

fn the_sub_protocol_is_mqtt(scene: &Scene<'_>) {
    for offer in ["mqtt", "chat, mqtt"] {
        let (_, upgrade) = scene.upgrade(offer);
        assert_eq!(upgrade.status, 101, "{}", upgrade.head);
        assert_eq!(upgrade.header("sec-websocket-protocol"), Some("mqtt"));
    }
}

fn no_extension_is_needed(scene: &Scene<'_>) {
    // The least that a client can send: no user, no password, no option.
    let mut peer = scene.send("10 [<MQTT> 04 02 0000 <plain4>]");
    peer.expect("20 [00 00]");
    peer.ask("82 [0001 <plain4> 00]", "90 [0001 00]");
    peer.ask("30 [<plain4> 'x']", "30 [<plain4> 'x']");
    peer.ask("a2 [0002 <plain4>]", "b0 [0002]");
    peer.leave();
}

fn tcp_and_websocket_are_served(scene: &Scene<'_>) {
    let mut tcp = scene.send("10 [<MQTT> 04 02 0000 <tcp4>]");
    tcp.expect("20 [00 00]");
    tcp.ask("82 [0001 <both4> 00]", "90 [0001 00]");
    let mut web = scene.over(connected(scene, "web4"));
    web.expect("20 [00 00]");
    web.send("30 [<both4> 'x']");
    tcp.expect("30 [<both4> 'x']");
}
