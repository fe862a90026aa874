//! The heads of sessions in use, within a bound.

use std::hash::{Hash, Hasher};

use ahash::RandomState;
use bifrust_kv::Rows;
use bifrust_model::{ClientId, SessionKey, TenantNumber};
use hashbrown::{Equivalent, HashMap};

use super::head::Head;

/// Uses after which the memory is counted again.
const USES_BETWEEN_COUNTS: u32 = 4096;

/// What is given up when the memory is used up, as a part of all heads.
const PART_GIVEN_UP: usize = 4;

/// A cache of what the rows say; what falls out is read again.
#[derive(Debug)]
pub(crate) struct Heads {
    map: HashMap<SessionKey, Used, RandomState>,
    /// Counts uses: a head's latest is its age.
    tick: u64,
    uses_until_count: u32,
    bytes_max: usize,
}

#[derive(Debug)]
struct Used {
    tick: u64,
    head: Head,
}

/// A session named without owning its name.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) tenant: TenantNumber,
    pub(crate) client: &'a ClientId,
}

impl Hash for Named<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As the derived hash of `SessionKey`.
        self.tenant.hash(state);
        self.client.hash(state);
    }
}

impl Equivalent<SessionKey> for Named<'_> {
    fn equivalent(&self, key: &SessionKey) -> bool {
        self.tenant == key.tenant && *self.client == key.client
    }
}

impl Heads {
    /// No heads, and a bound for the memory that they may take.
    pub(crate) fn within(bytes_max: usize) -> Self {
        Self {
            map: HashMap::default(),
            tick: 0,
            uses_until_count: USES_BETWEEN_COUNTS,
            bytes_max,
        }
    }

    /// The session's head; `None` if there is no such session.
    pub(crate) fn find(&mut self, rows: &Rows<'_>, named: Named<'_>) -> Option<&mut Head> {
        self.make_room();
        let tick = self.tick;
        // Two look-ups where one would do, since a borrow cannot be given back conditionally.
        if !self.map.contains_key(&named) {
            let session = SessionKey {
                tenant: named.tenant,
                client: named.client.clone(),
            };
            let head = Head::load(rows, &session)?;
            self.map.insert(session, Used { tick, head });
        }
        let used = self.map.get_mut(&named)?;
        used.tick = tick;
        Some(&mut used.head)
    }

    /// The session's head.
    pub(crate) fn get(&mut self, rows: &Rows<'_>, session: &SessionKey) -> Option<&mut Head> {
        let named = Named {
            tenant: session.tenant,
            client: &session.client,
        };
        self.find(rows, named)
    }

    /// Takes in a session that has just begun.
    pub(crate) fn insert(&mut self, session: SessionKey, head: Head) {
        let tick = self.tick;
        self.map.insert(session, Used { tick, head });
    }

    /// Forgets a session that has ended.
    pub(crate) fn remove(&mut self, session: &SessionKey) -> Option<Head> {
        self.map.remove(session).map(|used| used.head)
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    fn make_room(&mut self) {
        self.tick += 1;
        self.uses_until_count -= 1;
        if self.uses_until_count > 0 {
            return;
        }
        self.uses_until_count = USES_BETWEEN_COUNTS;
        let bytes: usize = self.map.values().map(|used| used.head.weight()).sum();
        if bytes <= self.bytes_max {
            return;
        }
        let mut ticks: Vec<u64> = self.map.values().map(|used| used.tick).collect();
        let part = ticks.len() / PART_GIVEN_UP;
        let (_, oldest_kept, _) = ticks.select_nth_unstable(part);
        let oldest_kept = *oldest_kept;
        self.map.retain(|_, used| used.tick > oldest_kept);
    }
}
