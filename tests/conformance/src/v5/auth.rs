//! Sections 3.15 and 4.12: AUTH, by SCRAM-SHA-256 (RFC 5802 and 7677).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::{BROKEN, breaks};
use crate::bytes::split;
use crate::fields::{Properties, connack, section, values};
use crate::rows;
use crate::{Peer, Scene};

rows! {
    auth_with_flags_ends_the_connection: "3.15.1-1";
    codes_of_auth_are_its_own: "3.15.2-1";
    auth_is_no_larger_than_asked: "3.15.2-2", "3.15.2-3";
    an_unknown_method_is_refused: "4.12.0-1";
    a_challenge_says_continue: "4.12.0-2", "3.15.2-1";
    an_answer_says_continue: "4.12.0-3";
    a_wrong_proof_ends_the_connection: "4.12.0-4", "3.2.2-7";
    every_auth_names_the_method: "4.12.0-5";
    without_a_method_there_is_no_auth: "4.12.0-6", "4.12.0-7";
    another_method_ends_the_connection: "4.12.1-1";
    a_failed_repetition_ends_the_connection: "4.12.1-2";
    nothing_but_auth_comes_before_connack: "3.1.2-30", "3.2.0-1";
}

const METHOD: &str = "15 <SCRAM-SHA-256>";
const FIRST: &str = "n=t/u,r=fyko+d2lbbFgONRv9qkxdawL";

fn sign(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// The client's last message.
fn proof(challenge: &str, password: &str) -> String {
    let field = |name: &str| {
        let found = challenge
            .split(',')
            .find_map(|field| field.strip_prefix(name));
        found.expect("a challenge has it")
    };
    let salt = STANDARD.decode(field("s=")).expect("base 64");
    let rounds = field("i=").parse().expect("a number");
    let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), &salt, rounds);
    let key = sign(&salted, b"Client Key");
    let plain = format!("c=biws,r={}", field("r="));
    let signed = format!("{FIRST},{challenge},{plain}");
    let signature = sign(&Sha256::digest(&key), signed.as_bytes());
    let proof: Vec<u8> = key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    format!("{plain},p={}", STANDARD.encode(proof))
}

/// What AUTH says.
fn auth(packet: &[u8]) -> Properties {
    let (first, body) = split(packet).expect("a whole packet");
    assert_eq!(first, 0xF0, "AUTH expected: {packet:02x?}");
    section(&body[1..]).0
}

fn challenge(packet: &[u8]) -> String {
    let properties = auth(packet);
    assert_eq!(values(&properties, 0x15), [b"SCRAM-SHA-256"]);
    let data = values(&properties, 0x16);
    String::from_utf8(data[0].to_vec()).expect("text")
}

/// CONNECT up to the challenge.
fn challenged(scene: &Scene<'_>, id: &str, properties: &str) -> (Peer, Vec<u8>) {
    let mut peer = scene.guarded();
    let properties = format!("{METHOD} 16 ('n,,{FIRST}') {properties}");
    peer.send(&format!("10 [<MQTT> 05 02 0000 [{properties}] <{id}>]"));
    let packet = peer.expect("f0 [18 *]");
    (peer, packet)
}

/// All of CONNECT; what CONNACK says.
fn let_in(scene: &Scene<'_>, id: &str) -> (Peer, Properties) {
    let (mut peer, packet) = challenged(scene, id, "");
    let proof = proof(&challenge(&packet), "p");
    peer.send(&format!("f0 [18 [{METHOD} 16 ('{proof}')]]"));
    let properties = connack(&peer.expect("20 [00 00 *]"));
    (peer, properties)
}

fn auth_with_flags_ends_the_connection(scene: &Scene<'_>) {
    let packets = ["f1", "f2", "f8"].map(|first| format!("{first} [18 [15 <m>]]"));
    breaks(scene, &packets, &[0x81]);
    let (mut peer, _) = let_in(scene, "flags5");
    peer.send(&format!("f1 [19 [{METHOD} 16 ('n,,{FIRST}')]]"));
    peer.expect_dropped(&[0x81]);
}

fn codes_of_auth_are_its_own(scene: &Scene<'_>) {
    breaks(scene, &["f0 [01 [15 <m>]]", "f0 [80 [15 <m>]]"], BROKEN);
    // Continue, and success at the end of a repetition.
    let (mut peer, _) = let_in(scene, "codes5");
    peer.send(&format!("f0 [19 [{METHOD} 16 ('n,,{FIRST}')]]"));
    let proof = proof(&challenge(&peer.expect("f0 [18 *]")), "p");
    peer.send(&format!("f0 [18 [{METHOD} 16 ('{proof}')]]"));
    peer.expect("f0 [00 *]");
    peer.ping();
}

fn auth_is_no_larger_than_asked(scene: &Scene<'_>) {
    let (_, packet) = challenged(scene, "large5", "27 000000c8");
    assert!(packet.len() <= 200, "{packet:02x?}");
}

fn an_unknown_method_is_refused(scene: &Scene<'_>) {
    for data in ["", "16 (00)"] {
        let connect = format!("10 [<MQTT> 05 82 0000 [15 <none> {data}] <c> <@>]");
        scene.send(&connect).expect_unconnected(&[0x8C, 0x87]);
    }
}

fn a_challenge_says_continue(scene: &Scene<'_>) {
    let (_, packet) = challenged(scene, "challenge5", "");
    assert!(challenge(&packet).starts_with("r=fyko+d2lbbFgONRv9qkxdawL"));
}

fn an_answer_says_continue(scene: &Scene<'_>) {
    for code in ["00", "19"] {
        let (mut peer, packet) = challenged(scene, "answer5", "");
        let proof = proof(&challenge(&packet), "p");
        peer.send(&format!("f0 [{code} [{METHOD} 16 ('{proof}')]]"));
        peer.expect_unconnected(&[0x82]);
    }
}

fn a_wrong_proof_ends_the_connection(scene: &Scene<'_>) {
    let (mut peer, packet) = challenged(scene, "wrong5", "");
    let proof = proof(&challenge(&packet), "wrong");
    peer.send(&format!("f0 [18 [{METHOD} 16 ('{proof}')]]"));
    peer.expect_unconnected(&[0x86, 0x87]);
}

fn every_auth_names_the_method(scene: &Scene<'_>) {
    let (mut peer, properties) = let_in(scene, "method5");
    assert_eq!(values(&properties, 0x15), [b"SCRAM-SHA-256"]);
    assert_eq!(values(&properties, 0x16).len(), 1, "the server's proof");
    peer.send(&format!("f0 [19 [{METHOD} 16 ('n,,{FIRST}')]]"));
    let proof = proof(&challenge(&peer.expect("f0 [18 *]")), "p");
    peer.send(&format!("f0 [18 [{METHOD} 16 ('{proof}')]]"));
    let last = auth(&peer.expect("f0 [00 *]"));
    assert_eq!(values(&last, 0x15), [b"SCRAM-SHA-256"]);
}

fn without_a_method_there_is_no_auth(scene: &Scene<'_>) {
    let mut peer = scene.send("10 [<MQTT> 05 82 0000 [] <c> <@>]");
    let properties = connack(&peer.expect("20 [00 00 *]"));
    assert!(values(&properties, 0x15).is_empty());
    let packets = ["f0 [18 [15 <m>]]", "f0 [19 [15 <m>]]", "f0 []"];
    breaks(scene, &packets, BROKEN);
}

fn another_method_ends_the_connection(scene: &Scene<'_>) {
    let (mut peer, _) = let_in(scene, "another5");
    peer.send("f0 [19 [15 <OTHER> 16 ('x')]]");
    peer.expect_dropped(&[0x82, 0x8C]);
}

fn a_failed_repetition_ends_the_connection(scene: &Scene<'_>) {
    let (mut peer, _) = let_in(scene, "again5");
    peer.send(&format!("f0 [19 [{METHOD} 16 ('n,,{FIRST}')]]"));
    let proof = proof(&challenge(&peer.expect("f0 [18 *]")), "wrong");
    peer.send(&format!("f0 [18 [{METHOD} 16 ('{proof}')]]"));
    peer.expect_dropped(&[0x86, 0x87]);
}

fn nothing_but_auth_comes_before_connack(scene: &Scene<'_>) {
    for packet in ["c0 []", "30 [<ok/t> [] 'x']", "82 [0001 [] <ok/t> 00]"] {
        let (mut peer, _) = challenged(scene, "before5", "");
        peer.send(packet);
        peer.expect_unconnected(&[0x82]);
    }
}
