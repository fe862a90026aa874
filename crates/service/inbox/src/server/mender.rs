//! Makes routes agree with rows: the rows say what stands and what has ended, whatever became of the
//! routes.

use std::sync::Arc;

use bifrust_kv::{Ack, Client, ExecuteError, Then};
use bifrust_model::{Subscription, TopicFilter};

use super::{RouteEnd, Routes, Turns};
use crate::InboxError;
use crate::gather::{Start, gather};
use crate::schema::Prefix;
use crate::store::{Answer, Command, ConfirmRoutes, Query, Reply, RouteChange, Store};

/// Subscriptions read at once.
const PAGE: usize = 256;

/// What it takes to make them agree.
#[derive(Clone)]
pub(crate) struct Mender {
    pub(crate) client: Client<Store>,
    pub(crate) routes: Arc<dyn Routes>,
    pub(crate) turns: Turns,
}

/// One session's subscriptions on the way to agreement.
struct Mending {
    mender: Mender,
    end: RouteEnd,
    changed_at: u64,
    /// Subscriptions that have ended and whose routes are gone now.
    gone: Vec<TopicFilter>,
    done: Then<bool>,
}

/// What a row asks of its route.
enum Wanted {
    There(Subscription),
    Gone(TopicFilter),
}

impl Mender {
    /// Adds every route that is wanted and removes every other; both change nothing if it is so
    /// already. `done` hears whether all agree.
    pub(crate) fn mend(&self, end: RouteEnd, done: Then<bool>) {
        let mender = self.clone();
        self.turns.take(end.clone(), move |turn| {
            let done = Box::new(move |agrees| {
                done(agrees);
                drop(turn); // Whatever fails from here on is for the next one to mend.
            });
            mender.find_change(end, done);
        });
    }

    fn find_change(self, end: RouteEnd, done: Then<bool>) {
        let session = end.session();
        let key = Prefix::new(&session);
        let client = self.client.clone();
        let found = move |answer| match answer {
            Ok(Answer::RouteChange(Some(RouteChange {
                incarnation,
                changed_at,
            }))) if incarnation == end.incarnation => {
                let mending = Mending {
                    mender: self,
                    end,
                    changed_at,
                    gone: Vec::new(),
                    done,
                };
                mending.after(None);
            }
            Ok(Answer::RouteChange(_)) => done(true), // It has ended: its sweep removes the routes.
            _ => done(false),
        };
        client.query(key.as_bytes(), Query::RouteChange(session), Box::new(found));
    }
}

impl Mending {
    /// Goes on with the subscriptions after a filter.
    fn after(self, after: Option<TopicFilter>) {
        let session = self.end.session();
        let key = Prefix::new(&session);
        let query = Query::Subscriptions {
            session,
            incarnation: self.end.incarnation,
            after,
            limit: PAGE,
        };
        let client = self.mender.client.clone();
        let found = move |answer| match answer {
            Ok(Answer::Subscriptions {
                subscriptions,
                leaving,
                last,
            }) => self.settle(subscriptions, leaving, last),
            _ => (self.done)(false),
        };
        client.query(key.as_bytes(), query, Box::new(found));
    }

    fn settle(
        mut self,
        subscriptions: Vec<Subscription>,
        leaving: Vec<TopicFilter>,
        last: Option<TopicFilter>,
    ) {
        let there = subscriptions.into_iter().map(Wanted::There);
        let gone = leaving.iter().cloned().map(Wanted::Gone);
        let wanted: Vec<Wanted> = there.chain(gone).collect();
        let (routes, end) = (self.mender.routes.clone(), self.end.clone());
        let settle: Start<Wanted, Result<(), InboxError>> =
            Arc::new(move |wanted, done| match wanted {
                Wanted::There(subscription) => routes.add(&end, &subscription, done),
                Wanted::Gone(filter) => routes.remove(&end, &filter, done),
            });
        let settled = move |results: Vec<Result<(), InboxError>>| {
            if results.iter().any(Result::is_err) {
                return (self.done)(false);
            }
            self.gone.extend(leaving);
            match last {
                Some(last) => self.after(Some(last)),
                None => self.confirm(),
            }
        };
        gather(wanted, settle, Box::new(settled));
    }

    fn confirm(self) {
        let session = self.end.session();
        let key = Prefix::new(&session);
        let lane = session.tenant;
        let command = Command::ConfirmRoutes(ConfirmRoutes {
            session,
            incarnation: self.end.incarnation,
            changed_at: self.changed_at,
            gone: self.gone,
        });
        let done = self.done;
        let confirmed = move |result: Result<Reply, ExecuteError>| done(result.is_ok());
        let client = self.mender.client;
        client.execute(
            lane,
            key.as_bytes(),
            command,
            Ack::Durable,
            Box::new(confirmed),
        );
    }
}
