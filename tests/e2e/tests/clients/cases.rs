//! What each client does on each of its transports, in each of its versions.

use std::time::{Duration, Instant};

use bifrust_e2e::client::PATIENCE;

use crate::client::{Client, Failure, Message, Options, Outcome, Place, Program, fail, same};
use crate::matrix::{Cell, Kind, Version};

/// A client's place at the brokers, and names of its own there.
pub(crate) struct Stage<'a> {
    pub(crate) program: &'a dyn Program,
    pub(crate) place: Place,
    /// At the broker that knows `user` with the password `right` and nobody else.
    pub(crate) strict: Place,
    pub(crate) name: String,
}

/// A case and its name.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What it shows, in a sentence's end.
    pub(crate) what: &'static str,
    pub(crate) run: fn(&Stage<'_>) -> Outcome,
    /// Why a cell does not have it, if it has not.
    pub(crate) lacks: fn(Cell) -> Option<&'static str>,
}

const fn case(name: &'static str, run: fn(&Stage<'_>) -> Outcome, what: &'static str) -> Case {
    let lacks = |_| None;
    Case {
        name,
        what,
        run,
        lacks,
    }
}

/// All of them.
pub(crate) const CASES: [Case; 14] = [
    case(
        "QoS 0, 1, 2",
        quality,
        "published with each, granted each, in order",
    ),
    case(
        "retained",
        retained,
        "the last one, once it is not live, until it is cleared",
    ),
    case(
        "wildcards",
        wildcards,
        "`+` and `#` take what they match and nothing else",
    ),
    case("unsubscribe", unsubscribe, "nothing comes after it"),
    case(
        "will",
        will,
        "of each QoS and retained, after a cut, not after DISCONNECT",
    ),
    case(
        "session resumed",
        resumed,
        "what was queued comes in order, also after a cut",
    ),
    case(
        "clean start",
        clean_start,
        "neither what was queued nor a subscription is left",
    ),
    case("300,000 bytes", large, "with each QoS"),
    Case {
        name: "user properties",
        what: "names twice and other letters",
        run: user_properties,
        lacks: |cell| (cell.version != Version::V5).then_some("properties came with 5.0"),
    },
    case(
        "password",
        password,
        "a wrong one is refused by its code, the right one is not",
    ),
    Case {
        name: "takeover",
        what: "the older connection of a session ends",
        run: takeover,
        lacks: |cell| {
            let is_it = cell.kind == Kind::Mosquitto && cell.version != Version::V5;
            is_it.then_some("before 5.0 `mosquitto_sub` connects again and takes the session back")
        },
    },
    case(
        "overlapping filters",
        overlap,
        "one message for three filters that match",
    ),
    case("tenants", tenants, "the same client ids and topics, apart"),
    case(
        "shared subscription",
        shared,
        "three members share, each message comes once",
    ),
];

impl Stage<'_> {
    fn topic(&self, name: &str) -> String {
        format!("{}/{name}", self.name)
    }

    fn options(&self, name: &str) -> Options {
        Options {
            id: format!("{}-{name}", self.name), // 23 bytes at most, for 3.1
            ..Options::default()
        }
    }

    fn connect(&self, options: &Options) -> Outcome<Box<dyn Client>> {
        self.program.open(&self.place, options)
    }

    fn open(&self, name: &str) -> Outcome<Box<dyn Client>> {
        self.with_session(&self.options(name), false)
    }

    /// With a session that stays, which is there already or not.
    fn kept(&self, name: &str, is_present: bool) -> Outcome<Box<dyn Client>> {
        let options = Options {
            is_kept: true,
            ..self.options(name)
        };
        self.with_session(&options, is_present)
    }

    fn with_session(&self, options: &Options, is_present: bool) -> Outcome<Box<dyn Client>> {
        let client = self.connect(options)?;
        let said = match self.place.version {
            Version::V31 => None, // its CONNACK does not say so
            _ => client.is_present(),
        };
        same(&said.unwrap_or(is_present), &is_present)?;
        Ok(client)
    }

    fn message(&self, topic: &str, payload: impl Into<Vec<u8>>) -> Message {
        Message::new(self.topic(topic), payload)
    }
}

/// The next message: its payload, its QoS, and whether it comes as a retained one.
fn next_is(client: &mut dyn Client, payload: &str, qos: u8, is_retained: bool) -> Outcome {
    let message = client.receive()?;
    let found = (message.text(), message.qos, message.is_retained);
    same(&found, &(payload.to_owned(), qos, is_retained))
}

fn quality(on: &Stage<'_>) -> Outcome {
    let mut writer = on.open("writer")?;
    for granted in 0..=2 {
        let topic = granted.to_string();
        let mut reader = on.open(&format!("reader{granted}"))?;
        reader.subscribe(&on.topic(&topic), granted)?;
        for published in 0..=2 {
            let qos = granted.min(published);
            let payloads = [0, 1, 2].map(|index| format!("{published} {index}"));
            for batch in payloads.chunks(on.program.publishes_in_order()) {
                for payload in batch {
                    writer.publish(&on.message(&topic, payload.as_str()).qos(published))?;
                }
                for payload in batch {
                    next_is(&mut *reader, payload, qos, false)?;
                }
            }
        }
    }
    Ok(())
}

fn retained(on: &Stage<'_>) -> Outcome {
    let mut writer = on.open("writer")?;
    writer.publish(&on.message("r/a", "old").retained())?;
    writer.publish(&on.message("r/a", "new").qos(2).retained())?;
    writer.publish(&on.message("r/b", "other").retained())?;
    writer.publish(&on.message("r/a", "passes"))?;
    let mut reader = on.open("reader")?;
    reader.subscribe(&on.topic("r/a"), 1)?;
    next_is(&mut *reader, "new", 1, true)?;
    writer.publish(&on.message("r/a", "live").retained())?;
    next_is(&mut *reader, "live", 1, false)?;
    writer.publish(&on.message("r/a", "").retained())?;
    next_is(&mut *reader, "", 1, false)?;
    let mut late = on.open("late")?;
    late.subscribe(&on.topic("r/+"), 1)?;
    next_is(&mut *late, "other", 1, true)?;
    writer.publish(&on.message("r/a", "end"))?;
    next_is(&mut *late, "end", 1, false)
}

fn wildcards(on: &Stage<'_>) -> Outcome {
    let mut reader = on.open("reader")?;
    reader.subscribe_all(&[&on.topic("+/x"), &on.topic("deep/#")], 1)?;
    let mut writer = on.open("writer")?;
    let topics = [
        "a/x",
        "a/y",
        "a",
        "deep",
        "b/x/x",
        "deep/er/est",
        "x",
        "b/x",
    ];
    for topic in topics {
        writer.publish(&on.message(topic, topic))?;
    }
    // From clients that publish over a connection for each, they come in any order.
    let mut found = Vec::new();
    for _ in 0..4 {
        found.push(reader.receive()?.text());
    }
    found.sort_unstable();
    let expected = ["a/x", "b/x", "deep", "deep/er/est"];
    same(&found, &expected.map(str::to_owned).to_vec())
}

fn unsubscribe(on: &Stage<'_>) -> Outcome {
    let mut reader = on.kept("reader", false)?;
    reader.subscribe_all(&[&on.topic("a"), &on.topic("b")], 1)?;
    let mut writer = on.open("writer")?;
    writer.publish(&on.message("a", "heard"))?;
    reader.expect(&["heard"])?;
    reader.unsubscribe(&on.topic("a"))?;
    writer.publish(&on.message("a", "unheard"))?;
    writer.publish(&on.message("b", "end"))?;
    reader.expect(&["end"])
}

fn will(on: &Stage<'_>) -> Outcome {
    let mut watcher = on.open("watcher")?;
    watcher.subscribe(&on.topic("w"), 2)?;
    let mortal = |payload: &str, qos: u8, is_retained: bool| {
        on.connect(&Options {
            will: Some(Message {
                is_retained,
                ..on.message("w", payload).qos(qos)
            }),
            ..on.options("mortal")
        })
    };
    for qos in 0..=2 {
        let payload = format!("gone {qos}");
        mortal(&payload, qos, qos == 2)?.cut()?;
        next_is(&mut *watcher, &payload, qos, false)?;
    }
    let mut late = on.open("late")?;
    late.subscribe(&on.topic("w"), 2)?;
    next_is(&mut *late, "gone 2", 2, true)?;
    mortal("goodbye", 2, false)?.disconnect()?;
    if on.program.goes_with_will(&on.place) {
        next_is(&mut *watcher, "goodbye", 2, false)?;
    }
    // With the same identifier: the connection before has come to its end by then.
    mortal("never", 2, false)?.publish(&on.message("w", "end").qos(2))?;
    next_is(&mut *watcher, "end", 2, false)
}

fn resumed(on: &Stage<'_>) -> Outcome {
    const COUNT: usize = 10;
    let mut reader = on.kept("reader", false)?;
    reader.subscribe_all(&[&on.topic("p/1"), &on.topic("p/2")], 2)?;
    reader.disconnect()?;
    let mut writer = on.open("writer")?;
    for index in 0..COUNT {
        for qos in [1, 2] {
            let message = on.message(&format!("p/{qos}"), index.to_string());
            writer.publish(&message.qos(qos))?;
        }
    }
    let mut reader = on.kept("reader", true)?;
    // QoS 2 messages are handed over at PUBREL: the two topics interleave freely.
    let mut found = [Vec::new(), Vec::new()];
    for _ in 0..2 * COUNT {
        let message = reader.receive()?;
        let of_topic = &mut found[usize::from(message.topic.ends_with('2'))];
        of_topic.push((message.text(), message.qos));
    }
    for (qos, found) in (1..).zip(found) {
        let expected = (0..COUNT).map(|index| (index.to_string(), qos));
        same(&found, &expected.collect())?;
    }
    // PUBREL and PUBCOMP are through after two more round trips. Some clients forget what was open
    // and take its PUBREL for an error.
    reader.subscribe(&on.topic("p/3"), 2)?;
    reader.subscribe(&on.topic("p/4"), 2)?;
    reader.cut()?;
    writer.publish(&on.message("p/2", "after the cut").qos(2))?;
    let mut reader = on.kept("reader", true)?;
    next_is(&mut *reader, "after the cut", 2, false)
}

fn clean_start(on: &Stage<'_>) -> Outcome {
    let mut reader = on.kept("reader", false)?;
    reader.subscribe(&on.topic("old"), 1)?;
    reader.disconnect()?;
    let mut writer = on.open("writer")?;
    writer.publish(&on.message("old", "queued"))?;
    let mut reader = on.open("reader")?;
    reader.subscribe(&on.topic("new"), 1)?;
    writer.publish(&on.message("old", "unheard"))?;
    writer.publish(&on.message("new", "end"))?;
    reader.expect(&["end"])
}

fn large(on: &Stage<'_>) -> Outcome {
    let payload: Vec<u8> = (0..=249).cycle().take(300_000).collect();
    let mut reader = on.open("reader")?;
    reader.subscribe(&on.topic("l"), 2)?;
    let mut writer = on.open("writer")?;
    for qos in 0..=2 {
        writer.publish(&on.message("l", payload.clone()).qos(qos))?;
        let message = reader.receive()?;
        if message.payload != payload {
            return fail(format!("{} other bytes", message.payload.len()));
        }
        same(&message.qos, &qos)?;
    }
    Ok(())
}

fn user_properties(on: &Stage<'_>) -> Outcome {
    let pairs = [("trace", "one"), ("trace", "two"), ("unit", "°C")];
    let mut message = on.message("u", "21");
    message.properties = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut reader = on.open("reader")?;
    reader.subscribe(&on.topic("u"), 1)?;
    on.open("writer")?.publish(&message)?;
    same(&reader.receive()?, &message)
}

fn password(on: &Stage<'_>) -> Outcome {
    let with = |password: &str| Options {
        user: Some(("user".to_owned(), password.to_owned())),
        ..on.options("user")
    };
    match on.program.open(&on.strict, &with("wrong")) {
        // Some clients tell codes of version 3 as those of 5.0.
        Err(Failure::Refused(4 | 0x86)) => {}
        Err(other) => return Err(other),
        Ok(_) => return fail("a wrong password was taken"),
    }
    let mut client = on.program.open(&on.strict, &with("right"))?;
    client.subscribe(&on.topic("a"), 1)?;
    client.publish(&on.message("a", "in"))?;
    client.expect(&["in"])
}

fn takeover(on: &Stage<'_>) -> Outcome {
    let mut older = on.kept("same", false)?;
    older.subscribe(&on.topic("t"), 1)?;
    let mut newer = on.kept("same", true)?;
    older.await_end()?;
    on.open("writer")?.publish(&on.message("t", "end"))?;
    newer.expect(&["end"])
}

fn overlap(on: &Stage<'_>) -> Outcome {
    let mut reader = on.open("reader")?;
    let filters = [on.topic("o/#"), on.topic("o/+/x"), on.topic("o/a/x")];
    for filter in &filters {
        reader.subscribe(filter, 2)?;
    }
    let mut writer = on.open("writer")?;
    writer.publish(&on.message("o/a/x", "once").qos(2))?;
    reader.expect(&["once"])?;
    writer.publish(&on.message("o/b", "end").qos(2))?;
    reader.expect(&["end"])
}

fn tenants(on: &Stage<'_>) -> Outcome {
    let of = |tenant: &str, name: &str| {
        on.connect(&Options {
            user: Some((format!("{tenant}/user"), "unused".to_owned())),
            ..on.options(name)
        })
    };
    let names = ["red", "blue"];
    let mut readers = Vec::new();
    for tenant in names {
        let mut reader = of(tenant, "same")?;
        reader.subscribe(&on.topic("t"), 1)?;
        readers.push(reader);
    }
    for tenant in names {
        of(tenant, "writer")?.publish(&on.message("t", tenant))?;
    }
    for (reader, tenant) in readers.iter_mut().zip(names) {
        reader.expect(&[tenant])?;
    }
    for (mut reader, tenant) in readers.into_iter().zip(names) {
        of(tenant, "writer")?.publish(&on.message("t", "end"))?;
        reader.expect(&["end"])?;
    }
    Ok(())
}

fn shared(on: &Stage<'_>) -> Outcome {
    const COUNT: usize = 24;
    let filter = format!("$share/group/{}", on.topic("s/#"));
    let mut members = Vec::new();
    for index in 0..3 {
        let mut member = on.open(&format!("member{index}"))?;
        member.subscribe(&filter, 2)?;
        members.push(member);
    }
    let mut writer = on.open("writer")?;
    for index in 0..COUNT {
        let qos = u8::try_from(index % 2).unwrap_or(0) + 1;
        writer.publish(&on.message("s/x", index.to_string()).qos(qos))?;
    }
    let mut found: Vec<Vec<usize>> = vec![Vec::new(); members.len()];
    let deadline = Instant::now() + PATIENCE;
    while found.iter().map(Vec::len).sum::<usize>() < COUNT {
        if Instant::now() > deadline {
            return fail(format!("only {found:?}"));
        }
        for (member, found) in members.iter_mut().zip(&mut found) {
            while let Some(message) = member.receive_within(Duration::from_millis(2))? {
                found.push(message.text().parse().unwrap_or(usize::MAX));
            }
        }
    }
    if found.iter().any(Vec::is_empty) {
        return fail(format!("a member got nothing: {found:?}"));
    }
    let mut all = found.concat();
    all.sort_unstable();
    same(&all, &(0..COUNT).collect())
}
