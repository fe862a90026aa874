//! A connection reads its session's queue and settles what its client has dealt with.

use std::sync::Arc;

use bifrust_kv::{ExecuteError, Then};
use bifrust_model::{Message, SubscriptionOptions};
use smallvec::SmallVec;

use super::{Inbox, bounds, refusal};
use crate::schema::{Body, EntryHeader, Prefix};
use crate::store::{self, Answer, Command, Page, Query, Reply};
use crate::{Delivery, Fetched, InboxError, PageLimit, SessionRef, Settle};

impl Inbox {
    /// Entries from `from` on that are durable. Expired ones are left out, and settled before `done`.
    pub fn fetch(
        &self,
        session: &SessionRef,
        from: u64,
        limit: PageLimit,
        done: Then<Result<Fetched, InboxError>>,
    ) {
        let key = session.key();
        let Some(standing) = self.hub().online.standing(&key, session.epoch) else {
            return done(Err(InboxError::Fenced));
        };
        if from >= standing.durable_next {
            return self.fetched(session, Vec::new(), from, done);
        }
        let prefix = Prefix::new(&key);
        let query = Query::Entries(Page {
            session: key,
            incarnation: standing.incarnation,
            from,
            before: standing.durable_next,
            sent_before: standing.sent_before,
            limit,
            now_ms: self.hub().clock.now_ms(),
        });
        let (inbox, session) = (self.clone(), session.clone());
        let answered = move |answer| match answer {
            Ok(Answer::Entries {
                deliveries,
                expired,
                next,
            }) => inbox.settle_expired(&session, expired, deliveries, next, done),
            Ok(_) => done(Err(InboxError::Unknown)),
            Err(error) => done(Err(InboxError::from(error))),
        };
        let client = &self.inner.client;
        client.query(prefix.as_bytes(), query, Box::new(answered));
    }

    /// Expired entries go before any later one is sent: what may have been sent after a crash is
    /// reckoned from the oldest unsettled entries.
    fn settle_expired(
        &self,
        session: &SessionRef,
        expired: Vec<u64>,
        deliveries: Vec<Delivery>,
        next: u64,
        done: Then<Result<Fetched, InboxError>>,
    ) {
        if expired.is_empty() {
            return self.fetched(session, deliveries, next, done);
        }
        let (inbox, of) = (self.clone(), session.clone());
        let settled = expired.into_iter().map(Settle::Done).collect();
        let settled_then = move |result: Result<(), InboxError>| match result {
            Ok(()) => inbox.fetched(&of, deliveries, next, done),
            Err(error) => done(Err(error)),
        };
        self.settle(session, settled, Box::new(settled_then));
    }

    fn fetched(
        &self,
        session: &SessionRef,
        deliveries: Vec<Delivery>,
        next: u64,
        done: Then<Result<Fetched, InboxError>>,
    ) {
        // Asked as late as can be: an entry that became durable meanwhile was pushed in vain.
        let standing = self.hub().online.standing(&session.key(), session.epoch);
        done(match standing {
            Some(standing) => Ok(Fetched {
                deliveries,
                next,
                more: next < standing.durable_next,
            }),
            None => Err(InboxError::Fenced),
        });
    }

    /// The client has dealt with entries; durable when `done` runs. At most one call per session
    /// should be under way, the next takes all that has gathered.
    pub fn settle(
        &self,
        session: &SessionRef,
        settled: Vec<Settle>,
        done: Then<Result<(), InboxError>>,
    ) {
        let mut received = Vec::new();
        let mut finished = Vec::with_capacity(settled.len());
        for settle in settled {
            match settle {
                Settle::Received(seq) => received.push(seq),
                Settle::Done(seq) => finished.push(seq),
            }
        }
        let key = session.key();
        let command = Command::Settle(store::Settle {
            session: key.clone(),
            epoch: session.epoch,
            received,
            done: finished,
        });
        let replied = move |result: Result<Reply, ExecuteError>| {
            done(match result {
                Ok(Reply::Done) => Ok(()),
                Ok(reply) => Err(refusal(&reply)),
                Err(error) => Err(error.into()),
            });
        };
        self.execute(&key, command, Box::new(replied));
    }

    /// Retained messages for a new subscription enter the queue, in order, each with the options it
    /// was subscribed with. Answers how many were taken: fewer means that the queue is full for now.
    pub fn insert_retained(
        &self,
        session: &SessionRef,
        messages: Vec<(Message, SubscriptionOptions)>,
        done: Then<Result<usize, InboxError>>,
    ) {
        let count = messages.len();
        // Where the messages that go in stand among all.
        let mut places = Vec::with_capacity(count);
        let mut entries = Vec::with_capacity(count);
        for (place, (message, options)) in messages.into_iter().enumerate() {
            // MQTT-3.8.3-3: not to the client that published it.
            if options.no_local && message.publisher == session.client {
                continue;
            }
            let header = EntryHeader {
                qos: message.qos.min(options.qos),
                retain: true, // MQTT-3.3.1-8
                ids: options
                    .id
                    .map(u32::from)
                    .into_iter()
                    .collect::<SmallVec<_>>(),
                group: None,
            };
            places.push(place);
            entries.push((header, Body::new(Arc::new(message))));
        }
        if entries.is_empty() {
            return done(Ok(count));
        }
        let key = session.key();
        let command = Command::InsertRetained(store::InsertRetained {
            session: key.clone(),
            epoch: session.epoch,
            bounds: bounds(&session.tenant),
            messages: entries,
        });
        let replied = move |result: Result<Reply, ExecuteError>| {
            done(match result {
                Ok(Reply::Taken(taken)) => Ok(places.get(taken).copied().unwrap_or(count)),
                Ok(reply) => Err(refusal(&reply)),
                Err(error) => Err(error.into()),
            });
        };
        self.execute(&key, command, Box::new(replied));
    }
}
