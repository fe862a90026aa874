//! What others call.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bifrust_kv::{Ack, Client, Node};
use bifrust_model::{Hlc, Message, Tenant, TenantNumber, TopicFilter};
use bifrust_plugin_api::{Meter, Meters};
use bifrust_storage::KEY_BYTES_MAX;

use crate::clears::Clears;
use crate::schema::command::{Command, Stamped};
use crate::schema::{self, body};
use crate::store::{Effect, Found, Last, Query, Scan};
use crate::sweeper::{self, Sweeper};
use crate::{Cursor, OpenError, Page, PageLimit, RetainError, Then};

#[cfg(test)]
mod tests;

/// The lane of what no tenant has asked for.
const OWN_LANE: TenantNumber = TenantNumber(0);

/// Retained messages of all tenants; clones share them.
#[derive(Clone)]
pub struct Retain(Arc<Inner>);

pub(crate) struct Inner {
    range: Client<Last>,
    clears: Arc<Clears>,
    latest: Hlc,
    sweeper: Sweeper,
}

impl From<Arc<Inner>> for Retain {
    fn from(inner: Arc<Inner>) -> Self {
        Self(inner)
    }
}

impl Retain {
    /// Opens the retained messages, and starts a thread that sweeps expired ones. It ends soon after the
    /// last clone.
    pub fn open(node: &Node, meters: &dyn Meters) -> Result<Self, OpenError> {
        let retain = Self::open_unswept(node, meters)?;
        sweeper::spawn(Arc::downgrade(&retain.0), node.clock().clone())
            .map_err(bifrust_kv::OpenError::from)?;
        Ok(retain)
    }

    fn open_unswept(node: &Node, meters: &dyn Meters) -> Result<Self, OpenError> {
        let topics = meters.gauge(Meter::new(
            "bifrust_retain_topics",
            "Topics with a retained message.",
        ));
        let clears = Arc::new(Clears::default());
        let latest = Arc::new(AtomicU64::new(0));
        let expiring = Arc::new(AtomicI64::new(0));
        let (noted, seen, counted) = (clears.clone(), latest.clone(), expiring.clone());
        let range = node.host(Last, move |effects| {
            for effect in effects {
                match effect {
                    Effect::Topics(change) => topics.add(change),
                    Effect::Expiring(change) => {
                        counted.fetch_add(change, Ordering::Relaxed);
                    }
                    Effect::Cleared(clear) => noted.add(clear),
                    Effect::Latest(stamp) => seen.store(stamp.0, Ordering::Release),
                }
            }
        })?;
        Ok(Self(Arc::new(Inner {
            range,
            clears,
            // The effects of leading came before `host` returned.
            latest: Hlc(latest.load(Ordering::Acquire)),
            sweeper: Sweeper::new(expiring),
        })))
    }

    /// The latest stamp that was in the rows when they were opened. The node's clock has to be past it
    /// before anything is published, or new messages would count as old.
    pub fn latest_stamp(&self) -> Hlc {
        self.0.latest
    }

    /// Makes `message` its topic's, or clears the topic if the payload is empty. Kept only if its stamp
    /// is newer than what is there; an older one is answered just so. `done` runs when it is durable.
    pub fn store(
        &self,
        tenant: &Arc<Tenant>,
        message: &Message,
        done: Then<Result<(), RetainError>>,
    ) {
        let key = schema::key(tenant.number, message.topic.as_str());
        if key.len() > KEY_BYTES_MAX {
            return done(Err(RetainError::TooLong));
        }
        self.forget_old_clears(tenant.number, message.stamp);
        let topic = Stamped {
            key: key.clone(),
            stamp: message.stamp,
        };
        let command = if message.payload.is_empty() {
            Command::Clear(topic)
        } else {
            let body = body::encode(message);
            Command::Keep {
                topic,
                body,
                expires_ms: message.expires_ms().unwrap_or_default(),
            }
        };
        let done = Box::new(move |reply: Result<(), bifrust_kv::ExecuteError>| {
            done(reply.map_err(RetainError::from));
        });
        self.0
            .range
            .execute(tenant.number, &key, command, Ack::Durable, done);
    }

    /// Messages that the filter matches, from the start or from a cursor on. Expired ones are left out.
    /// It sees every message whose `store` was answered before this call.
    pub fn scan(
        &self,
        tenant: TenantNumber,
        filter: &TopicFilter,
        from: Option<Cursor>,
        limit: PageLimit,
        now_ms: u64,
        done: Then<Result<Page, RetainError>>,
    ) {
        let query = Query::Scan(Scan {
            tenant,
            filter: filter.clone(),
            after: from.map(|cursor| cursor.0),
            limit,
            now_ms,
        });
        let retain = self.clone();
        let done = Box::new(move |found: Result<Found, bifrust_kv::QueryError>| {
            done(match found {
                Ok(found) => {
                    retain.remove_expired(tenant, found.expired);
                    Ok(Page {
                        messages: found.messages,
                        next: found.next.map(Cursor),
                    })
                }
                Err(error) => {
                    tracing::warn!(%error, tenant = tenant.0, "retained messages were not read");
                    Err(error.into())
                }
            });
        });
        self.0.range.query(&tenant.key(), query, done);
    }

    /// Removes some of what has expired by `now_ms`, going on where the last call ended. `done` runs when
    /// its removal is proposed.
    pub(crate) fn sweep(&self, now_ms: u64, done: Then<()>) {
        let Some(after) = self.0.sweeper.begin() else {
            return done(());
        };
        let key = after.clone().unwrap_or_default();
        let retain = self.clone();
        let go_on = Box::new(move |found: Result<Found, bifrust_kv::QueryError>| {
            let found = found.unwrap_or_else(|error| {
                tracing::debug!(%error, "expired retained messages stay for now");
                Found::default()
            });
            retain.remove_expired(OWN_LANE, found.expired);
            retain.0.sweeper.finish(found.next);
            done(());
        });
        let query = Query::Expired { after, now_ms };
        self.0.range.query(&key, query, go_on);
    }

    fn remove_expired(&self, tenant: TenantNumber, expired: Vec<Stamped>) {
        self.tidy(tenant, expired, Command::Expire);
    }

    fn forget_old_clears(&self, tenant: TenantNumber, now: Hlc) {
        self.tidy(tenant, self.0.clears.take_due(now), Command::Forget);
    }

    /// Proposes to remove rows that nobody sees. If that is refused they stay until a scan meets them
    /// again, or until the next start.
    fn tidy(
        &self,
        tenant: TenantNumber,
        topics: Vec<Stamped>,
        command: fn(Vec<Stamped>) -> Command,
    ) {
        let Some(key) = topics.first().map(|topic| topic.key.clone()) else {
            return;
        };
        let done = Box::new(|reply: Result<(), bifrust_kv::ExecuteError>| {
            if let Err(error) = reply {
                tracing::debug!(%error, "rows of no use stay for now");
            }
        });
        self.0
            .range
            .execute(tenant, &key, command(topics), Ack::Applied, done);
    }
}
