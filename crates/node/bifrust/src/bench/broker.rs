//! The broker's process as the operating system accounts for it.

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// Watches one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    pid: Option<u32>,
}

/// What the process had used at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// User and system CPU time.
    pub(super) cpu: Option<Duration>,
    /// Resident memory in bytes.
    pub(super) resident: Option<u64>,
}

impl Meter {
    /// A meter for this process, or one that reads nothing.
    pub(super) fn new(pid: Option<u32>) -> anyhow::Result<Self> {
        let meter = Self { pid };
        meter.read()?;
        Ok(meter)
    }

    /// Reads the process now.
    pub(super) fn read(self) -> anyhow::Result<Reading> {
        let Some(pid) = self.pid else {
            return Ok(Reading::default());
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("--pid {pid}: no such process, or its /proc is hidden"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .with_context(|| format!("--pid {pid}: no such process, or its /proc is hidden"))?;
        Ok(Reading {
            cpu: cpu_of(&stat),
            resident: resident_of(&status),
        })
    }
}

fn cpu_of(stat: &str) -> Option<Duration> {
    // The second field is a name in parentheses that may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_secs_f64(
        (user + system) as f64 / rustix::param::clock_ticks_per_second() as f64,
    ))
}

fn resident_of(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_read() {
        let reading = Meter::new(Some(std::process::id()))
            .unwrap()
            .read()
            .unwrap();
        assert!(reading.cpu.is_some());
        assert!(reading.resident.unwrap() > 100_000);
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "1 (a) b) S 0 0 0 0 0 0 0 0 0 0 300 100 0";
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(
            cpu_of(stat),
            Some(Duration::from_secs_f64(400.0 / ticks as f64))
        );
    }
}
