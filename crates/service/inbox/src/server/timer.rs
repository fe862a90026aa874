//! The thread that begins chores at their time.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bifrust_kv::Clock;

use super::{Agenda, Chore, Outcome};
use crate::Config;

/// The wall clock may jump: it is looked at this often while something waits.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The agenda with its thread, which begins chores between `start` and `stop`.
pub(crate) struct Timer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    clock: Clock,
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    agenda: Agenda,
    is_started: bool,
    is_stopped: bool,
}

impl Timer {
    pub(crate) fn new(clock: Clock, config: &Config) -> Self {
        Self {
            shared: Arc::new(Shared {
                clock,
                state: Mutex::new(State {
                    agenda: Agenda::new(config),
                    is_started: false,
                    is_stopped: false,
                }),
                wake: Condvar::new(),
            }),
            thread: Mutex::default(),
        }
    }

    /// Makes the thread; `begin` starts a chore and does not wait for it.
    pub(crate) fn spawn(&self, begin: impl Fn(Chore) + Send + 'static) -> std::io::Result<()> {
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new()
            .name("inbox-timer".to_owned())
            .spawn(move || shared.run(&begin))?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    /// Lets chores begin.
    pub(crate) fn start(&self) {
        self.shared.lock().is_started = true;
        self.shared.wake.notify_one();
    }

    /// Ends the thread. What is on the agenda is found again at the next start.
    pub(crate) fn stop(&self) {
        self.shared.lock().is_stopped = true;
        self.shared.wake.notify_all();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            let _ = thread.join(); // A panic there has been reported.
        }
    }

    pub(crate) fn add(&self, at_ms: u64, chore: Chore) {
        let now_ms = self.shared.clock.now_ms();
        self.shared.lock().agenda.add(at_ms, chore, now_ms);
        self.shared.wake.notify_one();
    }

    /// Notes a chore for now.
    pub(crate) fn add_now(&self, chore: Chore) {
        self.add(0, chore);
    }

    pub(crate) fn finish(&self, chore: Chore, outcome: Outcome) {
        let now_ms = self.shared.clock.now_ms();
        self.shared.lock().agenda.finish(chore, outcome, now_ms);
        self.shared.wake.notify_one();
    }

    pub(crate) fn plan_scan(&self) {
        let now_ms = self.shared.clock.now_ms();
        self.shared.lock().agenda.plan_scan(now_ms);
    }
}

impl Shared {
    fn run(&self, begin: &dyn Fn(Chore)) {
        loop {
            let mut state = self.lock();
            let chore = loop {
                if state.is_stopped {
                    return;
                }
                let now_ms = self.clock.now_ms();
                if state.is_started
                    && let Some(chore) = state.agenda.next(now_ms)
                {
                    break chore;
                }
                state = self.wait(state, now_ms);
            };
            drop(state);
            begin(chore);
        }
    }

    /// Waits until there may be something to begin.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, now_ms: u64) -> MutexGuard<'a, State> {
        let Some(at_ms) = state.agenda.next_at().filter(|_| state.is_started) else {
            let woken = self.wake.wait(state);
            return woken.unwrap_or_else(PoisonError::into_inner);
        };
        let wait = Duration::from_millis(at_ms.saturating_sub(now_ms).max(1)).min(LOOK_EVERY);
        let woken = self.wake.wait_timeout(state, wait);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
