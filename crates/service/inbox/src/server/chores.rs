//! The things that are done at their time. Each starts calls and returns; the last callback reports
//! how it ended.

use std::sync::{Arc, OnceLock};

use bifrust_dist::RoutingKey;
use bifrust_kv::{Ack, Client, ExecuteError, Then};
use bifrust_model::{ClientId, SessionKey, TopicFilter};
use bytes::Bytes;

use super::{Chore, Hub, Mender, Outcome, RouteEnd};
use crate::gather::{Start, gather};
use crate::schema::Prefix;
use crate::store::{
    Answer, Command, Detach, Due, Expire, Query, Reply, Store, Sweep, Tidy, WillFate, WillSent,
};
use crate::{InboxError, Will, WillSender};

/// Deadlines read at once.
const SCAN_PAGE: usize = 1024;

/// Subscriptions whose routes are removed at once.
const SWEEP_FILTERS: usize = 256;

/// Other rows of an ended session deleted in one command.
pub(super) const SWEEP_ROWS: u32 = 512;

/// Publishers looked through in one command.
const TIDY_PUBLISHERS: usize = 256;

/// What chores work with.
#[derive(Clone)]
pub(crate) struct Chores {
    pub(crate) hub: Arc<Hub>,
    pub(crate) client: Client<Store>,
    pub(crate) mender: Mender,
    pub(crate) wills: Arc<OnceLock<Arc<dyn WillSender>>>,
}

impl Chores {
    /// Starts a chore.
    pub(crate) fn begin(&self, chore: Chore) {
        match chore.clone() {
            Chore::Scan { after } => self.scan(after, self.reporting(chore)),
            Chore::Lose { session, epoch } => self.lose(session, epoch, self.reporting(chore)),
            Chore::Expire { session, epoch } => self.expire(session, epoch, self.reporting(chore)),
            Chore::SendWill { session, epoch } => {
                self.find_will(session, epoch, self.reporting(chore));
            }
            Chore::ForgetWill { session, epoch } => {
                self.forget_will(session, epoch, self.reporting(chore));
            }
            Chore::Sweep {
                session,
                incarnation,
            } => {
                let chores = self.clone();
                let done = self.reporting(chore);
                let end = RouteEnd::of(&session, incarnation);
                self.mender.turns.take(end, move |turn| {
                    let done = Box::new(move |outcome| {
                        done(outcome);
                        drop(turn);
                    });
                    chores.sweep(session, incarnation, done);
                });
            }
            Chore::Tidy {
                session,
                incarnation,
            } => self.tidy(session, incarnation, None, self.reporting(chore)),
            Chore::Route {
                session,
                incarnation,
            } => self.route(&session, incarnation, self.reporting(chore)),
        }
    }

    fn reporting(&self, chore: Chore) -> Then<Outcome> {
        let hub = self.hub.clone();
        Box::new(move |outcome| hub.timer.finish(chore, outcome))
    }

    fn execute(
        &self,
        session: &SessionKey,
        command: Command,
        done: Then<Result<Reply, ExecuteError>>,
    ) {
        let key = Prefix::new(session);
        self.client
            .execute(session.tenant, key.as_bytes(), command, Ack::Durable, done);
    }

    /// Runs a command whose every reply is fine.
    fn settle(&self, session: &SessionKey, command: Command, done: Then<Outcome>) {
        let replied = move |result: Result<Reply, ExecuteError>| {
            done(if result.is_ok() {
                Outcome::Done
            } else {
                Outcome::Failed
            });
        };
        self.execute(session, command, Box::new(replied));
    }

    /// Finds what has to be done.
    fn scan(&self, after: Option<Bytes>, done: Then<Outcome>) {
        let chores = self.clone();
        let key = after.clone().unwrap_or_default();
        let query = Query::Deadlines {
            after,
            limit: SCAN_PAGE,
        };
        let found = move |answer| {
            let Ok(Answer::Deadlines { found, last }) = answer else {
                return done(Outcome::Failed);
            };
            for (session, due) in found {
                chores.note(session, due);
            }
            match last {
                Some(last) => chores.hub.timer.add_now(Chore::Scan { after: Some(last) }),
                None => chores.hub.timer.plan_scan(),
            }
            done(Outcome::Done);
        };
        self.client.query(&key, query, Box::new(found));
    }

    /// Puts on the agenda what a row asks for.
    fn note(&self, session: SessionKey, due: Due) {
        let timer = &self.hub.timer;
        let here = self.hub.node.get();
        match due {
            Due::Session(deadline) => {
                let epoch = deadline.epoch;
                if deadline.owner.is_some() && deadline.owner.as_ref() == here {
                    return;
                }
                if deadline.is_unrouted {
                    timer.add_now(Chore::Route {
                        session: session.clone(),
                        incarnation: deadline.incarnation,
                    });
                }
                if deadline.owner.is_some() {
                    timer.add_now(Chore::Lose { session, epoch });
                } else if let Some(at_ms) = deadline.due_ms {
                    timer.add(at_ms, Chore::Expire { session, epoch });
                }
            }
            Due::Will { epoch, deadline } => match deadline.due_ms {
                Some(at_ms) => timer.add(at_ms, Chore::SendWill { session, epoch }),
                None if deadline.owner.is_some() && deadline.owner.as_ref() == here => {}
                None => timer.add_now(Chore::Lose { session, epoch }),
            },
            Due::Sweep { incarnation } => timer.add_now(Chore::Sweep {
                session,
                incarnation,
            }),
        }
    }

    /// The node of this connection has ended: the session counts as just disconnected.
    fn lose(&self, session: SessionKey, epoch: u64, done: Then<Outcome>) {
        let command = Command::Detach(Box::new(Detach {
            session: session.clone(),
            epoch,
            stamp: self.hub.clock.stamp(),
            will: WillFate::Due,
            expiry_seconds: None,
            sent_before: None,
            routed: Vec::new(),
        }));
        self.settle(&session, command, done);
    }

    fn expire(&self, session: SessionKey, epoch: u64, done: Then<Outcome>) {
        let command = Command::Expire(Expire {
            session: session.clone(),
            epoch,
            stamp: self.hub.clock.stamp(),
        });
        self.settle(&session, command, done);
    }

    fn find_will(&self, session: SessionKey, epoch: u64, done: Then<Outcome>) {
        let chores = self.clone();
        let key = Prefix::new(&session);
        let query = Query::Will {
            session: session.clone(),
            epoch,
        };
        let found = move |answer| match answer {
            Ok(Answer::Will(Some(will))) => chores.send_will(session, epoch, will, done),
            Ok(Answer::Will(None)) => done(Outcome::Done), // Stopped by the client's return, or sent.
            _ => done(Outcome::Failed),
        };
        self.client.query(key.as_bytes(), query, Box::new(found));
    }

    fn send_will(&self, session: SessionKey, epoch: u64, will: Will, done: Then<Outcome>) {
        let (Some(tenant), Some(sender)) =
            (self.hub.tenants.tenant(session.tenant), self.wills.get())
        else {
            return done(Outcome::Failed);
        };
        let chores = self.clone();
        let sent = move |is_done: bool| {
            let hub = &chores.hub;
            if !is_done {
                // The sender has told why.
                hub.reporting.metrics.wills_failed.add(1);
                return done(Outcome::Failed);
            }
            hub.reporting.metrics.wills_sent.add(1);
            // Deleting it is a chore of its own: if that fails, the will must not be sent again.
            let forgetting = chores.clone();
            forgetting.forget_will(
                session.clone(),
                epoch,
                Box::new(move |outcome| {
                    if outcome == Outcome::Failed {
                        let forget = Chore::ForgetWill { session, epoch };
                        chores.hub.timer.add_now(forget);
                    }
                    done(Outcome::Done);
                }),
            );
        };
        sender.send(tenant, will, RoutingKey::of_will(epoch), Box::new(sent));
    }

    fn forget_will(&self, session: SessionKey, epoch: u64, done: Then<Outcome>) {
        let command = Command::WillSent(WillSent {
            session: session.clone(),
            epoch,
        });
        self.settle(&session, command, done);
    }

    /// Removes routes, then the rows of their subscriptions, then all other rows.
    fn sweep(&self, session: SessionKey, incarnation: u64, done: Then<Outcome>) {
        let chores = self.clone();
        let key = Prefix::new(&session);
        let query = Query::Subscriptions {
            session: session.clone(),
            incarnation,
            after: None,
            limit: SWEEP_FILTERS,
        };
        let found = move |answer| {
            let Ok(Answer::Subscriptions {
                subscriptions,
                leaving,
                ..
            }) = answer
            else {
                return done(Outcome::Failed);
            };
            let filters = subscriptions.into_iter();
            let filters = filters.map(|subscription| subscription.filter);
            let filters = filters.chain(leaving).collect();
            chores.sweep_filters(session, incarnation, filters, done);
        };
        self.client.query(key.as_bytes(), query, Box::new(found));
    }

    fn sweep_filters(
        &self,
        session: SessionKey,
        incarnation: u64,
        filters: Vec<TopicFilter>,
        done: Then<Outcome>,
    ) {
        let chores = self.clone();
        let end = RouteEnd::of(&session, incarnation);
        let routes = self.mender.routes.clone();
        let remove: Start<TopicFilter, Result<(), InboxError>> =
            Arc::new(move |filter, done| routes.remove(&end, &filter, done));
        let swept = filters.clone();
        let removed = move |results: Vec<Result<(), InboxError>>| {
            if results.iter().any(Result::is_err) {
                return done(Outcome::Failed);
            }
            chores.pass_entries_on(session, incarnation, swept, done);
        };
        gather(filters, remove, Box::new(removed));
    }

    pub(super) fn sweep_rows(
        &self,
        session: SessionKey,
        incarnation: u64,
        filters: Vec<TopicFilter>,
        done: Then<Outcome>,
    ) {
        let command = Command::Sweep(Sweep {
            session: session.clone(),
            incarnation,
            filters,
            limit: SWEEP_ROWS,
        });
        let chores = self.clone();
        let lane = session.clone();
        let swept = move |result| match result {
            Ok(Reply::Swept { more: true }) => chores.sweep(session, incarnation, done),
            Ok(_) => {
                chores.hub.reporting.metrics.swept.add(1);
                done(Outcome::Done);
            }
            Err(_) => done(Outcome::Failed),
        };
        self.execute(&lane, command, Box::new(swept));
    }

    /// Looks through the publishers that a session remembers, page by page.
    fn tidy(
        &self,
        session: SessionKey,
        incarnation: u64,
        after: Option<ClientId>,
        done: Then<Outcome>,
    ) {
        let chores = self.clone();
        let key = Prefix::new(&session);
        let query = Query::Publishers {
            session: session.clone(),
            incarnation,
            after,
            limit: TIDY_PUBLISHERS,
        };
        let found = move |answer| {
            let publishers = match answer {
                Ok(Answer::Publishers(publishers)) if !publishers.is_empty() => publishers,
                // What stays after a failure is looked through with the next new publishers.
                _ => return done(Outcome::Done),
            };
            let last = publishers.last().cloned();
            let command = Command::Tidy(Tidy {
                session: session.clone(),
                incarnation,
                publishers,
            });
            let lane = session.clone();
            let next = chores.clone();
            let tidied = move |result| match result {
                Ok(Reply::Done) => next.tidy(session, incarnation, last, done),
                _ => done(Outcome::Done),
            };
            chores.execute(&lane, command, Box::new(tidied));
        };
        self.client.query(key.as_bytes(), query, Box::new(found));
    }

    /// Rows and routes of a session's subscriptions may differ.
    fn route(&self, session: &SessionKey, incarnation: u64, done: Then<Outcome>) {
        let agree = move |agree: bool| {
            done(if agree {
                Outcome::Done
            } else {
                Outcome::Failed
            });
        };
        let end = RouteEnd::of(session, incarnation);
        self.mender.mend(end, Box::new(agree));
    }
}
