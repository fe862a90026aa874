//! The holding side: a node with replicas that another node leads.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::time::Instant;

use super::{Covered, Epoch};
use crate::{LeaderTerm, Terms, Token};

/// Requests whose answers still count.
const SENT_MAX: usize = 16;

/// Parts of the renewal interval after which an unanswered request is sent again.
const RETRIES: u32 = 4;

/// What one granting node lets this node answer.
#[derive(Debug)]
pub struct Holder<R> {
    terms: Terms,
    until: Option<Instant>,
    epoch: Option<Epoch>,
    cover: BTreeMap<R, LeaderTerm>,
    /// Requests and when they were sent, oldest first.
    sent: VecDeque<(Token, Instant)>,
    token: u64,
    send_at: Instant,
}

impl<R: Copy + Ord + Debug> Holder<R> {
    /// A pair of nodes that has not spoken yet.
    pub fn new(terms: Terms, now: Instant) -> Self {
        Self {
            terms,
            until: None,
            epoch: None,
            cover: BTreeMap::new(),
            sent: VecDeque::new(),
            token: 0,
            send_at: now,
        }
    }

    /// Whether this node's replica may answer at this moment; `term` is the latest leadership of the
    /// range that the replica has heard of, and the granting node's.
    pub fn may_answer(&self, now: Instant, range: &R, term: LeaderTerm) -> bool {
        self.until.is_some_and(|until| now < until)
            && self
                .cover
                .get(range)
                .is_some_and(|&covered| covered == term)
    }

    /// Until when answers that were taken under this lease, and kept, may be used.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// When the next request is due.
    pub fn wake_at(&self) -> Instant {
        self.send_at
    }

    /// A request to send if one is due: its token, and the list of ranges that is known.
    pub fn handle_tick(&mut self, now: Instant) -> Option<(Token, Option<Epoch>)> {
        if now < self.send_at {
            return None;
        }
        self.token += 1;
        if self.sent.len() == SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((Token(self.token), now));
        self.send_at = now + self.terms.renew_every() / RETRIES;
        Some((Token(self.token), self.epoch))
    }

    /// The granting node has answered; `cover` is there when its list is not the one that was known.
    pub fn handle_answer(&mut self, token: Token, epoch: Epoch, cover: Option<Vec<Covered<R>>>) {
        let Some(&(_, sent)) = self.sent.iter().find(|(sent, _)| *sent == token) else {
            return;
        };
        match cover {
            Some(cover) if self.epoch <= Some(epoch) => {
                self.epoch = Some(epoch);
                self.cover = cover
                    .into_iter()
                    .map(|covered| (covered.range, covered.term))
                    .collect();
            }
            None if self.epoch == Some(epoch) => {}
            _ => return, // overtaken by a later list
        }
        if token == Token(self.token) {
            self.send_at = sent + self.terms.renew_every();
        }
        let until = sent + self.terms.held_for();
        self.until = self.until.max(Some(until));
    }
}
