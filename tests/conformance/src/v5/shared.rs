//! Section 4.8: shared subscriptions.

use super::id_of;
use crate::rows;
use crate::{Peer, Scene};

rows! {
    a_share_has_a_name: "4.8.2-1";
    a_share_name_is_one_level_before_a_filter: "4.8.2-2";
    a_share_respects_the_granted_qos: "4.8.2-3";
    a_begun_exchange_waits_for_its_member: "4.8.2-4";
    what_a_lost_session_was_sent_goes_to_nobody: "4.8.2-5";
    what_a_member_refuses_goes_to_nobody: "4.8.2-6";
}

/// Fails the filter, or ends the connection.
fn refused(scene: &Scene<'_>, filter: &str) {
    let mut peer = scene.v5("c");
    peer.send(&format!("82 [0001 [] {filter} 00]"));
    match peer.packet() {
        None => {}
        Some(packet) if packet[0] == 0x90 && packet.last() == Some(&0x8F) => {}
        Some(packet) if packet[0] == 0xE0 => {}
        Some(_) => peer.fail("expected: 0x8F, or the end"),
    }
}

fn a_share_has_a_name(scene: &Scene<'_>) {
    for filter in ["<$share//t>", "<$share/>"] {
        refused(scene, filter);
    }
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <$share/g/t> 00]", "90 [0001 [] 00]");
    peer.ask("30 [<t> [] 'x']", "30 [<t> [] 'x']");
}

fn a_share_name_is_one_level_before_a_filter(scene: &Scene<'_>) {
    for filter in ["<$share/+/t>", "<$share/g#/t>", "<$share/g>", "<$share/g/>"] {
        refused(scene, filter);
    }
    let mut peer = scene.v5("c");
    let filters = "<$share/g/a/+> 00 <$share/g/#> 00 <$share/h//> 00";
    peer.ask(&format!("82 [0001 [] {filters}]"), "90 [0001 [] 00 00 00]");
}

fn a_share_respects_the_granted_qos(scene: &Scene<'_>) {
    for granted in 0..3_u8 {
        let mut peer = scene.v5("c");
        let filter = format!("<$share/g{granted}/t{granted}>");
        let answer = format!("90 [0001 [] {granted:02x}]");
        peer.ask(&format!("82 [0001 [] {filter} {granted:02x}]"), &answer);
        scene
            .v5("p")
            .publish(&format!("34 [<t{granted}> 0001 [] 'x']"));
        match granted {
            0 => peer.expect("30 [<t0> [] 'x']"),
            1 => peer.expect("32 [<t1> ?? ?? [] 'x']"),
            _ => peer.expect("34 [<t2> ?? ?? [] 'x']"),
        };
    }
}

fn member(scene: &Scene<'_>, id: &str) -> Peer {
    let mut peer = scene.v5_kept(id, 0);
    peer.ask("82 [0001 [] <$share/g/t> 02]", "90 [0001 [] 02]");
    peer
}

/// A group of two; the one that was sent a QoS 2 message, its name, its identifier, the other one.
fn one_of_two(scene: &Scene<'_>) -> (Peer, &'static str, String, Peer) {
    let mut first = member(scene, "a");
    let mut second = member(scene, "b");
    scene.v5("p").publish("34 [<t> 0001 [] 'x']");
    // Whoever has it answers a ping with it before, or both do not have it yet.
    loop {
        for (name, is_first) in [("a", true), ("b", false)] {
            let peer = if is_first { &mut first } else { &mut second };
            peer.send("c0 []");
            let packet = peer.packet().unwrap_or_default();
            if packet.first() != Some(&0xD0) {
                let id = id_of(&packet);
                peer.expect("d0 []");
                return match is_first {
                    true => (first, name, id, second),
                    false => (second, name, id, first),
                };
            }
        }
    }
}

fn a_begun_exchange_waits_for_its_member(scene: &Scene<'_>) {
    let (chosen, name, id, mut other) = one_of_two(scene);
    chosen.cut();
    other.ping();
    let mut chosen = scene.v5_kept(name, 1);
    chosen.expect(&format!("3c [<t> {id} [] 'x']"));
    chosen.ask(&format!("50 [{id}]"), &format!("62 [{id} *]"));
    chosen.send(&format!("70 [{id}]"));
    chosen.ping();
    other.ping();
}

fn what_a_lost_session_was_sent_goes_to_nobody(scene: &Scene<'_>) {
    let (chosen, name, _, mut other) = one_of_two(scene);
    chosen.cut();
    scene.v5(name).leave();
    scene.v5("p").publish("34 [<t> 0001 [] 'next']");
    other.expect("34 [<t> ?? ?? [] 'next']");
    other.ping();
}

fn what_a_member_refuses_goes_to_nobody(scene: &Scene<'_>) {
    let (mut chosen, _, id, mut other) = one_of_two(scene);
    chosen.send(&format!("50 [{id} 83]"));
    chosen.ping();
    chosen.leave();
    scene.v5("p").publish("34 [<t> 0001 [] 'next']");
    other.expect("34 [<t> ?? ?? [] 'next']");
    other.ping();
}
