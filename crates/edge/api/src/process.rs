//! What the system says about this process.

use std::fs;

use rustix::process::{Resource, getrlimit};

use crate::text::{head, line};

/// Ticks of `/proc` per second: part of the Linux ABI, the same on all machines.
const TICKS_PER_SECOND: f64 = 100.0;

/// A reading.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Process {
    cpu_seconds: f64,
    resident_bytes: u64,
    threads: u64,
    open_fds: u64,
    max_fds: u64,
}

impl Process {
    /// Reads `/proc`; `None` where there is none.
    pub(crate) fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The command's name may hold spaces and ends with the last parenthesis.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let statm = fs::read_to_string("/proc/self/statm").ok()?;
        let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
        Some(Self {
            cpu_seconds: (number(11)? + number(12)?) as f64 / TICKS_PER_SECOND,
            resident_bytes: pages * rustix::param::page_size() as u64,
            threads: number(17)?,
            open_fds: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
            max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        })
    }

    /// Its lines, under the names that Prometheus' own clients use.
    pub(crate) fn write(&self, text: &mut String) {
        let name = "process_cpu_seconds";
        head(text, name, "counter", "CPU time used.");
        line(text, format_args!("{name}_total {}", self.cpu_seconds));
        let gauges = [
            (
                "process_resident_memory_bytes",
                "Resident memory.",
                self.resident_bytes,
            ),
            ("process_threads", "Threads.", self.threads),
            ("process_open_fds", "Open file descriptors.", self.open_fds),
            ("process_max_fds", "File descriptors allowed.", self.max_fds),
        ];
        for (name, help, value) in gauges {
            head(text, name, "gauge", help);
            line(text, format_args!("{name} {value}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_files() {
        let process = Process::read().unwrap();
        assert!(process.resident_bytes > 100_000);
        assert!(process.open_fds >= 3 && process.max_fds >= process.open_fds);
        assert!(process.threads >= 1);
        let mut text = String::new();
        process.write(&mut text);
        assert!(
            text.contains("# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total ")
        );
    }
}
