//! Two ends that agree, and those that do not.

use bifrust_cluster::{Incarnation, NodeId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn node(id: u128, incarnation: u64) -> NodeRef {
    NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(incarnation),
    }
}

fn identity(id: u128) -> Identity {
    Identity {
        node: node(id, 1),
        cluster: ClusterId::new(9),
        versions: Versions::OWN,
        limits: Limits::default(),
        key: ClusterKey::new("a key of many characters").expect("it is long"),
    }
}

type Outcome = Result<Option<Peer>, Refusal>;

/// Both ends of a connection whose TLS exports the same for both, until one has refused or both know
/// each other.
fn shake(dialler: Handshake, listener: Handshake) -> (Outcome, Outcome) {
    let (mut dialler, mut listener) = (dialler, listener);
    let (mut to_listener, mut to_dialler) = (BytesMut::new(), BytesMut::new());
    dialler.start(&mut to_listener);
    listener.start(&mut to_dialler);
    let (mut of_dialler, mut of_listener) = (Ok(None), Ok(None));
    for _ in 0..4 {
        if matches!(of_listener, Ok(None)) {
            of_listener = listener.handle(&mut to_listener, &mut to_dialler);
        }
        if matches!(of_dialler, Ok(None)) {
            of_dialler = dialler.handle(&mut to_dialler, &mut to_listener);
        }
    }
    (of_dialler, of_listener)
}

fn ends(dialler: Identity, listener: Identity) -> (Outcome, Outcome) {
    let wanted = Some(listener.node);
    shake(
        Handshake::new(Role::Dialler(wanted), dialler, [1; 32], Some([5; 32])),
        Handshake::new(Role::Listener, listener, [2; 32], Some([5; 32])),
    )
}

/// Both name the same reason, and one of them is the one who refused.
fn refused(outcomes: (Outcome, Outcome)) -> (Reason, String) {
    match outcomes {
        (
            Err(Refusal::Own { reason, text }),
            Err(Refusal::Theirs {
                reason: same,
                text: read,
            }),
        )
        | (
            Err(Refusal::Theirs {
                reason: same,
                text: read,
            }),
            Err(Refusal::Own { reason, text }),
        ) => {
            assert_eq!((reason, &text), (same, &read));
            (reason, text)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_nodes_of_a_cluster_know_each_other() {
    let (dialler, listener) = ends(identity(1), identity(2));
    let peer = |id| {
        Ok(Some(Peer {
            node: node(id, 1),
            cluster: ClusterId::new(9),
            version: 1,
            limits: Limits::default(),
        }))
    };
    assert_eq!((dialler, listener), (peer(2), peer(1)));
}

#[test]
fn a_node_without_a_cluster_may_talk_to_one_that_has_it() {
    let mut empty = identity(1);
    empty.cluster = None;
    let (dialler, listener) = ends(empty, identity(2));
    assert!(matches!((dialler, listener), (Ok(Some(_)), Ok(Some(_)))));
}

#[test]
fn another_key_is_refused_by_name_on_both_sides() {
    let mut other = identity(1);
    other.key = ClusterKey::new("another key of many characters").expect("it is long");
    let (reason, text) = refused(ends(other, identity(2)));
    assert_eq!(reason, Reason::Key);
    assert!(text.contains("different cluster keys"), "{text}");
}

#[test]
fn another_cluster_is_refused_by_name_on_both_sides() {
    let mut other = identity(1);
    other.cluster = ClusterId::new(10);
    let (reason, text) = refused(ends(other, identity(2)));
    assert_eq!(reason, Reason::Cluster);
    assert!(text.contains(&format!("{:032x}", 10)), "{text}");
}

#[test]
fn versions_without_a_common_one_are_refused_by_name_on_both_sides() {
    let mut newer = identity(1);
    newer.versions = Versions { min: 2, max: 4 };
    let (reason, text) = refused(ends(newer, identity(2)));
    assert_eq!(reason, Reason::Version);
    assert!(text.contains("2 to 4") && text.contains("1 to 1"), "{text}");
}

#[test]
fn an_older_and_a_newer_node_speak_what_both_know() {
    for (versions, common) in [((1, 3), 1), ((0, 1), 1)] {
        let mut other = identity(1);
        let (min, max) = versions;
        other.versions = Versions { min, max };
        for (dialler, listener) in [(other.clone(), identity(2)), (identity(2), other.clone())] {
            let (dialler, listener) = ends(dialler, listener);
            for end in [dialler, listener] {
                let peer = end.expect("not refused").expect("known");
                assert_eq!(peer.version, common);
            }
        }
    }
}

#[test]
fn another_node_or_start_than_wanted_is_refused() {
    for wanted in [node(3, 1), node(2, 2)] {
        let dialler = Handshake::new(Role::Dialler(Some(wanted)), identity(1), [1; 32], None);
        let listener = Handshake::new(Role::Listener, identity(2), [2; 32], None);
        assert_eq!(refused(shake(dialler, listener)).0, Reason::Node);
    }
    assert_eq!(refused(ends(identity(1), identity(1))).0, Reason::Self_);
}

#[test]
fn a_proof_is_worth_nothing_in_another_session() {
    // Somebody in the middle, with a TLS session to each side, passes the words on.
    let wanted = Some(node(2, 1));
    let outcomes = shake(
        Handshake::new(Role::Dialler(wanted), identity(1), [1; 32], Some([5; 32])),
        Handshake::new(Role::Listener, identity(2), [2; 32], Some([6; 32])),
    );
    assert_eq!(refused(outcomes).0, Reason::Key);
}

#[test]
fn a_proof_cannot_be_said_back_or_again() {
    let mut dialler = Handshake::new(Role::Dialler(None), identity(1), [1; 32], None);
    let mut listener = Handshake::new(Role::Listener, identity(2), [2; 32], None);
    let (mut first, mut second, mut third) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    dialler.start(&mut first);
    let hello = first.clone();
    listener.handle(&mut first, &mut second).expect("a hello");
    dialler.handle(&mut second, &mut third).expect("a hello");
    // The dialler's own proof back to it.
    let mut echo = third.clone();
    let result = dialler.handle(&mut echo, &mut BytesMut::new());
    assert_eq!(result.expect_err("no proof").reason(), Reason::Key);
    // The same words to another connection, which has drawn another number.
    let mut later = Handshake::new(Role::Listener, identity(2), [3; 32], None);
    let mut replayed = hello;
    replayed.extend_from_slice(&third);
    let result = later.handle(&mut replayed, &mut BytesMut::new());
    assert_eq!(result.expect_err("no proof").reason(), Reason::Key);
}

#[test]
fn other_protocols_are_named() {
    for (bytes, hint) in [
        (&b"GET / HTTP/1.1"[..], "not the protocol"),
        (&[0x16, 3, 1, 2, 0][..], "speaks TLS"),
    ] {
        let mut listener = Handshake::new(Role::Listener, identity(2), [2; 32], None);
        let result = listener.handle(&mut BytesMut::from(bytes), &mut BytesMut::new());
        let refusal = result.expect_err("not the protocol");
        assert_eq!(refusal.reason(), Reason::Malformed);
        assert!(refusal.to_string().contains(hint), "{refusal}");
    }
}

#[test]
fn frames_behind_the_proof_are_left_alone() {
    let mut dialler = Handshake::new(Role::Dialler(None), identity(1), [1; 32], None);
    let mut listener = Handshake::new(Role::Listener, identity(2), [2; 32], None);
    let (mut to_listener, mut to_dialler) = (BytesMut::new(), BytesMut::new());
    dialler.start(&mut to_listener);
    listener
        .handle(&mut to_listener, &mut to_dialler)
        .expect("fine");
    dialler
        .handle(&mut to_dialler, &mut to_listener)
        .expect("fine");
    listener
        .handle(&mut to_listener, &mut to_dialler)
        .expect("fine");
    to_dialler.extend_from_slice(b"frames");
    let peer = dialler
        .handle(&mut to_dialler, &mut to_listener)
        .expect("fine");
    assert_eq!(peer.map(|peer| peer.node), Some(node(2, 1)));
    assert_eq!(&to_dialler[..], b"frames");
}

proptest! {
    #[test]
    fn any_words_are_read_or_refused(bytes in vec(any::<u8>(), 0..100), flip in any::<(u16, u8)>()) {
        crate::fuzz::check_hello(&bytes);
        let mut words = BytesMut::new();
        Handshake::new(Role::Dialler(None), identity(1), [1; 32], None).start(&mut words);
        let place = usize::from(flip.0) % words.len();
        words[place] ^= flip.1;
        crate::fuzz::check_hello(&words);
    }
}
