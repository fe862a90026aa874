//! Groups: how sessions join them, and who gets what is published to them.

use std::sync::atomic::Ordering;

use bifrust_model::{TenantNumber, TopicFilter};
use bytes::Bytes;

use super::{Dist, Inner};
use crate::schema::route_key::{self, ReceiverKey};
use crate::share::{Group, GroupRoutes, Member, Picks};
use crate::store::{Answer, Query, RoomQuery};
use crate::{Attendance, Matched, MemberId, Publication, Receiver, RouteError, Then};

impl Dist {
    /// Adds the route of a member to the group that `filter` names, unless the group has
    /// `members_max` others. Members that join at the same moment may go beyond it by their number.
    pub fn join_group(
        &self,
        tenant: TenantNumber,
        filter: &TopicFilter,
        receiver: Receiver,
        members_max: usize,
        done: Then<Result<(), RouteError>>,
    ) {
        let query = Query::Room(RoomQuery {
            prefix: route_key::prefix(tenant, filter).into(),
            key: route_key::encode(tenant, filter, &ReceiverKey::of(&receiver)),
            members_max,
        });
        let (dist, filter) = (self.clone(), filter.clone());
        let answered = move |answer| match answer {
            Ok(Answer::Room(true)) => dist.add_route(tenant, &filter, receiver, done),
            Ok(Answer::Room(false)) => done(Err(RouteError::GroupFull)),
            _ => done(Err(RouteError::Unread)),
        };
        let at: Bytes = tenant.key().to_vec().into();
        self.0.range.ask(&at, query, Box::new(answered));
    }

    /// Makes a member online for as long as the answer is kept. To be asked before its route is added.
    pub fn attend(&self, tenant: TenantNumber, id: &MemberId) -> Attendance {
        self.0.loads.attend(tenant, id)
    }

    /// Who gets this message, of the groups that the tenant may use at a time.
    pub(super) fn picks(&self, publication: &Publication, matched: &Matched) -> Picks {
        if matched.groups.is_empty() {
            return Picks::new();
        }
        let max = publication.tenant.settings.load().max_group_fanout;
        let seed = self.0.seed.fetch_add(1, Ordering::Relaxed);
        matched.pick_members(&publication.message.publisher, seed, max as usize)
    }
}

impl Inner {
    /// Groups with what this node knows of their members. Sessions of this node that ended with an
    /// earlier incarnation of it are none.
    pub(super) fn groups(&self, tenant: TenantNumber, found: Vec<GroupRoutes>) -> Vec<Group> {
        let is_over = |id: &MemberId| match id {
            MemberId::Live(live) => live.node.id == self.this.id && live.node != self.this,
            MemberId::Inbox { .. } => false,
        };
        let of_routes = |routes: GroupRoutes| {
            let members = routes.members.into_iter();
            let members = members.filter(|(id, _)| !is_over(id)).map(|(id, options)| {
                let load = self.loads.of(tenant, &id);
                Member::new(id, options, load)
            });
            Group::new(routes.filter, members.collect())
        };
        let groups = found.into_iter().map(of_routes);
        groups.filter(|group| !group.members.is_empty()).collect()
    }
}
