//! Subscriptions of groups: each has a route of its own, since a group's members are known one by one.

use bifrust_model::{SubscriptionOptions, TenantNumber, TopicFilter};
use bytestring::ByteString;

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
        // A copy: the text given shares its memory with a whole packet.
        let text = ByteString::from(filter.as_str());
        let filter = TopicFilter::new(text).unwrap_or_else(|_| filter.clone());
        let at = self.filters.insert(Filter {
            tenant,
            filter: filter.clone(),
            subscribers: vec![(seat.slot, options)],
            member: Some(seat),
            route: Default::default(),
            waiters: Default::default(),
        });
        self.members.insert((seat, filter), at);
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
