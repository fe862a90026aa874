//! What others call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bifrust_kv::{Ack, Client, Node};
use bifrust_model::{Hlc, Message, Tenant, TenantNumber, TopicFilter};
use bifrust_plugin_api::{Meter, Meters};
use bifrust_storage::KEY_BYTES_MAX;

use crate::clears::Clears;
use crate::schema::command::{Command, Stamped};
use crate::schema::{self, body};
use crate::store::{Effect, Found, Last, Query};
use crate::{Cursor, OpenError, Page, PageLimit, RetainError, Then};

#[cfg(test)]
mod tests;

/// Retained messages of all tenants; clones share them.
#[derive(Clone)]
pub struct Retain {
    range: Client<Last>,
    clears: Arc<Clears>,
    latest: Hlc,
}

impl Retain {
    /// Opens the retained messages.
    pub fn open(node: &Node, meters: &dyn Meters) -> Result<Self, OpenError> {
        let topics = meters.gauge(Meter::new(
            "bifrust_retain_topics",
            "Topics with a retained message.",
        ));
        let clears = Arc::new(Clears::default());
        let latest = Arc::new(AtomicU64::new(0));
        let (noted, seen) = (clears.clone(), latest.clone());
        let range = node.host(Last, move |effects| {
            for effect in effects {
                match effect {
                    Effect::Topics(change) => topics.add(change),
                    Effect::Cleared(clear) => noted.add(clear),
                    Effect::Latest(stamp) => seen.store(stamp.0, Ordering::Release),
                }
            }
        })?;
        Ok(Self {
            range,
            clears,
            // The effects of leading came before `host` returned.
            latest: Hlc(latest.load(Ordering::Acquire)),
        })
    }

    /// The latest stamp that was in the rows when they were opened. The node's clock has to be past it
    /// before anything is published, or new messages would count as old.
    pub fn latest_stamp(&self) -> Hlc {
        self.latest
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
            Command::Keep { topic, body }
        };
        let done = Box::new(move |reply: Result<(), bifrust_kv::ExecuteError>| {
            done(reply.map_err(RetainError::from));
        });
        self.range
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
        let query = Query {
            tenant,
            filter: filter.clone(),
            after: from.map(|cursor| cursor.0),
            limit,
            now_ms,
        };
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
        self.range.query(&tenant.key(), query, done);
    }

    fn remove_expired(&self, tenant: TenantNumber, expired: Vec<Stamped>) {
        self.tidy(tenant, expired, Command::Expire);
    }

    fn forget_old_clears(&self, tenant: TenantNumber, now: Hlc) {
        self.tidy(tenant, self.clears.take_due(now), Command::Forget);
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
        self.range
            .execute(tenant, &key, command(topics), Ack::Applied, done);
    }
}
