//! The granting side: a node that leads ranges.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Instant;

use super::{Covered, Epoch};
use crate::fault::Fault;
use crate::{LeaderTerm, Round, Terms, Token};

/// What the shell does next, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<N, R> {
    /// Ask whether this node still leads its ranges; the outcome goes to [`Granter::handle_confirmed`].
    Confirm(Round),
    /// Answer a request.
    Reply {
        /// Who asked.
        to: N,
        /// The request.
        token: Token,
        /// The list of ranges that the lease is about.
        epoch: Epoch,
        /// The list itself, if the asker does not know it.
        cover: Option<Vec<Covered<R>>>,
    },
    /// Writes of the range up to this index are applied wherever they could be missed.
    Acknowledge {
        /// The range.
        range: R,
        /// The last index that may be acknowledged.
        index: u64,
    },
}

/// Grants one lease per other node for all ranges that this node leads.
///
/// Invariant: a replica that may answer for a range has applied all that was acknowledged. It is covered
/// only once it has reported so, and from then on acknowledgements wait for it until its time is over.
///
/// `N` names an incarnation of a node: one that was restarted is another, and has reported nothing. The
/// leading node itself holds a lease like any other.
#[derive(Debug)]
pub struct Granter<N, R> {
    terms: Terms,
    led: BTreeMap<R, Led<N>>,
    /// What each node was told last.
    told: BTreeMap<N, Told<R>>,
    /// Lists are numbered across all nodes, so that no number ever comes again.
    epoch: u64,
    round: u64,
    /// Requests that came after the last question was asked.
    gathering: BTreeMap<N, Request>,
    asked: Option<Asked<N>>,
}

/// A range that this node leads.
#[derive(Debug)]
struct Led<N> {
    term: LeaderTerm,
    since: Instant,
    /// All that hold a replica, and those that held one and may still answer.
    replicas: BTreeMap<N, Replica>,
    written: u64,
    acknowledged: u64,
    /// Since when the next write waits to be acknowledged.
    waiting_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Replica {
    applied: u64,
    /// Until when it may answer, by this node's clock.
    covered_until: Option<Instant>,
    has_left: bool,
}

#[derive(Debug)]
struct Told<R> {
    epoch: Epoch,
    cover: Vec<Covered<R>>,
    /// When that lease is over, by this node's clock.
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    token: Token,
    knows: Option<Epoch>,
    at: Instant,
}

#[derive(Debug)]
struct Asked<N> {
    round: Round,
    at: Instant,
    requests: BTreeMap<N, Request>,
}

impl<N: Copy + Ord + Debug, R: Copy + Ord + Debug> Granter<N, R> {
    /// A node that leads nothing yet.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            led: BTreeMap::new(),
            told: BTreeMap::new(),
            epoch: 0,
            round: 0,
            gathering: BTreeMap::new(),
            asked: None,
        }
    }

    /// This node leads the range now. `last` is the end of its log: an earlier leader may have
    /// acknowledged all of it.
    pub fn handle_leading(
        &mut self,
        now: Instant,
        range: R,
        term: LeaderTerm,
        last: u64,
        replicas: impl IntoIterator<Item = N>,
    ) {
        let replicas = replicas.into_iter();
        let led = Led {
            term,
            since: now,
            replicas: replicas.map(|node| (node, Replica::default())).collect(),
            written: last,
            acknowledged: last,
            waiting_since: None,
        };
        self.led.insert(range, led);
    }

    /// This leadership of the range is over.
    pub fn handle_deposed(&mut self, range: &R, term: LeaderTerm) {
        if self.led.get(range).is_some_and(|led| led.term == term) {
            self.led.remove(range);
        }
    }

    /// The range has these replicas now.
    pub fn handle_replicas(&mut self, range: &R, replicas: impl IntoIterator<Item = N>) {
        let Some(led) = self.led.get_mut(range) else {
            return;
        };
        for replica in led.replicas.values_mut() {
            replica.has_left = true;
        }
        for node in replicas {
            led.replicas.entry(node).or_default().has_left = false;
        }
    }

    /// The log has writes up to this index, and they are committed.
    pub fn handle_written(
        &mut self,
        now: Instant,
        range: &R,
        index: u64,
        effects: &mut Vec<Effect<N, R>>,
    ) {
        if let Some(led) = self.led.get_mut(range) {
            led.written = index.max(led.written);
            self.acknowledge(now, range, effects);
        }
    }

    /// A replica, also the leader's own, reports that it has applied writes up to this index.
    pub fn handle_applied(
        &mut self,
        now: Instant,
        range: &R,
        node: N,
        index: u64,
        effects: &mut Vec<Effect<N, R>>,
    ) {
        let replicas = self.led.get_mut(range).map(|led| &mut led.replicas);
        if let Some(replica) = replicas.and_then(|replicas| replicas.get_mut(&node)) {
            replica.applied = index.max(replica.applied);
            self.acknowledge(now, range, effects);
        }
    }

    /// A node asks for its lease, or to renew it, and says which list of ranges it knows.
    pub fn handle_request(
        &mut self,
        now: Instant,
        from: N,
        token: Token,
        knows: Option<Epoch>,
        effects: &mut Vec<Effect<N, R>>,
    ) {
        let has_replica = |led: &Led<N>| led.replicas.contains_key(&from);
        if !self.led.values().any(has_replica) {
            return; // nothing to grant, nothing to remember
        }
        let request = Request {
            token,
            knows,
            at: now,
        };
        if self.terms.is_planted(Fault::Unconfirmed) {
            self.reply(now, from, request, |_, _| true, effects);
            return;
        }
        self.gathering.insert(from, request);
        self.ask(now, effects);
    }

    /// The question was answered: `still_led` says of which leaderships a quorum has confirmed, after it
    /// was asked, that they go on. All others are left out until a later question.
    pub fn handle_confirmed(
        &mut self,
        now: Instant,
        round: Round,
        still_led: impl Fn(&R, LeaderTerm) -> bool,
        effects: &mut Vec<Effect<N, R>>,
    ) {
        let Some(asked) = self.asked.take_if(|asked| asked.round == round) else {
            return; // given up
        };
        for (from, request) in asked.requests {
            self.reply(now, from, request, &still_led, effects);
        }
        self.ask(now, effects);
    }

    /// Time has passed: leases lapse, and what waited for them is acknowledged.
    pub fn handle_tick(&mut self, now: Instant, effects: &mut Vec<Effect<N, R>>) {
        let patience = self.terms.renew_every();
        let lost = self
            .asked
            .take_if(|asked| now.saturating_duration_since(asked.at) >= patience);
        if lost.is_some() {
            self.ask(now, effects);
        }
        let ranges: Vec<R> = self.led.keys().copied().collect();
        for range in ranges {
            self.acknowledge(now, &range, effects);
        }
        self.told.retain(|_, told| now < told.until);
    }

    fn ask(&mut self, now: Instant, effects: &mut Vec<Effect<N, R>>) {
        if self.asked.is_some() || self.gathering.is_empty() {
            return;
        }
        self.round += 1;
        let round = Round(self.round);
        self.asked = Some(Asked {
            round,
            at: now,
            requests: std::mem::take(&mut self.gathering),
        });
        effects.push(Effect::Confirm(round));
    }

    fn reply(
        &mut self,
        now: Instant,
        to: N,
        request: Request,
        still_led: impl Fn(&R, LeaderTerm) -> bool,
        effects: &mut Vec<Effect<N, R>>,
    ) {
        let until = request.at + self.terms.length();
        if until <= now {
            return; // over before it began
        }
        let mut cover = Vec::new();
        for (&range, led) in &mut self.led {
            if still_led(&range, led.term) && led.cover(now, to, until, &self.terms) {
                let term = led.term;
                cover.push(Covered { range, term });
            }
        }
        let known = self.told.get_mut(&to).filter(|told| told.cover == cover);
        let epoch = if let Some(told) = known {
            told.until = until.max(told.until);
            told.epoch
        } else {
            self.epoch += 1;
            let epoch = Epoch(self.epoch);
            let cover = cover.clone();
            self.told.insert(
                to,
                Told {
                    epoch,
                    cover,
                    until,
                },
            );
            epoch
        };
        effects.push(Effect::Reply {
            to,
            token: request.token,
            epoch,
            cover: (request.knows != Some(epoch)).then_some(cover),
        });
    }

    fn acknowledge(&mut self, now: Instant, range: &R, effects: &mut Vec<Effect<N, R>>) {
        let Some(led) = self.led.get_mut(range) else {
            return;
        };
        if let Some(index) = led.acknowledge(now, &self.terms) {
            effects.push(Effect::Acknowledge {
                range: *range,
                index,
            });
        }
    }
}

impl<N: Copy + Ord> Led<N> {
    /// Whether the node may answer for this range until then; if so, it is awaited from now on.
    fn cover(&mut self, now: Instant, node: N, until: Instant, terms: &Terms) -> bool {
        let Some(replica) = self.replicas.get_mut(&node) else {
            return false;
        };
        let is_behind =
            replica.applied < self.acknowledged && !terms.is_planted(Fault::LaggardCovered);
        // A replica that others have waited for all this time has to let go.
        let is_awaited = replica.applied <= self.acknowledged
            && self
                .waiting_since
                .is_some_and(|since| now.saturating_duration_since(since) >= terms.length());
        if replica.has_left || is_behind || is_awaited {
            return false;
        }
        replica.covered_until = replica.covered_until.max(Some(until));
        true
    }

    /// How far writes may be acknowledged now, if further than before.
    fn acknowledge(&mut self, now: Instant, terms: &Terms) -> Option<u64> {
        let is_over = |replica: &Replica| replica.covered_until.is_none_or(|until| until <= now);
        self.replicas
            .retain(|_, replica| !replica.has_left || !is_over(replica));
        let slowest = self
            .replicas
            .values()
            .filter(|replica| !is_over(replica))
            .filter(|replica| !replica.has_left || !terms.is_planted(Fault::LeaverNotAwaited))
            .filter(|_| !terms.is_planted(Fault::HolderNotAwaited))
            .map(|replica| replica.applied)
            .min();
        let index = slowest.unwrap_or(self.written).min(self.written);
        // Leases of the leader before may run on.
        let is_new = now.saturating_duration_since(self.since) < terms.length()
            && !terms.is_planted(Fault::AcknowledgesEarly);
        let acknowledged = (index > self.acknowledged && !is_new).then_some(index);
        if let Some(index) = acknowledged {
            self.acknowledged = index;
            self.waiting_since = None;
        }
        if self.written > self.acknowledged && self.waiting_since.is_none() {
            self.waiting_since = Some(now);
        }
        acknowledged
    }
}
