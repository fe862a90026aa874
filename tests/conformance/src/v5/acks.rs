//! Sections 3.4 to 3.7: PUBACK, PUBREC, PUBREL, PUBCOMP.

use super::{BROKEN, breaks, id_of};
use crate::rows;
use crate::{Peer, Scene};

rows! {
    codes_of_puback_are_its_own: "3.4.2-1";
    puback_is_no_larger_than_asked: "3.4.2-2", "3.4.2-3";
    codes_of_pubrec_are_its_own: "3.5.2-1";
    pubrec_is_no_larger_than_asked: "3.5.2-2", "3.5.2-3";
    pubrel_with_other_flags_is_malformed: "3.6.1-1";
    codes_of_pubrel_are_its_own: "3.6.2-1";
    pubrel_is_no_larger_than_asked: "3.6.2-2", "3.6.2-3";
    codes_of_pubcomp_are_its_own: "3.7.2-1";
    pubcomp_is_no_larger_than_asked: "3.7.2-2", "3.7.2-3";
}

/// A client with few permissions that takes packets of 24 bytes: a reason has no room in them.
fn guarded(scene: &Scene<'_>, id: &str) -> Peer {
    let mut peer = scene.guarded();
    let connect = format!("10 [<MQTT> 05 c2 0000 [27 00000018] <{id}> <@> <p>]");
    peer.send(&connect);
    peer.expect("20 [00 00 *]");
    peer
}

fn small(peer: &mut Peer, send: &str, expect: &str) {
    let packet = peer.ask(send, expect);
    assert!(packet.len() <= 24, "{packet:02x?}");
}

fn codes_of_puback_are_its_own(scene: &Scene<'_>) {
    let mut peer = scene.guarded();
    peer.ask(
        "10 [<MQTT> 05 c2 0000 [] <puback5> <@> <p>]",
        "20 [00 00 *]",
    );
    peer.publish("32 [<ok/t> 0001 [] 'x']");
    peer.ask("32 [<no> 0002 [] 'x']", "40 [0002 87 *]");
    peer.ask("32 [<ok/t> 0003 [01 01] ff]", "40 [0003 99 *]");
    let long = "x/".repeat(300);
    peer.ask(&format!("32 [<ok/{long}> 0004 [] 'x']"), "40 [0004 90 *]");
    // A code that is none of its own, from the client.
    breaks(
        scene,
        &["40 [0001 01]", "40 [0001 92]", "40 [0001 a2]"],
        BROKEN,
    );
}

fn puback_is_no_larger_than_asked(scene: &Scene<'_>) {
    let mut peer = guarded(scene, "puback5s");
    small(&mut peer, "32 [<ok/t> 0001 [] 'x']", "40 [0001 *]");
    small(&mut peer, "32 [<no> 0002 [] 'x']", "40 [0002 87 *]");
}

fn codes_of_pubrec_are_its_own(scene: &Scene<'_>) {
    let mut peer = scene.guarded();
    peer.ask(
        "10 [<MQTT> 05 c2 0000 [] <pubrec5> <@> <p>]",
        "20 [00 00 *]",
    );
    peer.publish("34 [<ok/t> 0001 [] 'x']");
    peer.ask("34 [<no> 0002 [] 'x']", "50 [0002 87 *]");
    peer.ask("34 [<ok/t> 0003 [01 01] ff]", "50 [0003 99 *]");
    breaks(
        scene,
        &["50 [0001 01]", "50 [0001 92]", "50 [0001 a2]"],
        BROKEN,
    );
}

fn pubrec_is_no_larger_than_asked(scene: &Scene<'_>) {
    let mut peer = guarded(scene, "pubrec5s");
    small(&mut peer, "34 [<ok/t> 0001 [] 'x']", "50 [0001 *]");
    small(&mut peer, "34 [<no> 0002 [] 'x']", "50 [0002 87 *]");
}

fn pubrel_with_other_flags_is_malformed(scene: &Scene<'_>) {
    for first in ["60", "61", "63", "66", "6a"] {
        let mut peer = scene.v5("c");
        peer.ask("34 [<t> 0001 [] 'x']", "50 [0001 *]");
        peer.send(&format!("{first} [0001]"));
        peer.expect_dropped(BROKEN);
    }
}

fn codes_of_pubrel_are_its_own(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    scene.v5("p").publish("34 [<t> 0001 [] 'x']");
    let id = id_of(&peer.expect("34 [<t> ?? ?? [] 'x']"));
    peer.send(&format!("50 [{id}]"));
    peer.expect_one(&[
        &format!("62 [{id}]"),
        &format!("62 [{id} 00]"),
        &format!("62 [{id} 00 []]"),
    ]);
    peer.ask("62 [0009 92]", "70 [0009 92 *]");
    // A PUBREC for nothing.
    peer.ask("50 [7777]", "62 [7777 92 *]");
    breaks(
        scene,
        &["62 [0001 10]", "62 [0001 80]", "62 [0001 91]"],
        BROKEN,
    );
}

fn pubrel_is_no_larger_than_asked(scene: &Scene<'_>) {
    let mut peer = scene.v5_with("c", "27 00000018");
    peer.ask("82 [0001 [] <t> 02]", "90 [0001 [] 02]");
    scene.v5("p").publish("34 [<t> 0001 [] 'x']");
    let id = id_of(&peer.expect("34 [<t> ?? ?? [] 'x']"));
    small(&mut peer, &format!("50 [{id}]"), &format!("62 [{id} *]"));
    small(&mut peer, "50 [7777]", "62 [7777 92 *]");
}

fn codes_of_pubcomp_are_its_own(scene: &Scene<'_>) {
    let mut peer = scene.v5("c");
    peer.ask("34 [<t> 0001 [] 'x']", "50 [0001 *]");
    peer.send("62 [0001]");
    peer.expect_one(&["70 [0001]", "70 [0001 00]", "70 [0001 00 []]"]);
    peer.ask("62 [0001]", "70 [0001 92 *]");
    breaks(
        scene,
        &["70 [0001 10]", "70 [0001 80]", "70 [0001 91]"],
        BROKEN,
    );
}

fn pubcomp_is_no_larger_than_asked(scene: &Scene<'_>) {
    let mut peer = scene.v5_with("c", "27 00000018");
    small(&mut peer, "62 [7777]", "70 [7777 92 *]");
    peer.ask("34 [<t> 0001 [] 'x']", "50 [0001 *]");
    small(&mut peer, "62 [0001]", "70 [0001 *]");
}
