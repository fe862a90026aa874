//! foca's headers and members in our own fields.

use bifrust_model::NodeId;
use bytes::{Buf, BufMut};
use foca::{Codec, Header, Identity, Message, State};

use crate::{
    Host,
    message::{MemberState, Standing, member, put_member},
    wire::{Reader, Write},
};

/// A host as foca knows it: one member per node id, whatever its start, revision and addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) Host);

impl Identity for Peer {
    type Addr = NodeId;

    /// A host that was wrongly declared down comes back as its next revision.
    fn renew(&self) -> Option<Self> {
        Some(Self(Host {
            revision: self.0.revision.checked_add(1)?,
            ..self.0
        }))
    }

    fn addr(&self) -> NodeId {
        self.0.node.id
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.0.is_newer_than(&adversary.0)
    }
}

/// Bytes that do not hold what they should, or a buffer that is full.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("malformed or too long")]
pub(crate) struct CodecError;

pub(crate) struct SwimCodec;

impl Codec<Peer> for SwimCodec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Peer>, buf: impl BufMut) -> Result<(), CodecError> {
        let mut out = Vec::with_capacity(192);
        put_header(&mut out, header);
        put_whole(&out, buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Peer>, CodecError> {
        read(buf, header)
    }

    fn encode_member(
        &mut self,
        member: &foca::Member<Peer>,
        buf: impl BufMut,
    ) -> Result<(), CodecError> {
        let mut out = Vec::with_capacity(64);
        put_member(&mut out, &from_foca(member));
        put_whole(&out, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<foca::Member<Peer>, CodecError> {
        read(buf, |reader| member(reader).map(into_foca))
    }
}

fn put_whole(out: &[u8], mut buf: impl BufMut) -> Result<(), CodecError> {
    if buf.remaining_mut() < out.len() {
        return Err(CodecError);
    }
    buf.put_slice(out);
    Ok(())
}

fn read<T>(
    mut buf: impl Buf,
    item: impl FnOnce(&mut Reader<'_>) -> Option<T>,
) -> Result<T, CodecError> {
    let chunk = buf.chunk();
    let mut reader = Reader(chunk);
    let item = item(&mut reader).ok_or(CodecError)?;
    let used = chunk.len() - reader.0.len();
    buf.advance(used);
    Ok(item)
}

pub(crate) fn from_foca(member: &foca::Member<Peer>) -> MemberState {
    MemberState {
        host: member.id().0,
        refutations: member.incarnation(),
        standing: match member.state() {
            State::Alive => Standing::Alive,
            State::Suspect => Standing::Suspect,
            State::Down => Standing::Down,
        },
    }
}

pub(crate) fn into_foca(state: MemberState) -> foca::Member<Peer> {
    let standing = match state.standing {
        Standing::Alive => State::Alive,
        Standing::Suspect => State::Suspect,
        Standing::Down => State::Down,
    };
    foca::Member::new(Peer(state.host), state.refutations, standing)
}

/// A whole packet: foca's layout, read before foca sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SwimPacket {
    pub(crate) header: Header<Peer>,
    pub(crate) updates: Vec<MemberState>,
}

impl SwimPacket {
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let header = header(&mut reader)?;
        let updates = match reader.0.is_empty() {
            true => Vec::new(),
            false => reader.list(usize::from(u16::MAX), member)?,
        };
        reader.end(Self { header, updates })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        put_header(&mut out, &self.header);
        // foca takes no list, not even an empty one, behind these.
        let is_bare = matches!(self.header.message, Message::Announce | Message::TurnUndead);
        if !is_bare {
            out.put_list(&self.updates, put_member);
        }
        out
    }
}

pub(crate) fn put_header(out: &mut Vec<u8>, header: &Header<Peer>) {
    out.put_host(&header.src.0);
    out.put_u16(header.src_incarnation);
    out.put_host(&header.dst.0);
    let mut put = |kind: u8, number: Option<u8>, host: Option<&Peer>| {
        out.put_u8(kind);
        out.extend(number);
        if let Some(host) = host {
            out.put_host(&host.0);
        }
    };
    match &header.message {
        Message::Ping(number) => put(0, Some(*number), None),
        Message::Ack(number) => put(1, Some(*number), None),
        Message::PingReq {
            target,
            probe_number,
        } => put(2, Some(*probe_number), Some(target)),
        Message::IndirectPing {
            origin,
            probe_number,
        } => put(3, Some(*probe_number), Some(origin)),
        Message::IndirectAck {
            target,
            probe_number,
        } => put(4, Some(*probe_number), Some(target)),
        Message::ForwardedAck {
            origin,
            probe_number,
        } => put(5, Some(*probe_number), Some(origin)),
        Message::Announce => put(6, None, None),
        Message::Feed => put(7, None, None),
        Message::Gossip => put(8, None, None),
        Message::Broadcast => put(9, None, None),
        Message::TurnUndead => put(10, None, None),
    }
}

pub(crate) fn header(reader: &mut Reader<'_>) -> Option<Header<Peer>> {
    let src = Peer(reader.host()?);
    let src_incarnation = reader.u16()?;
    let dst = Peer(reader.host()?);
    let message = match reader.u8()? {
        0 => Message::Ping(reader.u8()?),
        1 => Message::Ack(reader.u8()?),
        kind @ 2..=5 => {
            let probe_number = reader.u8()?;
            let third = Peer(reader.host()?);
            match kind {
                2 => Message::PingReq {
                    target: third,
                    probe_number,
                },
                3 => Message::IndirectPing {
                    origin: third,
                    probe_number,
                },
                4 => Message::IndirectAck {
                    target: third,
                    probe_number,
                },
                _ => Message::ForwardedAck {
                    origin: third,
                    probe_number,
                },
            }
        }
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::Broadcast,
        10 => Message::TurnUndead,
        _ => return None,
    };
    Some(Header {
        src,
        src_incarnation,
        dst,
        message,
    })
}
