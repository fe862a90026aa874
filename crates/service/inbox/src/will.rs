//! Wills.

use std::sync::Arc;

use bifrust_dist::RoutingKey;
use bifrust_kv::Then;
use bifrust_model::{ClientInfo, Message, Tenant};

/// What a client wants published if it goes without saying good-bye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// The message; its stamp says when the will was set.
    pub message: Message,
    /// Seconds to wait for the client to come back first.
    pub delay_seconds: u32,
    /// The client, for the permission check at publication.
    pub client: Arc<ClientInfo>,
}

/// Publishes wills that are due.
pub trait WillSender: Send + Sync {
    /// Publishes `will` in `tenant` with `key`, by which persistent sessions know it when it comes
    /// again. Answers true if it is done with, published or forbidden, and false if it has to be
    /// tried again later.
    fn send(&self, tenant: Arc<Tenant>, will: Will, key: RoutingKey, done: Then<bool>);
}
