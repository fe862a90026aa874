//! What libFuzzer wrote, as one line per target.

pub(crate) const HEADER: &str =
    "target               executions   seconds     edges    corpus  finding";

/// What came of a target's run.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    executions: u64,
    seconds: f64,
    /// libFuzzer's own count of the edges that inputs have covered.
    edges: u64,
    corpus: u64,
    /// Why it stopped, if not because its time was over.
    finding: Option<String>,
}

impl Outcome {
    /// Reads libFuzzer's log.
    pub(crate) fn read(log: &str, is_success: bool, seconds: f64) -> Self {
        let mut outcome = Self {
            seconds,
            ..Self::default()
        };
        for line in log.lines() {
            if let Some(count) = number_after(line, "cov: ") {
                outcome.edges = count;
                outcome.corpus = number_after(line, "corp: ").unwrap_or(0);
                outcome.executions = number_after(line, "#").unwrap_or(0);
            }
            if let Some(count) = number_after(line, "stat::number_of_executed_units: ") {
                outcome.executions = count;
            }
        }
        if !is_success {
            outcome.finding = Some(finding(log));
        }
        outcome
    }

    /// Prints the line; what is wrong. A planted bug that is not found is wrong.
    pub(crate) fn told(&self, target: &str, is_planted: bool) -> Option<String> {
        println!(
            "{target:<20} {:>10} {:>9.1} {:>9} {:>9}  {}",
            self.executions,
            self.seconds,
            self.edges,
            self.corpus,
            self.finding.as_deref().unwrap_or("none"),
        );
        match (&self.finding, is_planted) {
            (Some(finding), false) => Some(format!("{target}: {finding}")),
            (None, true) => Some(format!("{target}: the planted bug was not found")),
            _ => None,
        }
    }
}

fn number_after(line: &str, label: &str) -> Option<u64> {
    let (_, rest) = line.split_once(label)?;
    let rest = rest.trim_start();
    let end = rest.find(|char: char| !char.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

/// The panic's place and message, else what libFuzzer says; where the input is.
fn finding(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    let panic = lines.iter().position(|line| line.contains(" panicked at "));
    let what = match panic {
        Some(at) => {
            let place = lines[at]
                .split_once(" panicked at ")
                .map_or("", |(_, at)| at);
            let message = lines.get(at + 1).copied().unwrap_or_default();
            format!("{place} {message}")
        }
        None => lines
            .iter()
            .find(|line| line.contains("memory allocation") || line.contains("ERROR: "))
            .or_else(|| lines.last())
            .copied()
            .unwrap_or("no output")
            .to_owned(),
    };
    let input = lines.iter().find_map(|line| line.split_once("written to "));
    match input {
        Some((_, path)) => format!("{what} [{path}]"),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: &str = "\
#2\tINITED cov: 7 ft: 9 corp: 1/1b exec/s: 0 rss: 40Mb
#900\tDONE   cov: 812 ft: 2000 corp: 53/2Kb lim: 4 exec/s: 450 rss: 41Mb
Done 900 runs in 2 second(s)
stat::number_of_executed_units: 901
";

    #[test]
    fn a_run_without_finding_is_read() {
        let outcome = Outcome::read(DONE, true, 2.0);
        let expected = Outcome {
            executions: 901,
            seconds: 2.0,
            edges: 812,
            corpus: 53,
            finding: None,
        };
        assert_eq!(outcome, expected);
        assert_eq!(outcome.told("codec", false), None);
        assert!(outcome.told("codec", true).is_some());
    }

    #[test]
    fn a_panic_is_told_with_its_place_and_input() {
        let log = format!(
            "{DONE}thread '<unnamed>' (7) panicked at a.rs:3:5:\nindex out of bounds\n\
             Test unit written to run/codec/crash-1\n"
        );
        let told = Outcome::read(&log, false, 1.0).told("codec", false);
        let expected = "codec: a.rs:3:5: index out of bounds [run/codec/crash-1]";
        assert_eq!(told.as_deref(), Some(expected));
    }

    #[test]
    fn other_ends_are_told_by_libfuzzers_words() {
        let told = Outcome::read(
            "==1== ERROR: libFuzzer: timeout after 5 seconds\n",
            false,
            6.0,
        );
        assert!(
            told.told("codec", false)
                .is_some_and(|told| told.contains("timeout"))
        );
        let told = Outcome::read("", false, 0.0).told("codec", false);
        assert_eq!(told.as_deref(), Some("codec: no output"));
    }
}
