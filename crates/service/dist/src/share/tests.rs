use std::collections::HashMap;

use bifrust_model::{Incarnation, NodeId, TenantNumber};
use proptest::prelude::*;

use super::*;

const TENANT: TenantNumber = TenantNumber(1);

fn live(slot: u32) -> MemberId {
    MemberId::Live(LiveMember {
        node: NodeRef {
            id: NodeId(1),
            incarnation: Incarnation(1),
        },
        shard: 0,
        slot,
        generation: 1,
    })
}

fn inbox(n: u32) -> MemberId {
    MemberId::Inbox {
        client: ClientId::new(&format!("c{n}")).unwrap(),
        incarnation: 1,
    }
}

/// A group and the connections of its members.
struct Bed {
    group: Group,
    online: Vec<Option<Attendance>>,
}

impl Bed {
    /// Says of each member whether it is persistent and whether it is online.
    fn new(filter: &str, members: &[(bool, bool)]) -> Self {
        let loads = Loads::default();
        let mut online = Vec::new();
        let of = |(n, &(is_persistent, is_online)): (usize, &(bool, bool))| {
            let id = match is_persistent {
                true => inbox(n as u32),
                false => live(n as u32),
            };
            online.push(is_online.then(|| loads.attend(TENANT, &id)));
            let load = loads.of(TENANT, &id);
            Member::new(id, SubscriptionOptions::default(), load)
        };
        let members = members.iter().enumerate().map(of).collect();
        let filter = TopicFilter::new(filter.to_owned().into()).unwrap();
        Self {
            group: Group::new(filter, members),
            online,
        }
    }

    fn pick(&self, publisher: u64, seed: u64) -> Option<usize> {
        self.group.pick(publisher, seed, |_| true)
    }
}

#[test]
fn nobody_is_picked_where_nobody_is() {
    let gone = Bed::new("$share/g/a", &[(false, false), (false, false)]);
    assert_eq!(gone.pick(1, 1), None);
    let gone = Bed::new("$oshare/g/a", &[(false, false)]);
    assert_eq!(gone.pick(1, 1), None);
    let there = Bed::new("$share/g/a", &[(false, true)]);
    assert_eq!(there.group.pick(1, 1, |_| false), None);
}

#[test]
fn less_busy_members_get_more() {
    let bed = Bed::new("$share/g/a", &[(false, true); 5]);
    for seed in 0..10_000 {
        let at = bed.pick(0, seed).unwrap();
        bed.group.members[at].load.add();
    }
    for member in &bed.group.members {
        assert!((1990..2010).contains(&member.load.waiting()));
    }
    bed.online[3].as_ref().unwrap().set_waiting(0);
    let picks = (0..1000).filter(|seed| bed.pick(0, *seed) == Some(3));
    // Two random choices of five include one of them with a chance of 9 in 25.
    assert!((300..420).contains(&picks.count()));
}

#[test]
fn publishers_spread_evenly_over_an_ordered_group() {
    let bed = Bed::new("$oshare/g/a", &[(false, true); 8]);
    let mut counts: HashMap<usize, usize> = HashMap::new();
    for n in 0..8000 {
        let publisher = ClientId::new(&format!("p{n}")).unwrap();
        let at = bed.pick(hash_publisher(&publisher), n).unwrap();
        *counts.entry(at).or_default() += 1;
    }
    assert!(counts.len() == 8 && counts.values().all(|n| (800..1200).contains(n)));
}

fn matched(groups: Vec<Group>) -> Arc<Matched> {
    Arc::new(Matched::new(SmallVec::new(), Vec::new()).with_groups(groups))
}

fn ids(picks: &KeyedPicks) -> Vec<MemberId> {
    let (matched, picks) = picks.targets().unwrap();
    let of = |pick: &Pick| matched.picked(*pick).unwrap().1.id.clone();
    picks.iter().map(of).collect()
}

#[test]
fn picks_of_one_publish_only_grow() {
    let publisher = ClientId::new("p").unwrap();
    let first = Bed::new("$share/g/a", &[(false, true); 4]);
    let second = Bed::new("$share/h/a", &[(true, false)]);
    let mut picks = KeyedPicks::default();
    let one = matched(vec![first.group.clone()]);
    assert!(picks.extend(&one, &publisher, 1, 9));
    let before = ids(&picks);
    assert!(!picks.extend(&one, &publisher, 2, 9));
    assert_eq!(ids(&picks), before, "whatever the seed");
    // The first group is not there any more, and another one is.
    let other = matched(vec![second.group.clone()]);
    assert!(picks.extend(&other, &publisher, 3, 9));
    assert_eq!(ids(&picks), [before[0].clone(), inbox(0)]);
    assert_eq!(picks.stored().len(), 2);
}

#[test]
fn a_retry_goes_to_nobody_else() {
    let publisher = ClientId::new("p").unwrap();
    let live_group = Bed::new("$share/g/a", &[(false, true); 4]);
    let inboxes = Bed::new("$share/h/a", &[(true, true); 4]);
    let left = Bed::new("$share/i/a", &[(true, true); 2]);
    let new = Bed::new("$share/j/a", &[(true, true); 2]);
    let stored = |bed: &Bed, member| StoredPick {
        filter: bed.group.filter.clone(),
        member,
    };
    let resumed = vec![
        stored(&live_group, live(2)),
        stored(&inboxes, inbox(3)),
        stored(&left, inbox(9)),
    ];
    let decoded = StoredPick::decode(StoredPick::encode(&resumed)).unwrap();
    assert_eq!(decoded, resumed);
    let mut picks = KeyedPicks::resume(decoded);
    let groups = [&live_group, &inboxes, &left, &new].map(|bed| bed.group.clone());
    assert!(picks.extend(&matched(groups.into()), &publisher, 1, 9));
    let found = ids(&picks);
    assert_eq!((found.len(), &found[0]), (2, &inbox(3)));
    assert_eq!(picks.stored()[..3], resumed);
    assert_eq!(picks.stored()[3].filter, new.group.filter);
}

fn scopes() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("$share/g/a"), Just("$oshare/g/a")]
}

fn members() -> impl Strategy<Value = Vec<(bool, bool)>> {
    prop::collection::vec(any::<(bool, bool)>(), 1..20)
}

proptest! {
    #[test]
    fn online_members_come_first_and_ended_sessions_never(
        scope in scopes(), members in members(), publisher: u64, seed: u64,
    ) {
        let bed = Bed::new(scope, &members);
        let picked = bed.pick(publisher, seed);
        prop_assert_eq!(picked, bed.pick(publisher, seed));
        let picked = picked.map(|at| members[at]);
        let has_online = members.iter().any(|(_, is_online)| *is_online);
        let has_persistent = members.iter().any(|(is_persistent, _)| *is_persistent);
        match picked {
            Some((_, is_online)) if has_online => prop_assert!(is_online),
            Some((is_persistent, _)) => prop_assert!(is_persistent),
            None => prop_assert!(!has_online && !has_persistent),
        }
    }

    #[test]
    fn whoever_is_left_out_is_not_picked(
        scope in scopes(), members in members(), publisher: u64, seed: u64,
    ) {
        let bed = Bed::new(scope, &members);
        if let Some(first) = bed.pick(publisher, seed) {
            let avoided = bed.group.members[first].id.clone();
            let second = bed.group.pick(publisher, seed, |member| member.id != avoided);
            prop_assert_ne!(second, Some(first));
        }
    }

    #[test]
    fn an_ordered_group_keeps_its_publishers(
        count in 2usize..20, gone in 0usize..20, publishers: [u64; 8], seeds: [u64; 2],
    ) {
        let mut bed = Bed::new("$oshare/g/a", &vec![(false, true); count]);
        let gone = gone % count;
        let before = publishers.map(|publisher| bed.pick(publisher, seeds[0]));
        bed.online[gone] = None;
        for (publisher, before) in publishers.into_iter().zip(before) {
            let after = bed.pick(publisher, seeds[1]);
            if before == Some(gone) {
                prop_assert_ne!(after, before);
            } else {
                prop_assert_eq!(after, before);
            }
        }
    }

    #[test]
    fn any_bytes_are_picks_or_an_error(bytes: Vec<u8>) {
        let _ = StoredPick::decode(bytes.into());
    }
}
