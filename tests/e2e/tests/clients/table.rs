//! The table in `docs/clients.md`, from the matrix; the same rows tell what a run saw.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bifrust_e2e::Carrier;

use crate::cases::CASES;
use crate::matrix::{Cell, Kind, Version};

const HEAD: &str = "# Clients

What clients that people use do with the broker, over every transport and in every version that they
have. Written by the test that runs them (`tests/e2e/tests/clients/`; `BIFRUST_BLESS=1` writes it anew).

`cargo xtask clients` runs all of it, prints these tables with what passed, and fails if anything did
not; `./verify` runs every cell below and one pair of cells for each pair of clients, both ways.
";

const SUITES: &str = "
## Raw packets

The rest of `tests/e2e` and `tests/conformance` speak raw packets, over TCP in `./verify`.
`cargo xtask clients` runs them over TCP, TLS, WebSocket and WebSocket over TLS;
`BIFRUST_E2E_TRANSPORT` chooses one.
";

/// The rows of a client's versions; a cell that it has is given by `value`.
pub(crate) fn rows(kind: Kind, value: impl Fn(Cell) -> String) -> String {
    let mut text = String::new();
    for version in Version::ALL {
        let _ = write!(text, "| {} | {} |", kind.name(), version.name());
        for carrier in Carrier::ALL {
            let cell = Cell {
                kind,
                carrier,
                version,
            };
            let value = match kind.lacks(carrier, version) {
                Some(_) => "–".to_owned(),
                None => value(cell),
            };
            let _ = write!(text, " {value} |");
        }
        text.push('\n');
    }
    text
}

/// The rows of publishers, each with what `value` says of each subscriber.
pub(crate) fn pairs(value: impl Fn(Kind, Kind) -> String) -> String {
    let mut text = String::from("| from \\ to |");
    for to in Kind::ALL {
        let _ = write!(text, " {} |", to.name());
    }
    text.push_str("\n|---|---|---|---|---|---|\n");
    for from in Kind::ALL {
        let _ = write!(text, "| {} |", from.name());
        for to in Kind::ALL {
            let _ = write!(text, " {} |", value(from, to));
        }
        text.push('\n');
    }
    text
}

/// How many cases a cell has.
pub(crate) fn cases_of(cell: Cell) -> usize {
    let cases = CASES.iter();
    cases.filter(|case| (case.lacks)(cell).is_none()).count()
}

/// Whether ordinary runs have this pair: each pair of clients once in 5.0, from TLS to TCP.
pub(crate) fn is_pair_of_slice(from: Cell, to: Cell) -> bool {
    let is_v5 = from.version == Version::V5 && to.version == Version::V5;
    is_v5 && from.carrier == Carrier::Tls && to.carrier == Carrier::Tcp
}

fn text() -> String {
    let all: Vec<Cell> = Kind::ALL.into_iter().flat_map(Kind::cells).collect();
    let cases: usize = all.iter().copied().map(cases_of).sum();
    let mut text = String::from(HEAD);
    let _ = write!(text, "\n| client | release |\n|---|---|\n");
    for kind in Kind::ALL {
        let _ = writeln!(text, "| {} | {} |", kind.name(), release(kind));
    }
    let _ = write!(
        text,
        "\n## Each client\n\n\
         {} cells, {cases} cases: a cell is a client over a transport in a version, its number that of\n\
         its cases. A dash is a cell that the client does not have.\n\n\
         | client | MQTT | TCP | TLS | WS | WSS |\n|---|---|---|---|---|---|\n",
        all.len(),
    );
    for kind in Kind::ALL {
        text.push_str(&rows(kind, |cell| cases_of(cell).to_string()));
    }
    text.push_str("\nEmpty cells:\n\n");
    for kind in Kind::ALL {
        let mut told = BTreeSet::new();
        for version in Version::ALL {
            for carrier in Carrier::ALL {
                if let Some(why) = kind.lacks(carrier, version)
                    && told.insert(why)
                {
                    let what = match carrier {
                        Carrier::Ws | Carrier::Wss => "WS and WSS".to_owned(),
                        _ => format!("MQTT {}", version.name()),
                    };
                    let _ = writeln!(text, "- {}, {what}: {why}.", kind.name());
                }
            }
        }
    }
    text.push_str("\nThe cases:\n\n");
    for case in &CASES {
        let _ = write!(text, "- {}: {}", case.name, case.what);
        let whys: BTreeSet<&str> = all.iter().filter_map(|cell| (case.lacks)(*cell)).collect();
        for why in whys {
            let _ = write!(text, "; not everywhere, as {why}");
        }
        text.push_str(".\n");
    }
    let of = |kind: Kind| kind.cells().len();
    let _ = write!(
        text,
        "\n## Each client to each\n\n\
         {} pairs of cells, from every one to every one: a retained message and messages of QoS 0, 1 and 2,\n\
         each of which comes once, as it was sent.\n\n{}",
        all.len() * all.len(),
        pairs(|from, to| (of(from) * of(to)).to_string())
    );
    text.push_str(SUITES);
    text
}

/// The release that runs, from the files that choose it.
fn release(kind: Kind) -> String {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let read = |path: PathBuf| fs::read_to_string(path).expect("a file that chooses releases");
    let python = |name: &str| {
        let text = read(clients.join("python/requirements.txt"));
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let rest = lines.next().and_then(|rest| rest.strip_prefix("=="));
        let release = rest.and_then(|rest| rest.split(' ').next());
        format!("{name} {} (PyPI)", release.expect("a release"))
    };
    match kind {
        Kind::Paho => python("paho-mqtt"),
        Kind::Gmqtt => python("gmqtt"),
        Kind::MqttJs => {
            let text = read(clients.join("mqttjs/package.json"));
            let package: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let release = package["dependencies"]["mqtt"].as_str();
            format!("mqtt {} (npm)", release.expect("a release"))
        }
        Kind::Rumqttc => {
            let text = read(clients.join("../../../Cargo.lock"));
            let (_, rest) = text
                .split_once("name = \"rumqttc\"\nversion = \"")
                .expect("locked");
            let release = rest.split('"').next();
            format!("rumqttc {} (crates.io)", release.expect("a release"))
        }
        Kind::Mosquitto => "mosquitto-clients 2.0 (Debian)".to_owned(),
    }
}

/// Compares it with the docs, or writes it there.
pub(crate) fn check() {
    let seen = text();
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/clients.md");
    if std::env::var_os("BIFRUST_BLESS").is_some() {
        fs::write(&file, &seen).expect("docs are written");
    }
    let known = fs::read_to_string(&file).unwrap_or_default();
    for (line, (seen, known)) in seen.lines().zip(known.lines()).enumerate() {
        assert_eq!(seen, known, "line {} of docs/clients.md", line + 1);
    }
    assert_eq!(seen.lines().count(), known.lines().count());
}
