//! Subscriptions.

use std::num::NonZeroU32;

use crate::{Qos, TopicFilter};

/// When retained messages are sent at subscribe time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// At each subscribe.
    #[default]
    Send = 0,
    /// Only if the subscription is new.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// What a client asked of one subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// The highest QoS to deliver with, as granted.
    pub qos: Qos,
    /// Leave out what the same client published.
    pub no_local: bool,
    /// Keep the RETAIN flag as published.
    pub retain_as_published: bool,
    /// What to do with retained messages at subscribe time.
    pub retain_handling: RetainHandling,
    /// The subscription identifier to deliver with.
    pub id: Option<NonZeroU32>,
}

/// A filter and its options.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subscription {
    /// What it matches.
    pub filter: TopicFilter,
    /// How it is served.
    pub options: SubscriptionOptions,
}

impl RetainHandling {
    /// The handling with this number, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Send),
            1 => Some(Self::SendIfNew),
            2 => Some(Self::DoNotSend),
            _ => None,
        }
    }
}

impl SubscriptionOptions {
    /// Packs all but the identifier into one byte, as SUBSCRIBE does (5.0, 3.8.3.1).
    pub fn flags(&self) -> u8 {
        self.qos.level()
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling as u8) << 4
    }

    /// Unpacks what [`Self::flags`] packed; `None` if a bit pattern has no meaning.
    pub fn from_flags(flags: u8, id: Option<NonZeroU32>) -> Option<Self> {
        if flags & 0xC0 != 0 {
            return None;
        }
        Some(Self {
            qos: Qos::from_level(flags & 3)?,
            no_local: flags & 4 != 0,
            retain_as_published: flags & 8 != 0,
            retain_handling: RetainHandling::from_number(flags >> 4 & 3)?,
            id,
        })
    }
}
