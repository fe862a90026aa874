//! What groups gave to a session that has ended goes to other members, before its rows go.

use std::sync::Arc;

use bifrust_dist::Publication;
use bifrust_kv::Then;
use bifrust_model::{Event, EventKind, Expiry, Message, Qos, SessionKey, Tenant, TopicFilter};

use super::chores::{Chores, SWEEP_ROWS};
use super::{Hub, Outcome, RouteEnd};
use crate::InboxError;
use crate::gather::{Start, gather};
use crate::schema::{Entry, Prefix};
use crate::store::{Answer, Query};

impl Chores {
    /// Passes on what the next step of the sweep deletes, then sweeps. After a crash in between it is
    /// passed on again, which QoS 1 allows.
    pub(super) fn pass_entries_on(
        &self,
        session: SessionKey,
        incarnation: u64,
        filters: Vec<TopicFilter>,
        done: Then<Outcome>,
    ) {
        let chores = self.clone();
        let key = Prefix::new(&session);
        let query = Query::Shared {
            session: session.clone(),
            incarnation,
            limit: SWEEP_ROWS as usize,
        };
        let found = move |answer| {
            let Ok(Answer::Shared(entries)) = answer else {
                return done(Outcome::Failed);
            };
            if entries.is_empty() {
                return chores.sweep_rows(session, incarnation, filters, done);
            }
            let Some(tenant) = chores.hub.tenants.tenant(session.tenant) else {
                return done(Outcome::Failed);
            };
            let end = RouteEnd::of(&session, incarnation);
            let pass_on = chores.passing_on(&tenant, end);
            let passed = move |results: Vec<Result<(), InboxError>>| {
                if results.iter().any(Result::is_err) {
                    return done(Outcome::Failed);
                }
                chores.sweep_rows(session, incarnation, filters, done);
            };
            gather(entries, pass_on, Box::new(passed));
        };
        self.client.query(key.as_bytes(), query, Box::new(found));
    }

    fn passing_on(
        &self,
        tenant: &Arc<Tenant>,
        end: RouteEnd,
    ) -> Start<Entry, Result<(), InboxError>> {
        let (hub, routes, tenant) = (self.hub.clone(), self.mender.routes.clone(), tenant.clone());
        Arc::new(move |entry: Entry, done: Then<Result<(), InboxError>>| {
            let Some(group) = entry.header.group else {
                return done(Ok(()));
            };
            let message = entry.message;
            if message.expiry(hub.clock.now_ms()) == Expiry::Expired {
                return done(Ok(()));
            }
            if entry.header.qos == Qos::ExactlyOnce {
                // It may have been sent to this one (MQTT-4.8.2-5).
                hub.unfinished(&tenant, &message, &group, "its member's session has ended");
                return done(Ok(()));
            }
            let publication = Arc::new(Publication {
                tenant: tenant.clone(),
                message: Message::clone(&message),
                key: None,
            });
            let (hub, tenant, filter) = (hub.clone(), tenant.clone(), group.clone());
            let passed = Box::new(move |passed: Result<bool, InboxError>| {
                if passed == Ok(false) {
                    hub.unfinished(&tenant, &message, &filter, "no other member is left");
                }
                done(passed.map(|_| ()));
            });
            routes.pass_on(&end, publication, group, passed);
        })
    }
}

impl Hub {
    fn unfinished(&self, tenant: &Tenant, message: &Message, group: &TopicFilter, detail: &str) {
        self.reporting.metrics.unfinished.add(1);
        let kind = match message.qos {
            Qos::AtMostOnce => EventKind::Qos0Dropped,
            Qos::AtLeastOnce => EventKind::Qos1Dropped,
            Qos::ExactlyOnce => EventKind::Qos2Dropped,
        };
        self.reporting.events.emit(kind, || {
            Event::new(kind, self.clock.stamp())
                .tenant(&tenant.name)
                .topic(&message.topic)
                .detail(format!("{group}: {detail}"))
        });
    }
}
