use bifrust_model::Incarnation;

use super::*;
use crate::{ClusterKey, PROTOCOL_VERSION, Refusal};

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn host(id: u8, incarnation: u64) -> Host {
    Host {
        node: NodeRef {
            id: NodeId(id.into()),
            incarnation: Incarnation(incarnation),
        },
        revision: 0,
        udp: ([10, 0, 0, id], 7_400).into(),
        rpc: ([10, 0, 0, id], 7_401).into(),
        protocol: PROTOCOL_VERSION,
    }
}

fn key() -> ClusterKey {
    ClusterKey::new("the key of these tests").unwrap()
}

fn config(id: u8, incarnation: u64, cluster: Option<u128>) -> CoreConfig {
    CoreConfig {
        cluster: cluster.and_then(ClusterId::new),
        seeds: vec![host(1, 1).udp, host(2, 1).udp],
        ..CoreConfig::new(host(id, incarnation), key(), [id; 32])
    }
}

fn core(id: u8, cluster: Option<u128>) -> Core {
    Core::new(config(id, 1, cluster), at(0), id.into())
}

/// Packets from one address to another, in the order they were sent.
type Wire = Vec<(SocketAddr, SocketAddr, Bytes)>;

/// Gives packets to whom they are for until nobody sends any more; all of them, and what was told.
fn settle(
    now: Duration,
    cores: &mut [&mut Core],
    effects: Vec<(SocketAddr, Effect)>,
) -> (Wire, Vec<Event>) {
    let (mut wire, mut told) = (Wire::new(), Vec::new());
    let mut next = effects;
    while !next.is_empty() {
        let mut after = Vec::new();
        for (from, effect) in next {
            match effect {
                Effect::SendUdp { to, packet } => {
                    wire.push((from, to, packet.clone()));
                    let receiver = cores.iter_mut().find(|core| core.own().udp == to);
                    if let Some(receiver) = receiver {
                        let mut effects = Vec::new();
                        receiver.handle_packet(now, from, &packet, &mut effects);
                        after.extend(effects.into_iter().map(|effect| (to, effect)));
                    }
                }
                Effect::Event(event) => told.push(event),
                _ => {}
            }
        }
        next = after;
    }
    (wire, told)
}

fn timeout(core: &mut Core, now: Duration) -> Vec<(SocketAddr, Effect)> {
    let mut effects = Vec::new();
    core.handle_timeout(now, &mut effects);
    let own = core.own().udp;
    effects.into_iter().map(|effect| (own, effect)).collect()
}

/// Two nodes of one cluster that have met, with all packets of it.
fn pair() -> (Core, Core, Wire) {
    let (mut a, mut b) = (core(1, Some(9)), core(2, Some(9)));
    let asked = timeout(&mut a, at(0));
    let (wire, _) = settle(at(0), &mut [&mut a, &mut b], asked);
    assert_eq!(a.status().members.len(), 1);
    assert_eq!(b.status().members.len(), 1);
    (a, b, wire)
}

#[test]
fn a_hello_alone_changes_nothing() {
    let (mut a, mut b) = (core(1, Some(9)), core(2, Some(9)));
    let mut first = None;
    for (from, effect) in timeout(&mut a, at(0)) {
        if let Effect::SendUdp { to, packet } = effect
            && to == b.own().udp
        {
            let mut effects = Vec::new();
            b.handle_packet(at(0), from, &packet, &mut effects);
            let is_packet = |effect: &&Effect| matches!(effect, Effect::SendUdp { .. });
            first = Some(effects.iter().filter(is_packet).count());
        }
    }
    assert_eq!(first, Some(1), "one challenge");
    assert_eq!(b.status().members, []);
    assert!(b.peers.get(a.own().node).is_none());
}

#[test]
fn recorded_packets_do_nothing_in_the_same_start_and_in_the_next() {
    let (a, mut b, wire) = pair();
    let to_b: Wire = wire
        .into_iter()
        .filter(|(_, to, _)| *to == b.own().udp)
        .collect();
    let status = b.status();
    let mut again = Core::new(config(2, 2, Some(9)), at(0), 7);
    for (from, _, packet) in &to_b {
        let mut effects = Vec::new();
        b.handle_packet(at(100), *from, packet, &mut effects);
        again.handle_packet(at(20_000), *from, packet, &mut effects);
    }
    assert_eq!(b.status(), status);
    assert!(b.counters().replayed >= 2, "{:?}", b.counters());
    assert_eq!(again.status().members, []);
    assert!(again.peers.get(a.own().node).is_none());
    let counters = again.counters();
    assert!(counters.misdirected >= 2, "{counters:?}");
}

#[test]
fn garbage_and_packets_of_another_key_are_counted_and_not_answered() {
    let mut b = core(2, Some(9));
    let other = Seal::new(&ClusterKey::new("another key altogether").unwrap());
    let hello = other.seal(&Packet::Hello(crate::packet::Hello {
        nonce: 1,
        from: host(1, 1),
        cluster: None,
    }));
    let mut effects = Vec::new();
    for packet in [&hello[..], &hello[..20], b"", b"bC", &[0xff; 1_500]] {
        b.handle_packet(at(0), host(1, 1).udp, packet, &mut effects);
    }
    assert_eq!(b.counters().unauthentic, 5);
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::SendUdp { .. }))
    );
}

#[test]
fn nodes_of_two_clusters_refuse_each_other_and_both_say_so() {
    let (mut a, mut b) = (core(1, Some(9)), core(2, Some(8)));
    let asked = timeout(&mut a, at(0));
    let (_, told) = settle(at(0), &mut [&mut a, &mut b], asked);
    let own = ClusterId::new(8).unwrap();
    let refused = Event::Refused {
        address: a.own().udp,
        reason: Refusal::ForeignCluster(own),
        version: None,
    };
    let refused_by = Event::RefusedBy {
        address: b.own().udp,
        reason: Refusal::ForeignCluster(own),
    };
    assert!(
        told.contains(&refused) && told.contains(&refused_by),
        "{told:?}"
    );
    assert_eq!(b.status().members, []);
    assert_eq!(a.status().members, []);
}

#[test]
fn a_version_that_is_not_read_is_refused_and_both_say_so() {
    let mut b = core(2, Some(9));
    let mut a = core(1, Some(9));
    let asked = timeout(&mut a, at(0));
    let newer = |packet: &Bytes| {
        let packet = a.seal.open(packet).unwrap();
        a.seal.seal_as(7, &packet)
    };
    let asked: Vec<(SocketAddr, Effect)> = asked
        .into_iter()
        .map(|(from, effect)| match effect {
            Effect::SendUdp { to, packet } => {
                let packet = newer(&packet);
                (from, Effect::SendUdp { to, packet })
            }
            effect => (from, effect),
        })
        .collect();
    let (_, told) = settle(at(0), &mut [&mut a, &mut b], asked);
    let reason = Refusal::Version { min: 1, max: 1 };
    let address = b.own().udp;
    assert!(
        told.contains(&Event::RefusedBy { address, reason }),
        "{told:?}"
    );
    let refused = Event::Refused {
        address: a.own().udp,
        reason,
        version: Some(7),
    };
    assert_eq!(
        told.iter().filter(|event| **event == refused).count(),
        1,
        "{told:?}"
    );
}

#[test]
fn an_evicted_start_stops_and_is_not_taken_back_and_the_next_start_is() {
    let (mut a, mut b, _) = pair();
    let mut effects = Vec::new();
    assert_eq!(
        a.evict(at(10), NodeId(1), &mut effects),
        Err(EvictError::Own)
    );
    assert_eq!(
        a.evict(at(10), NodeId(7), &mut effects),
        Err(EvictError::Unknown)
    );
    a.evict(at(10), NodeId(2), &mut effects).unwrap();
    assert!(!a.topology().is_live(b.own().node));
    let mut stopped = Vec::new();
    for effect in effects {
        if let Effect::SendUdp { to, packet } = effect
            && to == b.own().udp
        {
            b.handle_packet(at(10), a.own().udp, &packet, &mut stopped);
        }
    }
    let is_stop = |effect: &Effect| matches!(effect, Effect::Stopped(Departure::Evicted));
    assert!(stopped.iter().any(is_stop));
    assert_eq!(b.next_timeout(), None);

    // The same start, as if it had not heard.
    let mut back = core(2, Some(9));
    let asked = timeout(&mut back, at(5_000));
    let (_, told) = settle(at(5_000), &mut [&mut a, &mut back], asked);
    assert!(!a.topology().is_live(back.own().node), "{told:?}");
    assert_eq!(back.next_timeout(), None, "it was told");

    let mut next = Core::new(config(2, 2, Some(9)), at(0), 7);
    let asked = timeout(&mut next, at(5_000));
    settle(at(5_000), &mut [&mut a, &mut next], asked);
    assert!(a.topology().is_live(next.own().node));
}

#[test]
fn an_empty_node_joins_what_it_finds_only_when_that_is_on_its_disk() {
    let (mut a, mut b) = (core(1, Some(9)), core(2, None));
    let asked = timeout(&mut b, at(0));
    let mut effects = Vec::new();
    for (from, effect) in asked {
        if let Effect::SendUdp { to, packet } = effect
            && to == a.own().udp
        {
            let mut answers = Vec::new();
            a.handle_packet(at(0), from, &packet, &mut answers);
            for answer in answers {
                if let Effect::SendUdp { packet, .. } = answer {
                    b.handle_packet(at(1), to, &packet, &mut effects);
                }
            }
        }
    }
    let cluster = ClusterId::new(9).unwrap();
    let persist = effects.iter().find_map(|effect| match effect {
        Effect::Persist { cluster, founders } => Some((*cluster, founders.clone())),
        _ => None,
    });
    assert_eq!(persist, Some((cluster, Vec::new())));
    assert_eq!(b.cluster(), None);
    let mut effects = Vec::new();
    b.handle_persisted(at(600), cluster, &mut effects);
    let own = b.own().udp;
    let effects = effects.into_iter().map(|effect| (own, effect)).collect();
    settle(at(600), &mut [&mut a, &mut b], effects);
    assert_eq!(b.cluster(), Some(cluster));
    assert!(a.topology().is_live(b.own().node));
    assert!(b.topology().is_live(a.own().node));
}
