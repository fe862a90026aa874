//! Commands as the log carries them: a version, a kind, then fields. The message of an insert is
//! copied as it was encoded once; nothing is parsed on the way in this process.

use std::sync::Arc;

use bifrust_dist::RoutingKey;
use bifrust_kv::Wire;
use bifrust_model::record::{self, RecordError};
use bifrust_model::{
    ClientId, Hlc, Incarnation, NodeId, NodeRef, SessionKey, Subscription, SubscriptionOptions,
    TenantNumber, TopicFilter,
};
use bifrust_session_dict::ConnectionRef;
use bytes::{BufMut, Bytes, BytesMut};

use super::command::{
    Attach, BeginInbound, Bounds, Command, ConfirmRoutes, Detach, Expire, Insert, InsertRetained,
    Keyed, ReleaseInbound, Settle, StorePicks, Subscribe, Sweep, Target, Tidy, Unsubscribe,
    WillFate, WillSent,
};
use crate::schema::{Body, EntryHeader, Reader, WillRow, put_bytes, put_varint};

const VERSION: u8 = 1;

mod kind {
    pub(super) const ATTACH: u8 = 1;
    pub(super) const DETACH: u8 = 2;
    pub(super) const SUBSCRIBE: u8 = 3;
    pub(super) const UNSUBSCRIBE: u8 = 4;
    pub(super) const CONFIRM_ROUTES: u8 = 5;
    pub(super) const INSERT: u8 = 6;
    pub(super) const INSERT_RETAINED: u8 = 7;
    pub(super) const SETTLE: u8 = 8;
    pub(super) const BEGIN_INBOUND: u8 = 9;
    pub(super) const RELEASE_INBOUND: u8 = 10;
    pub(super) const EXPIRE: u8 = 11;
    pub(super) const WILL_SENT: u8 = 12;
    pub(super) const SWEEP: u8 = 13;
    pub(super) const TIDY: u8 = 14;
    pub(super) const STORE_PICKS: u8 = 15;
}

/// Fixed fields of a command and slack for lengths.
const HEAD_BYTES: usize = 96;
/// What a target of an insert takes beside its client id.
const TARGET_BYTES: usize = 24;

impl Wire for Command {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.size_hint());
        out.put_u8(VERSION);
        let out_ref = &mut out;
        match self {
            Self::Attach(command) => put(out_ref, kind::ATTACH, &**command),
            Self::Detach(command) => put(out_ref, kind::DETACH, &**command),
            Self::Subscribe(command) => put(out_ref, kind::SUBSCRIBE, command),
            Self::Unsubscribe(command) => put(out_ref, kind::UNSUBSCRIBE, command),
            Self::ConfirmRoutes(command) => put(out_ref, kind::CONFIRM_ROUTES, command),
            Self::Insert(command) => put(out_ref, kind::INSERT, command),
            Self::InsertRetained(command) => put(out_ref, kind::INSERT_RETAINED, command),
            Self::Settle(command) => put(out_ref, kind::SETTLE, command),
            Self::BeginInbound(command) => put(out_ref, kind::BEGIN_INBOUND, command),
            Self::ReleaseInbound(command) => put(out_ref, kind::RELEASE_INBOUND, command),
            Self::Expire(command) => put(out_ref, kind::EXPIRE, command),
            Self::WillSent(command) => put(out_ref, kind::WILL_SENT, command),
            Self::Sweep(command) => put(out_ref, kind::SWEEP, command),
            Self::Tidy(command) => put(out_ref, kind::TIDY, command),
            Self::StorePicks(command) => put(out_ref, kind::STORE_PICKS, command),
        }
        out.freeze()
    }

    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let (_, body) = record::open(bytes, VERSION)?;
        let mut reader = Reader::new(body);
        let from = &mut reader;
        Ok(match from.u8()? {
            kind::ATTACH => Self::Attach(Box::new(Attach::take(from)?)),
            kind::DETACH => Self::Detach(Box::new(Detach::take(from)?)),
            kind::SUBSCRIBE => Self::Subscribe(Subscribe::take(from)?),
            kind::UNSUBSCRIBE => Self::Unsubscribe(Unsubscribe::take(from)?),
            kind::CONFIRM_ROUTES => Self::ConfirmRoutes(ConfirmRoutes::take(from)?),
            kind::INSERT => Self::Insert(Insert::take(from)?),
            kind::INSERT_RETAINED => Self::InsertRetained(InsertRetained::take(from)?),
            kind::SETTLE => Self::Settle(Settle::take(from)?),
            kind::BEGIN_INBOUND => Self::BeginInbound(BeginInbound::take(from)?),
            kind::RELEASE_INBOUND => Self::ReleaseInbound(ReleaseInbound::take(from)?),
            kind::EXPIRE => Self::Expire(Expire::take(from)?),
            kind::WILL_SENT => Self::WillSent(WillSent::take(from)?),
            kind::SWEEP => Self::Sweep(Sweep::take(from)?),
            kind::TIDY => Self::Tidy(Tidy::take(from)?),
            kind::STORE_PICKS => Self::StorePicks(StorePicks::take(from)?),
            _ => return Err(RecordError::Invalid("kind of command")),
        })
    }
}

impl Command {
    fn size_hint(&self) -> usize {
        let payload = match self {
            Self::Insert(insert) => {
                let targets = insert.targets.iter();
                let ids: usize = targets
                    .map(|target| TARGET_BYTES + target.client.as_str().len())
                    .sum();
                insert.body.bytes.len() + ids
            }
            Self::InsertRetained(insert) => {
                let messages = insert.messages.iter();
                messages
                    .map(|(_, body)| body.bytes.len() + TARGET_BYTES)
                    .sum()
            }
            Self::Settle(settle) => 3 * (settle.received.len() + settle.done.len()),
            _ => 0,
        };
        HEAD_BYTES + payload
    }
}

fn put(out: &mut BytesMut, kind: u8, field: &impl Field) {
    out.put_u8(kind);
    field.put(out);
}

/// Something that commands are made of.
trait Field: Sized {
    fn put(&self, out: &mut BytesMut);
    fn take(from: &mut Reader) -> Result<Self, RecordError>;
}

/// A struct is its fields in order.
macro_rules! in_order {
    ($($name:ident { $($field:ident),+ })+) => {$(
        impl Field for $name {
            fn put(&self, out: &mut BytesMut) {
                $(self.$field.put(out);)+
            }

            fn take(from: &mut Reader) -> Result<Self, RecordError> {
                Ok(Self { $($field: Field::take(from)?,)+ })
            }
        }
    )+};
}

in_order! {
    SessionKey { tenant, client }
    NodeRef { id, incarnation }
    ConnectionRef { node, shard, slot, generation }
    Subscription { filter, options }
    RoutingKey { session, packet_id, generation }
    Keyed { key, floor }
    Bounds { messages, bytes, queues_qos0, drops_oldest_qos0 }
    Target { client, incarnation, header }
    Attach { session, stamp, user, owner, clean_start, expiry_seconds, window, will }
    Detach { session, epoch, stamp, will, expiry_seconds, sent_before, routed }
    Subscribe { session, epoch, stamp, subscriptions, max_filters }
    Unsubscribe { session, epoch, stamp, filters }
    ConfirmRoutes { session, incarnation, changed_at, gone }
    Insert { tenant, body, key, bounds, targets }
    InsertRetained { session, epoch, bounds, messages }
    BeginInbound { session, epoch, stamp, packet_id }
    ReleaseInbound { session, epoch, stamp, packet_id }
    StorePicks { session, epoch, packet_id, generation, picks }
    Expire { session, epoch, stamp }
    WillSent { session, epoch }
    Sweep { session, incarnation, filters, limit }
    Tidy { session, incarnation, publishers }
}

macro_rules! numbers {
    ($($kind:ty)+) => {$(
        impl Field for $kind {
            fn put(&self, out: &mut BytesMut) {
                put_varint(out, u64::from(*self));
            }

            fn take(from: &mut Reader) -> Result<Self, RecordError> {
                from.number()
            }
        }
    )+};
}

numbers! { u16 u32 u64 }

macro_rules! wrapped {
    ($($name:ident($inner:ty))+) => {$(
        impl Field for $name {
            fn put(&self, out: &mut BytesMut) {
                self.0.put(out);
            }

            fn take(from: &mut Reader) -> Result<Self, RecordError> {
                <$inner>::take(from).map($name)
            }
        }
    )+};
}

wrapped! { Hlc(u64) TenantNumber(u64) Incarnation(u64) NodeId(u128) }

impl Field for u128 {
    fn put(&self, out: &mut BytesMut) {
        out.put_u128(*self);
    }

    fn take(from: &mut Reader) -> Result<Self, RecordError> {
        from.u128()
    }
}

impl Field for bool {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }

    fn take(from: &mut Reader) -> Result<Self, RecordError> {
        match from.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RecordError::Invalid("truth value")),
        }
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut BytesMut) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(from: &mut Reader) -> Result<Self, RecordError> {
        bool::take(from)?.then(|| T::take(from)).transpose()
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut BytesMut) {
        put_varint(out, self.len() as u64);
        for value in self {
            value.put(out);
        }
    }

    fn take(from: &mut Reader) -> Result<Self, RecordError> {
        let count = from.count()?;
        // Not reserved: a value may be larger than the byte it is known to take.
        (0..count).map(|_| T::take(from)).collect()
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn put(&self, out: &mut BytesMut) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(from: &mut Reader) -> Result<Self, RecordError> {
        Ok((A::take(from)?, B::take(from)?))
    }
}

impl Field for Bytes {
    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self);
    }

    fn take(from: &mut Reader) -> Result<Self, RecordError> {
        from.bytes()
    }
}

impl Field for Arc<str> {
    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.as_bytes());
    }

    fn take(from: &mut Reader) -> Result<Self, RecordError> {
        Ok((&*from.text()?).into())
    }
}

impl Field for ClientId {
    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.as_str().as_bytes());
    }

    fn take(from: &mut Reader) -> Result<Self, RecordError> {
        Self::new(&from.text()?).map_err(|_| RecordError::Invalid("client"))
    }
}

impl Field for TopicFilter {
    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, self.as_str().as_bytes());
    }

    fn take(from: &mut Reader) -> Result<Self, RecordError> {
        Self::new(from.text()?).map_err(|_| RecordError::Invalid("filter"))
    }
}

impl Field for SubscriptionOptions {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(self.flags());
        self.id.map_or(0, u32::from).put(out);
    }

    fn take(from: &mut Reader) -> Result<Self, RecordError> {
        let flags = from.u8()?;
        let id = std::num::NonZeroU32::new(u32::take(from)?);
        Self::from_flags(flags, id).ok_or(RecordError::Invalid("options"))
    }
}

impl Field for WillFate {
    fn put(&self, out: &mut BytesMut) {
        (*self == Self::Due).put(out);
    }

    fn take(from: &mut Reader) -> Result<Self, RecordError> {
        Ok(match bool::take(from)? {
            true => Self::Due,
            false => Self::Dropped,
        })
    }
}

impl Field for crate::Will {
    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, &WillRow(self.clone()).encode());
    }

    fn take(from: &mut Reader) -> Result<Self, RecordError> {
        Ok(WillRow::decode(from.bytes()?)?.0)
    }
}

impl Field for Body {
    fn put(&self, out: &mut BytesMut) {
        put_bytes(out, &self.bytes);
    }

    fn take(from: &mut Reader) -> Result<Self, RecordError> {
        Self::decode(from.bytes()?)
    }
}

impl Field for EntryHeader {
    fn put(&self, out: &mut BytesMut) {
        Self::put(self, out);
    }

    fn take(from: &mut Reader) -> Result<Self, RecordError> {
        Self::take(from)
    }
}

/// Settled numbers mostly follow each other: they are written as steps.
impl Field for Settle {
    fn put(&self, out: &mut BytesMut) {
        self.session.put(out);
        self.epoch.put(out);
        for numbers in [&self.received, &self.done] {
            put_varint(out, numbers.len() as u64);
            let mut last = 0u64;
            for number in numbers {
                put_varint(out, zigzag(number.wrapping_sub(last)));
                last = *number;
            }
        }
    }

    fn take(from: &mut Reader) -> Result<Self, RecordError> {
        let session = Field::take(from)?;
        let epoch = Field::take(from)?;
        let mut lists = [Vec::new(), Vec::new()];
        for list in &mut lists {
            let count = from.count()?;
            let mut last = 0u64;
            for _ in 0..count {
                last = last.wrapping_add(unzigzag(from.varint()?));
                list.push(last);
            }
        }
        let [received, done] = lists;
        Ok(Self {
            session,
            epoch,
            received,
            done,
        })
    }
}

/// Small steps in either direction become small numbers.
fn zigzag(step: u64) -> u64 {
    let step = step.cast_signed();
    ((step << 1) ^ (step >> 63)).cast_unsigned()
}

fn unzigzag(code: u64) -> u64 {
    (code >> 1) ^ (code & 1).wrapping_neg()
}

#[cfg(test)]
mod tests;
