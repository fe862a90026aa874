//! Section 3.2: CONNACK.

use crate::Scene;
use crate::rows;

rows! {
    connack_comes_before_all_else: "3.2.0-1";
    a_clean_session_is_not_present: "3.2.2-1";
    a_stored_session_is_present: "3.2.2-2";
    no_stored_session_is_not_present: "3.2.2-3";
    a_refusal_has_no_session_and_ends_the_connection: "3.2.2-4", "3.2.2-5";
    a_refusal_without_a_code_is_silent: "3.2.2-6";
}

fn connack_comes_before_all_else(scene: &Scene<'_>) {
    let connect = "10 [<MQTT> 04 80 0000 <c> <@>]";
    let mut peer = scene.send(&format!("{connect} c0 [] 82 [0001 <t> 01]"));
    peer.expect("20 [00 00]");
    peer.expect("d0 []");
    peer.expect("90 [0001 01]");
    peer.leave();
    scene.v4("p").ask("32 [<t> 0001 'x']", "40 [0001]");
    // Also before what waited for the session.
    let mut peer = scene.send(&format!("{connect} c0 []"));
    peer.expect("20 [01 00]");
    peer.expect_all(&["d0 []", "32 [<t> ?? ?? 'x']"]);
}

fn a_clean_session_is_not_present(scene: &Scene<'_>) {
    scene.v4_kept("c", 0).leave();
    scene.v4("c").ping();
}

fn a_stored_session_is_present(scene: &Scene<'_>) {
    scene.v4_kept("c", 0).leave();
    scene.v4_kept("c", 1).cut();
    scene.v4_kept("c", 1).ping();
}

fn no_stored_session_is_not_present(scene: &Scene<'_>) {
    scene.v4_kept("never", 0).ping();
    scene.v4("clean").leave();
    scene.v4_kept("clean", 0).ping();
}

fn a_refusal_has_no_session_and_ends_the_connection(scene: &Scene<'_>) {
    // A session of that name is there, but another user's.
    scene.v4_kept("c", 0).leave();
    scene
        .send("10 [<MQTT> 04 80 0000 <c> <@x>]")
        .expect_refused(5);
    let mut peer = scene.guarded();
    peer.send("10 [<MQTT> 04 c2 0000 <c> <@> <wrong>]");
    peer.expect("20 [00 04]");
    peer.expect_end();
}

fn a_refusal_without_a_code_is_silent(scene: &Scene<'_>) {
    // No code says that a topic is none.
    for topic in ["<>", "<a/#>", "<+>"] {
        let connect = format!("10 [<MQTT> 04 86 0000 <c> {topic} <gone> <@>]");
        scene.send(&connect).expect_end();
    }
}
