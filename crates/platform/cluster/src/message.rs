//! The cluster's messages over links.
//!
//! ```text
//! 1 swim     one packet of the membership protocol that UDP may not have carried
//! 2 digest   one hash per part of what the sender knows; the cheap question "do we agree?"
//! 3 state    members and departures, all of them; the answer where those differ
//! 4 versions how far each owner's rows are known, of some owners or of all
//! 5 deltas   rows
//! ```

use bifrust_model::NodeId;
use bytes::{BufMut, Bytes};

use crate::{
    Host, LINK_MESSAGE_BYTES_MAX, ROW_VALUE_BYTES_MAX, RowKey, RowKind, RowName,
    departures::{DEPARTURES_MAX, Departed, Departure},
    replica::{Delta, Version, Write as RowWrite},
    wire::{Reader, Write},
};

/// The most members that one message lists: those in sight and those that are down.
pub(crate) const MEMBERS_MAX: usize = 2_048;

/// Which rows a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Topology,
    Load,
}

/// What is thought of a member, as it is told over links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberState {
    pub(crate) host: Host,
    /// How often it refuted a suspicion.
    pub(crate) refutations: u16,
    pub(crate) standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Alive,
    Suspect,
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) members: u64,
    pub(crate) topology: u64,
    pub(crate) load: u64,
}

/// Whether an answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Wanted,
    Not,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Swim(Bytes),
    Digest(Digest),
    State {
        reply: Reply,
        members: Vec<MemberState>,
        departures: Vec<Departed>,
    },
    Versions {
        part: Part,
        /// The list is all that the sender knows, so owners that it does not name are unknown to it.
        is_complete: bool,
        versions: Vec<(NodeId, Version)>,
    },
    Deltas {
        part: Part,
        deltas: Vec<Delta>,
    },
}

impl Message {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        // The version of messages; a peer that speaks another says so in the link's hello.
        out.put_u8(1);
        match self {
            Self::Swim(packet) => {
                out.put_u8(1);
                out.put_slice(packet);
            }
            Self::Digest(digest) => {
                out.put_u8(2);
                out.put_u64(digest.members);
                out.put_u64(digest.topology);
                out.put_u64(digest.load);
            }
            Self::State {
                reply,
                members,
                departures,
            } => {
                out.put_u8(3);
                out.put_u8(u8::from(*reply == Reply::Wanted));
                out.put_list(members, put_member);
                out.put_list(departures, put_departed);
            }
            Self::Versions {
                part,
                is_complete,
                versions,
            } => {
                out.put_u8(4);
                put_part(&mut out, *part);
                out.put_u8(u8::from(*is_complete));
                out.put_list(versions, |out, (owner, version)| {
                    out.put_u128(owner.0);
                    out.put_u64(version.incarnation.0);
                    out.put_u64(version.sequence);
                });
            }
            Self::Deltas { part, deltas } => {
                out.put_u8(5);
                put_part(&mut out, *part);
                out.put_list(deltas, put_delta);
            }
        }
        out.into()
    }

    /// `None` for bytes that are no message, or one of a later version.
    pub(crate) fn decode(bytes: &Bytes) -> Option<Self> {
        if bytes.len() > LINK_MESSAGE_BYTES_MAX {
            return None;
        }
        let mut reader = Reader(bytes);
        if reader.u8()? != 1 {
            return None;
        }
        match reader.u8()? {
            1 => Some(Self::Swim(bytes.slice_ref(reader.0))),
            2 => {
                let digest = Digest {
                    members: reader.u64()?,
                    topology: reader.u64()?,
                    load: reader.u64()?,
                };
                reader.end(Self::Digest(digest))
            }
            3 => {
                let state = Self::State {
                    reply: match reader.flag()? {
                        true => Reply::Wanted,
                        false => Reply::Not,
                    },
                    members: reader.list(MEMBERS_MAX, member)?,
                    departures: departures(&mut reader)?,
                };
                reader.end(state)
            }
            4 => {
                let versions = Self::Versions {
                    part: part(&mut reader)?,
                    is_complete: reader.flag()?,
                    versions: reader.list(MEMBERS_MAX, |reader| {
                        let owner = reader.node()?;
                        let version = Version {
                            incarnation: owner.incarnation,
                            sequence: reader.u64()?,
                        };
                        Some((owner.id, version))
                    })?,
                };
                reader.end(versions)
            }
            5 => {
                let deltas = Self::Deltas {
                    part: part(&mut reader)?,
                    deltas: reader.list(MEMBERS_MAX, |reader| delta(bytes, reader))?,
                };
                reader.end(deltas)
            }
            _ => None,
        }
    }
}

fn put_part(out: &mut Vec<u8>, part: Part) {
    out.put_u8(u8::from(part == Part::Load));
}

fn part(reader: &mut Reader<'_>) -> Option<Part> {
    Some(match reader.flag()? {
        false => Part::Topology,
        true => Part::Load,
    })
}

pub(crate) fn put_member(out: &mut Vec<u8>, member: &MemberState) {
    out.put_host(&member.host);
    out.put_u16(member.refutations);
    out.put_u8(match member.standing {
        Standing::Alive => 0,
        Standing::Suspect => 1,
        Standing::Down => 2,
    });
}

pub(crate) fn member(reader: &mut Reader<'_>) -> Option<MemberState> {
    Some(MemberState {
        host: reader.host()?,
        refutations: reader.u16()?,
        standing: match reader.u8()? {
            0 => Standing::Alive,
            1 => Standing::Suspect,
            2 => Standing::Down,
            _ => return None,
        },
    })
}

pub(crate) fn put_departed(out: &mut Vec<u8>, departed: &Departed) {
    out.put_u32(departed.stamp);
    out.put_node(departed.node);
    out.put_u8(u8::from(departed.how == Departure::Evicted));
}

pub(crate) fn departures(reader: &mut Reader<'_>) -> Option<Vec<Departed>> {
    reader.list(DEPARTURES_MAX, |reader| {
        Some(Departed {
            stamp: reader.u32()?,
            node: reader.node()?,
            how: match reader.flag()? {
                false => Departure::Left,
                true => Departure::Evicted,
            },
        })
    })
}

fn put_delta(out: &mut Vec<u8>, delta: &Delta) {
    out.put_node(delta.owner);
    out.put_u64(delta.base);
    out.put_u64(delta.sequence);
    out.put_u64(delta.floor);
    out.put_list(&delta.writes, |out, write| {
        out.put_u64(write.sequence);
        out.put_u8(match write.key.kind {
            RowKind::Agent => 0,
            RowKind::Topology => 1,
            RowKind::Load => 2,
        });
        let name = write.key.name.as_str();
        // A name has at most 128 bytes.
        out.put_u8(name.len() as u8);
        out.put_slice(name.as_bytes());
        match &write.value {
            None => out.put_u32(u32::MAX),
            Some(value) => {
                out.put_u32(value.len() as u32);
                out.put_slice(value);
            }
        }
    });
}

fn delta(bytes: &Bytes, reader: &mut Reader<'_>) -> Option<Delta> {
    let owner = reader.node()?;
    let (base, sequence, floor) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let writes = reader.list(usize::from(u16::MAX), |reader| row_write(bytes, reader))?;
    Some(Delta {
        owner,
        base,
        sequence,
        floor,
        writes,
    })
}

fn row_write(bytes: &Bytes, reader: &mut Reader<'_>) -> Option<RowWrite> {
    let sequence = reader.u64()?;
    let kind = match reader.u8()? {
        0 => RowKind::Agent,
        1 => RowKind::Topology,
        2 => RowKind::Load,
        _ => return None,
    };
    let name_len = usize::from(reader.u8()?);
    let name = std::str::from_utf8(reader.take(name_len)?).ok()?;
    let name = RowName::new(name).ok()?;
    let value = match reader.u32()? {
        u32::MAX => None,
        len if len as usize > ROW_VALUE_BYTES_MAX => return None,
        // A copy: a row may outlive the message by far.
        len => Some(Bytes::copy_from_slice(
            &bytes.slice_ref(reader.take(len as usize)?),
        )),
    };
    Some(RowWrite {
        key: RowKey { kind, name },
        sequence,
        value,
    })
}

/// A hash of things in the order they come, the same on all nodes.
pub(crate) struct Hash(blake3::Hasher);

impl Hash {
    pub(crate) fn new() -> Self {
        Self(blake3::Hasher::new())
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0.finalize().as_bytes()[..8]);
        u64::from_be_bytes(first)
    }
}
