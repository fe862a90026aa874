//! Sessions that are taken over again and again: two devices with one client identifier, each of
//! which reconnects as soon as the other one has pushed it out. Counted, and told to the operator
//! no more often than somebody reads it.

use std::collections::HashMap;

use bifrust_model::SessionKey;

/// Takeovers are counted over this time.
const WINDOW_MS: u64 = 60_000;
/// So many takeovers within it are no reconnects of one device any more.
const FLAPPING_FROM: u32 = 3;
/// Lines within a window, over all sessions: one each, and no more than these.
const LINES_MAX: u32 = 10;
/// Sessions that are watched. While so many were taken over within one window, a further one is
/// neither counted nor told.
const WATCHED_MAX: usize = 4096;
/// Between two searches for sessions that need not be watched any more.
const SWEEP_MS: u64 = 1000;

/// What a takeover was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takeover {
    /// One of few: a device that came back before its old connection was missed.
    Single,
    /// One of many.
    Flapping,
    /// One of many, and an operator should read of it: so many were there, and so many lines
    /// about other sessions were left out.
    Told { count: u32, left_out: u32 },
}

/// The sessions that were taken over lately.
#[derive(Default)]
pub(crate) struct Flapping {
    watched: HashMap<SessionKey, Watched>,
    lines: Window,
    left_out: u32,
    swept_ms: u64,
}

#[derive(Default)]
struct Watched {
    takeovers: Window,
    is_told: bool,
}

/// A number over the window that is under way.
#[derive(Default)]
struct Window {
    begun_ms: u64,
    count: u32,
}

impl Window {
    fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.begun_ms + WINDOW_MS
    }
}

impl Flapping {
    /// A session was taken over.
    pub(crate) fn handle_takeover(&mut self, key: SessionKey, now_ms: u64) -> Takeover {
        if self.watched.len() >= WATCHED_MAX && now_ms >= self.swept_ms + SWEEP_MS {
            self.swept_ms = now_ms;
            self.watched
                .retain(|_, watched| !watched.takeovers.is_over(now_ms));
        }
        if self.watched.len() >= WATCHED_MAX && !self.watched.contains_key(&key) {
            return Takeover::Single;
        }
        let watched = self.watched.entry(key).or_default();
        if watched.takeovers.is_over(now_ms) {
            watched.is_told = false;
            watched.takeovers = Window {
                begun_ms: now_ms,
                count: 0,
            };
        }
        watched.takeovers.count += 1;
        let count = watched.takeovers.count;
        if count < FLAPPING_FROM {
            return Takeover::Single;
        }
        if std::mem::replace(&mut watched.is_told, true) {
            return Takeover::Flapping;
        }
        if self.lines.is_over(now_ms) {
            self.lines = Window {
                begun_ms: now_ms,
                count: 0,
            };
        }
        if self.lines.count >= LINES_MAX {
            self.left_out = self.left_out.saturating_add(1);
            return Takeover::Flapping;
        }
        self.lines.count += 1;
        Takeover::Told {
            count,
            left_out: std::mem::take(&mut self.left_out),
        }
    }
}

#[cfg(test)]
mod tests {
    use bifrust_model::{ClientId, TenantNumber};

    use super::*;

    /// Some moment of the wall clock.
    const NOW: u64 = 1_700_000_000_000;

    fn key(id: &str) -> SessionKey {
        SessionKey {
            tenant: TenantNumber(1),
            client: ClientId::new(id).unwrap(),
        }
    }

    #[test]
    fn the_third_takeover_within_a_minute_is_told_once() {
        let mut flapping = Flapping::default();
        let seen: Vec<_> = (0..5)
            .map(|n| flapping.handle_takeover(key("c"), NOW + n * 1000))
            .collect();
        let told = Takeover::Told {
            count: 3,
            left_out: 0,
        };
        let (single, again) = (Takeover::Single, Takeover::Flapping);
        assert_eq!(seen, [single, single, told, again, again]);
        // The next minute begins anew.
        let later = NOW + WINDOW_MS;
        assert_eq!(flapping.handle_takeover(key("c"), later), single);
    }

    #[test]
    fn a_device_that_reconnects_now_and_then_is_not_told_of() {
        let mut flapping = Flapping::default();
        for n in 0..100 {
            let now_ms = NOW + n * WINDOW_MS / 2;
            let takeover = flapping.handle_takeover(key("c"), now_ms);
            assert_eq!(takeover, Takeover::Single);
        }
    }

    #[test]
    fn lines_are_bounded_over_all_sessions_and_those_left_out_are_counted() {
        let mut flapping = Flapping::default();
        let mut told = 0;
        for n in 0..50 {
            for _ in 0..FLAPPING_FROM {
                let takeover = flapping.handle_takeover(key(&n.to_string()), NOW);
                told += u32::from(matches!(takeover, Takeover::Told { .. }));
            }
        }
        assert_eq!(told, LINES_MAX);
        let later = NOW + WINDOW_MS;
        let mut last = Takeover::Single;
        for _ in 0..FLAPPING_FROM {
            last = flapping.handle_takeover(key("c"), later);
        }
        let (count, left_out) = (FLAPPING_FROM, 50 - LINES_MAX);
        assert_eq!(last, Takeover::Told { count, left_out });
    }

    #[test]
    fn sessions_watched_are_bounded_and_make_room_when_they_are_calm() {
        let mut flapping = Flapping::default();
        for n in 0..WATCHED_MAX + 10 {
            flapping.handle_takeover(key(&n.to_string()), NOW);
        }
        assert_eq!(flapping.watched.len(), WATCHED_MAX);
        flapping.handle_takeover(key("new"), NOW + WINDOW_MS);
        assert_eq!(flapping.watched.len(), 1);
    }
}
