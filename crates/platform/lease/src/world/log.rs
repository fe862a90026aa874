//! A replicated log as its users may rely on it, and no better: deposed leaders that do not know it,
//! proposals that are lost or turn up late, replicas that lag.

use crate::LeaderTerm;

#[derive(Debug)]
pub(crate) struct Log<E> {
    committed: Vec<(LeaderTerm, E)>,
    /// Proposed by the leader of the day, not committed.
    proposed: Vec<(u64, E)>,
    proposals: u64,
    term: u64,
}

impl<E: Clone> Log<E> {
    pub(crate) fn new() -> Self {
        Self {
            committed: Vec::new(),
            proposed: Vec::new(),
            proposals: 0,
            term: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.committed.len()
    }

    pub(crate) fn entry(&self, index: usize) -> Option<&(LeaderTerm, E)> {
        self.committed.get(index)
    }

    /// Another node leads from here on. What its predecessor proposed is in the log or gone.
    pub(crate) fn elect(&mut self, rng: &mut fastrand::Rng) -> LeaderTerm {
        let old = LeaderTerm(self.term);
        for (_, entry) in self.proposed.drain(..) {
            if rng.bool() {
                self.committed.push((old, entry));
            }
        }
        self.term += 1;
        LeaderTerm(self.term)
    }

    pub(crate) fn leads(&self, term: LeaderTerm) -> bool {
        term.0 == self.term
    }

    /// The number by which [`commit`](Self::commit) finds it; none if it is lost.
    pub(crate) fn propose(&mut self, term: LeaderTerm, entry: E) -> Option<u64> {
        if !self.leads(term) {
            return None;
        }
        self.proposals += 1;
        self.proposed.push((self.proposals, entry));
        Some(self.proposals)
    }

    /// Commits the proposal and those before it, if it was not lost meanwhile.
    pub(crate) fn commit(&mut self, number: u64) {
        let term = LeaderTerm(self.term);
        while let Some((first, _)) = self.proposed.first()
            && *first <= number
        {
            let (_, entry) = self.proposed.remove(0);
            self.committed.push((term, entry));
        }
    }
}
