//! Clients of other languages: a process that takes commands, one JSON object a line.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use bifrust_e2e::client::PATIENCE;
use serde_json::{Value, json};

use crate::client::{Client, Failure, Message, Options, Outcome, Place, Program, fail, same};

/// Beyond what the process itself waits.
const GRACE: Duration = Duration::from_secs(20);

/// A running process.
pub(crate) struct Script(Rc<RefCell<Pipe>>);

struct Pipe {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    clients: u64,
}

impl Script {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(Rc::new(RefCell::new(Pipe {
            child,
            stdin,
            lines,
            clients: 0,
        })))
    }
}

impl Pipe {
    fn ask(&mut self, command: &Value, patience: Duration) -> Outcome<Value> {
        let line = format!("{command}\n");
        if let Err(error) = self.stdin.write_all(line.as_bytes()) {
            return fail(format!("the client's process has ended: {error}"));
        }
        let Ok(line) = self.lines.recv_timeout(patience + GRACE) else {
            return fail("the client's process does not answer");
        };
        let answer: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
        match (&answer["error"], answer["refused"].as_u64()) {
            (Value::String(why), _) => fail(why.clone()),
            (_, Some(code)) => Err(Failure::Refused(u8::try_from(code).unwrap_or(u8::MAX))),
            _ => Ok(answer),
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended already
        let _ = self.child.wait();
    }
}

impl Program for Script {
    fn open(&self, place: &Place, options: &Options) -> Outcome<Box<dyn Client>> {
        let mut pipe = self.0.borrow_mut();
        pipe.clients += 1;
        let number = pipe.clients;
        let (user, password) = options.user.clone().unzip();
        let will = options.will.as_ref().map(|will| {
            json!({
                "topic": will.topic,
                "payload": will.text(),
                "qos": will.qos,
                "retain": will.is_retained,
            })
        });
        let command = json!({
            "do": "open",
            "client": number,
            "carrier": place.carrier.name(),
            "version": place.version.name(),
            "host": place.address.ip().to_string(),
            "port": place.address.port(),
            "ca": place.ca,
            "id": options.id,
            "kept": options.is_kept,
            "user": user,
            "password": password,
            "will": will,
        });
        let answer = pipe.ask(&command, PATIENCE)?;
        Ok(Box::new(Remote {
            pipe: Rc::clone(&self.0),
            number,
            is_present: answer["present"].as_bool(),
            is_open: true,
        }))
    }
}

/// A client within the process.
struct Remote {
    pipe: Rc<RefCell<Pipe>>,
    number: u64,
    is_present: Option<bool>,
    is_open: bool,
}

impl Remote {
    fn ask(&self, step: &str, mut arguments: Value, patience: Duration) -> Outcome<Value> {
        arguments["do"] = step.into();
        arguments["client"] = self.number.into();
        let answer = self.pipe.borrow_mut().ask(&arguments, patience);
        answer.map(|mut answer| answer["result"].take())
    }

    fn end(mut self, step: &str) -> Outcome {
        self.is_open = false;
        self.ask(step, json!({}), PATIENCE).map(drop)
    }
}

impl Client for Remote {
    fn is_present(&self) -> Option<bool> {
        self.is_present
    }

    fn subscribe(&mut self, filter: &str, qos: u8) -> Outcome {
        let arguments = json!({"filter": filter, "qos": qos});
        let granted = self.ask("subscribe", arguments, PATIENCE)?;
        same(&granted.as_u64(), &Some(u64::from(qos)))
    }

    fn unsubscribe(&mut self, filter: &str) -> Outcome {
        let arguments = json!({"filter": filter});
        self.ask("unsubscribe", arguments, PATIENCE).map(drop)
    }

    fn publish(&mut self, message: &Message) -> Outcome {
        let arguments = json!({
            "topic": message.topic,
            "payload": hex(&message.payload),
            "qos": message.qos,
            "retain": message.is_retained,
            "properties": message.properties,
        });
        self.ask("publish", arguments, PATIENCE).map(drop)
    }

    fn receive_within(&mut self, patience: Duration) -> Outcome<Option<Message>> {
        let arguments = json!({"within": patience.as_secs_f64()});
        let found = self.ask("receive", arguments, patience)?;
        if found.is_null() {
            return Ok(None);
        }
        let properties = found["properties"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(Some(Message {
            topic: text(&found["topic"]),
            payload: unhex(&text(&found["payload"])),
            qos: u8::try_from(found["qos"].as_u64().unwrap_or(9)).unwrap_or(9),
            is_retained: found["retain"] == true,
            properties: properties
                .iter()
                .map(|pair| (text(&pair[0]), text(&pair[1])))
                .collect(),
        }))
    }

    fn disconnect(self: Box<Self>) -> Outcome {
        self.end("disconnect")
    }

    fn cut(self: Box<Self>) -> Outcome {
        self.end("cut")
    }

    fn await_end(self: Box<Self>) -> Outcome {
        self.end("await_end")
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if self.is_open {
            let _ = self.ask("disconnect", json!({}), PATIENCE); // the case is over
        }
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Hexadecimal digits as bytes.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hexadecimal digits");
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| u8::try_from(digit(pair[0]) * 16 + digit(pair[1])).expect("two digits"))
        .collect()
}
