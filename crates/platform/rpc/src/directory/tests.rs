//! Servers come and go, rules name groups.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use bifrust_cluster::{
    Agent, Host, HostState, HostView, Incarnation, LandscapeWriter, NodeId, Snapshot,
};
use proptest::prelude::*;

use super::*;

struct Bed {
    writer: LandscapeWriter,
    directory: Directory,
    rules: Arc<ArcSwap<Rules>>,
    events: Arc<Told>,
    version: u64,
}

#[derive(Default)]
struct Told(AtomicU32);

impl Observer for Told {
    fn observe(&self, event: &Event) {
        assert!(matches!(event, Event::EmptyGroup { .. }));
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn node(id: u128) -> NodeRef {
    NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(1),
    }
}

fn name() -> ServiceName {
    ServiceName::new("dist").expect("a name")
}

impl Bed {
    fn new(servers: &[(u128, &[&str])]) -> Self {
        let (writer, landscape) = Landscape::new();
        let (rules, events) = (Arc::new(ArcSwap::default()), Arc::new(Told::default()));
        let directory = Directory::new(name(), node(1), landscape, rules.clone(), events.clone());
        let mut bed = Self {
            writer,
            directory,
            rules,
            events,
            version: 0,
        };
        bed.show(servers);
        bed
    }

    fn show(&mut self, servers: &[(u128, &[&str])]) {
        self.version += 1;
        let hosts = servers.iter().map(|(id, groups)| {
            let port = 1000 + u16::try_from(*id).expect("small");
            let address = AgentAddress {
                service: name(),
                host: node(*id),
                instance: 0,
            };
            let agent = Agent {
                address,
                detail: ServerDetail::of(groups),
            };
            let at = SocketAddr::from(([127, 0, 0, 1], port));
            let view = HostView {
                host: Host {
                    node: node(*id),
                    revision: 0,
                    udp: at,
                    rpc: at,
                    protocol: 1,
                },
                state: HostState::Alive,
                agents: BTreeMap::from([((name(), 0), agent)]),
                rows: BTreeMap::new(),
            };
            (NodeId(*id), Arc::new(view))
        });
        self.writer.publish_topology(Arc::new(Snapshot {
            cluster: None,
            version: self.version,
            hosts: hosts.collect(),
        }));
    }

    fn rule(&self, rules: &[(&str, &[(&str, u16)])]) {
        let rules = rules.iter().map(|(prefix, groups)| {
            let groups = groups
                .iter()
                .map(|(group, weight)| ((*group).to_owned(), *weight));
            ((*prefix).to_owned(), groups.collect())
        });
        self.rules
            .store(Arc::new(Rules::new(rules).expect("they are fine")));
    }

    fn choose(&self, tenant: &str, choice: Choice<'_>) -> Option<u128> {
        let chosen = self.directory.choose(tenant, choice);
        chosen.ok().map(|server| server.node.id.0)
    }

    /// How often each server was chosen of `count` times.
    fn shares(&self, tenant: &str, count: u32) -> BTreeMap<u128, u32> {
        let mut shares = BTreeMap::new();
        for _ in 0..count {
            let chosen = self
                .choose(tenant, Choice::RoundRobin)
                .expect("there are some");
            *shares.entry(chosen).or_default() += 1;
        }
        shares
    }
}

#[test]
fn all_servers_without_a_group_take_turns() {
    let bed = Bed::new(&[(1, &[]), (2, &[]), (3, &[]), (4, &["gold"])]);
    assert_eq!(
        bed.shares("any", 30),
        BTreeMap::from([(1, 10), (2, 10), (3, 10)])
    );
    assert_eq!(bed.directory.all().len(), 4);
}

#[test]
fn weights_share_calls_exactly_and_evenly() {
    let bed = Bed::new(&[(1, &["a"]), (2, &["b"]), (3, &["off"]), (4, &[])]);
    // More than ten is more than ten.
    bed.rule(&[("", &[("a", 11), ("b", 22), ("off", 0)])]);
    assert_eq!(bed.shares("any", 33), BTreeMap::from([(1, 11), (2, 22)]));
    assert_eq!(bed.shares("any", 3).len(), 2);
}

#[test]
fn the_longest_prefix_counts() {
    let bed = Bed::new(&[(1, &["a"]), (2, &["b"]), (3, &["c"]), (4, &[])]);
    bed.rule(&[
        ("acme", &[("a", 1)]),
        ("acme-x", &[("b", 1)]),
        ("b", &[("c", 1)]),
    ]);
    for (tenant, server) in [
        ("acme", 1),
        ("acme-a", 1),
        ("acme-x", 2),
        ("acme-xy", 2),
        ("acme-y", 1),
        ("b", 3),
        ("acm", 4),
        ("z", 4),
        ("", 4),
    ] {
        assert_eq!(
            bed.choose(tenant, Choice::RoundRobin),
            Some(server),
            "{tenant}"
        );
    }
}

#[test]
fn an_empty_group_falls_back_with_one_event() {
    let mut bed = Bed::new(&[(1, &[]), (2, &["gold"])]);
    bed.rule(&[("acme", &[("gold", 5)])]);
    assert_eq!(bed.choose("acme", Choice::RoundRobin), Some(2));
    assert_eq!(bed.events.0.load(Ordering::Relaxed), 0);
    bed.show(&[(1, &[])]);
    for _ in 0..3 {
        assert_eq!(bed.choose("acme", Choice::RoundRobin), Some(1));
    }
    bed.show(&[(1, &[]), (3, &[])]);
    assert!(bed.choose("acme", Choice::RoundRobin).is_some());
    assert_eq!(bed.events.0.load(Ordering::Relaxed), 1);
    // It is back, and goes again.
    bed.show(&[(1, &[]), (2, &["gold"])]);
    assert_eq!(bed.choose("acme", Choice::RoundRobin), Some(2));
    bed.show(&[(1, &[])]);
    assert_eq!(bed.choose("acme", Choice::RoundRobin), Some(1));
    assert_eq!(bed.events.0.load(Ordering::Relaxed), 2);
}

#[test]
fn tenants_without_a_rule_get_any_server_if_all_are_in_groups() {
    let bed = Bed::new(&[(1, &["a"]), (2, &["b"])]);
    assert_eq!(bed.shares("any", 4), BTreeMap::from([(1, 2), (2, 2)]));
}

#[test]
fn the_nearest_is_the_own_node_if_it_has_any_weight() {
    let bed = Bed::new(&[(1, &["a"]), (2, &["b"])]);
    assert_eq!(bed.choose("any", Choice::Nearest), Some(1));
    bed.rule(&[("", &[("b", 1)])]);
    assert_eq!(bed.choose("any", Choice::Nearest), Some(2));
}

#[test]
fn an_address_leads_to_its_server_and_to_no_other() {
    let bed = Bed::new(&[(1, &[]), (2, &[])]);
    let mut address = AgentAddress {
        service: name(),
        host: node(2),
        instance: 0,
    };
    let server = bed.directory.direct(&address).expect("it is there");
    assert_eq!(server.address.port(), 1002);
    address.host.incarnation = Incarnation(2);
    assert_eq!(bed.directory.direct(&address), Err(CallError::NoServer));
    let mut empty = Bed::new(&[]);
    empty.show(&[]);
    assert_eq!(empty.choose("any", Choice::Hash(b"x")), None);
}

#[test]
fn weights_beyond_the_highest_are_refused() {
    let groups = BTreeMap::from([("a".to_owned(), 101)]);
    let refused = Rules::new([("acme".to_owned(), groups)]);
    assert!(matches!(refused, Err(InvalidRules::Weight { .. })));
}

#[test]
fn keys_are_shared_by_weight() {
    let bed = Bed::new(&[(1, &["a"]), (2, &["b"]), (3, &["b"])]);
    bed.rule(&[("", &[("a", 2), ("b", 1)])]);
    let mut shares = BTreeMap::<u128, u32>::new();
    for key in 0..8000_u32 {
        let chosen = bed.choose("any", Choice::Hash(&key.to_le_bytes()));
        *shares.entry(chosen.expect("there are some")).or_default() += 1;
    }
    // Half, a quarter and a quarter; the hash is a fixed one.
    for (server, share) in [(1, 4000), (2, 2000), (3, 2000)] {
        assert!(shares[&server].abs_diff(share) < 200, "{shares:?}");
    }
}

proptest! {
    #[test]
    fn only_keys_of_the_server_that_left_move(servers in 2..8_u128, leaver in 0..8_u128, keys in prop::collection::vec(any::<u64>(), 1..100)) {
        let leaver = leaver % servers + 1;
        let there: Vec<(u128, &[&str])> = (1..=servers).map(|id| (id, &[][..])).collect();
        let mut bed = Bed::new(&there);
        let chosen: Vec<_> = keys.iter().map(|key| bed.choose("t", Choice::Hash(&key.to_le_bytes()))).collect();
        let rest: Vec<_> = there.iter().filter(|(id, _)| *id != leaver).copied().collect();
        bed.show(&rest);
        for (key, before) in keys.iter().zip(chosen) {
            let after = bed.choose("t", Choice::Hash(&key.to_le_bytes()));
            if before != Some(leaver) {
                prop_assert_eq!(after, before);
            } else {
                prop_assert!(after.is_some() && after != Some(leaver));
            }
        }
    }

    #[test]
    fn the_rule_is_the_longest_of_all_prefixes(
        prefixes in prop::collection::btree_set("[abä]{0,4}", 0..8),
        tenant in "[abä]{0,6}",
    ) {
        let rules = Rules::new(prefixes.iter().map(|prefix| (prefix.clone(), BTreeMap::new())));
        let rules = rules.expect("they are fine");
        let naive = prefixes.iter().filter(|prefix| tenant.starts_with(prefix.as_str()));
        let naive = naive.max_by_key(|prefix| prefix.len());
        prop_assert_eq!(rules.prefix_of(&tenant), naive.map(String::as_str));
    }
}
