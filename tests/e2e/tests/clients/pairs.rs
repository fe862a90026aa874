//! Each client publishes to each.

use std::collections::HashMap;
use std::time::Instant;

use bifrust_e2e::Broker;

use crate::client::{Client, Message, Options, Outcome, Place, Program, same};
use crate::matrix::{Cell, Kind, Version};
use crate::table;

/// A cell with what runs it.
struct Player<'a> {
    cell: Cell,
    program: &'a dyn Program,
    place: Place,
}

impl Player<'_> {
    fn open(&self, id: String) -> Outcome<Box<dyn Client>> {
        let options = Options {
            id,
            ..Options::default()
        };
        self.program.open(&self.place, &options)
    }
}

/// Runs the pairs that are chosen; gives what failed.
pub(crate) fn run(broker: &Broker, is_chosen: impl Fn(Cell, Cell) -> bool) -> Vec<String> {
    let mut programs = Vec::new();
    for kind in Kind::ALL {
        for version in Version::ALL {
            let cells = kind.cells().into_iter();
            let cells: Vec<Cell> = cells.filter(|cell| cell.version == version).collect();
            if cells.is_empty() {
                continue;
            }
            if let Some(program) = kind.start(version) {
                programs.push((program, cells));
            }
        }
    }
    let players = programs.iter().flat_map(|(program, cells)| {
        cells.iter().map(|cell| Player {
            cell: *cell,
            program: &**program,
            place: Place::at(broker, cell.carrier, cell.version),
        })
    });
    let players: Vec<Player<'_>> = players.collect();
    let begin = Instant::now();
    let (mut failures, mut seen) = (Vec::new(), HashMap::new());
    for (from, publisher) in players.iter().enumerate() {
        let mut writer = None;
        for (to, subscriber) in players.iter().enumerate() {
            if !is_chosen(publisher.cell, subscriber.cell) {
                continue;
            }
            let kinds = (publisher.cell.kind, subscriber.cell.kind);
            let (passed, count) = seen.entry(kinds).or_insert((0, 0));
            *count += 1;
            let mut attempt = || {
                if writer.is_none() {
                    writer = Some(publisher.open(format!("writer{from}"))?);
                }
                match &mut writer {
                    Some(writer) => hears(&mut **writer, subscriber, &format!("pair/{from}/{to}")),
                    None => Ok(()),
                }
            };
            match attempt() {
                Ok(()) => *passed += 1,
                Err(why) => {
                    let (publisher, subscriber) = (publisher.cell.name(), subscriber.cell.name());
                    failures.push(format!("{publisher} to {subscriber}: {why}"));
                }
            }
        }
    }
    let table = table::pairs(|from, to| {
        let (passed, count) = seen.get(&(from, to)).copied().unwrap_or_default();
        format!("{passed} of {count}")
    });
    println!("{table}in {:.1?}", begin.elapsed());
    failures
}

/// QoS 0, 1, 2 and a retained message.
fn hears(writer: &mut dyn Client, subscriber: &Player<'_>, topic: &str) -> Outcome {
    writer.publish(&Message::new(format!("{topic}/kept"), "kept").retained())?;
    let mut reader = subscriber.open(topic.replace('/', "-"))?;
    reader.subscribe(&format!("{topic}/+"), 2)?;
    let kept = reader.receive()?;
    same(
        &(kept.text(), kept.qos, kept.is_retained),
        &("kept".to_owned(), 1, true),
    )?;
    for qos in 0..=2 {
        let message = Message::new(format!("{topic}/live"), format!("live {qos}")).qos(qos);
        writer.publish(&message)?;
        same(&reader.receive()?, &message)?;
    }
    reader.disconnect()
}
