//! All meters of the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bifrust_plugin_api::{Counter, Gauge, Histogram, Meter, Meters};

/// Label sets kept in all; meters made beyond count where nobody reads them.
const SERIES_MAX: usize = 200_000;

/// Label names and values of one series.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// Meters that `/metrics` shows.
#[derive(Debug, Default)]
pub struct MeterRegistry {
    families: Mutex<Families>,
}

#[derive(Debug, Default)]
pub(crate) struct Families {
    pub(crate) by_name: BTreeMap<&'static str, Family>,
    series: usize,
}

/// All series of one name.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) help: &'static str,
    pub(crate) series: BTreeMap<Labels, Series>,
}

/// One number.
#[derive(Clone, Debug)]
pub(crate) enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

impl MeterRegistry {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn families(&self) -> MutexGuard<'_, Families> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The series of this meter, made by `new` at first sight. A handle of its own if there are
    /// too many.
    fn series(&self, mut meter: Meter, new: Series) -> Series {
        meter.labels.sort_unstable();
        let mut families = self.families();
        let is_full = families.series >= SERIES_MAX;
        let family = families
            .by_name
            .entry(meter.name)
            .or_insert_with(|| Family {
                help: meter.help,
                series: BTreeMap::new(),
            });
        if let Some(there) = family.series.get(&meter.labels) {
            return there.clone();
        }
        if is_full {
            return new;
        }
        family.series.insert(meter.labels, new.clone());
        families.series += 1;
        new
    }
}

// A name that is asked for as two kinds is a mistake in the program: the second asker counts for
// itself, what is shown stays right.
impl Meters for MeterRegistry {
    fn counter(&self, meter: Meter) -> Counter {
        match self.series(meter, Series::Counter(Counter::default())) {
            Series::Counter(counter) => counter,
            _ => Counter::default(),
        }
    }

    fn gauge(&self, meter: Meter) -> Gauge {
        match self.series(meter, Series::Gauge(Gauge::default())) {
            Series::Gauge(gauge) => gauge,
            _ => Gauge::default(),
        }
    }

    fn histogram(&self, meter: Meter) -> Histogram {
        match self.series(meter, Series::Histogram(Histogram::default())) {
            Series::Histogram(histogram) => histogram,
            _ => Histogram::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_meter_has_one_handle_whatever_the_order_of_labels() {
        let registry = MeterRegistry::new();
        let meter = || Meter::new("bifrust_x", "X.");
        let first = registry.counter(meter().label("a", "1").label("b", "2"));
        let second = registry.counter(meter().label("b", "2").label("a", "1"));
        let other = registry.counter(meter().label("a", "2"));
        first.add(3);
        assert_eq!((second.value(), other.value()), (3, 0));
    }
}
