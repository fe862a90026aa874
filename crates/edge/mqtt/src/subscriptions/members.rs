//! Subscriptions of groups: each has a route of its own, since a group's members are known one by one.

use bifrust_model::{SubscriptionOptions, TenantNumber, TopicFilter};
use smallvec::smallvec;

use super::{Filter, RouteStep, Subscriptions};
use crate::mailbox::Seat;

impl Subscriptions {
    /// Makes the connection a member of the group that `filter` names, or replaces its options.
    pub(crate) fn join(
        &mut self,
        seat: Seat,
        tenant: TenantNumber,
        filter: &TopicFilter,
        options: SubscriptionOptions,
    ) -> (usize, RouteStep) {
        let key = (seat, filter.clone());
        if let Some(&at) = self.members.get(&key) {
            let entry = &mut self.filters[at];
            entry.subscribers.clear();
            entry.subscribers.push((seat.slot, options));
            return (at, entry.route.wanted_anew());
        }
        let at = self.filters.insert(Filter {
            tenant,
            filter: filter.clone(),
            subscribers: smallvec![(seat.slot, options)],
            member: Some(seat),
            route: Default::default(),
        });
        self.members.insert(key, at);
        (at, self.filters[at].route.wanted())
    }

    /// Takes the connection out of the group; `None` if it is no member.
    pub(crate) fn leave(&mut self, seat: Seat, filter: &TopicFilter) -> Option<(usize, RouteStep)> {
        let at = *self.members.get(&(seat, filter.clone()))?;
        let entry = &mut self.filters[at];
        entry.subscribers.pop()?;
        Some((at, entry.route.unwanted()))
    }

    /// Which member's route a filter's is, and with what options; `None` if it is all subscribers'.
    pub(crate) fn member(&self, at: usize) -> Option<(Seat, SubscriptionOptions)> {
        let entry = self.filters.get(at)?;
        let options = entry.subscribers.first().map(|(_, options)| *options);
        Some((entry.member?, options.unwrap_or_default()))
    }
}
