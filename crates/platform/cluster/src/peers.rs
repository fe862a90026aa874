//! Who has proven to be who: the handshake, and each packet taken once.
//!
//! ```text
//! A: hello(nonce)  -> B   B keeps nothing: the cookie in its answer is computed from what it got
//! A <- challenge      B   A knows B's incarnation and that B is there now
//! A: proof(cookie) -> B   B knows the same of A
//! ```
//!
//! From then on both send bound packets. Counts of a sender only rise within its incarnation, also
//! over several handshakes, so a packet recorded at any time is taken at most once.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use bifrust_model::{Incarnation, NodeId, NodeRef};
use bytes::Bytes;

use crate::{ClusterId, Host};

/// How many peers are remembered.
const PEERS_MAX: usize = 4_096;

/// How many hellos wait for their challenge.
const HELLOS_MAX: usize = 1_024;

/// How many payloads wait for a peer's challenge; later ones are dropped.
const WAITING_MAX: usize = 8;

/// A hello that was not answered is sent again after this.
const HELLO_AGAIN: Duration = Duration::from_millis(500);

/// A cookie is good for this long at least, and for twice as long at most.
const COOKIE_SLOT: Duration = Duration::from_secs(4);

/// Somebody that proved to be a node in an incarnation.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) host: Host,
    pub(crate) cluster: Option<ClusterId>,
    window: Window,
    pub(crate) heard: Duration,
}

struct PendingHello {
    nonce: u64,
    at: Duration,
    waiting: VecDeque<(NodeRef, Bytes)>,
}

pub(crate) struct Peers {
    secret: [u8; 32],
    nonces: u64,
    count: u64,
    peers: BTreeMap<NodeId, Peer>,
    hellos: BTreeMap<SocketAddr, PendingHello>,
}

/// What a peer's handshake brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// The peer is known now, in this incarnation.
    New,
    /// It was known already.
    Again,
    /// A later start of this node is known.
    OldIncarnation,
    /// The packet was taken before.
    Replayed,
}

impl Peers {
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            nonces: 0,
            count: 0,
            peers: BTreeMap::new(),
            hellos: BTreeMap::new(),
        }
    }

    pub(crate) fn get(&self, node: NodeRef) -> Option<&Peer> {
        let peer = self.peers.get(&node.id);
        peer.filter(|peer| peer.host.node == node)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// The count for the next packet.
    pub(crate) fn next_count(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// The nonce for a hello to this address, unless one was sent just before.
    pub(crate) fn begin_hello(&mut self, now: Duration, to: SocketAddr) -> Option<u64> {
        if let Some(hello) = self.hellos.get(&to)
            && now < hello.at + HELLO_AGAIN
        {
            return None;
        }
        if self.hellos.len() >= HELLOS_MAX && !self.hellos.contains_key(&to) {
            let oldest = self.hellos.iter().min_by_key(|(_, hello)| hello.at);
            let oldest = oldest.map(|(address, _)| *address);
            oldest.and_then(|address| self.hellos.remove(&address));
        }
        self.nonces += 1;
        let nonce = u64::from_be_bytes(first(&self.mac(b"nonce", &self.nonces.to_be_bytes())));
        let waiting = self.hellos.remove(&to).map(|hello| hello.waiting);
        let hello = PendingHello {
            nonce,
            at: now,
            waiting: waiting.unwrap_or_default(),
        };
        self.hellos.insert(to, hello);
        Some(nonce)
    }

    /// Keeps a payload until the address has answered. `false` if there is no room.
    pub(crate) fn wait(&mut self, host: &Host, payload: Bytes) -> bool {
        let Some(hello) = self.hellos.get_mut(&host.udp) else {
            return false;
        };
        if hello.waiting.len() >= WAITING_MAX {
            return false;
        }
        hello.waiting.push_back((host.node, payload));
        true
    }

    /// Ends the hello with this nonce; its address, and what waited.
    pub(crate) fn end_hello(
        &mut self,
        nonce: u64,
    ) -> Option<(SocketAddr, VecDeque<(NodeRef, Bytes)>)> {
        let mut hellos = self.hellos.iter();
        let (&address, _) = hellos.find(|(_, hello)| hello.nonce == nonce)?;
        let hello = self.hellos.remove(&address)?;
        Some((address, hello.waiting))
    }

    /// What a host at an address must show to prove that it is there now.
    pub(crate) fn cookie(&self, now: Duration, node: NodeRef, address: SocketAddr) -> [u8; 16] {
        self.cookie_of(now.as_millis() / COOKIE_SLOT.as_millis(), node, address)
    }

    pub(crate) fn is_cookie(
        &self,
        now: Duration,
        node: NodeRef,
        address: SocketAddr,
        cookie: [u8; 16],
    ) -> bool {
        let slot = now.as_millis() / COOKIE_SLOT.as_millis();
        let is_of = |slot| {
            let own = self.cookie_of(slot, node, address);
            // In constant time: a cookie is not guessed byte by byte.
            own.iter().zip(cookie).fold(0, |all, (a, b)| all | (a ^ b)) == 0
        };
        is_of(slot) || slot.checked_sub(1).is_some_and(is_of)
    }

    fn cookie_of(&self, slot: u128, node: NodeRef, address: SocketAddr) -> [u8; 16] {
        let text = format!("{slot} {} {} {address}", node.id, node.incarnation.0);
        first(&self.mac(b"cookie", text.as_bytes()))
    }

    fn mac(&self, purpose: &[u8], data: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(purpose).update(data);
        hasher.finalize()
    }

    /// A cluster id that nobody else draws.
    pub(crate) fn draw_cluster(&self, own: NodeRef) -> Option<ClusterId> {
        let hash = self.mac(b"cluster", &own.id.0.to_be_bytes());
        ClusterId::new(u128::from_be_bytes(first(&hash)))
    }

    /// A host has proven to be this node in this incarnation, with a packet of this count.
    pub(crate) fn meet(
        &mut self,
        now: Duration,
        host: Host,
        cluster: Option<ClusterId>,
        count: u64,
    ) -> Met {
        if let Some(peer) = self.peers.get_mut(&host.node.id) {
            if peer.host.node.incarnation > host.node.incarnation {
                return Met::OldIncarnation;
            }
            if peer.host.node == host.node {
                if !peer.window.take(count) {
                    return Met::Replayed;
                }
                if host.is_newer_than(&peer.host) {
                    peer.host = host;
                }
                peer.cluster = cluster.or(peer.cluster);
                peer.heard = now;
                return Met::Again;
            }
        }
        if self.peers.len() >= PEERS_MAX {
            let oldest = self.peers.iter().min_by_key(|(_, peer)| peer.heard);
            let oldest = oldest.map(|(node, _)| *node);
            oldest.and_then(|node| self.peers.remove(&node));
        }
        let mut window = Window::default();
        window.take(count);
        let peer = Peer {
            host,
            cluster,
            window,
            heard: now,
        };
        self.peers.insert(host.node.id, peer);
        Met::New
    }

    /// Whether a bound packet of a peer is taken: the peer is known and the count is new.
    pub(crate) fn take(&mut self, now: Duration, from: NodeRef, count: u64) -> Take {
        let Some(peer) = self.peers.get_mut(&from.id) else {
            return Take::Unknown;
        };
        if peer.host.node.incarnation > from.incarnation {
            return Take::OldIncarnation;
        }
        if peer.host.node != from {
            return Take::Unknown;
        }
        if !peer.window.take(count) {
            return Take::Replayed;
        }
        peer.heard = now;
        Take::Fresh
    }

    /// The incarnation that this node was last heard in.
    pub(crate) fn incarnation(&self, node: NodeId) -> Option<Incarnation> {
        Some(self.peers.get(&node)?.host.node.incarnation)
    }

    /// A peer told its cluster.
    pub(crate) fn note_cluster(&mut self, node: NodeId, cluster: Option<ClusterId>) {
        if let (Some(peer), Some(_)) = (self.peers.get_mut(&node), cluster) {
            peer.cluster = cluster;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    Fresh,
    Unknown,
    OldIncarnation,
    Replayed,
}

/// Counts that were taken: the highest, and which of the 128 up to it.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    highest: u64,
    taken: u128,
}

impl Window {
    /// Whether this count is taken now for the first time; what is too old to tell is not.
    fn take(&mut self, count: u64) -> bool {
        if count > self.highest || self.taken == 0 {
            let ahead = u32::try_from(count - self.highest).unwrap_or(u32::MAX);
            self.taken = self.taken.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let behind = self.highest - count;
        if behind >= u64::from(u128::BITS) || self.taken >> behind & 1 == 1 {
            return false;
        }
        self.taken |= 1 << behind;
        true
    }
}

fn first<const N: usize>(hash: &blake3::Hash) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&hash.as_bytes()[..N]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn host(id: u128, incarnation: u64) -> Host {
        Host {
            node: NodeRef {
                id: NodeId(id),
                incarnation: Incarnation(incarnation),
            },
            revision: 0,
            udp: ([127, 0, 0, 1], 1).into(),
            rpc: ([127, 0, 0, 1], 2).into(),
            protocol: 1,
        }
    }

    proptest! {
        #[test]
        fn a_count_is_taken_once(counts in proptest::collection::vec(0..400u64, 0..200)) {
            let mut window = Window::default();
            let mut taken = BTreeSet::new();
            for count in counts {
                let highest = taken.last().copied().unwrap_or(0);
                let is_old = !taken.is_empty() && count + 128 <= highest;
                prop_assert_eq!(window.take(count), !is_old && taken.insert(count));
            }
        }
    }

    #[test]
    fn the_next_start_of_a_node_is_met_and_the_one_before_refused() {
        let mut peers = Peers::new([0; 32]);
        let now = Duration::ZERO;
        let (first, second) = (host(1, 1), host(1, 2));
        assert_eq!(peers.meet(now, first, None, 5), Met::New);
        assert_eq!(peers.meet(now, first, None, 5), Met::Replayed);
        assert_eq!(peers.meet(now, first, None, 6), Met::Again);
        assert_eq!(peers.take(now, second.node, 1), Take::Unknown);
        assert_eq!(peers.meet(now, second, None, 1), Met::New);
        assert_eq!(peers.meet(now, first, None, 7), Met::OldIncarnation);
        assert_eq!(peers.take(now, first.node, 8), Take::OldIncarnation);
        assert_eq!(peers.take(now, second.node, 2), Take::Fresh);
        assert_eq!(peers.take(now, second.node, 2), Take::Replayed);
    }

    #[test]
    fn a_cookie_is_for_one_host_at_one_address_for_a_while() {
        let peers = Peers::new([7; 32]);
        let at = |seconds| Duration::from_secs(seconds);
        let (node, address) = (host(1, 1).node, host(1, 1).udp);
        let cookie = peers.cookie(at(5), node, address);
        assert!(peers.is_cookie(at(8), node, address, cookie));
        assert!(!peers.is_cookie(at(12), node, address, cookie));
        assert!(!peers.is_cookie(at(5), host(1, 2).node, address, cookie));
        assert!(!peers.is_cookie(at(5), node, ([127, 0, 0, 1], 9).into(), cookie));
        let other = Peers::new([8; 32]);
        assert!(!other.is_cookie(at(5), node, address, cookie));
    }

    #[test]
    fn hellos_and_what_waits_for_them_are_bounded() {
        let mut peers = Peers::new([0; 32]);
        let at = Duration::from_secs(1);
        for port in 0..2_000 {
            let address = ([127, 0, 0, 1], port).into();
            assert!(peers.begin_hello(at, address).is_some());
            assert!(peers.begin_hello(at, address).is_none());
        }
        assert_eq!(peers.hellos.len(), HELLOS_MAX);
        let to = Host {
            udp: ([127, 0, 0, 1], 1_999).into(),
            ..host(1, 1)
        };
        let kept = (0..20).filter(|_| peers.wait(&to, Bytes::new())).count();
        assert_eq!(kept, WAITING_MAX);
    }
}
