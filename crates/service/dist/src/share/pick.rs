//! Which member of a group gets a message.

use bifrust_model::ClientId;
use xxhash_rust::xxh3::xxh3_64;

use super::{Group, Member, MemberId, Pick, Picks};
use crate::Matched;

/// Members that are looked at by chance before all are looked at in turn.
const PROBES: usize = 4;

/// A publisher, as ordered groups weigh it.
pub fn hash_publisher(publisher: &ClientId) -> u64 {
    xxh3_64(publisher.as_str().as_bytes())
}

impl Group {
    /// The member for one message: online ones before offline ones, of two by chance the one for
    /// which less waits; in an ordered group always the same for one publisher, as long as that one
    /// is there. Of members that `may` not, none; `None` if nobody is left. The same arguments and
    /// loads lead to the same member.
    pub fn pick(&self, publisher: u64, seed: u64, may: impl Fn(&Member) -> bool) -> Option<usize> {
        let is_there = |member: &Member| member.load.is_online() && may(member);
        // A live session that is not online has ended; its route is on its way out.
        let can_wait = |member: &Member| matches!(member.id, MemberId::Inbox { .. }) && may(member);
        if self.is_ordered {
            return self
                .weightiest(publisher, is_there)
                .or_else(|| self.weightiest(publisher, can_wait));
        }
        self.less_busy(seed, is_there)
            .or_else(|| self.less_busy(seed, can_wait))
    }

    /// Rendezvous hashing: a member that comes or goes changes nothing between the others.
    fn weightiest(&self, publisher: u64, may: impl Fn(&Member) -> bool) -> Option<usize> {
        let members = self.members.iter().enumerate();
        members
            .filter(|(_, member)| may(member))
            .max_by_key(|(_, member)| mix(member.weight ^ publisher))
            .map(|(at, _)| at)
    }

    fn less_busy(&self, seed: u64, may: impl Fn(&Member) -> bool) -> Option<usize> {
        let first = self.by_chance(seed, &may)?;
        let second = self.by_chance(mix(seed), &may)?;
        let waiting = |at: usize| self.members.get(at).map(|member| member.load.waiting());
        Some(match waiting(second) < waiting(first) {
            true => second,
            false => first,
        })
    }

    fn by_chance(&self, seed: u64, may: &impl Fn(&Member) -> bool) -> Option<usize> {
        let count = self.members.len();
        let mut chance = seed;
        for _ in 0..PROBES {
            chance = mix(chance);
            let at = ((u128::from(chance) * count as u128) >> 64) as usize;
            if self.members.get(at).is_some_and(may) {
                return Some(at);
            }
        }
        let start = ((u128::from(chance) * count as u128) >> 64) as usize;
        let (before, after) = self.members.split_at(start.min(count));
        let found = after.iter().position(may).map(|at| at + before.len());
        found.or_else(|| before.iter().position(may))
    }
}

impl Matched {
    /// A member of each group, of the first `groups_max` ones.
    pub fn pick_members(&self, publisher: &ClientId, seed: u64, groups_max: usize) -> Picks {
        let publisher = hash_publisher(publisher);
        let groups = self.groups.iter().take(groups_max).enumerate();
        groups
            .filter_map(|(at, group)| {
                let member = group.pick(publisher, seed ^ at as u64, |_| true)?;
                pick(at, member)
            })
            .collect()
    }

    /// Who was picked. `None` if it is of another match.
    pub fn picked(&self, pick: Pick) -> Option<(&Group, &Member)> {
        let group = self.groups.get(pick.group as usize)?;
        Some((group, group.members.get(pick.member as usize)?))
    }
}

/// Places as a pick says them.
pub(crate) fn pick(group: usize, member: usize) -> Option<Pick> {
    Some(Pick {
        group: u32::try_from(group).ok()?,
        member: u32::try_from(member).ok()?,
    })
}

/// Spreads every bit of `x` over the whole number (the finalizer of splitmix64).
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
