//! Match leases in a world of wrong clocks, lost messages and leaders that do not know they are deposed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{Covered, Effect, Epoch, Granter, Holder};
use crate::fault::Fault;
use crate::world::log::Log;
use crate::world::{Agenda, Clock, Network, True, ms};
use crate::{LeaderTerm, Round, Terms, Token};

const HOSTS: usize = 4;
const RANGES: usize = 2;
const FAULTS_END: True = ms(30_000);
/// By then everything has healed.
const END: True = ms(45_000);
const CALM: Network = Network {
    lost_percent: 0,
    slow_percent: 0,
};

type Range = usize;

/// One life of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Life {
    host: usize,
    number: u64,
}

#[derive(Debug)]
enum Event {
    Elect(Range),
    Depose(Life, Range, LeaderTerm),
    Write(Range),
    Commit(Range, u64),
    Apply(Life, Range),
    Applied(Life, Range, Life, u64),
    Tick(usize),
    Request(Life, Life, Token, Option<Epoch>),
    Question(Life, BTreeMap<Range, LeaderTerm>, Round),
    Outcome(Life, Round, BTreeMap<Range, LeaderTerm>),
    Answer(Life, Life, Token, Epoch, Option<Vec<Covered<Range>>>),
    Restart(usize),
    Move(Range),
    Replicas(Range),
    Bend,
    Cut,
}

/// A host's replica of a range.
#[derive(Clone, Copy, Debug, Default)]
struct Replica {
    applied: usize,
    /// What it has heard last: who leads, and since which term.
    leader: Option<(LeaderTerm, Life)>,
}

struct Host {
    clock: Clock,
    number: u64,
    /// In the smaller part of a parted network.
    is_cut: bool,
    granter: Granter<Life, Range>,
    leads: BTreeMap<Range, LeaderTerm>,
    holders: BTreeMap<Life, Holder<Range>>,
    replicas: [Replica; RANGES],
}

#[derive(Debug)]
struct RangeState {
    log: Log<()>,
    members: BTreeSet<usize>,
    seen: usize,
    acknowledged: u64,
}

struct World {
    rng: fastrand::Rng,
    terms: Terms,
    now: True,
    agenda: Agenda<Event>,
    network: Network,
    hosts: Vec<Host>,
    ranges: Vec<RangeState>,
    counts: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64, terms: Terms) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let base = Instant::now();
        let hosts = (0..HOSTS).map(|_| Host {
            clock: Clock::new(base, &mut rng, terms.drift_percent()),
            number: 0,
            is_cut: false,
            granter: Granter::new(terms),
            leads: BTreeMap::new(),
            holders: BTreeMap::new(),
            replicas: [Replica::default(); RANGES],
        });
        let hosts = hosts.collect();
        let ranges = (0..RANGES).map(|_| RangeState {
            log: Log::new(),
            members: (0..HOSTS - 1).collect(),
            seen: 0,
            acknowledged: 0,
        });
        let ranges = ranges.collect();
        let network = Network {
            lost_percent: rng.u8(0..40),
            slow_percent: rng.u8(0..20),
        };
        let mut world = Self {
            rng,
            terms,
            now: True::ZERO,
            agenda: Agenda::new(),
            network,
            hosts,
            ranges,
            counts: BTreeMap::new(),
        };
        for range in 0..RANGES {
            world.agenda.at(ms(10), Event::Elect(range));
            world.agenda.at(ms(50), Event::Write(range));
            world.agenda.at(ms(5_000), Event::Move(range));
            world.agenda.at(ms(100), Event::Replicas(range));
        }
        for host in 0..HOSTS {
            world.agenda.at(ms(20), Event::Tick(host));
            let restart = ms(world.rng.u64(1_000..30_000));
            world.agenda.at(restart, Event::Restart(host));
        }
        world.agenda.at(ms(500), Event::Bend);
        world.agenda.at(ms(2_000), Event::Cut);
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

    fn arrivals(&mut self, from: Life, to: Life) -> Vec<True> {
        if self.hosts[from.host].is_cut != self.hosts[to.host].is_cut {
            return Vec::new();
        }
        self.network().arrivals(self.now, &mut self.rng)
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn life(&self, host: usize) -> Life {
        let number = self.hosts[host].number;
        Life { host, number }
    }

    fn lives(&self, life: Life) -> bool {
        self.life(life.host) == life
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Elect(range) => self.elect(range),
            Event::Depose(life, range, term) => {
                let host = &mut self.hosts[life.host];
                if host.number == life.number && host.leads.get(&range) == Some(&term) {
                    host.leads.remove(&range);
                    host.granter.handle_deposed(&range, term);
                }
            }
            Event::Write(range) => self.write(range),
            Event::Commit(range, number) => {
                self.ranges[range].log.commit(number);
                self.spread(range);
            }
            Event::Apply(life, range) => {
                if self.lives(life) && self.hosts[life.host].is_cut {
                    let later = Event::Apply(life, range);
                    self.agenda.at(self.now + ms(500), later);
                } else if self.lives(life) {
                    self.apply(life.host, range);
                }
            }
            Event::Applied(to, range, of, index) => {
                if self.lives(to) {
                    self.with_granter(to.host, |granter, now, effects| {
                        granter.handle_applied(now, &range, of, index, effects);
                    });
                }
            }
            Event::Tick(host) => self.tick(host),
            Event::Request(to, from, token, knows) => {
                if self.lives(to) {
                    self.with_granter(to.host, |granter, now, effects| {
                        granter.handle_request(now, from, token, knows, effects);
                    });
                }
            }
            Event::Question(of, leads, round) => {
                if self.hosts[of.host].is_cut {
                    return;
                }
                let mut led = leads;
                led.retain(|range, term| self.ranges[*range].log.leads(*term));
                let delay = self.network().delay(&mut self.rng);
                self.agenda
                    .at(self.now + delay, Event::Outcome(of, round, led));
            }
            Event::Outcome(of, round, led) => {
                if self.lives(of) {
                    self.with_granter(of.host, |granter, now, effects| {
                        let still_led = |range: &Range, term| led.get(range) == Some(&term);
                        granter.handle_confirmed(now, round, still_led, effects);
                    });
                }
            }
            Event::Answer(to, from, token, epoch, cover) => {
                if self.lives(to)
                    && let Some(holder) = self.hosts[to.host].holders.get_mut(&from)
                {
                    holder.handle_answer(token, epoch, cover);
                }
            }
            Event::Restart(host) => self.restart(host),
            Event::Move(range) => self.shift(range),
            Event::Replicas(range) => self.tell_replicas(range),
            Event::Cut => {
                self.agenda.at(self.now + ms(3_000), Event::Cut);
                let is_calm = self.is_calm();
                for host in &mut self.hosts {
                    host.is_cut = !is_calm && self.rng.u8(0..3) == 0;
                }
            }
            Event::Bend => {
                self.agenda.at(self.now + ms(700), Event::Bend);
                for host in &mut self.hosts {
                    let drift = self.terms.drift_percent();
                    host.clock.bend(self.now, &mut self.rng, drift);
                }
            }
        }
    }

    fn elect(&mut self, range: Range) {
        let mut members: Vec<usize> = self.ranges[range].members.iter().copied().collect();
        members.retain(|&member| !self.hosts[member].is_cut);
        let Some(&at) = self.rng.choice(&members) else {
            self.agenda.at(self.now + ms(1_000), Event::Elect(range));
            return;
        };
        if !self.is_calm() {
            let next = ms(self.rng.u64(300..8_000));
            self.agenda.at(self.now + next, Event::Elect(range));
        }
        self.count("elections");
        let term = self.ranges[range].log.elect(&mut self.rng);
        self.spread(range);
        for host in 0..HOSTS {
            if let Some(&old) = self.hosts[host].leads.get(&range) {
                let blind = match self.is_calm() {
                    true => ms(10),
                    false => ms(self.rng.u64(0..9_000)),
                };
                let depose = Event::Depose(self.life(host), range, old);
                self.agenda.at(self.now + blind, depose);
            }
        }
        while self.hosts[at].replicas[range].applied < self.ranges[range].log.len() {
            self.apply(at, range);
        }
        let leader = self.life(at);
        let lives = self.members(range);
        let last = self.ranges[range].log.len() as u64;
        let host = &mut self.hosts[at];
        host.leads.insert(range, term);
        host.replicas[range].leader = Some((term, leader));
        let now = host.clock.now(self.now);
        host.granter.handle_leading(now, range, term, last, lives);
    }

    fn members(&self, range: Range) -> Vec<Life> {
        let members = self.ranges[range].members.iter();
        members.map(|&host| self.life(host)).collect()
    }

    fn write(&mut self, range: Range) {
        if self.now < END - ms(6_000) {
            let next = ms(self.rng.u64(20..400));
            self.agenda.at(self.now + next, Event::Write(range));
        }
        for host in 0..HOSTS {
            if let Some(&term) = self.hosts[host].leads.get(&range)
                && !self.hosts[host].is_cut
                && let Some(number) = self.ranges[range].log.propose(term, ())
            {
                let delay = self.network().delay(&mut self.rng);
                self.agenda
                    .at(self.now + delay, Event::Commit(range, number));
            }
        }
    }

    /// New entries reach the replicas one by one, some of them late.
    fn spread(&mut self, range: Range) {
        while self.ranges[range].seen < self.ranges[range].log.len() {
            self.ranges[range].seen += 1;
            for host in 0..HOSTS {
                let delay = match self.is_calm() || self.rng.u8(0..10) > 0 {
                    true => ms(self.rng.u64(1..20)),
                    false => ms(self.rng.u64(20..6_000)),
                };
                let apply = Event::Apply(self.life(host), range);
                self.agenda.at(self.now + delay, apply);
            }
        }
    }

    fn apply(&mut self, at: usize, range: Range) {
        let state = &self.ranges[range];
        let Some(&(term, ())) = state.log.entry(self.hosts[at].replicas[range].applied) else {
            return;
        };
        if !state.members.contains(&at) {
            return; // removed replicas get nothing any more
        }
        let me = self.life(at);
        let host = &mut self.hosts[at];
        host.replicas[range].applied += 1;
        let applied = host.replicas[range].applied as u64;
        if let Some(&leads) = host.leads.get(&range)
            && leads >= term
        {
            self.with_granter(at, |granter, now, effects| {
                granter.handle_applied(now, &range, me, applied, effects);
                granter.handle_written(now, &range, applied, effects);
            });
        }
        self.report(me, range);
    }

    /// Tells the leader how far this replica is, and hears who leads.
    fn report(&mut self, me: Life, range: Range) {
        if !self.lives(me) {
            return;
        }
        let applied = self.hosts[me.host].replicas[range].applied as u64;
        for host in 0..HOSTS {
            let to = self.life(host);
            let Some(&term) = self.hosts[host].leads.get(&range) else {
                continue;
            };
            for arrival in self.arrivals(me, to) {
                self.agenda
                    .at(arrival, Event::Applied(to, range, me, applied));
            }
            if self.hosts[host].is_cut != self.hosts[me.host].is_cut {
                continue;
            }
            if self.rng.bool() || self.is_calm() {
                let known = &mut self.hosts[me.host].replicas[range].leader;
                if known.is_none_or(|(known, _)| known < term) {
                    *known = Some((term, to));
                }
            }
        }
    }

    fn tick(&mut self, at: usize) {
        self.agenda.at(self.now + ms(50), Event::Tick(at));
        self.with_granter(at, |granter, now, effects| {
            granter.handle_tick(now, effects);
        });
        let me = self.life(at);
        for range in 0..RANGES {
            self.report(me, range);
        }
        let now = self.hosts[at].clock.now(self.now);
        for peer in 0..HOSTS {
            let peer = self.life(peer);
            let holders = &mut self.hosts[at].holders;
            let holder = holders
                .entry(peer)
                .or_insert_with(|| Holder::new(self.terms, now));
            if let Some((token, knows)) = holder.handle_tick(now) {
                for arrival in self.arrivals(me, peer) {
                    self.agenda
                        .at(arrival, Event::Request(peer, me, token, knows));
                }
            }
        }
    }

    /// What was not durable is gone, and all that was known of leases.
    fn restart(&mut self, at: usize) {
        if self.is_calm() {
            return;
        }
        let next = self.now + ms(self.rng.u64(2_000..20_000));
        self.agenda.at(next, Event::Restart(at));
        self.count("restarts");
        let host = &mut self.hosts[at];
        host.number += 1;
        host.granter = Granter::new(self.terms);
        host.leads.clear();
        host.holders.clear();
        for replica in &mut host.replicas {
            replica.applied -= self.rng.usize(0..=replica.applied.min(5));
        }
        let lagging: Vec<(Range, usize)> = (0..RANGES)
            .map(|range| (range, self.ranges[range].log.len()))
            .collect();
        let me = self.life(at);
        for (range, len) in lagging {
            for _ in self.hosts[at].replicas[range].applied..len {
                let delay = ms(self.rng.u64(1..3_000));
                self.agenda.at(self.now + delay, Event::Apply(me, range));
            }
        }
    }

    /// One replica goes, another comes.
    fn shift(&mut self, range: Range) {
        if self.is_calm() {
            return;
        }
        let next = self.now + ms(self.rng.u64(2_000..9_000));
        self.agenda.at(next, Event::Move(range));
        let leads = |host: &usize| self.hosts[*host].leads.contains_key(&range);
        let followers: Vec<usize> = self.ranges[range]
            .members
            .iter()
            .copied()
            .filter(|host| !leads(host))
            .collect();
        let Some(&goes) = self.rng.choice(&followers) else {
            return;
        };
        let comes = (0..HOSTS).find(|host| !self.ranges[range].members.contains(host));
        let Some(comes) = comes else { return };
        self.count("moves");
        self.ranges[range].members.remove(&goes);
        self.ranges[range].members.insert(comes);
        let me = self.life(comes);
        for _ in self.hosts[comes].replicas[range].applied..self.ranges[range].log.len() {
            let delay = ms(self.rng.u64(1..3_000));
            self.agenda.at(self.now + delay, Event::Apply(me, range));
        }
        self.tell_leader(range);
    }

    /// The leader of the day knows its range's replicas; incarnations are learned with time.
    fn tell_leader(&mut self, range: Range) {
        let lives = self.members(range);
        let log = &self.ranges[range].log;
        for host in &mut self.hosts {
            if host.leads.get(&range).is_some_and(|&term| log.leads(term)) {
                let lives = lives.iter().copied();
                host.granter.handle_replicas(&range, lives);
            }
        }
    }

    fn tell_replicas(&mut self, range: Range) {
        self.agenda.at(self.now + ms(300), Event::Replicas(range));
        self.tell_leader(range);
    }

    fn with_granter(
        &mut self,
        at: usize,
        act: impl FnOnce(&mut Granter<Life, Range>, Instant, &mut Vec<Effect<Life, Range>>),
    ) {
        let mut effects = Vec::new();
        let me = self.life(at);
        let host = &mut self.hosts[at];
        let now = host.clock.now(self.now);
        act(&mut host.granter, now, &mut effects);
        let leads = host.leads.clone();
        for effect in effects {
            match effect {
                Effect::Confirm(round) => {
                    let delay = self.network().delay(&mut self.rng);
                    let question = Event::Question(me, leads.clone(), round);
                    self.agenda.at(self.now + delay, question);
                }
                Effect::Reply {
                    to,
                    token,
                    epoch,
                    cover,
                } => {
                    for arrival in self.arrivals(me, to) {
                        let answer = Event::Answer(to, me, token, epoch, cover.clone());
                        self.agenda.at(arrival, answer);
                    }
                }
                Effect::Acknowledge { range, index } => {
                    self.count("acknowledgements");
                    let acknowledged = &mut self.ranges[range].acknowledged;
                    *acknowledged = index.max(*acknowledged);
                }
            }
        }
    }

    fn may_answer(&self, at: usize, range: Range) -> bool {
        let host = &self.hosts[at];
        let Some((term, leader)) = host.replicas[range].leader else {
            return false;
        };
        let now = host.clock.now(self.now);
        host.holders
            .get(&leader)
            .is_some_and(|holder| holder.may_answer(now, &range, term))
    }

    /// Nobody answers without a write that was acknowledged.
    fn check(&mut self) -> Result<(), String> {
        for at in 0..HOSTS {
            for range in 0..RANGES {
                if !self.may_answer(at, range) {
                    continue;
                }
                self.count("answers");
                let applied = self.hosts[at].replicas[range].applied as u64;
                let acknowledged = self.ranges[range].acknowledged;
                if applied < acknowledged {
                    return Err(format!(
                        "{:?}: {at} answers for {range} at {applied}, acknowledged is {acknowledged}",
                        self.now
                    ));
                }
            }
        }
        Ok(())
    }

    /// Long after the last fault everything is acknowledged, and all members answer.
    fn check_healed(&self) -> Result<(), String> {
        for (range, state) in self.ranges.iter().enumerate() {
            if state.acknowledged != state.log.len() as u64 {
                let last = state.log.len();
                return Err(format!(
                    "{range}: {} of {last} acknowledged",
                    state.acknowledged
                ));
            }
            if let Some(at) = state
                .members
                .iter()
                .find(|&&at| !self.may_answer(at, range))
            {
                return Err(format!("{at} does not answer for {range} at the end"));
            }
        }
        Ok(())
    }
}

fn run(seed: u64, terms: Terms) -> Result<BTreeMap<&'static str, u64>, String> {
    World::new(seed, terms).run()
}

#[test]
fn nobody_answers_without_what_was_acknowledged() {
    let mut all = BTreeMap::<_, u64>::new();
    for seed in 0..crate::world::seeds() {
        let counts = run(seed, Terms::MATCH).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for (what, count) in counts {
            *all.entry(what).or_default() += count;
        }
    }
    println!("{all:?}");
    for what in [
        "elections",
        "restarts",
        "moves",
        "answers",
        "acknowledgements",
    ] {
        assert!(
            all.get(what).is_some_and(|&count| count > 100),
            "{what}: {all:?}"
        );
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    assert_eq!(run(7, Terms::MATCH), run(7, Terms::MATCH));
}

/// What a simulation does not find, it does not guard.
#[test]
fn planted_faults_are_found() {
    for fault in [
        Fault::DriftIgnored,
        Fault::Unconfirmed,
        Fault::HolderNotAwaited,
        Fault::AcknowledgesEarly,
        Fault::LaggardCovered,
        Fault::LeaverNotAwaited,
    ] {
        let terms = Terms::MATCH.with(fault);
        let found = (0..5_000)
            .find(|&seed| run(seed, terms).is_err_and(|error| error.contains("acknowledged is")));
        println!("{fault:?}: seed {found:?}");
        assert!(found.is_some(), "{fault:?} was not found");
    }
}
