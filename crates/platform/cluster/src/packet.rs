//! The packets on UDP.
//!
//! ```text
//! "bC" | version 1 | kind 1 | body | tag 32
//!
//! 1 hello      nonce 8, host, cluster                     asks a receiver that is not known yet
//! 2 challenge  nonce 8, host, cluster, to, cookie, count  the answer, bound to the hello
//! 3 proof      host, cluster, to, cookie, count           bound to the challenge: state begins here
//! 4 bound      from, to, cluster, count, payload          everything else
//! 5 refuse     nonce 8, reason                            the answer to a hello that is not welcome
//! ```
//!
//! The tag is a keyed hash of all before it under a key derived from the cluster key. `to` is a node
//! in an incarnation: a packet for another start of it is of no use to anyone. A receiver takes each
//! count of a sender once. The head, the tag, the place of the nonce and the refusal of a version
//! stay as they are in all versions, so that any two can tell each other that they do not match.

use bifrust_model::NodeRef;
use bytes::{BufMut, Bytes};

use crate::{
    ClusterId, ClusterKey, Host, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN,
    wire::{Reader, Write},
};

/// The largest packet that is sent or read, in bytes: it fits a network's usual 1,500 with room for
/// tunnels.
pub(crate) const PACKET_BYTES_MAX: usize = 1_400;

/// What a bound packet leaves for its payload.
pub(crate) const PAYLOAD_BYTES_MAX: usize = PACKET_BYTES_MAX - HEAD_BYTES - BOUND_BYTES - TAG_BYTES;

const MAGIC: [u8; 2] = *b"bC";
const HEAD_BYTES: usize = 4;
const TAG_BYTES: usize = 32;
const BOUND_BYTES: usize = 24 + 24 + 16 + 8;

/// Why a hello is not welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The refusing node belongs to this other cluster.
    ForeignCluster(ClusterId),
    /// The refusing node reads only these versions of packets.
    Version {
        /// The lowest.
        min: u16,
        /// The highest.
        max: u16,
    },
    /// This incarnation has left the cluster or was evicted; a new start may join.
    Departed,
    /// The refusing node knows a later start of the same node.
    OldIncarnation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    Hello(Hello),
    Challenge(Challenge),
    Proof(Proof),
    Bound(Bound),
    Refuse { nonce: u64, reason: Refusal },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) nonce: u64,
    pub(crate) from: Host,
    pub(crate) cluster: Option<ClusterId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) nonce: u64,
    pub(crate) from: Host,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) to: NodeRef,
    pub(crate) cookie: [u8; 16],
    pub(crate) count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) from: Host,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) to: NodeRef,
    pub(crate) cookie: [u8; 16],
    pub(crate) count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) from: NodeRef,
    pub(crate) to: NodeRef,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) count: u64,
    pub(crate) payload: Bytes,
}

/// Why bytes are no packet of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// Not made with our key, or not made by us at all.
    Unauthentic,
    /// Made with our key in a version that is not read here; the nonce is a hello's.
    Version { version: u16, nonce: Option<u64> },
    /// Made with our key and yet unreadable.
    Malformed,
}

/// Makes and opens packets.
pub(crate) struct Seal([u8; 32]);

impl Seal {
    pub(crate) fn new(key: &ClusterKey) -> Self {
        Self(key.derive("bifrust cluster packets v1"))
    }

    pub(crate) fn seal(&self, packet: &Packet) -> Bytes {
        self.seal_as(PROTOCOL_VERSION, packet)
    }

    pub(crate) fn seal_as(&self, version: u16, packet: &Packet) -> Bytes {
        let mut out = Vec::with_capacity(256);
        out.put_slice(&MAGIC);
        // A version above 255 would need another magic.
        out.put_u8(u8::try_from(version).unwrap_or(u8::MAX));
        packet.put(&mut out);
        let tag = blake3::keyed_hash(&self.0, &out);
        out.put_slice(tag.as_bytes());
        out.into()
    }

    pub(crate) fn open(&self, bytes: &[u8]) -> Result<Packet, OpenError> {
        if bytes.len() > PACKET_BYTES_MAX {
            return Err(OpenError::Unauthentic);
        }
        let (signed, tag) = bytes
            .split_last_chunk::<TAG_BYTES>()
            .ok_or(OpenError::Unauthentic)?;
        // Compares in constant time.
        if !signed.starts_with(&MAGIC) || blake3::keyed_hash(&self.0, signed) != *tag {
            return Err(OpenError::Unauthentic);
        }
        parse(signed)
    }
}

/// The signed part of a packet; for the fuzzer, to which a tag is a wall.
pub(crate) fn parse(signed: &[u8]) -> Result<Packet, OpenError> {
    let Some((&[_, _, version, kind], body)) = signed.split_first_chunk::<HEAD_BYTES>() else {
        return Err(OpenError::Malformed);
    };
    let mut body = Reader(body);
    let version = u16::from(version);
    // A refusal is the same in all versions.
    if !(PROTOCOL_VERSION_MIN..=PROTOCOL_VERSION).contains(&version) && kind != 5 {
        let nonce = (kind == 1).then(|| body.u64()).flatten();
        return Err(OpenError::Version { version, nonce });
    }
    let packet = match kind {
        1 => hello(body),
        2 => challenge(body),
        3 => proof(body),
        4 => bound(body),
        5 => refuse(body),
        _ => None,
    };
    packet.ok_or(OpenError::Malformed)
}

impl Packet {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => {
                out.put_u8(1);
                out.put_u64(hello.nonce);
                out.put_host(&hello.from);
                out.put_cluster(hello.cluster);
            }
            Self::Challenge(challenge) => {
                out.put_u8(2);
                out.put_u64(challenge.nonce);
                out.put_host(&challenge.from);
                out.put_cluster(challenge.cluster);
                out.put_node(challenge.to);
                out.put_slice(&challenge.cookie);
                out.put_u64(challenge.count);
            }
            Self::Proof(proof) => {
                out.put_u8(3);
                out.put_host(&proof.from);
                out.put_cluster(proof.cluster);
                out.put_node(proof.to);
                out.put_slice(&proof.cookie);
                out.put_u64(proof.count);
            }
            Self::Bound(bound) => {
                out.put_u8(4);
                out.put_node(bound.from);
                out.put_node(bound.to);
                out.put_cluster(bound.cluster);
                out.put_u64(bound.count);
                out.put_slice(&bound.payload);
            }
            Self::Refuse { nonce, reason } => {
                out.put_u8(5);
                out.put_u64(*nonce);
                put_refusal(out, reason);
            }
        }
    }
}

fn hello(mut body: Reader<'_>) -> Option<Packet> {
    let hello = Hello {
        nonce: body.u64()?,
        from: body.host()?,
        cluster: body.cluster()?,
    };
    body.end(Packet::Hello(hello))
}

fn challenge(mut body: Reader<'_>) -> Option<Packet> {
    let challenge = Challenge {
        nonce: body.u64()?,
        from: body.host()?,
        cluster: body.cluster()?,
        to: body.node()?,
        cookie: body.cookie()?,
        count: body.u64()?,
    };
    body.end(Packet::Challenge(challenge))
}

fn proof(mut body: Reader<'_>) -> Option<Packet> {
    let proof = Proof {
        from: body.host()?,
        cluster: body.cluster()?,
        to: body.node()?,
        cookie: body.cookie()?,
        count: body.u64()?,
    };
    body.end(Packet::Proof(proof))
}

fn bound(mut body: Reader<'_>) -> Option<Packet> {
    Some(Packet::Bound(Bound {
        from: body.node()?,
        to: body.node()?,
        cluster: body.cluster()?,
        count: body.u64()?,
        payload: Bytes::copy_from_slice(body.0),
    }))
}

fn refuse(mut body: Reader<'_>) -> Option<Packet> {
    let nonce = body.u64()?;
    let reason = match body.u8()? {
        1 => Refusal::ForeignCluster(body.cluster()??),
        2 => Refusal::Version {
            min: body.u16()?,
            max: body.u16()?,
        },
        3 => Refusal::Departed,
        4 => Refusal::OldIncarnation,
        _ => return None,
    };
    body.end(Packet::Refuse { nonce, reason })
}

fn put_refusal(out: &mut Vec<u8>, reason: &Refusal) {
    match reason {
        Refusal::ForeignCluster(cluster) => {
            out.put_u8(1);
            out.put_cluster(Some(*cluster));
        }
        Refusal::Version { min, max } => {
            out.put_u8(2);
            out.put_u16(*min);
            out.put_u16(*max);
        }
        Refusal::Departed => out.put_u8(3),
        Refusal::OldIncarnation => out.put_u8(4),
    }
}

#[cfg(test)]
mod tests;
