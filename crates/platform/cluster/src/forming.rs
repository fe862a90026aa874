//! How empty nodes become a cluster: `expect = N`.
//!
//! A node is empty while its data folder names no cluster. Empty nodes tell each other which empty
//! nodes they see. When N of them have listed the same N ids for a while, the one with the smallest id
//! writes the cluster's id to its disk; the others then see a node that is not empty and join it.
//! **Why there is one cluster:** only the smallest of a list writes, and only while each of the others
//! says that it sees this list and no other. Whoever sees a node that is not empty joins it and no
//! longer says so: one such node vetoes.

use std::{collections::BTreeMap, fmt, time::Duration};

use bifrust_model::{NodeId, NodeRef};
use bytes::BufMut;

use crate::{
    Host,
    planted::planted,
    wire::{Reader, Write},
};

/// The most nodes that `expect` may ask for: each then fits into one packet with all others.
pub const EXPECT_MAX: u16 = 32;

/// How many empty nodes are kept in sight.
const SIGHTED_MAX: usize = 64;

/// How many hosts are passed on in one packet.
const HOSTS_MAX: usize = 8;

/// Who was not heard for this long is not there.
const FRESH: Duration = Duration::from_secs(3);

/// How long nothing may have changed before the smallest writes.
const SETTLED: Duration = Duration::from_secs(2);

/// How often a node says why it waits.
const SAY_WHY: Duration = Duration::from_secs(10);

/// Why an empty node has no cluster yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// This node has no `expect`, so it only joins, and no node of a cluster answered.
    ForCluster,
    /// Not all expected nodes are in sight of each other.
    ForNodes {
        /// How many empty nodes are expected.
        expect: u16,
        /// Those in sight, this one among them.
        seen: Vec<NodeId>,
    },
    /// More empty nodes are in sight than expected.
    TooMany {
        /// How many are expected.
        expect: u16,
        /// Those in sight, this one among them.
        seen: Vec<NodeId>,
    },
    /// Another empty node expects another number.
    DifferentExpect {
        /// How many this node expects.
        expect: u16,
        /// The other node.
        other: NodeId,
        /// How many that one expects.
        others: u16,
    },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForCluster => f.write_str(
                "no node of a cluster has answered, and without `expect` this node only joins",
            ),
            Self::ForNodes { expect, seen } => {
                let seen = seen.len();
                write!(f, "{seen} of {expect} expected nodes see each other")
            }
            Self::TooMany { expect, seen } => write!(
                f,
                "{} empty nodes are in sight and {expect} are expected; nobody forms a cluster",
                seen.len()
            ),
            Self::DifferentExpect {
                expect,
                other,
                others,
            } => write!(
                f,
                "this node expects {expect} nodes and {other} expects {others}; nobody forms a \
                 cluster"
            ),
        }
    }
}

/// What an empty node tells another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    /// 0: none.
    pub(crate) expect: u16,
    /// The empty nodes that it sees, itself among them, in order.
    pub(crate) list: Vec<NodeId>,
    /// Where some of them are.
    pub(crate) hosts: Vec<Host>,
}

impl Sight {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u16(self.expect);
        out.put_list(&self.list, |out, id| out.put_u128(id.0));
        out.put_list(&self.hosts, |out, host| out.put_host(host));
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            expect: reader.u16()?,
            list: reader.list(usize::from(EXPECT_MAX) + 1, Reader::node_id)?,
            hosts: reader.list(HOSTS_MAX, Reader::host)?,
        })
    }
}

struct Sighted {
    host: Host,
    expect: u16,
    list: Vec<NodeId>,
    at: Duration,
}

pub(crate) struct Forming {
    own: NodeRef,
    expect: Option<u16>,
    sighted: BTreeMap<NodeId, Sighted>,
    list: Vec<NodeId>,
    changed: Duration,
    said: Option<Duration>,
    turn: usize,
}

/// What an empty node does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Wait,
    SayWhy(Waiting),
    /// This node writes the cluster's id; these are its first nodes.
    Form(Vec<NodeId>),
}

impl Forming {
    pub(crate) fn new(own: NodeRef, expect: Option<u16>, now: Duration) -> Self {
        Self {
            own,
            expect,
            sighted: BTreeMap::new(),
            list: vec![own.id],
            changed: now,
            said: None,
            turn: 0,
        }
    }

    /// An empty node told what it sees. One that only joins is none of those that form a cluster.
    pub(crate) fn see(&mut self, now: Duration, host: Host, sight: Sight) {
        let id = host.node.id;
        let has_room = self.sighted.len() < SIGHTED_MAX || self.sighted.contains_key(&id);
        if id == self.own.id || !has_room || sight.expect == 0 {
            return;
        }
        let sighted = Sighted {
            host,
            expect: sight.expect,
            list: sight.list,
            at: now,
        };
        self.sighted.insert(id, sighted);
    }

    /// A node is no longer empty.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.sighted.remove(&node);
    }

    pub(crate) fn has_sighted(&self, node: NodeId) -> bool {
        self.sighted.contains_key(&node)
    }

    /// What to tell the other empty nodes.
    pub(crate) fn sight(&mut self) -> Sight {
        // Different ones each time, if not all fit.
        self.turn = self.turn.wrapping_add(HOSTS_MAX);
        let hosts: Vec<Host> = self.sighted.values().map(|sighted| sighted.host).collect();
        let start = self.turn.checked_rem(hosts.len()).unwrap_or(0);
        let hosts = hosts
            .iter()
            .cycle()
            .skip(start)
            .take(hosts.len().min(HOSTS_MAX));
        let list = self.list.iter().take(usize::from(EXPECT_MAX) + 1);
        Sight {
            expect: self.expect.unwrap_or(0),
            list: list.copied().collect(),
            hosts: hosts.copied().collect(),
        }
    }

    pub(crate) fn step(&mut self, now: Duration) -> Step {
        self.sighted
            .retain(|_, sighted| now.saturating_sub(sighted.at) < FRESH);
        let mut list: Vec<NodeId> = self.sighted.keys().copied().collect();
        list.push(self.own.id);
        list.sort_unstable();
        if list != self.list {
            self.list = list;
            self.changed = now;
        }
        let waiting = match self.waiting() {
            None if now.saturating_sub(self.changed) < SETTLED => return Step::Wait,
            None if self.list.first() == Some(&self.own.id) || planted("everybody forms") => {
                return Step::Form(self.list.clone());
            }
            None => return Step::Wait,
            Some(waiting) => waiting,
        };
        // Not at once: at the start it is only that nobody was heard yet.
        let said = *self.said.get_or_insert(now);
        if now.saturating_sub(said) < SAY_WHY {
            return Step::Wait;
        }
        self.said = Some(now);
        Step::SayWhy(waiting)
    }

    /// What is missing, if anything is.
    pub(crate) fn waiting(&self) -> Option<Waiting> {
        let Some(expect) = self.expect else {
            return Some(Waiting::ForCluster);
        };
        let differs = self
            .sighted
            .iter()
            .find(|(_, sighted)| sighted.expect != expect);
        if let Some((other, sighted)) = differs {
            return Some(Waiting::DifferentExpect {
                expect,
                other: *other,
                others: sighted.expect,
            });
        }
        let seen = self.list.clone();
        if seen.len() > usize::from(expect) {
            return Some(Waiting::TooMany { expect, seen });
        }
        let agrees = |sighted: &Sighted| sighted.list == self.list;
        if seen.len() < usize::from(expect) || !self.sighted.values().all(agrees) {
            return Some(Waiting::ForNodes { expect, seen });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use bifrust_model::Incarnation;

    use super::*;

    fn host(id: u128) -> Host {
        Host {
            node: NodeRef {
                id: NodeId(id),
                incarnation: Incarnation(1),
            },
            revision: 0,
            udp: ([127, 0, 0, 1], 1).into(),
            rpc: ([127, 0, 0, 1], 2).into(),
            protocol: 1,
        }
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn forming(id: u128, expect: u16) -> Forming {
        let expect = Some(expect).filter(|expect| *expect > 0);
        Forming::new(host(id).node, expect, at(0))
    }

    /// Everybody tells everybody, as often as it takes; what each does at the end of each round.
    fn talk(nodes: &mut [(u128, Forming)], rounds: u64) -> Vec<Vec<Step>> {
        (0..rounds)
            .map(|round| {
                let now = at(round * 500);
                let steps = nodes.iter_mut().map(|(_, node)| node.step(now)).collect();
                let sights: Vec<(u128, Sight)> = nodes
                    .iter_mut()
                    .map(|(id, node)| (*id, node.sight()))
                    .collect();
                for (id, node) in nodes.iter_mut() {
                    for (from, sight) in sights.iter().filter(|(from, _)| from != id) {
                        node.see(now, host(*from), sight.clone());
                    }
                }
                steps
            })
            .collect()
    }

    #[test]
    fn the_smallest_of_the_expected_nodes_forms_the_cluster_once_all_agree() {
        let mut nodes: Vec<_> = [2, 1, 3].map(|id| (id, forming(id, 3))).into();
        let rounds = talk(&mut nodes, 12);
        let all = vec![NodeId(1), NodeId(2), NodeId(3)];
        assert_eq!(rounds[11], [Step::Wait, Step::Form(all), Step::Wait]);
        let first = rounds.iter().position(|steps| steps[1] != Step::Wait);
        assert!(
            first.is_some_and(|round| round >= 4),
            "not before it is settled"
        );
    }

    #[test]
    fn one_node_that_is_expected_alone_forms_a_cluster_of_its_own() {
        let mut nodes = vec![(1, forming(1, 1))];
        let rounds = talk(&mut nodes, 6);
        assert_eq!(rounds[5], [Step::Form(vec![NodeId(1)])]);
    }

    #[test]
    fn too_few_too_many_or_differing_nodes_wait_and_say_why_every_ten_seconds() {
        let cases: [(&[(u128, u16)], Waiting); 4] = [
            (
                &[(1, 3), (2, 3)],
                Waiting::ForNodes {
                    expect: 3,
                    seen: vec![NodeId(1), NodeId(2)],
                },
            ),
            (
                &[(1, 2), (2, 2), (3, 2)],
                Waiting::TooMany {
                    expect: 2,
                    seen: vec![NodeId(1), NodeId(2), NodeId(3)],
                },
            ),
            (
                &[(1, 2), (2, 3)],
                Waiting::DifferentExpect {
                    expect: 2,
                    other: NodeId(2),
                    others: 3,
                },
            ),
            (&[(1, 0)], Waiting::ForCluster),
        ];
        for (nodes, why) in cases {
            let mut nodes: Vec<_> = nodes
                .iter()
                .map(|(id, expect)| (*id, forming(*id, *expect)))
                .collect();
            let rounds = talk(&mut nodes, 64);
            let said: Vec<&Step> = rounds.iter().map(|steps| &steps[0]).collect();
            let said: Vec<&Step> = said
                .into_iter()
                .filter(|step| **step != Step::Wait)
                .collect();
            let expected = Step::SayWhy(why);
            assert_eq!(said, [&expected; 3], "at about 10, 20 and 30 seconds");
        }
    }

    #[test]
    fn nobody_forms_while_one_node_sees_less() {
        let mut one = forming(1, 3);
        let full = vec![NodeId(1), NodeId(2), NodeId(3)];
        for (id, list) in [(2, full.clone()), (3, full[1..].to_vec())] {
            let sight = Sight {
                expect: 3,
                list,
                hosts: Vec::new(),
            };
            one.see(at(0), host(id), sight);
        }
        for millis in [0, 1_000, 2_500] {
            assert_eq!(one.step(at(millis)), Step::Wait);
        }
        assert!(matches!(one.waiting(), Some(Waiting::ForNodes { .. })));
    }
}
