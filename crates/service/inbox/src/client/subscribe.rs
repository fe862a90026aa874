//! Subscriptions come and go: rows, then routes, then the answer.

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
        self.change(session, done, move |inbox, change, done| {
            inbox.store(change, subscriptions, max_filters, done);
        });
    }

    /// Removes subscriptions; answers which existed. When `done` runs, no publish matches them any
    /// more. After an error they may yet go.
    pub fn unsubscribe(
        &self,
        session: &SessionRef,
        filters: Vec<TopicFilter>,
        done: Then<Result<Vec<bool>, InboxError>>,
    ) {
        self.change(session, done, move |inbox, change, done| {
            inbox.end_subscriptions(change, filters, done);
        });
    }

    /// Runs a change when those of the same session that came before have ended.
    fn change<T: 'static>(
        &self,
        session: &SessionRef,
        done: Then<Result<T, InboxError>>,
        run: impl FnOnce(Self, Change, Then<Result<T, InboxError>>) + Send + 'static,
    ) {
        let key = session.key();
        let Some(standing) = self.hub().online.standing(&key, session.epoch) else {
            return done(Err(InboxError::Fenced));
        };
        let end = RouteEnd::of(&key, standing.incarnation);
        let change = Change {
            session: key,
            epoch: session.epoch,
            end: end.clone(),
        };
        let inbox = self.clone();
        self.inner.mender.turns.take(end, move |turn| {
            let done = Box::new(move |result| {
                done(result);
                drop(turn);
            });
            run(inbox, change, done);
        });
    }

    fn store(
        self,
        change: Change,
        subscriptions: Vec<Subscription>,
        max_filters: u32,
        done: Then<Result<Vec<Subscribed>, InboxError>>,
    ) {
        let stamp = self.hub().clock.stamp();
        let command = Command::Subscribe(store::Subscribe {
            session: change.session.clone(),
            epoch: change.epoch,
            stamp,
            subscriptions: subscriptions.clone(),
            max_filters,
        });
        let lane = change.session.clone();
        let inbox = self.clone();
        let replied = move |result: Result<Reply, ExecuteError>| match result {
            Ok(Reply::Subscribed {
                results,
                was_unrouted,
            }) => {
                let stored = Stored {
                    results,
                    stamp,
                    was_unrouted,
                };
                inbox.add_routes(change, subscriptions, stored, done);
            }
            Ok(reply) => done(Err(refusal(&reply))),
            Err(error) => done(Err(inbox.failed(&change, error))),
        };
        self.execute(&lane, command, Box::new(replied));
    }

    fn add_routes(
        self,
        change: Change,
        subscriptions: Vec<Subscription>,
        stored: Stored,
        done: Then<Result<Vec<Subscribed>, InboxError>>,
    ) {
        let (routes, end) = (self.inner.mender.routes.clone(), change.end.clone());
        let tenant = self.hub().tenants.tenant(end.tenant);
        let members_max = tenant.map_or(usize::MAX, |tenant| {
            tenant.settings.load().max_shared_group_members as usize
        });
        let add = move |(subscription, result): (Subscription, Subscribed),
                        done: Then<Subscribed>| {
            if result == Subscribed::QuotaExceeded {
                return done(result);
            }
            let is_shared = subscription.filter.is_shared();
            let routed: Then<Result<bool, InboxError>> = Box::new(move |routed| {
                done(match routed {
                    Ok(true) => result,
                    Ok(false) => Subscribed::QuotaExceeded,
                    Err(_) => Subscribed::Failed,
                });
            });
            if is_shared {
                return routes.join(&end, &subscription, members_max, routed);
            }
            let added = Box::new(move |added: Result<(), _>| routed(added.map(|()| true)));
            routes.add(&end, &subscription, added);
        };
        let add: Start<(Subscription, Subscribed), Subscribed> = Arc::new(add);
        let filters: Vec<TopicFilter> = (subscriptions.iter())
            .map(|subscription| subscription.filter.clone())
            .collect();
        let items: Vec<_> = (subscriptions.into_iter())
            .zip(stored.results.iter().copied())
            .collect();
        let routed = move |results: Vec<Subscribed>| {
            let has_failed = results.contains(&Subscribed::Failed);
            if results == stored.results {
                self.agree(&change, stored.stamp, stored.was_unrouted, Vec::new());
                return done(Ok(results));
            }
            if has_failed {
                self.mend(&change);
            }
            let failed = refused_new(&filters, &stored.results, &results);
            // The client is told that these do not exist: they end before the answer.
            let take_back = move |_: Result<Vec<bool>, InboxError>| done(Ok(results));
            self.end_subscriptions(change, failed, Box::new(take_back));
        };
        gather(items, add, Box::new(routed));
    }

    fn end_subscriptions(
        self,
        change: Change,
        filters: Vec<TopicFilter>,
        done: Then<Result<Vec<bool>, InboxError>>,
    ) {
        let stamp = self.hub().clock.stamp();
        let command = Command::Unsubscribe(store::Unsubscribe {
            session: change.session.clone(),
            epoch: change.epoch,
            stamp,
            filters: filters.clone(),
        });
        let lane = change.session.clone();
        let inbox = self.clone();
        let replied = move |result: Result<Reply, ExecuteError>| match result {
            Ok(Reply::Unsubscribed {
                existed,
                was_unrouted,
            }) => {
                let stored = Stored {
                    results: existed,
                    stamp,
                    was_unrouted,
                };
                inbox.remove_routes(change, filters, stored, done);
            }
            Ok(reply) => done(Err(refusal(&reply))),
            Err(error) => done(Err(inbox.failed(&change, error))),
        };
        self.execute(&lane, command, Box::new(replied));
    }

    fn remove_routes(
        self,
        change: Change,
        filters: Vec<TopicFilter>,
        stored: Stored<bool>,
        done: Then<Result<Vec<bool>, InboxError>>,
    ) {
        let (filters, existed) = (filters.into_iter(), stored.results);
        let gone: Vec<TopicFilter> = filters
            .zip(&existed)
            .filter_map(|(filter, existed)| existed.then_some(filter))
            .collect();
        if gone.is_empty() {
            return done(Ok(existed)); // Nothing has changed.
        }
        let (routes, end) = (self.inner.mender.routes.clone(), change.end.clone());
        let remove: Start<TopicFilter, Result<(), InboxError>> =
            Arc::new(move |filter, done| routes.remove(&end, &filter, done));
        let ended = gone.clone();
        let removed = move |results: Vec<Result<(), InboxError>>| {
            if results.iter().any(Result::is_err) {
                self.mend(&change);
                return done(Err(InboxError::Refused));
            }
            self.agree(&change, stored.stamp, stored.was_unrouted, ended);
            done(Ok(existed));
        };
        gather(gone, remove, Box::new(removed));
    }

    /// Notes that rows and routes agree as of a change; nobody waits for it, since without it they
    /// are looked after at the next start.
    fn agree(&self, change: &Change, stamp: Hlc, was_unrouted: bool, gone: Vec<TopicFilter>) {
        if was_unrouted {
            return self.mend(change); // An earlier change left something behind.
        }
        let command = Command::ConfirmRoutes(ConfirmRoutes {
            session: change.session.clone(),
            incarnation: change.end.incarnation,
            changed_at: stamp.0,
            gone,
        });
        let (inbox, unconfirmed) = (self.clone(), change.clone());
        let replied = move |result: Result<Reply, ExecuteError>| {
            if result.is_err() {
                inbox.mend(&unconfirmed);
            }
        };
        self.execute(&change.session, command, Box::new(replied));
    }

    /// Rows may have changed although the caller is told of an error.
    fn failed(&self, change: &Change, error: ExecuteError) -> InboxError {
        let error = InboxError::from(error);
        if error == InboxError::Unknown {
            self.mend(change);
        }
        error
    }

    /// Routes may differ from the rows: they are made to agree.
    fn mend(&self, change: &Change) {
        self.hub().timer.add_now(Chore::Route {
            session: change.session.clone(),
            incarnation: change.end.incarnation,
        });
    }
}

/// A change of one session's subscriptions, whose turn it is.
#[derive(Clone)]
struct Change {
    session: SessionKey,
    epoch: u64,
    end: RouteEnd,
}

/// What the rows say now.
struct Stored<T = Subscribed> {
    results: Vec<T>,
    stamp: Hlc,
    /// Whether rows and routes may have differed before.
    was_unrouted: bool,
}

/// Filters that were new and got no route. One that was replaced keeps its row and its old route.
fn refused_new(
    filters: &[TopicFilter],
    before: &[Subscribed],
    after: &[Subscribed],
) -> Vec<TopicFilter> {
    let all = filters.iter().zip(before).zip(after);
    let failed =
        all.filter(|((_, before), after)| **before == Subscribed::New && *after != *before);
    failed.map(|((filter, _), _)| filter.clone()).collect()
}
