//! How long leases last, and how far clocks may be off.

use std::time::Duration;

use crate::fault::Fault;

/// How long leases last, and how far clocks may be off.
///
/// Every node has to use the same; the cluster's configuration says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    length: Duration,
    renew_every: Duration,
    drift_percent: u8,
    #[cfg(any(test, feature = "planted-faults"))]
    fault: Option<Fault>,
}

/// Terms under which a lease could not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// Clocks that may be this wrong measure nothing.
    #[error("a clock may be off by 1 to 50 percent, not {0}")]
    Drift(u8),
    /// One lost renewal would cost the lease.
    #[error(
        "renewing every {renew_every:?} leaves no second try within the {held_for:?} that a holder counts"
    )]
    TooRare {
        /// What was asked for.
        renew_every: Duration,
        /// What a holder counts on.
        held_for: Duration,
    },
}

impl Terms {
    /// Leases of nodes: six seconds, renewed every two, clocks within ten percent of true time.
    pub const NODE: Self = Self::unchecked(Duration::from_secs(6), Duration::from_secs(2), 10);

    /// Leases of matches: two seconds, renewed every half, clocks within ten percent of true time.
    pub const MATCH: Self = Self::unchecked(Duration::from_secs(2), Duration::from_millis(500), 10);

    const fn unchecked(length: Duration, renew_every: Duration, drift_percent: u8) -> Self {
        Self {
            length,
            renew_every,
            drift_percent,
            #[cfg(any(test, feature = "planted-faults"))]
            fault: None,
        }
    }

    /// Terms that can be kept: two renewals fit into what a holder counts on.
    pub fn new(
        length: Duration,
        renew_every: Duration,
        drift_percent: u8,
    ) -> Result<Self, TermsError> {
        if !(1..=50).contains(&drift_percent) {
            return Err(TermsError::Drift(drift_percent));
        }
        let terms = Self::unchecked(length, renew_every, drift_percent);
        let held_for = terms.held_for();
        if renew_every.is_zero() || renew_every * 2 > held_for {
            return Err(TermsError::TooRare {
                renew_every,
                held_for,
            });
        }
        Ok(terms)
    }

    /// What a granter waits before it ends a lease, by its own clock.
    pub const fn length(&self) -> Duration {
        self.length
    }

    /// How often a holder renews, by its own clock.
    pub const fn renew_every(&self) -> Duration {
        self.renew_every
    }

    /// The bound on clocks: each runs at this many percent more or less than true time at most.
    pub const fn drift_percent(&self) -> u8 {
        self.drift_percent
    }

    /// What a holder counts on, by its own clock, from when it sent the renewal.
    ///
    /// The slowest holder (rate 1 - d) must be done before the fastest granter (rate 1 + d) is:
    /// `held / (1 - d) <= length / (1 + d)`.
    pub fn held_for(&self) -> Duration {
        if self.is_planted(Fault::DriftIgnored) {
            return self.length;
        }
        let drift = u32::from(self.drift_percent);
        self.length * (100 - drift) / (100 + drift)
    }

    /// The same with a fault planted, which the simulation has to find.
    #[cfg(any(test, feature = "planted-faults"))]
    #[must_use]
    pub const fn with(self, fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..self
        }
    }

    #[cfg(any(test, feature = "planted-faults"))]
    pub(crate) fn is_planted(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    #[cfg(not(any(test, feature = "planted-faults")))]
    #[expect(clippy::unused_self, reason = "as with faults")]
    pub(crate) const fn is_planted(&self, _: Fault) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_holder_is_done_before_the_fastest_granter() {
        for drift in 1..=50 {
            let length = Duration::from_secs(6);
            let terms = Terms::new(length, Duration::from_millis(100), drift).expect("in bounds");
            let rate = f64::from(drift) / 100.0;
            let held = terms.held_for().as_secs_f64() / (1.0 - rate);
            assert!(held <= length.as_secs_f64() / (1.0 + rate) + 1e-6);
        }
    }

    #[test]
    fn terms_without_a_second_try_are_refused() {
        let second = Duration::from_secs(1);
        assert!(Terms::new(second * 6, second * 2, 10).is_ok());
        assert!(matches!(
            Terms::new(second * 6, second * 3, 10),
            Err(TermsError::TooRare { .. })
        ));
        assert!(matches!(
            Terms::new(second, Duration::ZERO, 10),
            Err(TermsError::TooRare { .. })
        ));
        assert_eq!(Terms::new(second * 6, second, 0), Err(TermsError::Drift(0)));
        assert_eq!(
            Terms::new(second * 6, second, 51),
            Err(TermsError::Drift(51))
        );
    }
}
