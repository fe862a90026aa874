//! How long the queries of tenants take, as far as that is worth knowing.

use std::time::Duration;

use bifrust_model::TenantNumber;
use hashbrown::HashMap;

/// What a quick query counts for in turns, so that a tenant's turn is a handful of them.
const QUERY_BYTES: usize = 4 * 1024;

/// What a microsecond counts for: as much as in a quick query.
const MICROSECOND_BYTES: usize = 160;

/// What a query counts for at most, so that turns do not go round for long before it is run.
const BYTES_MAX: usize = 1024 * 1024;

/// From here on queries are slow.
const SLOW: Duration = Duration::from_millis(1);

/// Below this a tenant is forgotten.
const QUICK: Duration = Duration::from_micros(250);

/// Tenants that are remembered. If there are more, all are forgotten; the next query tells.
const TENANTS_MAX: usize = 4_096;

/// The moving mean of a tenant's query times, unless they are quick.
#[derive(Default)]
pub(super) struct Pace(HashMap<TenantNumber, Duration>);

impl Pace {
    /// A query took so long.
    pub(super) fn ran(&mut self, tenant: TenantNumber, took: Duration) {
        if took < QUICK && self.0.is_empty() {
            return;
        }
        let before = self.0.get(&tenant).copied().unwrap_or_default();
        let mean = (before * 3 + took) / 4;
        if mean < QUICK {
            self.0.remove(&tenant);
            return;
        }
        if self.0.len() >= TENANTS_MAX && before.is_zero() {
            self.0.clear();
        }
        self.0.insert(tenant, mean);
    }

    /// Whether the tenant's next query is expected to hold a thread up.
    pub(super) fn is_slow(&self, tenant: TenantNumber) -> bool {
        !self.0.is_empty() && self.0.get(&tenant).is_some_and(|mean| *mean >= SLOW)
    }

    /// What the tenant's next query counts for in turns.
    pub(super) fn bytes(&self, tenant: TenantNumber) -> usize {
        let Some(mean) = self.0.get(&tenant) else {
            return QUERY_BYTES;
        };
        let micros = usize::try_from(mean.as_micros()).unwrap_or(usize::MAX);
        let time = micros.saturating_mul(MICROSECOND_BYTES);
        time.clamp(QUERY_BYTES, BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TenantNumber = TenantNumber(1);
    const B: TenantNumber = TenantNumber(2);

    #[test]
    fn slow_tenants_are_known_until_they_are_quick_again() {
        let mut pace = Pace::default();
        pace.ran(A, Duration::from_micros(20));
        assert!(pace.0.is_empty());
        pace.ran(A, Duration::from_millis(40));
        pace.ran(B, Duration::from_micros(20));
        assert!(pace.is_slow(A) && !pace.is_slow(B));
        assert_eq!(pace.bytes(A), BYTES_MAX);
        assert_eq!(pace.bytes(B), QUERY_BYTES);
        for _ in 0..20 {
            pace.ran(A, Duration::from_micros(20));
        }
        assert!(!pace.is_slow(A));
        assert!(pace.0.is_empty());
    }

    #[test]
    fn one_hiccup_makes_nobody_slow() {
        let mut pace = Pace::default();
        pace.ran(A, Duration::from_millis(3));
        assert!(!pace.is_slow(A));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut pace = Pace::default();
        for number in 0..3 * TENANTS_MAX as u64 {
            pace.ran(TenantNumber(number), Duration::from_secs(1));
            assert!(pace.0.len() <= TENANTS_MAX);
        }
    }
}
