//! The granting side: on every replica of the log, at work on its leader.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Instant;

use super::Answer;
use super::table::{Applied, Entry, Incarnation, Table};
use crate::fault::Fault;
use crate::{LeaderTerm, Round, Terms, Token};

/// What the shell does next, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect<N> {
    /// Propose this to the log.
    Propose(Entry<N>),
    /// Ask a quorum whether this node still leads; the outcome goes to [`Granter::handle_confirmed`]
    /// or [`Granter::handle_unconfirmed`].
    Confirm(Round),
    /// Answer the request that carried the token.
    Reply(Incarnation<N>, Token, Answer),
}

/// Grants leases, renews them, and ends those that were not renewed.
#[derive(Debug)]
pub struct Granter<N> {
    terms: Terms,
    table: Table<N>,
    leading: Option<Leading<N>>,
    round: u64,
}

/// What only the leader knows; gone with its leadership.
#[derive(Debug)]
struct Leading<N> {
    term: LeaderTerm,
    since: Instant,
    /// When the last renewal came; for others a lease may run since `since`.
    renewed: BTreeMap<Incarnation<N>, Instant>,
    granting: BTreeMap<Incarnation<N>, Proposed>,
    /// Ends that were proposed, and when.
    ending: BTreeMap<Incarnation<N>, Instant>,
    /// Renewals that came after the last question was asked.
    gathering: BTreeMap<Incarnation<N>, Token>,
    /// The question whether this node still leads, and the renewals that came before it.
    asked: Option<Asked<N>>,
}

/// A grant on its way into the log.
#[derive(Debug)]
struct Proposed {
    /// Of a request that came before the first proposal. A later one is not answered by it: the entry
    /// proves only that this node led when the entry was written.
    token: Token,
    at: Instant,
}

#[derive(Debug)]
struct Asked<N> {
    round: Round,
    at: Instant,
    renewals: BTreeMap<Incarnation<N>, Token>,
}

impl<N: Copy + Ord + Debug> Granter<N> {
    /// A replica that does not lead, with the log's state so far.
    pub fn new(terms: Terms, table: Table<N>) -> Self {
        Self {
            terms,
            table,
            leading: None,
            round: 0,
        }
    }

    /// The replicated part.
    pub fn table(&self) -> &Table<N> {
        &self.table
    }

    /// This node leads now, and has applied every entry of the leaders before it.
    pub fn handle_leading(&mut self, now: Instant, term: LeaderTerm) {
        self.leading = Some(Leading {
            term,
            since: now,
            renewed: BTreeMap::new(),
            granting: BTreeMap::new(),
            ending: BTreeMap::new(),
            gathering: BTreeMap::new(),
            asked: None,
        });
    }

    /// This node has learned that it does not lead any more.
    pub fn handle_deposed(&mut self) {
        self.leading = None;
    }

    /// A holder asks for its lease, or to renew it. False if this node does not lead.
    pub fn handle_request(
        &mut self,
        now: Instant,
        from: Incarnation<N>,
        token: Token,
        effects: &mut Vec<Effect<N>>,
    ) -> bool {
        let Some(leading) = &mut self.leading else {
            return false;
        };
        if self.table.has_ended(&from) {
            effects.push(Effect::Reply(from, token, Answer::Ended));
        } else if self.table.holds(&from) {
            if leading.ending.contains_key(&from)
                && !self.terms.is_planted(Fault::RenewedWhileEnding)
            {
                return true; // its end cannot be taken back
            }
            // It may count on this only once confirmed; to wait longer is always safe.
            leading.renewed.insert(from, now);
            if self.terms.is_planted(Fault::Unconfirmed) {
                effects.push(Effect::Reply(from, token, Answer::Held));
                return true;
            }
            leading.gathering.insert(from, token);
            leading.ask(now, &mut self.round, effects);
        } else if let Some(proposed) = leading.granting.get_mut(&from) {
            // The proposal may have been lost on its way.
            if now.saturating_duration_since(proposed.at) >= self.terms.renew_every() {
                proposed.at = now;
                effects.push(Effect::Propose(Entry::Grant(from)));
            }
        } else if self.table.len() + leading.granting.len() >= Table::<N>::HELD_MAX {
            effects.push(Effect::Reply(from, token, Answer::Full));
        } else {
            leading.granting.insert(from, Proposed { token, at: now });
            effects.push(Effect::Propose(Entry::Grant(from)));
        }
        true
    }

    /// A holder that has stopped serving gives its lease back; the caller has checked who asks.
    pub fn handle_release(
        &mut self,
        now: Instant,
        from: Incarnation<N>,
        effects: &mut Vec<Effect<N>>,
    ) {
        if let Some(leading) = &mut self.leading
            && self.table.holds(&from)
        {
            leading.end(now, from, effects);
        }
    }

    /// The log has this entry, proposed under `term` by whoever led then.
    pub fn handle_applied(
        &mut self,
        now: Instant,
        term: LeaderTerm,
        entry: Entry<N>,
        effects: &mut Vec<Effect<N>>,
    ) -> Applied {
        let applied = self.table.apply(entry);
        let Some(leading) = &mut self.leading else {
            return applied;
        };
        match entry {
            Entry::Grant(incarnation) => {
                if applied == Applied::Granted {
                    leading.renewed.insert(incarnation, now);
                }
                // Only an entry of this leadership proves that this node led after the request came.
                if term == leading.term || self.terms.is_planted(Fault::ForeignGrantAnswers) {
                    leading.answer(incarnation, applied, effects);
                }
            }
            Entry::End(incarnation) => leading.forget(&incarnation),
            Entry::Forget(_) => {}
        }
        applied
    }

    /// A quorum has said, after the question was asked, that this node leads.
    pub fn handle_confirmed(&mut self, now: Instant, round: Round, effects: &mut Vec<Effect<N>>) {
        let Some(leading) = &mut self.leading else {
            return;
        };
        let Some(asked) = leading.asked.take_if(|asked| asked.round == round) else {
            return; // of an earlier leadership, or given up
        };
        for (from, token) in asked.renewals {
            let is_ending = leading.ending.contains_key(&from)
                && !self.terms.is_planted(Fault::RenewedWhileEnding);
            if self.table.holds(&from) && !is_ending {
                effects.push(Effect::Reply(from, token, Answer::Held));
            }
        }
        leading.ask(now, &mut self.round, effects);
    }

    /// No quorum could be asked; whoever renewed will try again.
    pub fn handle_unconfirmed(&mut self, round: Round) {
        if let Some(leading) = &mut self.leading {
            leading.asked.take_if(|asked| asked.round == round);
        }
    }

    /// Time has passed: leases that were not renewed end.
    pub fn handle_tick(&mut self, now: Instant, effects: &mut Vec<Effect<N>>) {
        let Some(leading) = &mut self.leading else {
            return;
        };
        let length = self.terms.length();
        if leading
            .asked
            .take_if(|asked| now.saturating_duration_since(asked.at) >= self.terms.renew_every())
            .is_some()
        {
            leading.ask(now, &mut self.round, effects); // the answer was lost
        }
        for incarnation in self.table.held() {
            let from = match leading.renewed.get(&incarnation) {
                Some(&renewed) => renewed,
                None if self.terms.is_planted(Fault::EndsEarly) => {
                    leading.end(now, incarnation, effects);
                    continue;
                }
                None => leading.since,
            };
            let is_over = now.saturating_duration_since(from) >= length;
            let was_proposed = leading
                .ending
                .get(&incarnation)
                .is_some_and(|&at| now.saturating_duration_since(at) < length);
            if is_over && !was_proposed {
                leading.end(now, incarnation, effects);
            }
        }
    }
}

impl<N: Copy + Ord + Debug> Leading<N> {
    /// Asks for all renewals that wait, unless an answer is outstanding.
    fn ask(&mut self, now: Instant, round: &mut u64, effects: &mut Vec<Effect<N>>) {
        if self.asked.is_some() || self.gathering.is_empty() {
            return;
        }
        *round += 1;
        let round = Round(*round);
        self.asked = Some(Asked {
            round,
            at: now,
            renewals: std::mem::take(&mut self.gathering),
        });
        effects.push(Effect::Confirm(round));
    }

    fn end(&mut self, now: Instant, incarnation: Incarnation<N>, effects: &mut Vec<Effect<N>>) {
        self.ending.insert(incarnation, now);
        effects.push(Effect::Propose(Entry::End(incarnation)));
    }

    fn answer(
        &mut self,
        incarnation: Incarnation<N>,
        applied: Applied,
        effects: &mut Vec<Effect<N>>,
    ) {
        let Some(proposed) = self.granting.remove(&incarnation) else {
            return;
        };
        let answer = match applied {
            Applied::Granted => Answer::Held,
            Applied::RefusedFull => Answer::Full,
            Applied::RefusedEnded | Applied::Ended | Applied::Unchanged => Answer::Ended,
        };
        effects.push(Effect::Reply(incarnation, proposed.token, answer));
    }

    fn forget(&mut self, incarnation: &Incarnation<N>) {
        self.renewed.remove(incarnation);
        self.granting.remove(incarnation);
        self.ending.remove(incarnation);
        self.gathering.remove(incarnation);
        if let Some(asked) = &mut self.asked {
            asked.renewals.remove(incarnation);
        }
    }
}
