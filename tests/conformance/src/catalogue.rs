//! Statements against rows: what is shown, what is not, and the table of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::Row;
use crate::faults::{PLANTED, Planted};
use crate::{v5, v311};

/// Whom a statement binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Servers only.
    Server,
    /// Clients only.
    Client,
    /// Both, or whoever sends or receives.
    Both,
}

/// A numbered statement of a standard.
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    /// Without "MQTT-".
    pub number: &'static str,
    /// Whom it binds.
    pub side: Side,
}

/// A standard with its rows.
#[derive(Clone, Copy, Debug)]
pub struct Standard {
    /// `3.1.1`.
    pub version: &'static str,
    /// Where its rows are.
    pub module: &'static str,
    data: &'static str,
    /// Its rows, by file.
    pub files: &'static [(&'static str, &'static [Row])],
    /// Statements without a row, with a reason.
    pub exempt: &'static [(&'static str, &'static str)],
}

/// The standards.
pub const STANDARDS: &[Standard] = &[V311, V5];

const V311: Standard = Standard {
    version: "3.1.1",
    module: "v311",
    data: include_str!("../data/mqtt-3.1.1.txt"),
    files: v311::FILES,
    exempt: &[
        (
            "4.8.0-2",
            "a transient error is one of the server's own making (a full disk, a store that does \
             not answer); the fault layer's tests make them",
        ),
        (
            "7.0.0-1",
            "for servers that connect to other servers; this one does not",
        ),
    ],
};

const V5: Standard = Standard {
    version: "5.0",
    module: "v5",
    data: include_str!("../data/mqtt-5.0.txt"),
    files: v5::FILES,
    exempt: &[],
};

impl Standard {
    /// All statements, in the order of the standard.
    pub fn statements(&self) -> Vec<Statement> {
        let lines = self.data.lines().filter(|line| !line.starts_with('#'));
        let statements = lines.map(|line| {
            let (number, side) = line.split_once(' ').expect("a number and a side");
            let side = match side {
                "server" => Side::Server,
                "client" => Side::Client,
                "both" => Side::Both,
                other => panic!("{number}: {other}"),
            };
            Statement { number, side }
        });
        statements.collect()
    }

    /// The rows of each number, as `file::row`.
    pub fn shown(&self) -> BTreeMap<&'static str, Vec<String>> {
        let mut shown: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (file, rows) in self.files {
            for row in *rows {
                for number in row.shows {
                    let name = match row.pending {
                        Some(_) => format!("{file}::{} (fails)", row.name),
                        None => format!("{file}::{}", row.name),
                    };
                    shown.entry(number).or_default().push(name);
                }
            }
        }
        shown
    }

    /// Rows that cannot hold yet.
    pub fn pending(&self) -> Vec<(String, &'static str)> {
        let rows = self.files.iter().flat_map(|(file, rows)| {
            let named = move |row: &Row| {
                row.pending
                    .map(|why| (format!("{file}::{}", row.name), why))
            };
            rows.iter().filter_map(named)
        });
        rows.collect()
    }

    /// All that is wrong with the rows as a list: numbers that are none, statements without a row.
    pub fn problems(&self) -> Vec<String> {
        let statements = self.statements();
        let shown = self.shown();
        let mut problems = Vec::new();
        for (number, rows) in &shown {
            if !statements.iter().any(|known| known.number == *number) {
                problems.push(format!("{} has no {number}: {rows:?}", self.version));
            }
        }
        for statement in &statements {
            let number = statement.number;
            let exempt = self.exempt.iter().any(|(exempt, _)| *exempt == number);
            match (shown.contains_key(number), exempt, statement.side) {
                (false, false, Side::Server | Side::Both) => {
                    problems.push(format!("{} {number} has no row", self.version));
                }
                (true, true, _) => {
                    problems.push(format!("{} {number} is exempt and has a row", self.version));
                }
                (_, true, Side::Client) => {
                    problems.push(format!("{} {number} needs no exemption", self.version));
                }
                _ => {}
            }
        }
        let servers = statements.iter().filter(|s| s.side != Side::Client).count();
        if self.exempt.len() * 20 > servers {
            problems.push(format!("{}: more than 5 % are exempt", self.version));
        }
        problems
    }

    fn section(&self) -> String {
        let statements = self.statements();
        let shown = self.shown();
        let clients = statements.iter().filter(|s| s.side == Side::Client);
        let clients: Vec<&str> = clients.map(|statement| statement.number).collect();
        let rows: usize = self.files.iter().map(|(_, rows)| rows.len()).sum();
        let mut text = format!("\n## MQTT {}\n\n", self.version);
        let _ = writeln!(
            text,
            "{} statements: {} bind servers, {} clients only; {} are exempt. {rows} rows in \
             `tests/conformance/src/{}/`, {} of them failing.\n",
            statements.len(),
            statements.len() - clients.len(),
            clients.len(),
            self.exempt.len(),
            self.module,
            self.pending().len(),
        );
        text.push_str("| Statement | Binds | Shown by |\n|---|---|---|\n");
        for statement in &statements {
            let side = match statement.side {
                Side::Server => "server",
                Side::Client => "client",
                Side::Both => "both",
            };
            let exempt = self
                .exempt
                .iter()
                .find(|(number, _)| *number == statement.number);
            let by = match (shown.get(statement.number), exempt) {
                (Some(rows), _) => rows
                    .iter()
                    .map(|row| format!("`{row}`"))
                    .collect::<Vec<_>>()
                    .join(", "),
                (None, Some((_, why))) => format!("exempt: {why}"),
                (None, None) => "-".to_owned(),
            };
            let _ = writeln!(text, "| {} | {side} | {by} |", statement.number);
        }
        if !self.pending().is_empty() {
            text.push_str("\nFailing rows:\n\n");
            for (row, why) in self.pending() {
                let _ = writeln!(text, "- `{row}`: {why}");
            }
        }
        text
    }
}

/// The whole of docs/conformance.md.
pub fn document() -> String {
    let mut text = String::from(
        "# Conformance\n\n\
         Every numbered statement of the MQTT standards with the rows that show it. A row is a function that \
         speaks raw bytes with a real broker; `cargo test -p bifrust-conformance` runs all of them and compares \
         their numbers with the lists of Appendix B (`tests/conformance/data`). A client-only statement needs no \
         row; where it has one, the row shows what the broker does with a client that breaks it.\n\n\
         This page is generated: `BIFRUST_BLESS=1 cargo test -p bifrust-conformance --test table`.\n",
    );
    for standard in STANDARDS {
        text.push_str(&standard.section());
    }
    text.push_str(
        "\n## Planted faults\n\n\
         Built with the feature `planted-faults` the broker breaks the standard in one of these ways, chosen by \
         `BIFRUST_TEST_FAULT`; product builds have nothing of it. `cargo xtask faults` shows that each is caught.\n\n\
         | | The broker's fault | Caught by |\n|---|---|---|\n",
    );
    for planted in PLANTED {
        let Planted {
            number,
            what,
            module,
            row,
        } = planted;
        let _ = writeln!(text, "| {number} | {what} | `{module}::{row}` |");
    }
    text
}
