//! Live progress on stderr, once a second.

use std::cell::Cell;
use std::io::{IsTerminal as _, Write as _};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Shows a count while it grows; ends with the value.
pub(super) struct Progress {
    count: Rc<Cell<u64>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Progress {
    /// Shows `what` of `total` (0: unknown) unless `is_quiet` or nobody watches.
    pub(super) fn show(what: &'static str, total: u64, is_quiet: bool) -> Self {
        let count = Rc::new(Cell::new(0));
        let is_shown = !is_quiet && std::io::stderr().is_terminal();
        let task = is_shown.then(|| tokio::task::spawn_local(tick(what, total, count.clone())));
        Self { count, task }
    }

    /// Adds to the count.
    pub(super) fn add(&self, n: u64) {
        self.count.set(self.count.get() + n);
    }

    /// The count.
    pub(super) fn value(&self) -> u64 {
        self.count.get()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            eprint!("\r\x1b[K");
        }
    }
}

async fn tick(what: &'static str, total: u64, count: Rc<Cell<u64>>) {
    let began = Instant::now();
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = count.get();
        let of = if total > 0 {
            format!(" of {total}")
        } else {
            String::new()
        };
        let seconds = began.elapsed().as_secs();
        eprint!(
            "\r\x1b[K{seconds:>4} s  {now}{of} {what}, {}/s",
            now - before
        );
        let _ = std::io::stderr().flush(); // progress is only for show
        before = now;
    }
}
