//! Routes of subscriptions, and tenants by number: what the inbox needs of dist and registry.

use std::sync::Arc;

use bifrust_dist::{Dist, MemberId, Publication, PublishError, Receiver, RouteError};
use bifrust_kv::Then;
use bifrust_model::{
    ClientId, SessionKey, Subscription, SubscriptionOptions, Tenant, TenantNumber, TopicFilter,
};
use bifrust_registry::Registry;

use crate::InboxError;

/// A session's end of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RouteEnd {
    pub(crate) tenant: TenantNumber,
    pub(crate) client: ClientId,
    pub(crate) incarnation: u64,
}

impl RouteEnd {
    pub(crate) fn of(session: &SessionKey, incarnation: u64) -> Self {
        Self {
            tenant: session.tenant,
            client: session.client.clone(),
            incarnation,
        }
    }

    pub(crate) fn session(&self) -> SessionKey {
        SessionKey {
            tenant: self.tenant,
            client: self.client.clone(),
        }
    }
}

/// Where routes are kept.
pub(crate) trait Routes: Send + Sync {
    fn add(&self, end: &RouteEnd, subscription: &Subscription, done: Then<Result<(), InboxError>>);

    /// Adds a member to a group, if that has less than `members_max` others: false if not.
    fn join(
        &self,
        end: &RouteEnd,
        subscription: &Subscription,
        members_max: usize,
        done: Then<Result<bool, InboxError>>,
    );

    fn remove(&self, end: &RouteEnd, filter: &TopicFilter, done: Then<Result<(), InboxError>>);

    /// Hands a message that an ended session did not get to another member of its group: false if
    /// there is none.
    fn pass_on(
        &self,
        end: &RouteEnd,
        publication: Arc<Publication>,
        group: TopicFilter,
        done: Then<Result<bool, InboxError>>,
    );
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

    fn join(
        &self,
        end: &RouteEnd,
        subscription: &Subscription,
        members_max: usize,
        done: Then<Result<bool, InboxError>>,
    ) {
        let done = Box::new(move |result| {
            done(match result {
                Err(RouteError::GroupFull) => Ok(false),
                result => from_route(result).map(|()| true),
            });
        });
        self.join_group(
            end.tenant,
            &subscription.filter,
            receiver(end, subscription.options),
            members_max,
            done,
        );
    }

    fn remove(&self, end: &RouteEnd, filter: &TopicFilter, done: Then<Result<(), InboxError>>) {
        let done = Box::new(move |result| done(from_route(result)));
        let receiver = receiver(end, SubscriptionOptions::default());
        self.remove_route(end.tenant, filter, receiver, done);
    }

    fn pass_on(
        &self,
        end: &RouteEnd,
        publication: Arc<Publication>,
        group: TopicFilter,
        done: Then<Result<bool, InboxError>>,
    ) {
        let from = MemberId::Inbox {
            client: end.client.clone(),
            incarnation: end.incarnation,
        };
        let done = Box::new(move |result: Result<bool, PublishError>| {
            done(result.map_err(|error| match error {
                PublishError::Refused => InboxError::Refused,
                PublishError::Unknown => InboxError::Unknown,
            }));
        });
        Self::pass_on(self, publication, group, from, done);
    }
}

fn receiver(end: &RouteEnd, options: SubscriptionOptions) -> Receiver {
    Receiver::Inbox {
        client: end.client.clone(),
        incarnation: end.incarnation,
        options,
    }
}

fn from_route(result: Result<(), RouteError>) -> Result<(), InboxError> {
    result.map_err(|error| match error {
        RouteError::Unknown => InboxError::Unknown,
        _ => InboxError::Refused,
    })
}
