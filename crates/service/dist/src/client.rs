//! What others call.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bifrust_kv::{Ack, Clock, Node};
use bifrust_model::{Hlc, NodeRef, TenantNumber, Topic, TopicFilter};
use bifrust_plugin_api::{Counter, Meter, Meters};
use bifrust_storage::KEY_BYTES_MAX;
use bytes::Bytes;
use bytestring::ByteString;

use crate::absent::Absent;
use crate::cache::{Cache, Next};
use crate::range::RouteRange;
use crate::schema::command::Command;
use crate::schema::live_route::SHARDS_MAX;
use crate::schema::route_key::{self, ReceiverKey};
use crate::share::{Loads, Taken};
use crate::store::{Answer, Effect, EndedQuery, Query, Routes, Targets};
use crate::{
    Config, Deliverer, MatchError, Matched, OpenError, Pick, Publication, PublishError, Receiver,
    RouteError, Then,
};

mod groups;
#[cfg(test)]
mod tests;

/// Routes that one step of the sweep looks at.
const SWEEP_ROWS: usize = 10_000;

/// The lane of what no tenant has asked for.
const OWN_LANE: TenantNumber = TenantNumber(0);

/// Routes of all tenants and the matches of this node; clones share them.
#[derive(Clone)]
pub struct Dist(Arc<Inner>);

struct Inner {
    range: Box<dyn RouteRange>,
    cache: Cache,
    absent: Absent,
    this: NodeRef,
    stamps: Stamps,
    loads: Loads,
    /// Makes the choices of what no connection shard publishes.
    seed: AtomicU64,
    /// Groups beyond the tenant's bound of one message, of such publishes.
    groups_left_out: Counter,
    deliverers: OnceLock<Deliverers>,
}

struct Deliverers {
    live: Arc<dyn Deliverer>,
    durable: Arc<dyn Deliverer>,
}

impl Dist {
    /// Opens the routes with default bounds, and starts to remove live routes of this node's ended
    /// incarnations.
    pub fn open(node: &Node, this: NodeRef, meters: &dyn Meters) -> Result<Self, OpenError> {
        Self::open_with(node, this, &Config::default(), meters)
    }

    /// The same with other bounds.
    pub fn open_with(
        node: &Node,
        this: NodeRef,
        config: &Config,
        meters: &dyn Meters,
    ) -> Result<Self, OpenError> {
        let routes = meters.gauge(Meter::new("bifrust_dist_routes", "Routes stored."));
        let latest = Arc::new(AtomicU64::new(0));
        let stamps = Stamps {
            clock: node.clock().clone(),
            latest: latest.clone(),
        };
        // The effects of leading come before `host` returns, so the first stamp is later than all rows.
        let range = node.host(Routes, move |effects| {
            for effect in effects {
                match effect {
                    Effect::Routes(change) => routes.add(change),
                    Effect::Latest(stamp) => {
                        latest.fetch_max(stamp.0, Ordering::Relaxed);
                    }
                }
            }
        })?;
        let dist = Self::over(Box::new(range), this, stamps, config, meters);
        dist.sweep(Bytes::new());
        Ok(dist)
    }

    fn over(
        range: Box<dyn RouteRange>,
        this: NodeRef,
        stamps: Stamps,
        config: &Config,
        meters: &dyn Meters,
    ) -> Self {
        Self(Arc::new(Inner {
            range,
            cache: Cache::new(config, meters),
            absent: Absent::new(config.gaps_bytes_max, meters),
            this,
            stamps,
            loads: Loads::default(),
            seed: AtomicU64::new(0),
            groups_left_out: meters.counter(Meter::new(
                "bifrust_dist_groups_left_out",
                "Groups that got no copy of a will or the like, beyond MaxGroupFanout.",
            )),
            deliverers: OnceLock::new(),
        }))
    }

    /// Says who hands publications to live and to persistent sessions. To be called once, before
    /// anything is published.
    pub fn bind(&self, live: Arc<dyn Deliverer>, durable: Arc<dyn Deliverer>) {
        if self.0.deliverers.set(Deliverers { live, durable }).is_err() {
            tracing::warn!("deliverers were bound a second time; the first ones stay");
        }
    }

    /// Adds a route, or gives it other options. `done` runs after every match that it touches is stale;
    /// a route to a persistent session is durable then.
    pub fn add_route(
        &self,
        tenant: TenantNumber,
        filter: &TopicFilter,
        receiver: Receiver,
        done: Then<Result<(), RouteError>>,
    ) {
        self.change(tenant, filter, receiver, true, done);
    }

    /// Removes a route. `done` runs after every match that it touches is stale. The routes of another
    /// incarnation of the receiver stay; one that is not there is no error.
    pub fn remove_route(
        &self,
        tenant: TenantNumber,
        filter: &TopicFilter,
        receiver: Receiver,
        done: Then<Result<(), RouteError>>,
    ) {
        self.change(tenant, filter, receiver, false, done);
    }

    fn change(
        &self,
        tenant: TenantNumber,
        filter: &TopicFilter,
        receiver: Receiver,
        adds: bool,
        done: Then<Result<(), RouteError>>,
    ) {
        let ack = match &receiver {
            // It dies with the node, so that it need not outlive a crash.
            Receiver::Live { .. } | Receiver::Member { .. } => Ack::Applied,
            Receiver::Inbox { .. } => Ack::Durable,
        };
        let row = route_key::encode(tenant, filter, &ReceiverKey::of(&receiver));
        if row.len() > KEY_BYTES_MAX {
            return done(Err(RouteError::TooLong));
        }
        let stamp = self.0.stamps.next();
        let key = row.clone();
        let command = match receiver {
            Receiver::Live { shard, .. } if shard >= SHARDS_MAX => {
                return done(Err(RouteError::NoSuchShard(shard)));
            }
            Receiver::Live { shard, .. } if adds => Command::SetShard { key, shard, stamp },
            Receiver::Live { shard, .. } => Command::ClearShard { key, shard, stamp },
            Receiver::Inbox { options, .. } | Receiver::Member { options, .. } if adds => {
                Command::PutInbox {
                    key,
                    options,
                    stamp,
                }
            }
            Receiver::Inbox { .. } | Receiver::Member { .. } => Command::DropInbox { key, stamp },
        };
        let inner = self.0.clone();
        let filter = filter.clone();
        let added = adds.then(|| row.clone());
        let done = Box::new(move |result: Result<(), _>| {
            let result = result.map_err(RouteError::from);
            if !matches!(result, Err(RouteError::Refused(_))) {
                inner.cache.invalidate(tenant, &filter);
                if let Some(key) = added {
                    inner.absent.added(tenant, &key);
                }
            }
            done(result);
        });
        self.0.range.change(tenant, &row, command, ack, done);
    }

    /// The topic's match, if this node has it, or an empty one that many topics share if none of the
    /// tenant's filters is known to match it. Neither waits on a read. Otherwise `match_topic`.
    pub fn matched(&self, tenant: TenantNumber, topic: &str) -> Option<Arc<Matched>> {
        let inner = &*self.0;
        let kept = inner.cache.get(tenant, topic);
        kept.or_else(|| inner.absent.known_empty(tenant, topic))
    }

    /// The topic's match, from the cache or from the rows; one read serves all who ask meanwhile. It
    /// holds every route whose change was answered before this call. It may be stale already when
    /// `done` gets it: right for whoever asked, not to be kept.
    pub fn match_topic(
        &self,
        tenant: TenantNumber,
        topic: &Topic,
        done: Then<Result<Arc<Matched>, MatchError>>,
    ) {
        if let Some(matched) = self.0.absent.known_empty(tenant, topic.as_str()) {
            return done(Ok(matched));
        }
        if let Next::Read = self.0.cache.begin(tenant, topic.as_str(), done) {
            self.0.clone().read(tenant, topic.as_bytestring().clone());
        }
    }

    /// Matches and hands over to both deliverers, for publishers that are no connection shard. `done`
    /// gets the worst of their answers. Whoever needs an order waits for it before the next call.
    pub fn publish(&self, publication: Arc<Publication>, done: Then<Result<(), PublishError>>) {
        let dist = self.clone();
        let tenant = publication.tenant.number;
        let topic = publication.message.topic.clone();
        let hand_over = move |matched: Result<Arc<Matched>, MatchError>| match matched {
            Ok(matched) => dist.hand_over(&publication, &matched, done),
            Err(error) => done(Err(error.into())),
        };
        match self.matched(tenant, topic.as_str()) {
            Some(matched) => hand_over(Ok(matched)),
            None => self.match_topic(tenant, &topic, Box::new(hand_over)),
        }
    }

    fn hand_over(
        &self,
        publication: &Arc<Publication>,
        matched: &Arc<Matched>,
        done: Then<Result<(), PublishError>>,
    ) {
        let picks = self.picks(publication, matched);
        let of_groups = Taken::by(matched, &picks);
        let has_live = !matched.live.is_empty() || of_groups.live;
        let has_durable = !matched.inboxes.is_empty() || of_groups.durable;
        let live = self.live();
        match (has_live, has_durable) {
            (false, false) => done(Ok(())),
            (false, true) => self.durable().deliver(publication, matched, &picks, done),
            (true, false) => live.deliver(publication, matched, &picks, done),
            (true, true) => {
                let (first, second) = worst_of_two(done);
                self.durable().deliver(publication, matched, &picks, first);
                live.deliver(publication, matched, &picks, second);
            }
        }
    }

    /// Hands to persistent sessions. Connection shards hand to live ones themselves.
    pub fn durable(&self) -> &dyn Deliverer {
        match self.0.deliverers.get() {
            Some(deliverers) => &*deliverers.durable,
            None => &Unbound,
        }
    }

    /// Removes live routes of ended incarnations of this node from key `from` on, step by step. Until
    /// then they lead to a node that nobody is, which costs a little and harms nothing.
    fn sweep(&self, from: Bytes) {
        let query = Query::Ended(EndedQuery {
            node: self.0.this.id,
            before: self.0.this.incarnation,
            from: from.clone(),
            rows_max: SWEEP_ROWS,
        });
        let dist = self.clone();
        let go_on = move |answer| match answer {
            Ok(Answer::Ended { keys, next }) => dist.sweep_found(keys, next),
            Ok(_) => tracing::error!("a sweep was answered with something else"),
            Err(error) => tracing::warn!(%error, "old live routes stay until the next start"),
        };
        self.0.range.ask(&from, query, Box::new(go_on));
    }

    fn sweep_found(&self, keys: Vec<Bytes>, next: Option<Bytes>) {
        let Some(first) = keys.first().cloned() else {
            if let Some(next) = next {
                self.sweep(next);
            }
            return;
        };
        let dist = self.clone();
        let go_on = move |result| match (result, next) {
            (Ok(()), Some(next)) => dist.sweep(next),
            (Ok(()), None) => {}
            (Err(error), _) => {
                let error: bifrust_kv::ExecuteError = error;
                tracing::warn!(%error, "old live routes stay until the next start");
            }
        };
        let command = Command::Sweep { keys };
        self.0
            .range
            .change(OWN_LANE, &first, command, Ack::Applied, Box::new(go_on));
    }
}

impl Inner {
    /// Reads a topic's routes for those who wait in the cache.
    fn read(self: Arc<Self>, tenant: TenantNumber, topic: ByteString) {
        let inner = self.clone();
        let since = self.absent.moment(tenant);
        let query = Query::Match {
            tenant,
            topic: topic.clone(),
        };
        let finish = move |answer| {
            let found = match answer {
                Ok(Answer::Matched(targets, gaps)) => {
                    inner.absent.enter(tenant, since, gaps);
                    let Targets {
                        live,
                        inboxes,
                        groups,
                    } = targets;
                    let groups = inner.groups(tenant, groups);
                    Ok(Matched::new(live, inboxes).with_groups(groups))
                }
                Ok(_) => Err(MatchError::Failed),
                Err(error) => {
                    let error: bifrust_kv::QueryError = error;
                    tracing::warn!(%error, tenant = tenant.0, "a topic was not matched");
                    Err(error.into())
                }
            };
            if let Next::Read = inner.cache.finish(tenant, &topic, found) {
                inner.read(tenant, topic);
            }
        };
        self.range.ask(&tenant.key(), query, Box::new(finish));
    }
}

/// Stamps of this node's commands: later than every stamp in the rows and than each other, also if the
/// wall clock went back.
struct Stamps {
    clock: Clock,
    latest: Arc<AtomicU64>,
}

impl Stamps {
    fn next(&self) -> Hlc {
        let now = Hlc::from_millis(self.clock.now_ms()).0;
        let after = |latest: u64| now.max(latest.saturating_add(1));
        let order = Ordering::Relaxed;
        let before = self
            .latest
            .fetch_update(order, order, |latest| Some(after(latest)));
        Hlc(after(before.unwrap_or_else(|latest| latest)))
    }
}

type PublishDone = Then<Result<(), PublishError>>;

/// Two callbacks that together call `done` once, with the worse of their answers.
fn worst_of_two(done: PublishDone) -> (PublishDone, PublishDone) {
    let first: Arc<Mutex<Option<Result<(), PublishError>>>> = Arc::default();
    let done = Arc::new(Mutex::new(Some(done)));
    let half = move || -> PublishDone {
        let (first, done) = (first.clone(), done.clone());
        Box::new(move |result| {
            let other = {
                let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                match first.take() {
                    Some(other) => other,
                    None => {
                        *first = Some(result);
                        return;
                    }
                }
            };
            let done = done.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(done) = done {
                done(worse(result, other));
            }
        })
    };
    (half(), half())
}

fn worse(a: Result<(), PublishError>, b: Result<(), PublishError>) -> Result<(), PublishError> {
    match (a, b) {
        (Err(PublishError::Unknown), _) | (_, Err(PublishError::Unknown)) => {
            Err(PublishError::Unknown)
        }
        (Err(refused), _) | (_, Err(refused)) => Err(refused),
        (Ok(()), Ok(())) => Ok(()),
    }
}

/// Stands in until deliverers are bound: takes nothing.
struct Unbound;

impl Deliverer for Unbound {
    fn deliver(
        &self,
        _publication: &Arc<Publication>,
        _matched: &Arc<Matched>,
        _picks: &[Pick],
        done: Then<Result<(), PublishError>>,
    ) {
        tracing::error!("something was published before deliverers were bound");
        done(Err(PublishError::Refused));
    }
}
