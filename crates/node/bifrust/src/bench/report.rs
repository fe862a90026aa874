//! What a run found out, for people and for programs.

use std::io::Write;
use std::time::{Duration, Instant};

use bifrust_mqtt_codec::Qos;

use super::broker::{Meter, Reading};
use super::tally::{Latency, Tally};

/// All phases of one run.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Report {
    pub(super) scenario: String,
    pub(super) phases: Vec<Phase>,
}

/// One phase: what was done, how long it took, what it cost the broker.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    pub(super) seconds: f64,
    /// Messages sent, or connections made.
    pub(super) sent: u64,
    /// Messages that should have arrived, once for each subscriber.
    pub(super) expected: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) duplicates: u64,
    pub(super) reordered: u64,
    pub(super) sent_per_second: f64,
    pub(super) received_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latency: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) broker_cpu_seconds: Option<f64>,
    /// Messages received (or sent, where none are received) per CPU-second of the broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) per_cpu_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) broker_resident_bytes: Option<u64>,
    /// Filters that were held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) filters: Option<u64>,
    /// Growth of the broker's memory for each connection or filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resident_bytes_each: Option<f64>,
}

/// A phase that is going on.
pub(super) struct Running {
    name: &'static str,
    meter: Meter,
    began: Instant,
    before: Reading,
}

impl Running {
    /// Begins a phase.
    pub(super) fn begin(name: &'static str, meter: Meter) -> anyhow::Result<Self> {
        Ok(Self {
            name,
            meter,
            began: Instant::now(),
            before: meter.read()?,
        })
    }

    /// Ends it: `sent` messages, each for `fan` subscribers.
    pub(super) fn end(self, sent: u64, expected: u64, tally: &Tally) -> anyhow::Result<Phase> {
        let mut phase = self.end_counting(sent)?;
        phase.expected = expected;
        phase.received = tally.received;
        phase.lost = expected.saturating_sub(tally.distinct());
        phase.duplicates = tally.duplicates;
        phase.reordered = tally.reordered;
        phase.latency = Some(tally.latency());
        phase.received_per_second = phase.received as f64 / phase.seconds;
        phase.per_cpu_second = per_cpu(phase.received, phase.broker_cpu_seconds);
        Ok(phase)
    }

    /// Ends a phase that only sends, or only connects.
    pub(super) fn end_counting(self, sent: u64) -> anyhow::Result<Phase> {
        let seconds = self
            .began
            .elapsed()
            .max(Duration::from_micros(1))
            .as_secs_f64();
        let after = self.meter.read()?;
        let cpu = after
            .cpu
            .zip(self.before.cpu)
            .map(|(a, b)| a.saturating_sub(b).as_secs_f64());
        Ok(Phase {
            name: self.name,
            seconds,
            sent,
            sent_per_second: sent as f64 / seconds,
            broker_cpu_seconds: cpu,
            per_cpu_second: per_cpu(sent, cpu),
            broker_resident_bytes: after.resident,
            ..Phase::default()
        })
    }
}

fn per_cpu(count: u64, cpu_seconds: Option<f64>) -> Option<f64> {
    cpu_seconds
        .filter(|seconds| *seconds > 0.0)
        .map(|seconds| count as f64 / seconds)
}

impl Report {
    /// Whether nothing was lost, doubled or reordered that this QoS promises.
    pub(super) fn kept_its_promises(&self, qos: Qos) -> bool {
        self.phases.iter().all(|phase| match qos {
            Qos::AtMostOnce => true,
            Qos::AtLeastOnce => phase.lost == 0 && phase.reordered == 0,
            Qos::ExactlyOnce => phase.lost == 0 && phase.reordered == 0 && phase.duplicates == 0,
        })
    }

    /// Prints it on stdout.
    pub(super) fn print(&self, as_json: bool) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if as_json {
            serde_json::to_writer(&mut out, self)?;
            writeln!(out)?;
            return Ok(());
        }
        for phase in &self.phases {
            phase.write(&self.scenario, &mut out)?;
        }
        Ok(())
    }
}

impl Phase {
    fn write(&self, scenario: &str, out: &mut impl Write) -> anyhow::Result<()> {
        write!(out, "{scenario} {}", self.name)?;
        if let Some(filters) = self.filters {
            write!(out, " with {filters} filters")?;
        }
        writeln!(out, ": {:.2} s", self.seconds)?;
        writeln!(
            out,
            "  sent      {:>12}  {:>12.0}/s",
            self.sent, self.sent_per_second
        )?;
        if self.expected > 0 {
            writeln!(
                out,
                "  received  {:>12}  {:>12.0}/s",
                self.received, self.received_per_second
            )?;
            writeln!(
                out,
                "  lost {}, duplicates {}, out of order {}",
                self.lost, self.duplicates, self.reordered
            )?;
        }
        if let Some(l) = self.latency {
            writeln!(
                out,
                "  latency ms: p50 {:.2}, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}",
                l.p50_ms, l.p90_ms, l.p99_ms, l.p999_ms, l.max_ms
            )?;
        }
        if let Some(cpu) = self.broker_cpu_seconds {
            write!(out, "  broker: {cpu:.2} CPU-seconds")?;
            if let Some(per) = self.per_cpu_second {
                write!(out, ", {per:.0} per CPU-second")?;
            }
            if let Some(bytes) = self.broker_resident_bytes {
                write!(out, ", {:.1} MiB resident", bytes as f64 / 1048576.0)?;
            }
            writeln!(out)?;
        }
        if let Some(each) = self.resident_bytes_each {
            let of = match self.filters {
                Some(_) => "filter",
                None => "connection",
            };
            writeln!(out, "  memory: {each:.0} bytes for each {of}")?;
        }
        Ok(())
    }
}
