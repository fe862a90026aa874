//! Groups: how sessions join them, and who gets what is published to them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bifrust_model::{TenantNumber, TopicFilter};
use bytes::Bytes;

use super::{Dist, Inner, Unbound};
use crate::schema::route_key::{self, ReceiverKey};
use crate::share::{Group, GroupRoutes, Member, Picks};
use crate::store::{Answer, Query, RoomQuery};
use crate::{
    Attendance, Deliverer, MatchError, Matched, MemberId, Pick, Publication, PublishError,
    Receiver, RouteError, Then, hash_publisher,
};

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

    /// Hands a message to another member of the group that `filter` names than `from`, which has ended
    /// and did not get it. False if there is none.
    pub fn pass_on(
        &self,
        publication: Arc<Publication>,
        filter: TopicFilter,
        from: MemberId,
        done: Then<Result<bool, PublishError>>,
    ) {
        let dist = self.clone();
        let tenant = publication.tenant.number;
        let topic = publication.message.topic.clone();
        let hand_over = move |matched: Result<Arc<Matched>, MatchError>| match matched {
            Ok(matched) => dist.pass_to(&publication, &matched, &filter, &from, done),
            Err(error) => done(Err(error.into())),
        };
        match self.matched(tenant, topic.as_str()) {
            Some(matched) => hand_over(Ok(matched)),
            None => self.match_topic(tenant, &topic, Box::new(hand_over)),
        }
    }

    fn pass_to(
        &self,
        publication: &Arc<Publication>,
        matched: &Matched,
        filter: &TopicFilter,
        from: &MemberId,
        done: Then<Result<bool, PublishError>>,
    ) {
        let publisher = hash_publisher(&publication.message.publisher);
        let seed = self.0.seed.fetch_add(1, Ordering::Relaxed);
        let group = matched.groups.iter().find(|group| group.filter == *filter);
        let member = group.and_then(|group| {
            let picked = group.pick(publisher, seed, |member| member.id != *from);
            group.members.get(picked?)
        });
        let Some(member) = member else {
            return done(Ok(false));
        };
        member.load.add();
        let only = Group::new(filter.clone(), vec![member.clone()]);
        let only = Arc::new(Matched::default().with_groups(vec![only]));
        let picks = [Pick {
            group: 0,
            member: 0,
        }];
        let done: Then<Result<(), PublishError>> = Box::new(|result| done(result.map(|()| true)));
        match member.id {
            MemberId::Live(_) => self.live().deliver(publication, &only, &picks, done),
            MemberId::Inbox { .. } => self.durable().deliver(publication, &only, &picks, done),
        }
    }

    /// Hands to live sessions.
    pub(super) fn live(&self) -> &dyn Deliverer {
        match self.0.deliverers.get() {
            Some(deliverers) => &*deliverers.live,
            None => &Unbound,
        }
    }

    /// Who gets this message, of the groups that the tenant may use at a time.
    pub(super) fn picks(&self, publication: &Publication, matched: &Matched) -> Picks {
        if matched.groups.is_empty() {
            return Picks::new();
        }
        let max = publication.tenant.settings.load().max_group_fanout as usize;
        let left_out = matched.groups.len().saturating_sub(max);
        self.0.groups_left_out.add(left_out as u64);
        let seed = self.0.seed.fetch_add(1, Ordering::Relaxed);
        matched.pick_members(&publication.message.publisher, seed, max)
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
