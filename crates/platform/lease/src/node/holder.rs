//! The holding side: one incarnation that wants to serve.

use std::collections::VecDeque;
use std::time::Instant;

use super::Answer;
use crate::fault::Fault;
use crate::{Terms, Token};

/// Requests whose answers still count; an older one's lease would be over anyway.
const SENT_MAX: usize = 16;

/// Parts of the renewal interval after which an unanswered request is sent again.
const RETRIES: u32 = 4;

/// What the shell does next, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a request to the leader of the log.
    Send(Token),
    /// This incarnation may serve.
    Serve,
    /// This incarnation must not match, acknowledge or deliver any more, and never will again.
    Stop(Lost),
}

/// Why a lease is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// No renewal was answered in time.
    Lapsed,
    /// The granting side has ended it.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asking,
    Held { until: Instant },
    Lost,
}

/// Asks for a lease, renews it and says when it is gone; then a new incarnation needs a new one.
#[derive(Debug)]
pub struct Holder {
    terms: Terms,
    state: State,
    /// Requests and when they were sent, oldest first.
    sent: VecDeque<(Token, Instant)>,
    token: u64,
    send_at: Instant,
}

impl Holder {
    /// An incarnation that has just started.
    pub fn new(terms: Terms, now: Instant) -> Self {
        Self {
            terms,
            state: State::Asking,
            sent: VecDeque::new(),
            token: 0,
            send_at: now,
        }
    }

    /// Whether this incarnation may act at this moment.
    pub fn is_held(&self, now: Instant) -> bool {
        match self.state {
            State::Held { until } => now < until || self.terms.is_planted(Fault::LapseIgnored),
            State::Asking | State::Lost => false,
        }
    }

    /// Until when it may act if nothing more is heard.
    pub fn until(&self) -> Option<Instant> {
        match self.state {
            State::Held { until } => Some(until),
            State::Asking | State::Lost => None,
        }
    }

    /// When [`handle_tick`](Self::handle_tick) is due; none once the lease is lost.
    pub fn wake_at(&self) -> Option<Instant> {
        match self.state {
            State::Asking => Some(self.send_at),
            State::Held { until } => Some(self.send_at.min(until)),
            State::Lost => None,
        }
    }

    /// Time has passed.
    pub fn handle_tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.lapse(now, effects);
        if self.state == State::Lost || now < self.send_at {
            return;
        }
        self.token += 1;
        if self.sent.len() == SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((Token(self.token), now));
        // A lost exchange must not cost the lease: until an answer comes, it is tried more often.
        self.send_at = now + self.terms.renew_every() / RETRIES;
        effects.push(Effect::Send(Token(self.token)));
    }

    /// The leader has answered a request.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        token: Token,
        answer: Answer,
        effects: &mut Vec<Effect>,
    ) {
        self.lapse(now, effects);
        let Some(&(_, sent)) = self.sent.iter().find(|(sent, _)| *sent == token) else {
            return;
        };
        match (self.state, answer) {
            (State::Lost, _) | (_, Answer::Full) => {}
            (_, Answer::Ended) => self.lose(Lost::Ended, effects),
            (_, Answer::Held) => self.hold(now, token, sent, effects),
        }
    }

    fn hold(&mut self, now: Instant, token: Token, sent: Instant, effects: &mut Vec<Effect>) {
        let counted_from = match self.terms.is_planted(Fault::CountedFromReceipt) {
            true => now,
            false => sent,
        };
        let until = counted_from + self.terms.held_for();
        if until <= now {
            return;
        }
        if token == Token(self.token) {
            self.send_at = sent + self.terms.renew_every();
        }
        match &mut self.state {
            State::Held { until: held } => *held = until.max(*held),
            state => {
                *state = State::Held { until };
                effects.push(Effect::Serve);
            }
        }
    }

    fn lapse(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if let State::Held { until } = self.state
            && until <= now
            && !self.terms.is_planted(Fault::LapseIgnored)
        {
            self.lose(Lost::Lapsed, effects);
        }
    }

    fn lose(&mut self, why: Lost, effects: &mut Vec<Effect>) {
        self.state = State::Lost;
        effects.push(Effect::Stop(why));
    }
}
