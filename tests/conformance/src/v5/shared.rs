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

/// A group of two that share a topic of its name.
struct Group<'a> {
    scene: &'a Scene<'a>,
    name: &'static str,
    qos: u8,
    /// Whether their sessions outlive their connections.
    is_kept: bool,
}

/// The member that was sent the message `x`, its name, the message's identifier, the other member.
type Sent = (Peer, String, String, Peer);

impl Group<'_> {
    fn member(&self, id: &str) -> Peer {
        let Self { name, qos, .. } = self;
        let mut peer = match self.is_kept {
            true => self.scene.v5_kept(id, 0),
            false => self.scene.v5(id),
        };
        let subscribe = format!("82 [0001 [] <$share/g/{name}> {qos:02x}]");
        peer.ask(&subscribe, &format!("90 [0001 [] {qos:02x}]"));
        peer
    }

    fn publish(&self, payload: &str) {
        let Self { name, qos, .. } = self;
        let first = 0x30 | qos << 1;
        let text = format!("{first:02x} [<{name}> 0001 [] '{payload}']");
        self.scene.v5("p").publish(&text);
    }

    fn one_of_two(&self) -> Sent {
        let names = [format!("{}-a", self.name), format!("{}-b", self.name)];
        let mut members = names.each_ref().map(|name| self.member(name));
        self.publish("x");
        // Whoever has it answers a ping with it before, or both do not have it yet.
        loop {
            for at in [0, 1] {
                members[at].send("c0 []");
                let packet = members[at].packet().unwrap_or_default();
                if packet.first() == Some(&0xD0) {
                    continue;
                }
                members[at].expect("d0 []");
                let [a, b] = members;
                let (chosen, other) = if at == 0 { (a, b) } else { (b, a) };
                return (chosen, names[at].clone(), id_of(&packet), other);
            }
        }
    }

    /// The next message is the next that the other member gets, and all.
    fn expect_next(&self, other: &mut Peer) {
        self.publish("next");
        let first = 0x30 | self.qos << 1;
        other.expect(&format!("{first:02x} [<{}> ?? ?? [] 'next']", self.name));
        other.ping();
    }
}

fn a_begun_exchange_waits_for_its_member(scene: &Scene<'_>) {
    for (name, is_received) in [("sent", false), ("received", true)] {
        let group = Group {
            scene,
            name,
            qos: 2,
            is_kept: true,
        };
        let (mut chosen, id, packet_id, mut other) = group.one_of_two();
        let received = (format!("50 [{packet_id}]"), format!("62 [{packet_id} *]"));
        if is_received {
            chosen.ask(&received.0, &received.1);
        }
        chosen.cut();
        other.ping();
        let mut chosen = scene.v5_kept(&id, 1);
        if is_received {
            chosen.expect(&received.1);
        } else {
            chosen.expect(&format!("3c [<{name}> {packet_id} [] 'x']"));
            chosen.ask(&received.0, &received.1);
        }
        chosen.send(&format!("70 [{packet_id}]"));
        chosen.ping();
        other.ping();
    }
}

fn what_a_lost_session_was_sent_goes_to_nobody(scene: &Scene<'_>) {
    for (name, is_kept) in [("kept", true), ("transient", false)] {
        let group = Group {
            scene,
            name,
            qos: 2,
            is_kept,
        };
        let (chosen, id, _, mut other) = group.one_of_two();
        chosen.cut();
        // Its session has ended once this one is let in.
        scene.v5(&id).leave();
        group.expect_next(&mut other);
    }
}

fn what_a_member_refuses_goes_to_nobody(scene: &Scene<'_>) {
    for (name, qos, is_kept) in [
        ("kept1", 1, true),
        ("kept2", 2, true),
        ("transient1", 1, false),
        ("transient2", 2, false),
    ] {
        let group = Group {
            scene,
            name,
            qos,
            is_kept,
        };
        let (mut chosen, id, packet_id, mut other) = group.one_of_two();
        let first = if qos == 1 { "40" } else { "50" };
        chosen.send(&format!("{first} [{packet_id} 83]"));
        chosen.ping();
        chosen.leave();
        group.expect_next(&mut other);
        if is_kept {
            // Not again to itself (MQTT-4.4.0-2).
            scene.v5_kept(&id, 1).ping();
        }
        scene.v5(&id).leave();
        other.ping();
    }
}
