//! What is said before the frames. This form is for ever: nodes of any two versions can read it and
//! name what parts them.

use bifrust_cluster::{ClusterId, Incarnation, NodeId, NodeRef};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;

use super::{Identity, NONCE_BYTES, Versions};
use crate::link::Limits;

/// What every message starts with.
const MAGIC: [u8; 4] = *b"bfRL";

/// Bytes of the longest message.
const MESSAGE_MAX: usize = 4096;

/// Characters of a refusal's text.
const TEXT_MAX: usize = 400;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Message {
    Hello(Hello),
    Proof(Proof),
    Refuse(Refuse),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Hello {
    #[prost(uint32, tag = "1")]
    version_min: u32,
    #[prost(uint32, tag = "2")]
    version_max: u32,
    /// 16 bytes; none before the node has a cluster.
    #[prost(bytes = "vec", tag = "3")]
    cluster: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    node: Vec<u8>,
    #[prost(uint64, tag = "5")]
    incarnation: u64,
    #[prost(bytes = "vec", tag = "6")]
    nonce: Vec<u8>,
    #[prost(uint32, repeated, tag = "7")]
    windows: Vec<u32>,
    #[prost(uint32, tag = "8")]
    requests: u32,
    #[prost(uint32, tag = "9")]
    streams: u32,
    #[prost(uint32, tag = "10")]
    stream_window: u32,
    /// Whom the dialler wants; none if it does not know.
    #[prost(bytes = "vec", tag = "11")]
    wanted: Vec<u8>,
    #[prost(uint64, tag = "12")]
    wanted_incarnation: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Proof {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) proof: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Refuse {
    #[prost(uint32, tag = "1")]
    pub(super) reason: u32,
    #[prost(string, tag = "2")]
    pub(super) text: String,
}

/// What a hello says, as far as this version knows it.
pub(super) struct Said {
    pub(super) node: NodeRef,
    pub(super) cluster: Option<ClusterId>,
    pub(super) limits: Limits,
    pub(super) wanted: Option<NodeRef>,
}

impl Hello {
    pub(super) fn new(
        identity: &Identity,
        nonce: &[u8; NONCE_BYTES],
        wanted: Option<NodeRef>,
    ) -> Self {
        let cluster = identity.cluster;
        let limits = &identity.limits;
        Self {
            version_min: identity.versions.min.into(),
            version_max: identity.versions.max.into(),
            cluster: cluster.map_or_else(Vec::new, |id| id.number().to_be_bytes().into()),
            node: identity.node.id.0.to_be_bytes().into(),
            incarnation: identity.node.incarnation.0,
            nonce: nonce.to_vec(),
            windows: limits.windows.into(),
            requests: limits.requests,
            streams: limits.streams,
            stream_window: limits.stream_window,
            wanted: wanted.map_or_else(Vec::new, |node| node.id.0.to_be_bytes().into()),
            wanted_incarnation: wanted.map_or(0, |node| node.incarnation.0),
        }
    }

    pub(super) fn versions(&self) -> Versions {
        let bound = |version| u16::try_from(version).unwrap_or(u16::MAX);
        Versions {
            min: bound(self.version_min),
            max: bound(self.version_max),
        }
    }

    pub(super) fn read(&self) -> Result<Said, &'static str> {
        let cluster = match self.cluster.is_empty() {
            true => None,
            false => Some(
                number(&self.cluster)
                    .and_then(ClusterId::new)
                    .ok_or("no cluster id")?,
            ),
        };
        let node = number(&self.node).ok_or("no node id")?;
        if self.nonce.len() != NONCE_BYTES {
            return Err("no number was drawn");
        }
        let limits = Limits {
            windows: self.windows[..].try_into().map_err(|_| "no windows")?,
            requests: self.requests,
            streams: self.streams,
            stream_window: self.stream_window,
        };
        if !limits.are_usable() {
            return Err("limits that leave no room for a frame");
        }
        let wanted = match self.wanted.is_empty() {
            true => None,
            false => Some(node_ref(
                number(&self.wanted).ok_or("no id of a wanted node")?,
                self.wanted_incarnation,
            )),
        };
        Ok(Said {
            node: node_ref(node, self.incarnation),
            cluster,
            limits,
            wanted,
        })
    }
}

fn number(bytes: &[u8]) -> Option<u128> {
    bytes.try_into().ok().map(u128::from_be_bytes)
}

fn node_ref(id: u128, incarnation: u64) -> NodeRef {
    NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(incarnation),
    }
}

/// Appends a message; its bytes.
pub(super) fn write(message: &Message, out: &mut BytesMut) -> Bytes {
    let (kind, body) = match message {
        Message::Hello(hello) => (1, hello.encode_to_vec()),
        Message::Proof(proof) => (2, proof.encode_to_vec()),
        Message::Refuse(refuse) => (3, refuse.encode_to_vec()),
    };
    let len = u16::try_from(body.len()).expect("what nodes say to each other first is short");
    out.extend_from_slice(&MAGIC);
    out.put_u8(kind);
    out.put_u8(0);
    out.put_u16_le(len);
    out.extend_from_slice(&body);
    body.into()
}

/// Takes a message out of `input`, with its bytes; `None` if the rest of it is still to come.
pub(super) fn read(input: &mut BytesMut) -> Result<Option<(Bytes, Message)>, &'static str> {
    let known = input.len().min(MAGIC.len());
    if input[..known] != MAGIC[..known] {
        return Err(match input.starts_with(&[0x16, 3]) {
            true => "the peer speaks TLS, which is not expected from its address",
            false => "not the protocol of links; TLS may be expected there and not here",
        });
    }
    let Some(head) = input.first_chunk::<8>() else {
        return Ok(None);
    };
    let kind = head[4];
    let len = usize::from(u16::from_le_bytes([head[6], head[7]]));
    if len > MESSAGE_MAX {
        return Err("a message that is too long");
    }
    let whole = if cfg!(planted_bugs) { len } else { 8 + len };
    if input.len() < whole {
        return Ok(None);
    }
    input.advance(8);
    let body = input.split_to(len).freeze();
    let message = match kind {
        1 => Hello::decode(&body[..]).map(Message::Hello),
        2 => Proof::decode(&body[..]).map(Message::Proof),
        3 => Refuse::decode(&body[..]).map(Message::Refuse),
        _ => return Err("a message of an unknown kind"),
    };
    let message = message.map_err(|_| "a message that cannot be read")?;
    Ok(Some((body, message)))
}

/// Text that may go into a log, whoever wrote it.
pub(super) fn readable(text: &str) -> String {
    let short = text.chars().take(TEXT_MAX);
    short
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
