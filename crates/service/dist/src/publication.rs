//! Messages on their way to their receivers.

use std::sync::Arc;

use bifrust_model::{Message, Tenant};

use crate::{Matched, Pick, PublishError, Then};

/// Names one QoS 2 publish of a persistent publisher, or one will: a repetition carries the same
/// one, so that receivers take it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoutingKey {
    /// The publisher's session incarnation; 0 for a will.
    pub session: u64,
    /// The packet id of the publish; 0, which is none, for a will.
    pub packet_id: u16,
    /// Rises with each release of that packet id; for a will the number of its connection.
    pub generation: u64,
}

impl RoutingKey {
    /// The key of the will that a client's connection of this number came with.
    pub fn of_will(connection: u64) -> Self {
        Self {
            session: 0,
            packet_id: 0,
            generation: connection,
        }
    }

    /// The number of the connection whose will this names; `None` if it names a publish.
    pub fn will(&self) -> Option<u64> {
        (self.packet_id == 0).then_some(self.generation)
    }
}

/// A message and what its way through the services needs.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The tenant it was published in.
    pub tenant: Arc<Tenant>,
    /// What was published.
    pub message: Message,
    /// Set if a repetition is to be recognised.
    pub key: Option<RoutingKey>,
}

/// Hands publications to one kind of receivers: live sessions, or persistent ones.
pub trait Deliverer: Send + Sync {
    /// Hands `publication` to the targets of its kind in `matched`, and to those of its kind that were
    /// picked of its groups; the others are not its business.
    /// `done` runs once the receivers hold it as their kind promises. Publications reach a receiver in
    /// the order of the calls.
    fn deliver(
        &self,
        publication: &Arc<Publication>,
        matched: &Arc<Matched>,
        picks: &[Pick],
        done: Then<Result<(), PublishError>>,
    );
}
