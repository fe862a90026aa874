//! Removes expired messages that no scan meets, page by page at a bounded rate.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use bifrust_kv::Clock;
use bytes::Bytes;

use crate::client::{Inner, Retain};

/// A page each: of small rows, about a millisecond of a reader thread.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Where the sweep is.
pub(crate) struct Sweeper {
    /// Messages that expire at some time.
    expiring: Arc<AtomicI64>,
    place: Mutex<Place>,
}

#[derive(Default)]
struct Place {
    after: Option<Bytes>,
    is_running: bool,
}

impl Sweeper {
    pub(crate) fn new(expiring: Arc<AtomicI64>) -> Self {
        Self {
            expiring,
            place: Mutex::default(),
        }
    }

    /// Where the next page begins; `None` if there is nothing to sweep, or a page is under way.
    pub(crate) fn begin(&self) -> Option<Option<Bytes>> {
        let mut place = self.lock();
        if place.is_running || self.expiring.load(Ordering::Relaxed) <= 0 {
            return None;
        }
        place.is_running = true;
        Some(place.after.clone())
    }

    /// A page is done, and the next begins after `after`.
    pub(crate) fn finish(&self, after: Option<Bytes>) {
        *self.lock() = Place {
            after,
            is_running: false,
        };
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        // Nothing that can panic runs under this lock.
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread that begins a page now and then while the service is there.
pub(crate) fn spawn(service: Weak<Inner>, clock: Clock) -> std::io::Result<()> {
    thread::Builder::new()
        .name("retain-sweeper".to_owned())
        .spawn(move || {
            loop {
                thread::sleep(SWEEP_EVERY);
                let Some(service) = service.upgrade() else {
                    return;
                };
                Retain::from(service).sweep(clock.now_ms(), Box::new(|()| {}));
            }
        })?;
    Ok(())
}
