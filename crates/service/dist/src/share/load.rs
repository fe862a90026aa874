//! What a node knows of the members of its groups: who is there, and how much waits for each.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ahash::RandomState;
use bifrust_model::TenantNumber;
use hashbrown::HashMap;

use super::MemberId;

/// Members known below which nobody looks for those that have gone.
const TIDY_MIN: usize = 1024;

/// How busy a member is. Publishers add what they hand to it; its session now and then says what is
/// really there, so that a wrong number never lasts.
#[derive(Debug, Default)]
pub struct Load {
    waiting: AtomicU32,
    /// Connections that serve it.
    attending: AtomicU32,
}

impl Load {
    /// Messages that wait for it or that it has not acknowledged, roughly.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether it is connected.
    pub fn is_online(&self) -> bool {
        self.attending.load(Ordering::Acquire) > 0
    }

    /// A message is on its way to it.
    pub fn add(&self) {
        let order = Ordering::Relaxed;
        // Saturating: past the end means the same.
        let _ = self
            .waiting
            .fetch_update(order, order, |waiting| waiting.checked_add(1));
    }
}

/// Makes a member online for as long as it is kept.
#[derive(Debug)]
pub struct Attendance(Arc<Load>);

impl Attendance {
    /// Says how many messages wait for the member or are unacknowledged.
    pub fn set_waiting(&self, waiting: usize) {
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        // Read before written: mostly nothing has changed, and publishers read the same line.
        if self.0.waiting() != waiting {
            self.0.waiting.store(waiting, Ordering::Relaxed);
        }
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.0.attending.fetch_sub(1, Ordering::Release);
    }
}

type Known = HashMap<(TenantNumber, MemberId), Weak<Load>, RandomState>;

/// The loads of all members that somebody knows: matches and sessions keep them.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    known: Mutex<(Known, usize)>,
}

impl Loads {
    /// The member's load, the same for all who ask.
    pub(crate) fn of(&self, tenant: TenantNumber, id: &MemberId) -> Arc<Load> {
        let mut guard = self.lock();
        let (known, tidy_at) = &mut *guard;
        let key = (tenant, id.clone());
        if let Some(load) = known.get(&key).and_then(Weak::upgrade) {
            return load;
        }
        let load = Arc::default();
        known.insert(key, Arc::downgrade(&load));
        if known.len() > (*tidy_at).max(TIDY_MIN) {
            known.retain(|_, load| load.strong_count() > 0);
            *tidy_at = known.len() * 2;
        }
        load
    }

    /// Makes the member online.
    pub(crate) fn attend(&self, tenant: TenantNumber, id: &MemberId) -> Attendance {
        let load = self.of(tenant, id);
        load.attending.fetch_add(1, Ordering::Release);
        Attendance(load)
    }

    fn lock(&self) -> MutexGuard<'_, (Known, usize)> {
        // Nothing that can panic leaves it half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bifrust_model::ClientId;

    use super::*;

    const TENANT: TenantNumber = TenantNumber(1);

    fn inbox(client: &str) -> MemberId {
        MemberId::Inbox {
            client: ClientId::new(client).unwrap(),
            incarnation: 1,
        }
    }

    #[test]
    fn a_member_is_online_while_any_connection_attends() {
        let loads = Loads::default();
        let load = loads.of(TENANT, &inbox("a"));
        assert!(!load.is_online());
        let first = loads.attend(TENANT, &inbox("a"));
        let second = loads.attend(TENANT, &inbox("a"));
        drop(first);
        assert!(load.is_online());
        second.set_waiting(7);
        load.add();
        assert_eq!(load.waiting(), 8);
        drop(second);
        assert!(!load.is_online());
        assert!(!loads.of(TenantNumber(2), &inbox("a")).is_online());
    }

    #[test]
    fn members_that_nobody_knows_are_forgotten() {
        let loads = Loads::default();
        let kept = loads.of(TENANT, &inbox("kept"));
        for n in 0..TIDY_MIN * 3 {
            loads.of(TENANT, &inbox(&n.to_string()));
        }
        assert!(loads.lock().0.len() <= TIDY_MIN + 1);
        assert!(Arc::ptr_eq(&kept, &loads.of(TENANT, &inbox("kept"))));
    }
}
