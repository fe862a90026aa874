//! Sections 4.3 to 4.6, 4.9 and 4.13: delivery, order, quotas, errors.

use super::{BROKEN, breaks, id_of};
use crate::Scene;
use crate::rows;

rows! {
    qos_0_goes_as_qos_0: "4.3.1-1";
    qos_1_has_an_unused_identifier: "4.3.2-1", "4.3.2-2";
    qos_1_is_unacknowledged_until_puback: "4.3.2-3", "4.4.0-1";
    qos_1_is_acknowledged: "4.3.2-4";
    after_puback_an_identifier_is_new: "4.3.2-5";
    qos_2_has_an_unused_identifier: "4.3.3-1", "4.3.3-2";
    qos_2_is_unacknowledged_until_pubrec: "4.3.3-3", "4.4.0-1";
    pubrec_is_answered_with_pubrel: "4.3.3-4";
    pubrel_is_sent_until_pubcomp: "4.3.3-5", "4.3.3-6", "4.4.0-1";
    what_has_been_sent_does_not_expire: "4.3.3-7";
    qos_2_is_acknowledged: "4.3.3-8";
    after_a_refusal_an_identifier_is_new: "4.3.3-9";
    qos_2_is_delivered_once: "4.3.3-10";
    qos_2_is_delivered_once_across_connections: "4.3.3-10";
    pubrel_is_answered_with_pubcomp: "4.3.3-11";
    after_pubcomp_an_identifier_is_new: "4.3.3-12";
    the_exchange_goes_on_after_expiry: "4.3.3-13";
    a_live_connection_gets_nothing_again: "4.4.0-1";
    what_is_refused_is_not_sent_again: "4.4.0-2";
    messages_go_into_every_session: "4.5.0-1";
    what_comes_again_comes_in_order: "4.6.0-5", "4.6.0-1";
    acknowledgements_come_in_order: "4.6.0-2", "4.6.0-3";
    releases_come_in_order: "4.6.0-4";
    every_topic_is_ordered: "4.6.0-5", "4.6.0-6";
    the_first_quota_is_receive_maximum: "4.9.0-1";
    an_empty_quota_stops_qos_1_and_2: "4.9.0-2";
    packets_only_servers_send_end_the_connection: "4.13.1-1";
    a_failure_code_ends_the_connection: "4.13.2-1";
}

fn qos_0_goes_as_qos_0(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    for text in ["x", "y"] {
        let packet = format!("30 [<t> [] '{text}']");
        peer.ask(&packet, &packet);
    }
    peer.ping();
}

fn unused_identifiers(scene: &Scene<'_>, first: &str) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    let mut publisher = scene.v5("p");
    let mut ids = Vec::new();
    for round in 1..=20 {
        publisher.publish(&format!("{first} [<t> 0001 [] '{round}']"));
        let id = id_of(&peer.expect(&format!("{first} [<t> ?? ?? [] '{round}']")));
        assert!(id != "0000" && !ids.contains(&id), "{id} after {ids:?}");
        ids.push(id);
    }
}

fn qos_1_has_an_unused_identifier(scene: &Scene<'_>) {
    unused_identifiers(scene, "32");
}

fn qos_1_is_unacknowledged_until_puback(scene: &Scene<'_>) {
    let mut peer = scene.v5_kept("c", 0);
    peer.ask("82 [0001 [] <t> 01]", "90 [0001 [] 01]");
    let mut publisher = scene.v5("p");
    publisher.publish("32 [<t> 0001 [] 'one']");
    publisher.publish("32 [<t> 0001 [] 'two']");
    let one = id_of(&peer.expect("32 [<t> ?? ?? [] 'one']"));
    let two = id_of(&peer.expect("32 [<t> ?? ?? [] 'two']"));
    peer.send(&format!("40 [{two}]"));
    peer.ping();
    peer.cut();
    let mut peer = scene.v5_kept("c", 1);
    peer.expect(&format!("3a [<t> {one} [] 'one']"));
    peer.ping();
    peer.send(&format!("40 [{one} 00]"));
    peer.leave();
    scene.v5_kept("c", 1).ping();
}

fn qos_1_is_acknowledged(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.publish("32 [<t> 0001 [] 'nobody']");
    peer.ask("82 [0001 [] <t> 00]", "90 [0001 [] 00]");
    let mut publisher = scene.v5_kept("p", 0);
    for id in ["0001", "1234", "ffff"] {
        publisher.publish(&format!("32 [<t> {id} [] 'x']"));
        peer.expect("30 [<t> [] 'x']");
    }
}

fn after_puback_an_identifier_is_new(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 00]", "90 [0001 [] 00]");
    let mut publisher = scene.v5("p");
    for first in ["32", "3a", "32"] {
        publisher.publish(&format!("{first} [<t> 0007 [] 'x']"));
        peer.expect("30 [<t> [] 'x']");
    }
}

fn qos_2_has_an_unused_identifier(scene: &Scene<'_>) {
    unused_identifiers(scene, "34");
}

fn qos_2_is_unacknowledged_until_pubrec(scene: &Scene<'_>) {
    let mut peer = scene.v5_kept("c", 0);
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    scene.v5("p").publish("34 [<t> 0001 [] 'x']");
    let id = id_of(&peer.expect("34 [<t> ?? ?? [] 'x']"));
    for _ in 0..2 {
        peer.cut();
        peer = scene.v5_kept("c", 1);
        peer.expect(&format!("3c [<t> {id} [] 'x']"));
        peer.ping();
    }
}

fn pubrec_is_answered_with_pubrel(scene: &Scene<'_>) {
    for kept in [false, true] {
        let scene = scene.at(&format!("pubrel{kept}"));
        let mut peer = match kept {
            true => scene.v5_kept("c", 0),
            false => scene.v5("c"),
        };
        peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
        let mut publisher = scene.v5("p");
        for code in ["", "00", "10"] {
            publisher.publish("34 [<t> 0001 [] 'x']");
            let id = id_of(&peer.expect("34 [<t> ?? ?? [] 'x']"));
            peer.ask(&format!("50 [{id} {code}]"), &format!("62 [{id} *]"));
            peer.send(&format!("70 [{id}]"));
        }
    }
}

fn pubrel_is_sent_until_pubcomp(scene: &Scene<'_>) {
    let mut peer = scene.v5_kept("c", 0);
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    scene.v5("p").publish("34 [<t> 0001 [] 'x']");
    let id = id_of(&peer.expect("34 [<t> ?? ?? [] 'x']"));
    peer.ask(&format!("50 [{id}]"), &format!("62 [{id} *]"));
    // PUBREL until PUBCOMP, never PUBLISH.
    for _ in 0..2 {
        peer.cut();
        peer = scene.v5_kept("c", 1);
        peer.expect(&format!("62 [{id} *]"));
        peer.ping();
    }
    peer.send(&format!("70 [{id}]"));
    peer.leave();
    scene.v5_kept("c", 1).ping();
}

/// Waits until `seconds` have passed for the broker: a will with that delay is out.
fn pass(scene: &Scene<'_>, seconds: u32) {
    let mut watcher = scene.v5("clock");
    watcher.ask("82 [0001 [] <clock> 00]", "90 [0001 [] 00]");
    let fields = format!("<tick> [18 {seconds:08x}] <clock> <gone> <@>");
    let mut peer = scene.send(&format!("10 [<MQTT> 05 86 0000 [11 00000e10] {fields}]"));
    peer.expect("20 [?? 00 *]");
    peer.cut();
    watcher.expect("30 [<clock> [] 'gone']");
}

fn what_has_been_sent_does_not_expire(scene: &Scene<'_>) {
    let mut peer = scene.v5_kept("c", 0);
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    scene.v5("p").publish("34 [<t> 0001 [02 00000001] 'x']");
    let packet = peer.packet().unwrap_or_default();
    let id = id_of(&packet);
    pass(scene, 3);
    // It is finished, and begun again where it was not acknowledged.
    peer.cut();
    let mut peer = scene.v5_kept("c", 1);
    let again = peer.packet().unwrap_or_default();
    assert_eq!(again[0], 0x3C, "{again:02x?}");
    assert_eq!(id_of(&again), id);
    peer.ask(&format!("50 [{id}]"), &format!("62 [{id} *]"));
}

fn qos_2_is_acknowledged(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 00]", "90 [0001 [] 00]");
    let mut publisher = scene.v5_kept("p", 0);
    for id in ["0001", "1234", "ffff"] {
        publisher.publish(&format!("34 [<t> {id} [] 'x']"));
        peer.expect("30 [<t> [] 'x']");
    }
}

fn after_a_refusal_an_identifier_is_new(scene: &Scene<'_>) {
    let mut peer = scene.guarded();
    peer.ask(
        "10 [<MQTT> 05 c2 0000 [] <refusal5> <@> <p>]",
        "20 [00 00 *]",
    );
    peer.ask("82 [0001 [] <ok/new5> 00]", "90 [0001 [] 00]");
    peer.ask("34 [<no> 0007 [] 'x']", "50 [0007 87 *]");
    peer.send("34 [<ok/new5> 0007 [] 'x']");
    peer.expect_all(&["50 [0007 *]", "30 [<ok/new5> [] 'x']"]);
    peer.ask("62 [0007]", "70 [0007 *]");
}

fn qos_2_is_delivered_once(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 00]", "90 [0001 [] 00]");
    let mut publisher = scene.v5("p");
    publisher.ask("34 [<t> 0007 [] 'x']", "50 [0007 *]");
    publisher.ask("3c [<t> 0007 [] 'x']", "50 [0007 *]");
    publisher.ask("34 [<t> 0007 [] 'x']", "50 [0007 *]");
    publisher.ask("62 [0007]", "70 [0007]");
    publisher.ask("34 [<t> 0007 [] 'new']", "50 [0007 *]");
    peer.expect("30 [<t> [] 'x']");
    peer.expect("30 [<t> [] 'new']");
}

fn qos_2_is_delivered_once_across_connections(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 00]", "90 [0001 [] 00]");
    let mut publisher = scene.v5_kept("p", 0);
    publisher.ask("34 [<t> 0007 [] 'x']", "50 [0007 *]");
    publisher.cut();
    let mut publisher = scene.v5_kept("p", 1);
    publisher.ask("3c [<t> 0007 [] 'x']", "50 [0007 *]");
    publisher.ask("62 [0007]", "70 [0007]");
    publisher.ask("34 [<t> 0007 [] 'new']", "50 [0007 *]");
    peer.expect("30 [<t> [] 'x']");
    peer.expect("30 [<t> [] 'new']");
}

fn pubrel_is_answered_with_pubcomp(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    for id in ["0001", "1234", "ffff"] {
        peer.ask(&format!("34 [<t> {id} [] 'x']"), &format!("50 [{id} *]"));
        peer.ask(&format!("62 [{id}]"), &format!("70 [{id}]"));
        peer.ask(&format!("62 [{id}]"), &format!("70 [{id} 92 *]"));
    }
}

fn after_pubcomp_an_identifier_is_new(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 00]", "90 [0001 [] 00]");
    let mut publisher = scene.v5("p");
    for first in ["34", "3c", "34"] {
        publisher.publish(&format!("{first} [<t> 0007 [] 'x']"));
        peer.expect("30 [<t> [] 'x']");
    }
}

fn the_exchange_goes_on_after_expiry(scene: &Scene<'_>) {
    let mut publisher = scene.v5_kept("p", 0);
    publisher.ask("34 [<t> 0007 [02 00000001] 'x']", "50 [0007 *]");
    pass(scene, 3);
    publisher.ask("3c [<t> 0007 [02 00000001] 'x']", "50 [0007 *]");
    publisher.ask("62 [0007]", "70 [0007]");
}

fn a_live_connection_gets_nothing_again(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 02 <end> 00]", "90 [0001 [] 02 00]");
    let mut publisher = scene.v5("p");
    publisher.publish("32 [<t> 0001 [] 'x']");
    peer.expect("32 [<t> ?? ?? [] 'x']");
    pass(scene, 2);
    for _ in 0..5 {
        publisher.send("30 [<end> [] 'x']");
        peer.expect("30 [<end> [] 'x']");
        peer.ping();
    }
}

fn what_is_refused_is_not_sent_again(scene: &Scene<'_>) {
    let mut peer = scene.v5_kept("c", 0);
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    let mut publisher = scene.v5("p");
    publisher.publish("32 [<t> 0001 [] 'one']");
    publisher.publish("34 [<t> 0002 [] 'two']");
    let one = id_of(&peer.expect("32 [<t> ?? ?? [] 'one']"));
    let two = id_of(&peer.expect("34 [<t> ?? ?? [] 'two']"));
    peer.send(&format!("40 [{one} 80] 50 [{two} 97]"));
    peer.ping();
    peer.leave();
    scene.v5_kept("c", 1).ping();
}

fn messages_go_into_every_session(scene: &Scene<'_>) {
    for id in ["a", "b", "c"] {
        let mut peer = scene.v5_kept(id, 0);
        peer.ask("82 [0001 [] <t> 01]", "90 [0001 [] 01]");
        match id {
            "a" => peer.leave(),
            _ => peer.cut(),
        }
    }
    let mut live = scene.v5("live");
    live.ask("82 [0001 [] <t> 01]", "90 [0001 [] 01]");
    scene.v5("p").publish("32 [<t> 0001 [] 'x']");
    live.expect("32 [<t> ?? ?? [] 'x']");
    for id in ["a", "b", "c"] {
        scene.v5_kept(id, 1).expect("32 [<t> ?? ?? [] 'x']");
    }
}

fn what_comes_again_comes_in_order(scene: &Scene<'_>) {
    let mut peer = scene.v5_kept("c", 0);
    peer.ask("82 [0001 [] <t/+> 02]", "90 [0001 [] 02]");
    let mut publisher = scene.v5("p");
    let mut sent = Vec::new();
    for round in 1..=9 {
        let (first, again) = match round % 2 {
            0 => ("32", "3a"),
            _ => ("34", "3c"),
        };
        publisher.publish(&format!("{first} [<t/x> {round:04x} [] '{round}']"));
        let id = id_of(&peer.expect(&format!("{first} [<t/x> ?? ?? [] '{round}']")));
        sent.push(format!("{again} [<t/x> {id} [] '{round}']"));
    }
    peer.cut();
    let mut peer = scene.v5_kept("c", 1);
    for packet in &sent {
        peer.expect(packet);
    }
}

fn acknowledgements_come_in_order(scene: &Scene<'_>) {
    // Among subscribers whose messages are stored and such whose are not.
    let mut kept = scene.v5_kept("kept", 0);
    kept.ask("82 [0001 [] <slow> 02]", "90 [0001 [] 02]");
    let mut publisher = scene.v5_kept("p", 0);
    let mut packets = String::new();
    for round in 1..=30 {
        let topic = if round % 3 == 0 { "fast" } else { "slow" };
        packets.push_str(&format!("32 [<{topic}> {round:04x} [] 'x'] "));
        packets.push_str(&format!("34 [<{topic}> {:04x} [] 'x'] ", round + 100));
    }
    publisher.send(&packets);
    let (mut acks, mut recs) = (Vec::new(), Vec::new());
    for _ in 0..60 {
        let packet = publisher.expect_one(&["40 [?? ?? *]", "50 [?? ?? *]"]);
        match packet[0] {
            0x40 => acks.push(packet[3]),
            _ => recs.push(packet[3]),
        }
    }
    assert!(acks.is_sorted() && acks.len() == 30, "PUBACK: {acks:?}");
    assert!(recs.is_sorted() && recs.len() == 30, "PUBREC: {recs:?}");
}

fn releases_come_in_order(scene: &Scene<'_>) {
    let mut peer = scene.v5_kept("c", 0);
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    let mut publisher = scene.v5("p");
    let mut ids = Vec::new();
    for round in 1..=5 {
        publisher.publish(&format!("34 [<t> {round:04x} [] 'x']"));
        ids.push(id_of(&peer.expect("34 [<t> ?? ?? [] 'x']")));
    }
    // An order other than that of the messages.
    let order = [4, 0, 3, 1, 2].map(|at: usize| ids[at].clone());
    peer.send(&order.clone().map(|id| format!("50 [{id}] ")).concat());
    for id in order {
        peer.expect(&format!("62 [{id} *]"));
    }
}

fn every_topic_is_ordered(scene: &Scene<'_>) {
    let mut live = scene.v5("live");
    let mut kept = scene.v5_kept("kept", 0);
    for peer in [&mut live, &mut kept] {
        peer.ask("82 [0001 [] <t/#> 02]", "90 [0001 [] 02]");
    }
    let mut publisher = scene.v5("p");
    for (first, answer) in [("30", ""), ("32", "40"), ("34", "50")] {
        let id = |round: u16| match first {
            "30" => String::new(),
            _ => format!("{round:04x}"),
        };
        let packets = (1..=50).map(|n| format!("{first} [<t/a> {} [] '{n:03}'] ", id(n)));
        publisher.send(&packets.collect::<String>());
        let any = if first == "30" { "" } else { "?? ??" };
        for peer in [&mut live, &mut kept] {
            for round in 1..=50 {
                peer.expect(&format!("{first} [<t/a> {any} [] '{round:03}']"));
            }
        }
        for round in 1..=50 {
            if !answer.is_empty() {
                publisher.expect(&format!("{answer} [{round:04x} *]"));
            }
        }
    }
}

/// As many messages come as the window has room for, no more.
fn quota(scene: &Scene<'_>, window: u16) {
    let mut peer = scene.v5_with("c", &format!("21 {window:04x}"));
    peer.ask("82 [0001 [] <t> 01]", "90 [0001 [] 01]");
    let mut publisher = scene.v5("p");
    for round in 1..=window + 2 {
        publisher.publish(&format!("32 [<t> 0001 [] '{round}']"));
    }
    let mut ids = Vec::new();
    for round in 1..=window {
        ids.push(id_of(&peer.expect(&format!("32 [<t> ?? ?? [] '{round}']"))));
    }
    peer.ping();
    for (round, id) in ids.iter().enumerate().take(2) {
        peer.send(&format!("40 [{id}]"));
        peer.expect(&format!(
            "32 [<t> ?? ?? [] '{}']",
            usize::from(window) + round + 1
        ));
        peer.ping();
    }
}

fn the_first_quota_is_receive_maximum(scene: &Scene<'_>) {
    quota(scene, 2);
    quota(scene, 5);
}

fn an_empty_quota_stops_qos_1_and_2(scene: &Scene<'_>) {
    let mut peer = scene.v5_with("c", "21 0001");
    peer.ask("82 [0001 [] <t> 02 <zero> 00]", "90 [0001 [] 02 00]");
    let mut publisher = scene.v5("p");
    publisher.publish("32 [<t> 0001 [] 'one']");
    publisher.publish("34 [<t> 0002 [] 'two']");
    let one = id_of(&peer.expect("32 [<t> ?? ?? [] 'one']"));
    peer.ping();
    peer.send(&format!("40 [{one}]"));
    let two = id_of(&peer.expect("34 [<t> ?? ?? [] 'two']"));
    publisher.publish("32 [<t> 0003 [] 'three']");
    peer.ask(&format!("50 [{two}]"), &format!("62 [{two} *]"));
    peer.ping();
    peer.send(&format!("70 [{two}]"));
    peer.expect("32 [<t> ?? ?? [] 'three']");
}

fn packets_only_servers_send_end_the_connection(scene: &Scene<'_>) {
    let packets = [
        "00 []",
        "20 [00 00 []]",
        "90 [0001 [] 00]",
        "b0 [0001 [] 00]",
        "d0 []",
        "40 [00]",
        "40 [0001 00 [] 00]",
    ];
    breaks(scene, &packets, BROKEN);
}

fn a_failure_code_ends_the_connection(scene: &Scene<'_>) {
    for (packet, code) in [
        ("36 [<t> 0001 [] 'x']", "81"),
        ("30 [<#> [] 'x']", "90"),
        ("82 [0001 []]", "82"),
    ] {
        let mut peer = scene.v5("c");
        peer.send(packet);
        let farewell = peer.expect("e0 [?? *]");
        assert!(farewell[2] >= 0x80, "{code}: {farewell:02x?}");
        peer.expect_end();
    }
}
