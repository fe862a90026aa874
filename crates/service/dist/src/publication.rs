//! Messages on their way to their receivers.

use std::sync::Arc;

use bifrust_model::{Message, Tenant};

use crate::{Matched, PublishError, Then};

/// Names one QoS 2 publish of a persistent publisher: a repetition carries the same one, so that
/// receivers take it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoutingKey {
    /// The publisher's session incarnation.
    pub session: u64,
    /// The packet id of the publish.
    pub packet_id: u16,
    /// Rises with each release of that packet id.
    pub generation: u64,
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
    /// Hands `publication` to the targets of its kind in `matched`; the others are not its business.
    /// `done` runs once the receivers hold it as their kind promises. Publications reach a receiver in
    /// the order of the calls.
    fn deliver(
        &self,
        publication: &Arc<Publication>,
        matched: &Arc<Matched>,
        done: Then<Result<(), PublishError>>,
    );
}
