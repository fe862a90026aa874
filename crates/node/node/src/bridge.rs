//! Ways up that end with the node.
//!
//! dist hands over to inbox, and inbox sends wills through the edge and dist: bound directly, each
//! would keep the other, and with it the data folder, for as long as the process lives.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bifrust_dist::{Deliverer, Matched, Pick, Publication, PublishError, RoutingKey, Then};
use bifrust_inbox::{Will, WillSender};
use bifrust_model::Tenant;

/// A way up: one look without a lock, until it is cut.
#[derive(Default)]
pub(crate) struct Bridge<T: ?Sized>(ArcSwapOption<Arc<T>>);

impl<T: ?Sized> Bridge<T> {
    pub(crate) fn to(target: Arc<T>) -> Arc<Self> {
        Arc::new(Self(ArcSwapOption::from_pointee(target)))
    }

    /// From here on nothing passes.
    pub(crate) fn cut(&self) {
        self.0.store(None);
    }
}

impl Deliverer for Bridge<dyn Deliverer> {
    fn deliver(
        &self,
        publication: &Arc<Publication>,
        matched: &Arc<Matched>,
        picks: &[Pick],
        done: Then<Result<(), PublishError>>,
    ) {
        match &*self.0.load() {
            Some(target) => target.deliver(publication, matched, picks, done),
            None => done(Err(PublishError::Refused)),
        }
    }
}

impl WillSender for Bridge<dyn WillSender> {
    fn send(&self, tenant: Arc<Tenant>, will: Will, key: RoutingKey, done: Then<bool>) {
        match &*self.0.load() {
            Some(target) => target.send(tenant, will, key, done),
            // The will stays a row; the next start sends it.
            None => done(false),
        }
    }
}
