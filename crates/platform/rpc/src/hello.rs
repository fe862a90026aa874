//! The first words on a connection: versions, who is there, and proof that both know the cluster key.
//!
//! ```text
//! dialler --Hello--> listener --Hello--> dialler --Proof--> listener --Proof--> dialler
//! ```
//!
//! A proof is a keyed hash over both hellos, each with a number drawn for it, and over what is
//! exported from the TLS session: it is worth nothing in any other session, so that nobody in the
//! middle can pass it on. Without TLS the drawn numbers alone make it worthless later.
//!
//! Whoever refuses says why before it closes. No clock, no socket, no random source.

mod message;
#[cfg(test)]
mod tests;

use std::fmt;

use bifrust_cluster::{ClusterId, ClusterKey, NodeRef};
use bytes::{Buf, Bytes, BytesMut};

use crate::link::Limits;
use message::{Hello, Message, Proof, Refuse};

/// Bytes of what TLS exports for the proof.
pub const BINDING_BYTES: usize = 32;

/// Bytes that are drawn for each connection.
pub const NONCE_BYTES: usize = 32;

/// The key of the proofs, derived from the cluster key.
const PROOF_CONTEXT: &str = "bifrust rpc hello v1";

/// Versions of the frames that a node speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl Versions {
    /// What this program speaks.
    pub const OWN: Self = Self {
        min: 1,
        max: crate::frame::VERSION,
    };

    /// The newest that both speak.
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

/// What a node says about itself, and the key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The node.
    pub node: NodeRef,
    /// Its cluster; `None` before it has one, when any cluster with the same key will do.
    pub cluster: Option<ClusterId>,
    /// The versions that it speaks.
    pub versions: Versions,
    /// What it takes on each link.
    pub limits: Limits,
    /// Proven, never sent.
    pub key: ClusterKey,
}

/// Who is at the other end, proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node.
    pub node: NodeRef,
    /// Its cluster, if it has one.
    pub cluster: Option<ClusterId>,
    /// The version that both speak.
    pub version: u16,
    /// What it takes.
    pub limits: Limits,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// It does not speak this protocol, or not as it should.
    Malformed = 1,
    /// No version that both speak.
    Version = 2,
    /// The node belongs to another cluster.
    Cluster = 3,
    /// The node has another key.
    Key = 4,
    /// The node called itself.
    Self_ = 5,
    /// Another node, or another start of it, was wanted.
    Node = 6,
    /// As many connections as there may be.
    Full = 7,
    /// The hello took too long.
    Timeout = 8,
    /// TLS failed.
    Tls = 9,
}

impl Reason {
    /// All reasons, by number.
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::Version,
        Self::Cluster,
        Self::Key,
        Self::Self_,
        Self::Node,
        Self::Full,
        Self::Timeout,
        Self::Tls,
    ];

    /// As in the label of a counter.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::Cluster => "cluster",
            Self::Key => "key",
            Self::Self_ => "self",
            Self::Node => "node",
            Self::Full => "full",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
        }
    }

    fn of(code: u32) -> Self {
        let index = usize::try_from(code)
            .ok()
            .and_then(|code| code.checked_sub(1));
        let known = index.and_then(|index| Self::ALL.get(index));
        known.copied().unwrap_or(Self::Malformed)
    }
}

/// A connection that was refused, by which side and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This side refused.
    #[error("refused: {text}")]
    Own {
        /// Why.
        reason: Reason,
        /// Why, in words.
        text: String,
    },
    /// The other side refused; its words are not to be trusted.
    #[error("refused by the peer: {text}")]
    Theirs {
        /// Why.
        reason: Reason,
        /// Why, in its words.
        text: String,
    },
}

impl Refusal {
    /// A refusal of this side.
    pub fn own(reason: Reason, text: impl Into<String>) -> Self {
        let text = text.into();
        Self::Own { reason, text }
    }

    /// Why, whoever refused.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Own { reason, .. } | Self::Theirs { reason, .. } => *reason,
        }
    }
}

/// Which end of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It made the connection, to this node if it knows which.
    Dialler(Option<NodeRef>),
    /// It took the connection.
    Listener,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    Hello,
    Proof,
    Nothing,
}

/// One end of the hello.
#[derive(Debug)]
pub struct Handshake {
    role: Role,
    identity: Identity,
    nonce: [u8; NONCE_BYTES],
    /// What TLS exports; empty without TLS.
    binding: Vec<u8>,
    awaits: Awaits,
    own_hello: Bytes,
    peer_hello: Bytes,
    peer: Option<Peer>,
}

impl Handshake {
    /// An end that has said nothing yet. The nonce is drawn for this connection alone.
    pub fn new(
        role: Role,
        identity: Identity,
        nonce: [u8; NONCE_BYTES],
        binding: Option<[u8; BINDING_BYTES]>,
    ) -> Self {
        Self {
            role,
            identity,
            nonce,
            binding: binding.map_or_else(Vec::new, Vec::from),
            awaits: Awaits::Hello,
            own_hello: Bytes::new(),
            peer_hello: Bytes::new(),
            peer: None,
        }
    }

    /// What the dialler says first; nothing for the listener.
    pub fn start(&mut self, out: &mut BytesMut) {
        if matches!(self.role, Role::Dialler(_)) {
            self.say_hello(out);
        }
    }

    /// Takes what the peer said. Once the peer is known, what is left in `input` are frames. After a
    /// refusal `out` is still to be sent.
    pub fn handle(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Peer>, Refusal> {
        let handled = self.handle_all(input, out);
        if let Err(Refusal::Own { reason, text }) = &handled {
            refuse(*reason, text, out);
        }
        handled
    }

    fn handle_all(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Peer>, Refusal> {
        while self.awaits != Awaits::Nothing {
            let read = message::read(input);
            let read = read.map_err(|text| Refusal::own(Reason::Malformed, text))?;
            let Some((bytes, message)) = read else {
                return Ok(None);
            };
            match (message, self.awaits) {
                (Message::Refuse(refuse), _) => {
                    return Err(Refusal::Theirs {
                        reason: Reason::of(refuse.reason),
                        text: message::readable(&refuse.text),
                    });
                }
                (Message::Hello(hello), Awaits::Hello) => {
                    self.peer_hello = bytes;
                    self.handle_hello(&hello, out)?;
                }
                (Message::Proof(proof), Awaits::Proof) => self.handle_proof(&proof, out)?,
                _ => return Err(Refusal::own(Reason::Malformed, "words out of their order")),
            }
        }
        Ok(self.peer)
    }

    fn handle_hello(&mut self, hello: &Hello, out: &mut BytesMut) -> Result<(), Refusal> {
        let peer = self.judge(hello)?;
        self.peer = Some(peer);
        match self.role {
            Role::Dialler(_) => {
                let proof = self.proof(self.role).as_bytes().to_vec();
                message::write(&Message::Proof(Proof { proof }), out);
            }
            Role::Listener => self.say_hello(out),
        }
        self.awaits = Awaits::Proof;
        Ok(())
    }

    fn handle_proof(&mut self, proof: &Proof, out: &mut BytesMut) -> Result<(), Refusal> {
        let theirs = match self.role {
            Role::Dialler(_) => Role::Listener,
            Role::Listener => Role::Dialler(None),
        };
        // Compares in constant time.
        if self.proof(theirs) != proof.proof[..] {
            let text = format!(
                "node {} and node {} have different cluster keys",
                self.identity.node.id,
                self.peer
                    .map_or_else(String::new, |peer| peer.node.id.to_string()),
            );
            return Err(Refusal::own(Reason::Key, text));
        }
        if self.role == Role::Listener {
            let proof = self.proof(Role::Listener).as_bytes().to_vec();
            message::write(&Message::Proof(Proof { proof }), out);
        }
        self.awaits = Awaits::Nothing;
        Ok(())
    }

    fn say_hello(&mut self, out: &mut BytesMut) {
        let wanted = match self.role {
            Role::Dialler(wanted) => wanted,
            Role::Listener => None,
        };
        let hello = Hello::new(&self.identity, &self.nonce, wanted);
        self.own_hello = message::write(&Message::Hello(hello), out);
    }

    /// Who the peer says it is, if that is somebody to talk to.
    fn judge(&self, hello: &Hello) -> Result<Peer, Refusal> {
        let own = &self.identity;
        // Before all else: the rest may mean something else in another version.
        let versions = hello.versions();
        let Some(version) = own.versions.common(versions) else {
            let text = format!(
                "versions {} are spoken here and {versions} there",
                own.versions
            );
            return Err(Refusal::own(Reason::Version, text));
        };
        let malformed = |text| Refusal::own(Reason::Malformed, text);
        let said = hello.read().map_err(malformed)?;
        if let (Some(ours), Some(theirs)) = (own.cluster, said.cluster)
            && ours != theirs
        {
            let text = format!("cluster {ours} is here and cluster {theirs} there");
            return Err(Refusal::own(Reason::Cluster, text));
        }
        if said.node.id == own.node.id {
            let text = format!("node {} called itself", own.node.id);
            return Err(Refusal::own(Reason::Self_, text));
        }
        let (wanted, found) = match self.role {
            Role::Dialler(wanted) => (wanted, said.node),
            Role::Listener => (said.wanted, own.node),
        };
        if let Some(wanted) = wanted
            && wanted != found
        {
            let text = format!(
                "node {}, start {}, was wanted; this is node {}, start {}",
                wanted.id, wanted.incarnation.0, found.id, found.incarnation.0
            );
            return Err(Refusal::own(Reason::Node, text));
        }
        Ok(Peer {
            node: said.node,
            cluster: said.cluster,
            version,
            limits: said.limits,
        })
    }

    /// What the end with this role has to show.
    fn proof(&self, role: Role) -> blake3::Hash {
        let (dialler, listener) = match self.role {
            Role::Dialler(_) => (&self.own_hello, &self.peer_hello),
            Role::Listener => (&self.peer_hello, &self.own_hello),
        };
        let role: &[u8] = match role {
            Role::Dialler(_) => b"dialler",
            Role::Listener => b"listener",
        };
        let mut hasher = blake3::Hasher::new_keyed(&self.identity.key.derive(PROOF_CONTEXT));
        for field in [role, &self.binding, dialler, listener] {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        hasher.finalize()
    }
}

/// Says why a connection is refused.
pub fn refuse(reason: Reason, text: &str, out: &mut BytesMut) {
    let refuse = Refuse {
        reason: reason as u32,
        text: message::readable(text),
    };
    message::write(&Message::Refuse(refuse), out);
}

/// What the hello leaves of `input`, for tests of it: all of it.
pub(crate) fn check(bytes: &[u8], mut handshake: Handshake) {
    let (mut input, mut out) = (BytesMut::from(bytes), BytesMut::new());
    let handled = handshake.handle(&mut input, &mut out);
    // No bytes prove a key that was never shown.
    assert!(!matches!(handled, Ok(Some(_))));
    assert!(input.remaining() <= bytes.len());
}
