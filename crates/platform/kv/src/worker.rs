//! Store workers: threads that give the ranges hosted on them their turns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// A range as its worker sees it.
pub(crate) trait Hosted: Send {
    /// Applies one batch, if there is one to apply.
    fn turn(&mut self, pace: Pace) -> Turn;

    /// Refuses commands from now on.
    fn close(&mut self);

    /// Refuses everything from now on and reports why.
    fn fail(&mut self, what: &str);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// While a sync runs, wait for a batch worth its cost.
    Gather,
    /// Do what there is to do.
    Drain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The bell is rung when there is more to do.
    Idle,
    /// There is more to do now.
    More,
}

/// A worker thread and the way to reach it.
pub(crate) struct Worker {
    mailbox: Arc<Mailbox>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Mailbox {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    /// Ranges that are new here.
    new: Vec<Box<dyn Hosted>>,
    hosted: usize,
    /// Numbers of ranges whose bell was rung.
    rung: Vec<usize>,
    is_stopping: bool,
    is_asleep: bool,
}

/// Wakes one range.
#[derive(Clone)]
pub(crate) struct Bell {
    mailbox: Arc<Mailbox>,
    number: usize,
}

impl Bell {
    pub(crate) fn ring(&self) {
        let mut state = self.mailbox.lock();
        if !state.rung.contains(&self.number) {
            state.rung.push(self.number);
        }
        self.mailbox.wake_if_asleep(state);
    }
}

impl Worker {
    pub(crate) fn start(number: usize) -> std::io::Result<Self> {
        let mailbox = Arc::new(Mailbox {
            state: Mutex::default(),
            wake: Condvar::new(),
        });
        let own = mailbox.clone();
        let thread = thread::Builder::new()
            .name(format!("kv-worker-{number}"))
            .spawn(move || run(&own))?;
        Ok(Self {
            mailbox,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Hosts a range, made with its bell, which is returned.
    pub(crate) fn host(&self, make: impl FnOnce(Bell) -> Box<dyn Hosted>) -> Bell {
        let mut state = self.mailbox.lock();
        let bell = Bell {
            mailbox: self.mailbox.clone(),
            number: state.hosted,
        };
        state.hosted += 1;
        state.new.push(make(bell.clone()));
        self.mailbox.wake_if_asleep(state);
        bell
    }

    /// Asks it to do what is there and end.
    pub(crate) fn stop(&self) {
        let mut state = self.mailbox.lock();
        state.is_stopping = true;
        self.mailbox.wake_if_asleep(state);
    }

    /// Waits for its end.
    pub(crate) fn join(&self) {
        join(&self.thread);
    }
}

/// Waits for a thread, unless it is this one.
pub(crate) fn join(thread: &Mutex<Option<JoinHandle<()>>>) {
    let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(thread) = thread
        && thread.thread().id() != thread::current().id()
    {
        let _ = thread.join(); // Panics are caught and reported where they happen.
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_if_asleep(&self, mut state: MutexGuard<'_, State>) {
        let is_asleep = std::mem::take(&mut state.is_asleep);
        drop(state);
        if is_asleep {
            self.wake.notify_one();
        }
    }

    /// Adds new ranges and those whose bell was rung; sleeps if there is nothing to do. True to stop.
    fn look(&self, seats: &mut Vec<Box<dyn Hosted>>, due: &mut Vec<usize>) -> bool {
        let mut state = self.lock();
        while due.is_empty() && state.rung.is_empty() && state.new.is_empty() && !state.is_stopping
        {
            state.is_asleep = true;
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.is_asleep = false;
        }
        seats.append(&mut state.new);
        for number in state.rung.drain(..) {
            if !due.contains(&number) {
                due.push(number);
            }
        }
        state.is_stopping
    }
}

fn run(mailbox: &Mailbox) {
    let mut seats = Vec::new();
    let mut due = Vec::new();
    let mut again = Vec::new();
    while !mailbox.look(&mut seats, &mut due) {
        for number in due.drain(..) {
            if turn(&mut *seats[number], Pace::Gather) == Turn::More {
                again.push(number);
            }
        }
        std::mem::swap(&mut due, &mut again);
    }
    for seat in &mut seats {
        seat.close();
        while turn(&mut **seat, Pace::Drain) == Turn::More {}
    }
}

/// One turn; a panic in it stops that range alone.
fn turn(seat: &mut dyn Hosted, pace: Pace) -> Turn {
    catch_unwind(AssertUnwindSafe(|| seat.turn(pace))).unwrap_or_else(|_| {
        seat.fail("it panicked while it applied a batch");
        Turn::Idle
    })
}
