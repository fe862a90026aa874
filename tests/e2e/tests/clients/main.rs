//! Clients that people use: each over every transport and in every version that it has, and each
//! as publisher to each as subscriber. Ordinary runs take few of these pairs; `cargo xtask clients`,
//! which sets `BIFRUST_CLIENTS=all`, takes all. `docs/clients.md` has the tables.

mod cases;
mod client;
mod matrix;
mod mosquitto;
mod pairs;
mod rumqtt;
mod script;
mod table;

use std::collections::HashMap;
use std::fs;
use std::time::Instant;

use bifrust_e2e::authority::Authority;
use bifrust_e2e::broker::{Builder, run_cli};
use bifrust_e2e::{Broker, Carrier};
use tempfile::TempDir;

use cases::{CASES, Stage};
use client::Place;
use matrix::{Cell, Kind, Version};

/// One that listens on every transport; its certificate is in the folder.
fn on_every_transport(builder: Builder, folder: &TempDir) -> Broker {
    let authority = Authority::of_servers();
    let (cert, key) = authority.of_localhost().write(folder.path(), "clients");
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let mut builder = builder;
    for argument in ["--tls", "127.0.0.1:0", "--wss", "127.0.0.1:0"] {
        builder = builder.arg(argument);
    }
    let broker = builder
        .arg("--cert")
        .arg(cert)
        .arg("--key")
        .arg(key)
        .start();
    fs::write(broker.home().join("ca.pem"), authority.pem()).expect("the CA is written");
    broker
}

/// One that knows `user` with the password `right` and nobody else.
fn strict(folder: &TempDir) -> Broker {
    let file = folder.path().join("users.toml").display().to_string();
    let user = ["--tenant", "default", "--user", "user"];
    let add = [&["user", "add", "--file", &file][..], &user].concat();
    let output = run_cli(&add, "right\n");
    assert_eq!(output.code, 0, "{output:?}");
    let config = format!("[auth]\nfile = {file:?}\n");
    on_every_transport(Broker::builder().strict().config(config), folder)
}

/// Every case of the client in every cell of it.
fn every_case(kind: Kind) {
    if Carrier::under_test() != Carrier::Tcp {
        return; // the cells have all transports already
    }
    let folders = [(); 2].map(|()| TempDir::new().expect("a folder"));
    let open = on_every_transport(Broker::builder(), &folders[0]);
    let strict = strict(&folders[1]);
    let (mut failures, mut passed) = (Vec::new(), HashMap::new());
    let begin = Instant::now();
    for version in Version::ALL {
        let cells: Vec<Cell> = kind.cells();
        let mut cells = cells
            .into_iter()
            .filter(|cell| cell.version == version)
            .peekable();
        if cells.peek().is_none() {
            continue;
        }
        let Some(program) = kind.start(version) else {
            return;
        };
        for cell in cells {
            for (index, case) in CASES.iter().enumerate() {
                if (case.lacks)(cell).is_some() {
                    continue;
                }
                let stage = Stage {
                    program: &*program,
                    place: Place::at(&open, cell.carrier, version),
                    strict: Place::at(&strict, cell.carrier, version),
                    name: format!("{}{}-{index}", cell.carrier.name(), version.name()),
                };
                match (case.run)(&stage) {
                    Ok(()) => *passed.entry(cell).or_insert(0) += 1,
                    Err(why) => failures.push(format!("{}, {}: {why}", cell.name(), case.name)),
                }
            }
        }
    }
    let seen = |cell| {
        let passed: usize = passed.get(&cell).copied().unwrap_or(0);
        format!("{passed} of {}", table::cases_of(cell))
    };
    println!("{}in {:.1?}", table::rows(kind, seen), begin.elapsed());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn paho_python() {
    every_case(Kind::Paho);
}

#[test]
fn mqtt_js() {
    every_case(Kind::MqttJs);
}

#[test]
fn rumqttc() {
    every_case(Kind::Rumqttc);
}

#[test]
fn gmqtt() {
    every_case(Kind::Gmqtt);
}

#[test]
fn mosquitto_clients() {
    every_case(Kind::Mosquitto);
}

#[test]
fn each_client_hears_each() {
    if Carrier::under_test() != Carrier::Tcp {
        return; // the pairs have all transports already
    }
    let folder = TempDir::new().expect("a folder");
    let broker = on_every_transport(Broker::builder(), &folder);
    let takes_all = std::env::var("BIFRUST_CLIENTS").is_ok_and(|asked| asked == "all");
    let failures = pairs::run(&broker, |from, to| {
        takes_all || table::is_pair_of_slice(from, to)
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_table_of_clients_is_true() {
    table::check();
}
