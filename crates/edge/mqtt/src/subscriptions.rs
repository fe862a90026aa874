//! Which sessions of this shard a topic leads to, and which filters the node has to know of.
//!
//! Exact filters are found by their text, wildcard ones by a trie per tenant. The result for a
//! topic is kept and shared; a change of an exact filter drops the one result it touches, a change
//! of a wildcard filter outdates all results of its tenant, which are then made anew when used.

mod members;
mod route;
mod trie;

use std::cell::Cell;
use std::rc::Rc;

use ahash::RandomState;
use bifrust_model::{Qos, SubscriptionOptions, TenantNumber, TopicFilter};
use bytestring::ByteString;
use hashbrown::{Equivalent, HashMap, HashTable};
use slab::Slab;
use smallvec::SmallVec;

use crate::mailbox::Seat;
pub(crate) use route::{Route, RouteStep};
use trie::Trie;

/// For the fuzzer: the numbers of those filters that match.
pub(crate) fn matching(filters: &[TopicFilter], topic: &str) -> Vec<usize> {
    let mut trie = Trie::default();
    for (number, filter) in filters.iter().enumerate() {
        trie.insert(filter.plain(), number);
    }
    let mut found = SmallVec::new();
    trie.find(topic, &mut found);
    found.sort_unstable();
    for filter in filters {
        trie.remove(filter.plain());
    }
    let mut left = SmallVec::new();
    trie.find(topic, &mut left);
    assert!(left.is_empty(), "filters stay behind");
    found.to_vec()
}

/// What a kept result takes beside its topic and its sessions.
const RESULT_BYTES: usize = 224;

/// Results that are kept where no bound is said.
const RESULTS_MAX: usize = 16 << 20;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantNumber,
    text: ByteString,
}

#[derive(PartialEq, Eq, Hash)]
struct KeyRef<'a> {
    tenant: TenantNumber,
    text: &'a str,
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.tenant == key.tenant && self.text == &*key.text
    }
}

/// A session that a topic leads to, its matching subscriptions taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) slot: u32,
    /// Highest granted QoS.
    pub(crate) qos: Qos,
    /// Whether any subscription keeps the RETAIN flag.
    pub(crate) retain_as_published: bool,
    /// Whether any subscription leaves out the session's own messages: then these need
    /// [`Subscriptions::own_target`].
    pub(crate) has_no_local: bool,
    pub(crate) ids: Option<Rc<[u32]>>,
}

/// All sessions of this shard that a topic leads to.
#[derive(Debug)]
pub(crate) struct LocalMatch {
    pub(crate) targets: Vec<Target>,
    is_stale: Cell<bool>,
    /// The tenant's wildcard changes, now and when this was made.
    wildcards: Rc<Cell<u64>>,
    seen: u64,
}

impl LocalMatch {
    pub(crate) fn is_stale(&self) -> bool {
        self.is_stale.get() || self.wildcards.get() != self.seen
    }
}

/// One filter and who has it.
struct Filter {
    tenant: TenantNumber,
    filter: TopicFilter,
    subscribers: SmallVec<[(u32, SubscriptionOptions); 1]>,
    /// Set if it is the filter of one member of a group.
    member: Option<Seat>,
    route: Route,
}

/// Connections whose SUBACK waits for a route.
type Waiters = SmallVec<[Seat; 1]>;

#[derive(Default)]
struct Tenant {
    trie: Trie,
    wildcards: Rc<Cell<u64>>,
}

/// The subscriptions of all transient sessions of a shard.
pub(crate) struct Subscriptions {
    filters: Slab<Filter>,
    /// Filters by tenant and text.
    by_text: HashTable<u32>,
    /// By filter; few filters' routes are on their way at a time.
    waiters: HashMap<usize, Waiters, RandomState>,
    hasher: RandomState,
    tenants: HashMap<TenantNumber, Tenant, RandomState>,
    cache: HashMap<Key, Rc<LocalMatch>, RandomState>,
    /// Filters of members of groups: a filter per member.
    members: HashMap<(Seat, TopicFilter), usize, RandomState>,
    cache_bytes: usize,
    /// Above it all are dropped.
    cache_bytes_max: usize,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self::within(RESULTS_MAX)
    }
}

impl Subscriptions {
    /// No subscriptions, and room for results of so many bytes.
    pub(crate) fn within(cache_bytes_max: usize) -> Self {
        Self {
            filters: Slab::new(),
            by_text: HashTable::new(),
            waiters: HashMap::default(),
            hasher: RandomState::new(),
            tenants: HashMap::default(),
            cache: HashMap::default(),
            members: HashMap::default(),
            cache_bytes: 0,
            cache_bytes_max,
        }
    }

    /// Adds a subscription or replaces its options. Says which filter it is, and what to do about
    /// its route.
    pub(crate) fn add(
        &mut self,
        slot: u32,
        tenant: TenantNumber,
        filter: &TopicFilter,
        options: SubscriptionOptions,
    ) -> (usize, RouteStep) {
        let at = self.entry(tenant, filter);
        let entry = &mut self.filters[at];
        match entry.subscribers.iter_mut().find(|(s, _)| *s == slot) {
            Some((_, held)) => *held = options,
            None => entry.subscribers.push((slot, options)),
        }
        let step = entry.route.wanted();
        self.outdate(tenant, filter);
        (at, step)
    }

    /// The filter as it is kept here, or a copy: one from a packet shares its memory with all of the
    /// packet.
    pub(crate) fn own(&self, tenant: TenantNumber, filter: &TopicFilter) -> TopicFilter {
        if let Some(at) = self.find(tenant, filter.as_str()) {
            return self.filters[at].filter.clone();
        }
        let text = ByteString::from(filter.as_str());
        TopicFilter::new(text).unwrap_or_else(|_| filter.clone())
    }

    fn find(&self, tenant: TenantNumber, text: &str) -> Option<usize> {
        let is_it = |at: &u32| {
            let entry = &self.filters[*at as usize];
            entry.tenant == tenant && entry.filter.as_str() == text
        };
        let hash = self.hasher.hash_one((tenant, text));
        self.by_text.find(hash, is_it).map(|at| *at as usize)
    }

    fn entry(&mut self, tenant: TenantNumber, filter: &TopicFilter) -> usize {
        let text = filter.as_str();
        if let Some(at) = self.find(tenant, text) {
            return at;
        }
        let at = self.filters.insert(Filter {
            tenant,
            filter: filter.clone(),
            subscribers: SmallVec::new(),
            member: None,
            route: Route::default(),
        });
        if filter.has_wildcard() {
            let tenant = self.tenants.entry(tenant).or_default();
            tenant.trie.insert(text, at);
        }
        let Self {
            filters,
            by_text,
            hasher,
            ..
        } = self;
        let hash = |at: &u32| {
            let entry = &filters[*at as usize];
            hasher.hash_one((entry.tenant, entry.filter.as_str()))
        };
        let number = u32::try_from(at).expect("so many filters do not fit into memory");
        by_text.insert_unique(hash(&number), number, hash);
        at
    }

    /// Takes a subscription away; `None` if there was none.
    pub(crate) fn remove(
        &mut self,
        slot: u32,
        tenant: TenantNumber,
        filter: &TopicFilter,
    ) -> Option<(usize, RouteStep)> {
        let text = filter.as_str();
        let at = self.find(tenant, text)?;
        let entry = &mut self.filters[at];
        let position = entry.subscribers.iter().position(|(s, _)| *s == slot)?;
        entry.subscribers.swap_remove(position);
        let step = if entry.subscribers.is_empty() {
            entry.route.unwanted()
        } else {
            RouteStep::Nothing
        };
        self.outdate(tenant, filter);
        Some((at, step))
    }

    /// The connection's SUBACK waits until this filter's route is there.
    pub(crate) fn wait(&mut self, at: usize, seat: Seat) {
        self.waiters.entry(at).or_default().push(seat);
    }

    /// Tenant and text of a filter.
    pub(crate) fn filter(&self, at: usize) -> Option<(TenantNumber, &TopicFilter)> {
        let entry = self.filters.get(at)?;
        Some((entry.tenant, &entry.filter))
    }

    /// A route call has ended: what to do next, and who waited for it.
    pub(crate) fn routed(&mut self, at: usize, is_done: bool) -> (RouteStep, Waiters) {
        let Some(entry) = self.filters.get_mut(at) else {
            return (RouteStep::Nothing, SmallVec::new());
        };
        let is_wanted = !entry.subscribers.is_empty();
        let was_adding = entry.route.is_adding();
        let step = entry.route.ended(is_done, is_wanted);
        let is_forgotten = entry.route.is_absent() && !is_wanted;
        let waiters = if was_adding {
            self.waiters.remove(&at).unwrap_or_default()
        } else {
            SmallVec::new()
        };
        if is_forgotten {
            self.forget(at);
        }
        (step, waiters)
    }

    /// The call that is out for a filter's route.
    pub(crate) fn step_under_way(&self, at: usize) -> Option<RouteStep> {
        self.filters.get(at)?.route.under_way()
    }

    /// Whether a failed removal is still to be done; then it is tried again.
    pub(crate) fn retry_removal(&mut self, at: usize) -> RouteStep {
        match self.filters.get_mut(at) {
            Some(entry) if entry.subscribers.is_empty() => entry.route.unwanted(),
            _ => RouteStep::Nothing,
        }
    }

    fn forget(&mut self, at: usize) {
        let entry = self.filters.remove(at);
        // Its number may be the next filter's.
        self.waiters.remove(&at);
        if let Some(seat) = entry.member {
            self.members.remove(&(seat, entry.filter));
            return;
        }
        let tenant = entry.tenant;
        let text = entry.filter.as_str();
        let hash = self.hasher.hash_one((tenant, text));
        if let Ok(found) = (self.by_text).find_entry(hash, |number| *number as usize == at) {
            found.remove();
        }
        if entry.filter.has_wildcard()
            && let Some(of_tenant) = self.tenants.get_mut(&tenant)
        {
            of_tenant.trie.remove(text);
        }
        if self.filters.is_empty() {
            // Their memory goes with them.
            self.filters = Slab::new();
            self.by_text = HashTable::new();
        }
    }

    fn outdate(&mut self, tenant: TenantNumber, filter: &TopicFilter) {
        if filter.has_wildcard() {
            if let Some(tenant) = self.tenants.get(&tenant) {
                tenant.wildcards.set(tenant.wildcards.get() + 1);
            }
            return;
        }
        let text = filter.as_str();
        if let Some(held) = self.cache.remove(&KeyRef { tenant, text }) {
            held.is_stale.set(true);
            self.cache_bytes -= result_bytes(text, &held);
        }
    }

    /// The sessions that `topic` leads to.
    pub(crate) fn matches(&mut self, tenant: TenantNumber, topic: &str) -> Rc<LocalMatch> {
        let key = KeyRef {
            tenant,
            text: topic,
        };
        if let Some(held) = self.cache.get(&key)
            && !held.is_stale()
        {
            return held.clone();
        }
        let mut found: SmallVec<[usize; 8]> = SmallVec::new();
        found.extend(self.find(tenant, topic));
        let of_tenant = self.tenants.entry(tenant).or_default();
        of_tenant.trie.find(topic, &mut found);
        let wildcards = of_tenant.wildcards.clone();
        let local = Rc::new(LocalMatch {
            targets: self.targets(&found),
            is_stale: Cell::new(false),
            seen: wildcards.get(),
            wildcards,
        });
        self.keep(tenant, topic, local.clone());
        local
    }

    fn keep(&mut self, tenant: TenantNumber, topic: &str, local: Rc<LocalMatch>) {
        let bytes = result_bytes(topic, &local);
        if self.cache_bytes + bytes > self.cache_bytes_max {
            for (_, held) in self.cache.drain() {
                held.is_stale.set(true);
            }
            self.cache_bytes = 0;
        }
        self.cache_bytes += bytes;
        let key = Key {
            tenant,
            text: topic.into(),
        };
        if let Some(outdated) = self.cache.insert(key, local) {
            self.cache_bytes -= result_bytes(topic, &outdated);
        }
    }

    fn targets(&self, found: &[usize]) -> Vec<Target> {
        if let [only] = found {
            let subscribers = self.filters[*only].subscribers.iter();
            return subscribers
                .map(|(slot, options)| merge(*slot, std::iter::once(options)))
                .collect();
        }
        let mut all: Vec<(u32, SubscriptionOptions)> = found
            .iter()
            .flat_map(|at| self.filters[*at].subscribers.iter().copied())
            .collect();
        all.sort_by_key(|(slot, _)| *slot);
        all.chunk_by(|a, b| a.0 == b.0)
            .map(|of_one| merge(of_one[0].0, of_one.iter().map(|(_, options)| options)))
            .collect()
    }

    /// How a session gets its own message: no-local subscriptions are left out first.
    pub(crate) fn own_target(
        &mut self,
        slot: u32,
        tenant: TenantNumber,
        topic: &str,
    ) -> Option<Target> {
        let mut found: SmallVec<[usize; 8]> = SmallVec::new();
        found.extend(self.find(tenant, topic));
        if let Some(of_tenant) = self.tenants.get(&tenant) {
            of_tenant.trie.find(topic, &mut found);
        }
        let options: SmallVec<[SubscriptionOptions; 4]> = found
            .iter()
            .flat_map(|at| self.filters[*at].subscribers.iter())
            .filter(|(of, options)| *of == slot && !options.no_local)
            .map(|(_, options)| *options)
            .collect();
        (!options.is_empty()).then(|| merge(slot, options.iter()))
    }
}

fn result_bytes(topic: &str, local: &LocalMatch) -> usize {
    RESULT_BYTES + topic.len() + local.targets.len() * size_of::<Target>()
}

fn merge<'a>(slot: u32, all: impl Iterator<Item = &'a SubscriptionOptions>) -> Target {
    let mut target = Target {
        slot,
        qos: Qos::AtMostOnce,
        retain_as_published: false,
        has_no_local: false,
        ids: None,
    };
    let mut ids: SmallVec<[u32; 8]> = SmallVec::new();
    for options in all {
        target.qos = target.qos.max(options.qos);
        target.retain_as_published |= options.retain_as_published;
        target.has_no_local |= options.no_local;
        ids.extend(options.id.map(u32::from));
    }
    if !ids.is_empty() {
        target.ids = Some(Rc::from(ids.as_slice()));
    }
    target
}

#[cfg(test)]
mod tests;
