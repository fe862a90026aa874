//! User properties, kept as the bytes they were sent as.

use std::fmt;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::error::EncodeError;
use crate::forward::{ForwardProperties, ForwardProperty};
use crate::properties::{PropertySink, REASON_STRING, USER_PROPERTY};
use crate::wire::{Counter, Detail, Sink};

/// Names and values in their order, repeated names included.
///
/// They are held as wire bytes, so that a packet full of tiny ones costs no more memory than it
/// has bytes, and passing them on costs a copy.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct UserProperties {
    wire: Bytes,
}

impl UserProperties {
    /// No user properties.
    pub const fn new() -> Self {
        Self { wire: Bytes::new() }
    }

    /// Encodes pairs of name and value.
    pub fn from_pairs<'a, I>(pairs: I) -> Result<Self, EncodeError>
    where
        I: IntoIterator<Item = (&'a str, &'a str)>,
    {
        let mut wire = BytesMut::new();
        for (name, value) in pairs {
            let mut counter = Counter::default();
            write_pair(name, value, &mut counter);
            wire.reserve(counter.finish()?);
            write_pair(name, value, &mut wire);
        }
        Ok(Self {
            wire: wire.freeze(),
        })
    }

    /// Takes wire bytes that decoding has checked.
    pub(crate) const fn from_wire(wire: Bytes) -> Self {
        Self { wire }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.wire.is_empty()
    }

    /// The pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        ForwardProperties::new(&self.wire).filter_map(|property| match property {
            ForwardProperty::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// The encoded bytes, identifiers included.
    pub fn as_wire(&self) -> &[u8] {
        &self.wire
    }

    pub(crate) fn write<S: Sink>(&self, out: &mut S) {
        out.raw(&self.wire);
    }
}

impl fmt::Debug for UserProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

pub(crate) fn write_pair<S: Sink>(name: &str, value: &str, out: &mut S) {
    out.u8(USER_PROPERTY);
    out.string("user property name", name);
    out.string("user property value", value);
}

/// Writes a reason string, if `detail` keeps it, and user properties likewise.
pub(crate) fn write_explanation<S: Sink>(
    reason_string: Option<&ByteString>,
    user: &UserProperties,
    detail: Detail,
    out: &mut S,
) {
    if detail == Detail::Full {
        let text = reason_string.map(|text| &**text);
        out.string_property(REASON_STRING, text);
    }
    if detail != Detail::Bare {
        user.write(out);
    }
}
