//! A connection takes its session and gives it up.

use bifrust_dist::RoutingKey;
use bifrust_kv::{ExecuteError, Then};
use bifrust_model::{SessionKey, Subscription, TopicFilter};

use super::{CLIENT_BYTES_MAX, Inbox, refusal};
use crate::schema::Prefix;
use crate::store::{self, Answer, Attached, Command, Ownership, Query, Reply, WillFate};
use crate::{Detach, InboundId, InboxError, Open, Opened, SessionRef};

/// Subscriptions read at once.
const PAGE: usize = 1024;

impl Inbox {
    /// A connection takes its session: an older one goes on, or ends, as the client asked. The will is
    /// durable when `done` runs. A connection must hold the session's claim.
    pub fn attach(&self, request: Open, done: Then<Result<Opened, InboxError>>) {
        if request.client.client.as_str().len() > CLIENT_BYTES_MAX {
            return done(Err(InboxError::Refused));
        }
        // Before anything is stored under it: rows of other incarnations count as left behind.
        let _ = self.hub().node.set(request.owner.node);
        let session = SessionKey {
            tenant: request.tenant.number,
            client: request.client.client.clone(),
        };
        if request.expiry_seconds > 0 || request.will.is_some() {
            return self.take(session, request, done);
        }
        if !self.hub().presence.may_exist(&session) {
            return done(Ok(self.without_rows()));
        }
        let inbox = self.clone();
        let key = Prefix::new(&session);
        let query = Query::Exists(session.clone());
        let answered = move |answer| match answer {
            Ok(Answer::Exists(false)) => done(Ok(inbox.without_rows())),
            Ok(_) => inbox.take(session, request, done),
            Err(error) => done(Err(InboxError::from(error))),
        };
        let client = &self.inner.client;
        client.query(key.as_bytes(), query, Box::new(answered));
    }

    /// A transient session without a will, of a client that has no other: nothing is stored.
    fn without_rows(&self) -> Opened {
        let epoch = self.hub().clock.stamp().0;
        Opened {
            session_present: false,
            epoch,
            incarnation: epoch,
            is_durable: false,
            subscriptions: Vec::new(),
            inbound: Vec::new(),
            released: Vec::new(),
            next_seq: 1,
        }
    }

    fn take(&self, session: SessionKey, request: Open, done: Then<Result<Opened, InboxError>>) {
        let has_will = request.will.is_some();
        let owner = request.owner;
        let command = Command::Attach(Box::new(store::Attach {
            session: session.clone(),
            stamp: self.hub().clock.stamp(),
            user: request.client.user.clone(),
            owner,
            clean_start: request.clean_start,
            expiry_seconds: request.expiry_seconds,
            window: request.window,
            will: request.will,
        }));
        let inbox = self.clone();
        let lane = session.clone();
        let replied = move |result: Result<Reply, ExecuteError>| match result {
            Ok(Reply::Attached(attached)) if attached.is_durable => {
                inbox.hub().note_attached(&Ownership {
                    session: session.clone(),
                    incarnation: attached.incarnation,
                    epoch: attached.epoch,
                    owner,
                    next_seq: attached.next_seq,
                    sent_before: attached.sent_before,
                    floor: attached.floor,
                });
                if attached.session_present {
                    inbox.read_subscriptions(session, attached, None, Vec::new(), done);
                } else {
                    done(Ok(opened(attached, Vec::new())));
                }
            }
            Ok(Reply::Attached(attached)) => {
                if has_will {
                    let online = &inbox.hub().online;
                    online.attach_transient(session, attached.epoch);
                }
                done(Ok(opened(attached, Vec::new())));
            }
            Ok(reply) => done(Err(refusal(&reply))),
            Err(error) => done(Err(error.into())),
        };
        self.execute(&lane, command, Box::new(replied));
    }

    /// Reads what the resumed session is subscribed to, page by page.
    fn read_subscriptions(
        &self,
        session: SessionKey,
        attached: Attached,
        after: Option<TopicFilter>,
        mut read: Vec<Subscription>,
        done: Then<Result<Opened, InboxError>>,
    ) {
        let key = Prefix::new(&session);
        let query = Query::Subscriptions {
            session: session.clone(),
            incarnation: attached.incarnation,
            after,
            limit: PAGE,
        };
        let inbox = self.clone();
        let answered = move |answer| match answer {
            Ok(Answer::Subscriptions {
                subscriptions,
                last,
                ..
            }) => {
                read.extend(subscriptions);
                if last.is_some() {
                    inbox.read_subscriptions(session, attached, last, read, done);
                } else {
                    done(Ok(opened(attached, read)));
                }
            }
            // The session is this connection's now: it is given up again, its will unsent.
            _ => inbox.give_back(&session, &attached, done),
        };
        let client = &self.inner.client;
        client.query(key.as_bytes(), query, Box::new(answered));
    }

    fn give_back(
        &self,
        session: &SessionKey,
        attached: &Attached,
        done: Then<Result<Opened, InboxError>>,
    ) {
        let epoch = attached.epoch;
        let command = Command::Detach(Box::new(store::Detach {
            session: session.clone(),
            epoch,
            stamp: self.hub().clock.stamp(),
            will: WillFate::Dropped,
            expiry_seconds: None,
            sent_before: Some(attached.sent_before),
            routed: Vec::new(),
        }));
        let inbox = self.clone();
        let lane = session.clone();
        let owned = session.clone();
        let replied = move |_: Result<Reply, ExecuteError>| {
            inbox.forget(&owned, epoch);
            done(Err(InboxError::Refused));
        };
        self.execute(&lane, command, Box::new(replied));
    }

    /// The connection has ended. Its will is dropped or becomes due; the session ends, or waits for
    /// its client. Called again after a failure, also of an unknown outcome, it does no harm.
    pub fn detach(&self, session: &SessionRef, how: Detach, done: Then<Result<(), InboxError>>) {
        let key = session.key();
        let online = &self.hub().online;
        if !online.contains(&key) {
            return done(Ok(())); // A transient session without a will, or done before.
        }
        online.leave(&key, session.epoch);
        let drops_when_stopping = (session.tenant.settings.load()).no_lwt_when_server_shutting_down;
        let command = Command::Detach(Box::new(store::Detach {
            session: key.clone(),
            epoch: session.epoch,
            stamp: self.hub().clock.stamp(),
            will: WillFate::of(how.cause, drops_when_stopping),
            expiry_seconds: how.expiry_seconds,
            sent_before: Some(how.sent_before),
            routed: how.routed,
        }));
        let inbox = self.clone();
        let (lane, epoch) = (key.clone(), session.epoch);
        let replied = move |result: Result<Reply, ExecuteError>| match result {
            Ok(Reply::Done) => {
                inbox.forget(&key, epoch);
                done(Ok(()));
            }
            Ok(reply) => {
                inbox.forget(&key, epoch);
                done(Err(refusal(&reply)));
            }
            Err(error) => done(Err(error.into())),
        };
        self.execute(&lane, command, Box::new(replied));
    }

    fn forget(&self, session: &SessionKey, epoch: u64) {
        if self.hub().online.remove(session, epoch) {
            self.hub().reporting.metrics.online.add(-1);
        }
    }
}

fn opened(attached: Attached, subscriptions: Vec<Subscription>) -> Opened {
    let incarnation = attached.incarnation;
    let inbound = attached.inbound.into_iter();
    Opened {
        session_present: attached.session_present,
        epoch: attached.epoch,
        incarnation,
        is_durable: attached.is_durable,
        subscriptions,
        inbound: inbound
            .map(|(packet_id, generation, is_routed)| InboundId {
                packet_id,
                key: RoutingKey {
                    session: incarnation,
                    packet_id,
                    generation,
                },
                is_routed,
                picks: Vec::new(), // Told when it is begun again.
            })
            .collect(),
        released: attached.released,
        next_seq: attached.first_seq,
    }
}
