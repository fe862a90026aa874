//! Routes of subscriptions, and tenants by number: what the inbox needs of dist and registry.

use std::sync::Arc;

use bifrust_dist::{Dist, Receiver};
use bifrust_kv::{Client, Then};
use bifrust_model::{
    ClientId, SessionKey, Subscription, SubscriptionOptions, Tenant, TenantNumber, TopicFilter,
};
use bifrust_registry::Registry;

use crate::InboxError;
use crate::gather::{Start, gather};
use crate::schema::Prefix;
use crate::store::{Answer, Query, Store};

/// Subscriptions read at once.
const PAGE: usize = 256;

/// A session's end of a route.
#[derive(Clone, Debug)]
pub(crate) struct RouteEnd {
    pub(crate) tenant: TenantNumber,
    pub(crate) client: ClientId,
    pub(crate) incarnation: u64,
}

/// Where routes are kept.
pub(crate) trait Routes: Send + Sync {
    fn add(&self, end: &RouteEnd, subscription: &Subscription, done: Then<Result<(), InboxError>>);

    fn remove(&self, end: &RouteEnd, filter: &TopicFilter, done: Then<Result<(), InboxError>>);
}

/// Who knows tenants by number.
pub(crate) trait Tenants: Send + Sync {
    fn tenant(&self, number: TenantNumber) -> Option<Arc<Tenant>>;
}

impl Tenants for Registry {
    fn tenant(&self, number: TenantNumber) -> Option<Arc<Tenant>> {
        self.by_number(number)
    }
}

impl Routes for Dist {
    fn add(&self, end: &RouteEnd, subscription: &Subscription, done: Then<Result<(), InboxError>>) {
        let done = Box::new(move |result| done(from_route(result)));
        self.add_route(
            end.tenant,
            &subscription.filter,
            receiver(end, subscription.options),
            done,
        );
    }

    fn remove(&self, end: &RouteEnd, filter: &TopicFilter, done: Then<Result<(), InboxError>>) {
        let done = Box::new(move |result| done(from_route(result)));
        let receiver = receiver(end, SubscriptionOptions::default());
        self.remove_route(end.tenant, filter, receiver, done);
    }
}

fn receiver(end: &RouteEnd, options: SubscriptionOptions) -> Receiver {
    Receiver::Inbox {
        client: end.client.clone(),
        incarnation: end.incarnation,
        options,
    }
}

fn from_route(result: Result<(), bifrust_dist::RouteError>) -> Result<(), InboxError> {
    result.map_err(|error| match error {
        bifrust_dist::RouteError::Unknown => InboxError::Unknown,
        _ => InboxError::Refused,
    })
}

/// Gives every subscription of a session its route, page by page. Adding one that is there changes
/// nothing. `done` hears whether all stand.
pub(crate) fn restore_routes(
    client: Client<Store>,
    routes: Arc<dyn Routes>,
    end: RouteEnd,
    done: Then<bool>,
) {
    restore_after(client, routes, end, None, done);
}

fn restore_after(
    client: Client<Store>,
    routes: Arc<dyn Routes>,
    end: RouteEnd,
    after: Option<TopicFilter>,
    done: Then<bool>,
) {
    let session = SessionKey {
        tenant: end.tenant,
        client: end.client.clone(),
    };
    let key = Prefix::new(&session);
    let query = Query::Subscriptions {
        session,
        incarnation: end.incarnation,
        after,
        limit: PAGE,
    };
    let next = client.clone();
    let found = move |answer| {
        let Ok(Answer::Subscriptions {
            subscriptions,
            more,
        }) = answer
        else {
            return done(false);
        };
        let last = subscriptions.last().map(|last| last.filter.clone());
        let add = {
            let (routes, end) = (routes.clone(), end.clone());
            move |subscription: Subscription, done| routes.add(&end, &subscription, done)
        };
        let add: Start<Subscription, Result<(), InboxError>> = Arc::new(add);
        let added = move |results: Vec<Result<(), InboxError>>| {
            if results.iter().any(Result::is_err) {
                done(false);
            } else if more {
                restore_after(next, routes, end, last, done);
            } else {
                done(true);
            }
        };
        gather(subscriptions, add, Box::new(added));
    };
    client.query(key.as_bytes(), query, Box::new(found));
}
