//! Node leases in a world of wrong clocks, lost messages and leaders that do not know they are deposed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{Answer, Effect, Entry, Granter, Holder, HolderEffect, Incarnation, Table};
use crate::fault::Fault;
use crate::world::log::Log;
use crate::world::{Agenda, Clock, Network, True, ms};
use crate::{LeaderTerm, Round, Terms, Token};

const REPLICAS: usize = 3;
const HOLDERS: usize = 4;
const FAULTS_END: True = ms(60_000);
/// By then everything has healed.
const END: True = ms(90_000);
const CALM: Network = Network {
    lost_percent: 0,
    slow_percent: 0,
};

type Node = usize;

#[derive(Debug)]
enum Event {
    Elect,
    Depose(usize, LeaderTerm),
    Commit(u64),
    Apply(usize),
    TickReplica(usize),
    TickHolder(Node),
    Request(usize, Incarnation<Node>, Token),
    Release(usize, Incarnation<Node>),
    Question(usize, LeaderTerm, Round),
    Outcome(usize, LeaderTerm, Round, bool),
    Reply(Incarnation<Node>, Token, Answer),
    Crash(Node),
    Start(Node),
    Bend,
}

#[derive(Debug)]
struct Replica {
    granter: Granter<Node>,
    clock: Clock,
    term: Option<LeaderTerm>,
    applied: usize,
}

#[derive(Debug)]
struct Host {
    clock: Clock,
    number: u64,
    holder: Option<Holder>,
}

struct World {
    rng: fastrand::Rng,
    terms: Terms,
    now: True,
    agenda: Agenda<Event>,
    network: Network,
    log: Log<Entry<Node>>,
    replicas: Vec<Replica>,
    hosts: Vec<Host>,
    ended: BTreeSet<Incarnation<Node>>,
    seen: usize,
    counts: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64, terms: Terms) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let base = Instant::now();
        let drift = terms.drift_percent();
        let replicas = (0..REPLICAS).map(|_| Replica {
            granter: Granter::new(terms, Table::default()),
            clock: Clock::new(base, &mut rng, drift),
            term: None,
            applied: 0,
        });
        let replicas = replicas.collect();
        let hosts = (0..HOLDERS).map(|_| Host {
            clock: Clock::new(base, &mut rng, drift),
            number: 0,
            holder: None,
        });
        let hosts = hosts.collect();
        let network = Network {
            lost_percent: rng.u8(0..40),
            slow_percent: rng.u8(0..30),
        };
        let mut world = Self {
            rng,
            terms,
            now: True::ZERO,
            agenda: Agenda::new(),
            network,
            log: Log::new(),
            replicas,
            hosts,
            ended: BTreeSet::new(),
            seen: 0,
            counts: BTreeMap::new(),
        };
        world.agenda.at(ms(10), Event::Elect);
        world.agenda.at(ms(500), Event::Bend);
        for replica in 0..REPLICAS {
            world.agenda.at(ms(5), Event::TickReplica(replica));
        }
        for node in 0..HOLDERS {
            world.agenda.at(ms(20), Event::Start(node));
            world.agenda.at(ms(30), Event::TickHolder(node));
            let crash = ms(world.rng.u64(1_000..60_000));
            world.agenda.at(crash, Event::Crash(node));
        }
        world
    }

    fn run(mut self) -> Result<BTreeMap<&'static str, u64>, String> {
        while let Some((at, event)) = self.agenda.next() {
            if at > END {
                break;
            }
            self.now = at;
            self.handle(event);
            self.check()?;
        }
        self.check_healed()?;
        Ok(self.counts)
    }

    fn is_calm(&self) -> bool {
        self.now >= FAULTS_END
    }

    fn network(&self) -> Network {
        if self.is_calm() { CALM } else { self.network }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Elect => self.elect(),
            Event::Depose(at, term) => {
                if self.replicas[at].term == Some(term) {
                    self.replicas[at].term = None;
                    self.replicas[at].granter.handle_deposed();
                }
            }
            Event::Commit(number) => {
                self.log.commit(number);
                self.spread();
            }
            Event::Apply(at) => self.apply(at),
            Event::TickReplica(at) => {
                self.agenda.at(self.now + ms(100), Event::TickReplica(at));
                self.with_granter(at, |granter, now, effects| {
                    granter.handle_tick(now, effects)
                });
            }
            Event::TickHolder(node) => {
                self.agenda.at(self.now + ms(50), Event::TickHolder(node));
                self.with_holder(node, |holder, now, effects| {
                    holder.handle_tick(now, effects)
                });
            }
            Event::Request(at, from, token) => self.with_granter(at, |granter, now, effects| {
                granter.handle_request(now, from, token, effects);
            }),
            Event::Release(at, from) => self.with_granter(at, |granter, now, effects| {
                granter.handle_release(now, from, effects);
            }),
            Event::Question(at, term, round) => {
                let leads = self.log.leads(term);
                if leads || self.rng.bool() {
                    let delay = self.network().delay(&mut self.rng);
                    let outcome = Event::Outcome(at, term, round, leads);
                    self.agenda.at(self.now + delay, outcome);
                }
            }
            Event::Outcome(at, term, round, leads) => {
                if self.replicas[at].term == Some(term) {
                    self.with_granter(at, |granter, now, effects| match leads {
                        true => granter.handle_confirmed(now, round, effects),
                        false => granter.handle_unconfirmed(round),
                    });
                }
            }
            Event::Reply(to, token, answer) => {
                if self.hosts[to.node].number == to.number {
                    self.with_holder(to.node, |holder, now, effects| {
                        holder.handle_answer(now, token, answer, effects);
                    });
                }
            }
            Event::Crash(node) => self.crash(node),
            Event::Start(node) => self.start(node),
            Event::Bend => {
                self.agenda.at(self.now + ms(700), Event::Bend);
                let (now, drift) = (self.now, self.terms.drift_percent());
                for clock in self
                    .replicas
                    .iter_mut()
                    .map(|replica| &mut replica.clock)
                    .chain(self.hosts.iter_mut().map(|host| &mut host.clock))
                {
                    clock.bend(now, &mut self.rng, drift);
                }
            }
        }
    }

    fn elect(&mut self) {
        if !self.is_calm() {
            let next = ms(self.rng.u64(300..12_000));
            self.agenda.at(self.now + next, Event::Elect);
        }
        self.count("elections");
        let at = self.rng.usize(0..REPLICAS);
        let term = self.log.elect(&mut self.rng);
        self.spread();
        // The one before may believe in itself for long.
        for other in 0..REPLICAS {
            if let Some(old) = self.replicas[other].term {
                let blind = match self.is_calm() {
                    true => ms(10),
                    false => ms(self.rng.u64(0..15_000)),
                };
                self.agenda.at(self.now + blind, Event::Depose(other, old));
            }
        }
        self.replicas[at].granter.handle_deposed();
        self.replicas[at].term = None;
        while self.replicas[at].applied < self.log.len() {
            self.apply(at);
        }
        self.replicas[at].term = Some(term);
        let now = self.replicas[at].clock.now(self.now);
        self.replicas[at].granter.handle_leading(now, term);
    }

    /// New entries reach the replicas one by one, some of them late.
    fn spread(&mut self) {
        while self.seen < self.log.len() {
            if let Some((_, Entry::End(incarnation))) = self.log.entry(self.seen) {
                self.ended.insert(*incarnation);
                *self.counts.entry("ends").or_default() += 1;
            }
            self.seen += 1;
            for at in 0..REPLICAS {
                let delay = match self.is_calm() || self.rng.u8(0..5) > 0 {
                    true => ms(self.rng.u64(1..20)),
                    false => ms(self.rng.u64(20..9_000)),
                };
                self.agenda.at(self.now + delay, Event::Apply(at));
            }
        }
    }

    fn apply(&mut self, at: usize) {
        let index = self.replicas[at].applied;
        let Some(&(term, entry)) = self.log.entry(index) else {
            return;
        };
        self.replicas[at].applied += 1;
        self.with_granter(at, |granter, now, effects| {
            granter.handle_applied(now, term, entry, effects);
            granter.handle_applied(now, LeaderTerm(0), entry, effects); // once more, late
        });
    }

    fn crash(&mut self, node: Node) {
        if self.is_calm() {
            return;
        }
        let next = self.now + ms(self.rng.u64(2_000..30_000));
        self.agenda.at(next, Event::Crash(node));
        self.count("crashes");
        self.hosts[node].holder = None;
        let start = self.now + ms(self.rng.u64(10..8_000));
        self.agenda.at(start, Event::Start(node));
    }

    fn start(&mut self, node: Node) {
        let host = &mut self.hosts[node];
        if host.holder.is_none() {
            host.number += 1;
            host.holder = Some(Holder::new(self.terms, host.clock.now(self.now)));
        }
    }

    fn with_granter(
        &mut self,
        at: usize,
        act: impl FnOnce(&mut Granter<Node>, Instant, &mut Vec<Effect<Node>>),
    ) {
        let mut effects = Vec::new();
        let replica = &mut self.replicas[at];
        let now = replica.clock.now(self.now);
        act(&mut replica.granter, now, &mut effects);
        for effect in effects {
            let Some(term) = self.replicas[at].term else {
                return;
            };
            let delay = self.network().delay(&mut self.rng);
            match effect {
                Effect::Propose(entry) => {
                    if let Some(number) = self.log.propose(term, entry) {
                        self.agenda.at(self.now + delay, Event::Commit(number));
                    }
                }
                Effect::Confirm(round) => {
                    let question = Event::Question(at, term, round);
                    self.agenda.at(self.now + delay, question);
                }
                Effect::Reply(to, token, answer) => {
                    for arrival in self.network().arrivals(self.now, &mut self.rng) {
                        self.agenda.at(arrival, Event::Reply(to, token, answer));
                    }
                }
            }
        }
    }

    fn with_holder(
        &mut self,
        node: Node,
        act: impl FnOnce(&mut Holder, Instant, &mut Vec<HolderEffect>),
    ) {
        let mut effects = Vec::new();
        let host = &mut self.hosts[node];
        let now = host.clock.now(self.now);
        let me = Incarnation {
            node,
            number: host.number,
        };
        let Some(holder) = &mut host.holder else {
            return;
        };
        act(holder, now, &mut effects);
        for effect in effects {
            match effect {
                HolderEffect::Send(token) => self.send(|at| Event::Request(at, me, token)),
                HolderEffect::Serve => self.count("served"),
                HolderEffect::Stop(_) => {
                    self.count("stopped");
                    self.hosts[node].holder = None;
                    self.send(|at| Event::Release(at, me));
                    let start = self.now + ms(self.rng.u64(10..2_000));
                    self.agenda.at(start, Event::Start(node));
                }
            }
        }
    }

    /// To any node that believes it leads.
    fn send(&mut self, event: impl Fn(usize) -> Event) {
        let mut leading: Vec<usize> = (0..REPLICAS).collect();
        leading.retain(|&at| self.replicas[at].term.is_some());
        let Some(&at) = self.rng.choice(&leading) else {
            return;
        };
        for arrival in self.network().arrivals(self.now, &mut self.rng) {
            self.agenda.at(arrival, event(at));
        }
    }

    /// Nobody acts whose lease has ended.
    fn check(&self) -> Result<(), String> {
        for (node, host) in self.hosts.iter().enumerate() {
            let me = Incarnation {
                node,
                number: host.number,
            };
            let is_held = host
                .holder
                .as_ref()
                .is_some_and(|holder| holder.is_held(host.clock.now(self.now)));
            if is_held && self.ended.contains(&me) {
                return Err(format!("{:?}: {me:?} acts after its end", self.now));
            }
        }
        Ok(())
    }

    /// Long after the last fault all hold a lease, and nobody else does.
    fn check_healed(&self) -> Result<(), String> {
        let mut living = BTreeSet::new();
        for (node, host) in self.hosts.iter().enumerate() {
            let now = host.clock.now(self.now);
            if !host
                .holder
                .as_ref()
                .is_some_and(|holder| holder.is_held(now))
            {
                return Err(format!("{node} holds no lease at the end: {host:?}"));
            }
            let number = host.number;
            living.insert(Incarnation { node, number });
        }
        for replica in &self.replicas {
            let held: BTreeSet<_> = replica.granter.table().held().collect();
            if replica.applied == self.log.len() && held != living {
                return Err(format!("{held:?} hold leases, not {living:?}"));
            }
        }
        Ok(())
    }
}

fn run(seed: u64, terms: Terms) -> Result<BTreeMap<&'static str, u64>, String> {
    World::new(seed, terms).run()
}

#[test]
fn nobody_acts_after_its_lease_has_ended() {
    let mut all = BTreeMap::<_, u64>::new();
    for seed in 0..crate::world::seeds() {
        let counts = run(seed, Terms::NODE).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for (what, count) in counts {
            *all.entry(what).or_default() += count;
        }
    }
    println!("{all:?}");
    for what in ["elections", "crashes", "served", "stopped", "ends"] {
        assert!(
            all.get(what).is_some_and(|&count| count > 100),
            "{what}: {all:?}"
        );
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    assert_eq!(run(7, Terms::NODE), run(7, Terms::NODE));
}

/// What a simulation does not find, it does not guard.
#[test]
fn planted_faults_are_found() {
    for fault in [
        Fault::DriftIgnored,
        Fault::CountedFromReceipt,
        Fault::LapseIgnored,
        Fault::Unconfirmed,
        Fault::EndsEarly,
        Fault::ForeignGrantAnswers,
        Fault::RenewedWhileEnding,
    ] {
        let terms = Terms::NODE.with(fault);
        let found = (0..5_000).find(|&seed| {
            run(seed, terms).is_err_and(|error| error.contains("acts after its end"))
        });
        println!("{fault:?}: seed {found:?}");
        assert!(found.is_some(), "{fault:?} was not found");
    }
}
