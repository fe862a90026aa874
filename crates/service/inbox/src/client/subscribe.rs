//! Subscriptions: rows, then routes, then the answer; to remove them the other way round.

use std::sync::Arc;

use bifrust_kv::{ExecuteError, Then};
use bifrust_model::{Hlc, SessionKey, Subscription, TopicFilter};

use super::{Inbox, refusal};
use crate::gather::{Start, gather};
use crate::server::{Chore, RouteEnd};
use crate::store::{self, Command, ConfirmRoutes, Reply};
use crate::{InboxError, SessionRef, Subscribed};

/// Longest filter that can be stored; the tenant's setting allows at most half.
const FILTER_BYTES_MAX: usize = 32 * 1024;

impl Inbox {
    /// Adds or replaces subscriptions of the session, up to `max_filters` in all. When `done` runs,
    /// every publish from then on matches those that are new or replaced.
    pub fn subscribe(
        &self,
        session: &SessionRef,
        subscriptions: Vec<Subscription>,
        max_filters: u32,
        done: Then<Result<Vec<Subscribed>, InboxError>>,
    ) {
        let is_too_long =
            |subscription: &Subscription| subscription.filter.as_str().len() > FILTER_BYTES_MAX;
        if subscriptions.iter().any(is_too_long) {
            return done(Err(InboxError::Refused));
        }
        let key = session.key();
        let stamp = self.hub().clock.stamp();
        let command = Command::Subscribe(store::Subscribe {
            session: key.clone(),
            epoch: session.epoch,
            stamp,
            subscriptions: subscriptions.clone(),
            max_filters,
        });
        let (inbox, session) = (self.clone(), session.clone());
        let replied = move |result: Result<Reply, ExecuteError>| match result {
            Ok(Reply::Subscribed {
                results,
                incarnation,
            }) => inbox.add_routes(
                &session,
                Stored {
                    subscriptions,
                    results,
                    incarnation,
                    stamp,
                },
                done,
            ),
            Ok(reply) => done(Err(refusal(&reply))),
            Err(error) => done(Err(error.into())),
        };
        self.execute(&key, command, Box::new(replied));
    }

    fn add_routes(
        &self,
        session: &SessionRef,
        stored: Stored,
        done: Then<Result<Vec<Subscribed>, InboxError>>,
    ) {
        let end = route_end(session, stored.incarnation);
        let routes = self.inner.routes.clone();
        let add = move |(subscription, result): (Subscription, Subscribed),
                        done: Then<Subscribed>| {
            if result == Subscribed::QuotaExceeded {
                return done(result);
            }
            let routed = move |routed: Result<(), InboxError>| {
                done(if routed.is_ok() {
                    result
                } else {
                    Subscribed::Failed
                });
            };
            routes.add(&end, &subscription, Box::new(routed));
        };
        let add: Start<(Subscription, Subscribed), Subscribed> = Arc::new(add);
        let filters: Vec<TopicFilter> = (stored.subscriptions.iter())
            .map(|subscription| subscription.filter.clone())
            .collect();
        let items: Vec<_> = (stored.subscriptions.into_iter())
            .zip(stored.results.iter().copied())
            .collect();
        let (inbox, session) = (self.clone(), session.clone());
        let (before, incarnation, stamp) = (stored.results, stored.incarnation, stored.stamp);
        let routed = move |results: Vec<Subscribed>| {
            let failed = failed_new(&filters, &before, &results);
            if !results.contains(&Subscribed::Failed) {
                inbox.confirm_routes(session.key(), incarnation, stamp);
            }
            if failed.is_empty() {
                return done(Ok(results));
            }
            // The client is told that these do not exist: their rows go before the answer.
            let take_back = move |_: Result<Vec<bool>, InboxError>| done(Ok(results));
            inbox.unsubscribe(&session, failed, Box::new(take_back));
        };
        gather(items, add, Box::new(routed));
    }

    /// Notes that the routes stand; without it they are looked after at the next start, so nobody
    /// waits for it.
    fn confirm_routes(&self, session: SessionKey, incarnation: u64, stamp: Hlc) {
        let command = Command::ConfirmRoutes(ConfirmRoutes {
            session: session.clone(),
            incarnation,
            changed_at: stamp.0,
        });
        self.execute(&session, command, Box::new(|_| {}));
    }

    /// Removes subscriptions; answers which existed. When `done` runs, no publish matches them any
    /// more.
    pub fn unsubscribe(
        &self,
        session: &SessionRef,
        filters: Vec<TopicFilter>,
        done: Then<Result<Vec<bool>, InboxError>>,
    ) {
        let key = session.key();
        let Some(standing) = self.hub().online.standing(&key, session.epoch) else {
            return done(Err(InboxError::Fenced));
        };
        let end = route_end(session, standing.incarnation);
        let routes = self.inner.routes.clone();
        let route_end = end.clone();
        let remove: Start<TopicFilter, Result<(), InboxError>> =
            Arc::new(move |filter, done| routes.remove(&route_end, &filter, done));
        let (inbox, session) = (self.clone(), session.clone());
        let rows = filters.clone();
        let removed = move |results: Vec<Result<(), InboxError>>| {
            if results.iter().any(Result::is_err) {
                inbox.restore(end);
                return done(Err(InboxError::Refused));
            }
            inbox.remove_rows(&session, rows, end, done);
        };
        gather(filters, remove, Box::new(removed));
    }

    fn remove_rows(
        &self,
        session: &SessionRef,
        filters: Vec<TopicFilter>,
        end: RouteEnd,
        done: Then<Result<Vec<bool>, InboxError>>,
    ) {
        let key = session.key();
        let command = Command::Unsubscribe(store::Unsubscribe {
            session: key.clone(),
            epoch: session.epoch,
            stamp: self.hub().clock.stamp(),
            filters,
        });
        let inbox = self.clone();
        let replied = move |result: Result<Reply, ExecuteError>| {
            let error = match result {
                Ok(Reply::Unsubscribed(existed)) => return done(Ok(existed)),
                Ok(reply) => refusal(&reply),
                Err(error) => InboxError::from(error),
            };
            inbox.restore(end);
            done(Err(error));
        };
        self.execute(&key, command, Box::new(replied));
    }

    /// Subscriptions still stand whose routes were removed: they get them back.
    fn restore(&self, end: RouteEnd) {
        let session = SessionKey {
            tenant: end.tenant,
            client: end.client,
        };
        self.hub().timer.add_now(Chore::Route {
            session,
            incarnation: end.incarnation,
            changed_at: 0,
        });
    }
}

/// Subscriptions whose rows are durable.
struct Stored {
    subscriptions: Vec<Subscription>,
    results: Vec<Subscribed>,
    incarnation: u64,
    stamp: Hlc,
}

fn route_end(session: &SessionRef, incarnation: u64) -> RouteEnd {
    RouteEnd {
        tenant: session.tenant.number,
        client: session.client.clone(),
        incarnation,
    }
}

/// Filters that were new and got no route. One that was replaced keeps its row and its old route.
fn failed_new(
    filters: &[TopicFilter],
    before: &[Subscribed],
    after: &[Subscribed],
) -> Vec<TopicFilter> {
    let all = filters.iter().zip(before).zip(after);
    let failed = all.filter(|((_, before), after)| {
        **before == Subscribed::New && **after == Subscribed::Failed
    });
    failed.map(|((filter, _), _)| filter.clone()).collect()
}
