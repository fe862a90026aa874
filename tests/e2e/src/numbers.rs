//! What a broker counts, as its operator reads it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use crate::broker::Broker;
use crate::client::PATIENCE;

/// All series of one scrape, by name and labels: `bifrust_events_total{type="KICKED"}`.
#[derive(Clone, Debug, Default)]
pub struct Numbers(pub BTreeMap<String, f64>);

impl Numbers {
    /// The value of a series; 0 if it is not there.
    pub fn of(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or_default()
    }

    /// How often an event has happened.
    pub fn event(&self, kind: &str) -> f64 {
        self.of(&format!("bifrust_events_total{{type=\"{kind}\"}}"))
    }

    /// The series that stand higher than in an earlier scrape.
    pub fn risen_since(&self, earlier: &Self) -> Vec<String> {
        let risen = |(series, value): &(&String, &f64)| **value > earlier.of(series);
        let names = self
            .0
            .iter()
            .filter(risen)
            .map(|(series, _)| series.clone());
        names.collect()
    }
}

impl Broker {
    /// Scrapes the broker.
    pub fn numbers(&self) -> Numbers {
        let mut stream = TcpStream::connect(self.api()).expect("the API accepts");
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        let (_, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let series = body.lines().filter(|line| !line.starts_with('#'));
        let pairs = series.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Numbers(pairs.collect())
    }

    /// Scrapes until the numbers are as they should be: some of them arrive a moment later.
    pub fn await_numbers(&self, what: &str, is_right: impl Fn(&Numbers) -> bool) -> Numbers {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let numbers = self.numbers();
            if is_right(&numbers) {
                return numbers;
            }
            assert!(Instant::now() < deadline, "{what}: {numbers:?}");
        }
    }
}
