//! What must hold for any bytes: the checks of the fuzzer.

use std::{net::SocketAddr, time::Duration};

use bifrust_model::{Incarnation, NodeId, NodeRef};
use bytes::Bytes;

use crate::{
    ClusterId, ClusterKey, Core, CoreConfig, Effect, Host, PROTOCOL_VERSION,
    forming::Sight,
    message::{self, Message, put_departed},
    packet::{Packet, Seal, parse},
    swim::codec::SwimPacket,
    wire::{Reader, Write},
};

/// The signed part of a packet on UDP, with all its payloads: read, written and read again it is the
/// same, and a member that gets it from somebody who has the key goes on.
pub fn check_packet(signed: &[u8]) {
    let Ok(packet) = parse(signed) else {
        return;
    };
    let mut again = signed[..3].to_vec();
    packet.put(&mut again);
    assert_eq!(again, signed, "written as it was read");
    if let Packet::Bound(bound) = &packet {
        check_payload(&bound.payload);
    }
    let mut pair = Pair::met();
    let sealed = Seal::new(&key()).seal(&packet);
    pair.settle(vec![(host(1).udp, host(2).udp, sealed)]);
    pair.go_on();
}

fn check_payload(payload: &[u8]) {
    let Some((kind, body)) = payload.split_first() else {
        return;
    };
    let mut out = Vec::new();
    let mut reader = Reader(body);
    match kind {
        1 => {
            let Some(packet) = SwimPacket::decode(body) else {
                return;
            };
            assert_eq!(
                SwimPacket::decode(&packet.encode()).map(|again| again.header),
                Some(packet.header)
            );
            return;
        }
        2 => match Sight::read(&mut reader) {
            Some(sight) => sight.put(&mut out),
            None => return,
        },
        _ => match message::departures(&mut reader) {
            Some(departures) => out.put_list(&departures, put_departed),
            None => return,
        },
    }
    assert_eq!(out, body[..body.len() - reader.0.len()]);
}

/// A message over a link: written again it is what was read, and a member that gets it from another
/// one goes on.
pub fn check_message(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let Some(message) = Message::decode(&bytes) else {
        return;
    };
    assert_eq!(message.encode(), bytes, "written as it was read");
    let mut pair = Pair::met();
    let mut effects = Vec::new();
    pair.two
        .handle_link(NOW, host(1).node, &bytes, &mut effects);
    pair.go_on();
}

const NOW: Duration = Duration::from_millis(10);

/// Two members of a cluster that know each other.
struct Pair {
    one: Core,
    two: Core,
}

impl Pair {
    fn met() -> Self {
        let mut pair = Self {
            one: Core::new(config(1), Duration::ZERO, 1),
            two: Core::new(config(2), Duration::ZERO, 2),
        };
        let mut effects = Vec::new();
        pair.one.handle_timeout(Duration::ZERO, &mut effects);
        let sent = sent(host(1).udp, &mut effects);
        pair.settle(sent);
        assert_eq!(pair.two.topology().hosts.len(), 2);
        pair
    }

    /// Carries packets to and fro, a bounded number of times.
    fn settle(&mut self, mut wire: Vec<(SocketAddr, SocketAddr, Bytes)>) {
        for _ in 0..16 {
            let mut next = Vec::new();
            for (from, to, packet) in wire {
                let receiver = match to == host(1).udp {
                    true => &mut self.one,
                    false => &mut self.two,
                };
                let mut effects = Vec::new();
                receiver.handle_packet(NOW, from, &packet, &mut effects);
                next.extend(sent(to, &mut effects));
            }
            wire = next;
        }
    }

    /// Lets some time pass.
    fn go_on(&mut self) {
        let mut effects = Vec::new();
        for seconds in 1..4 {
            self.two
                .handle_timeout(Duration::from_secs(seconds), &mut effects);
        }
    }
}

fn sent(from: SocketAddr, effects: &mut Vec<Effect>) -> Vec<(SocketAddr, SocketAddr, Bytes)> {
    let sent = effects.drain(..).filter_map(|effect| match effect {
        Effect::SendUdp { to, packet } => Some((from, to, packet)),
        _ => None,
    });
    sent.collect()
}

fn key() -> ClusterKey {
    ClusterKey::new("the key of the fuzzer").expect("long enough")
}

fn host(id: u8) -> Host {
    let node = NodeRef {
        id: NodeId(id.into()),
        incarnation: Incarnation(1),
    };
    Host {
        node,
        revision: 0,
        udp: ([10, 0, 0, id], 7_400).into(),
        rpc: ([10, 0, 0, id], 7_401).into(),
        protocol: PROTOCOL_VERSION,
    }
}

fn config(id: u8) -> CoreConfig {
    CoreConfig {
        cluster: ClusterId::new(9),
        seeds: vec![host(2).udp],
        ..CoreConfig::new(host(id), key(), [id; 32])
    }
}
