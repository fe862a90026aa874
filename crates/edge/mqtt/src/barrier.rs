//! Retained copies of QoS 0 publishes on their way to the store, counted by tenant.
//!
//! Such a publish is routed at once, while its copy still travels. A subscriber whose route came too
//! late for the live message must find the copy: its scan waits for all copies that had begun before
//! it, so that the message comes retained or live, or both, never neither (contract C3).

use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::RandomState;
use bifrust_model::TenantNumber;
use hashbrown::HashMap;

use crate::mailbox::Then;

/// Copies of each tenant, begun and arrived, in order.
#[derive(Default)]
pub(crate) struct Barrier {
    tenants: Mutex<HashMap<TenantNumber, Copies, RandomState>>,
}

#[derive(Default)]
struct Copies {
    begun: u64,
    arrived: u64,
    /// Who waits for how many to have arrived.
    waiting: Vec<(u64, Then<()>)>,
}

impl Barrier {
    fn lock(&self) -> MutexGuard<'_, HashMap<TenantNumber, Copies, RandomState>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy sets out. To be called before the message's receivers are looked up.
    pub(crate) fn begin(&self, tenant: TenantNumber) {
        self.lock().entry(tenant).or_default().begun += 1;
    }

    /// A copy has arrived, or was refused.
    pub(crate) fn end(&self, tenant: TenantNumber) {
        let mut tenants = self.lock();
        let Some(copies) = tenants.get_mut(&tenant) else {
            return;
        };
        copies.arrived += 1;
        let arrived = copies.arrived;
        let mut due = Vec::new();
        if !copies.waiting.is_empty() {
            let (passed, waiting) = std::mem::take(&mut copies.waiting)
                .into_iter()
                .partition(|(mark, _)| *mark <= arrived);
            (due, copies.waiting) = (passed, waiting);
        }
        drop(tenants);
        for (_, done) in due {
            done(());
        }
    }

    /// Calls back once all copies that have begun by now have arrived. False, and no call, if none
    /// is on its way. To be called after the subscriber's route is in.
    pub(crate) fn wait(&self, tenant: TenantNumber, done: Then<()>) -> bool {
        let mut tenants = self.lock();
        match tenants.get_mut(&tenant) {
            Some(copies) if copies.arrived < copies.begun => {
                let mark = copies.begun;
                copies.waiting.push((mark, done));
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_scan_waits_for_the_copies_before_it_and_no_others() {
        let barrier = Barrier::default();
        let (tenant, other) = (TenantNumber(1), TenantNumber(2));
        let has_passed = Arc::new(AtomicBool::new(false));
        let done = |flag: &Arc<AtomicBool>| -> Then<()> {
            let flag = flag.clone();
            Box::new(move |()| flag.store(true, Ordering::Relaxed))
        };
        assert!(!barrier.wait(tenant, done(&has_passed)));
        barrier.begin(tenant);
        barrier.begin(tenant);
        barrier.begin(other);
        assert!(barrier.wait(tenant, done(&has_passed)));
        barrier.begin(tenant);
        barrier.end(other);
        barrier.end(tenant);
        assert!(!has_passed.load(Ordering::Relaxed));
        barrier.end(tenant);
        assert!(has_passed.load(Ordering::Relaxed));
    }
}
