//! Which client speaks which version over what, and why a cell is empty.

use std::path::{Path, PathBuf};
use std::process::Command;

use bifrust_e2e::{Carrier, fetch};

use crate::client::Program;
use crate::mosquitto::Mosquitto;
use crate::rumqtt::Rumqttc;
use crate::script::Script;

/// A version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Version {
    V31,
    V311,
    V5,
}

impl Version {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::V31, Self::V311, Self::V5];

    /// As people write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        }
    }
}

/// A client that people use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Paho,
    MqttJs,
    Rumqttc,
    Gmqtt,
    Mosquitto,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Paho,
        Self::MqttJs,
        Self::Rumqttc,
        Self::Gmqtt,
        Self::Mosquitto,
    ];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Paho => "Paho Python",
            Self::MqttJs => "MQTT.js",
            Self::Rumqttc => "rumqttc",
            Self::Gmqtt => "gmqtt",
            Self::Mosquitto => "mosquitto_pub/sub",
        }
    }

    /// Why it has no such transport and version, if it has not.
    pub(crate) fn lacks(self, carrier: Carrier, version: Version) -> Option<&'static str> {
        let is_websocket = matches!(carrier, Carrier::Ws | Carrier::Wss);
        match self {
            Self::Gmqtt if is_websocket => Some("it opens plain and TLS sockets only"),
            Self::Mosquitto if is_websocket => Some("no option of 2.0 speaks WebSocket"),
            Self::Gmqtt if version == Version::V31 => Some("its CONNECT says `MQTT` always"),
            Self::Rumqttc if version == Version::V31 => {
                Some("its modules are 3.1.1 and 5.0, each with the protocol name `MQTT`")
            }
            _ => None,
        }
    }

    /// Its transports and versions.
    pub(crate) fn cells(self) -> Vec<Cell> {
        let all = Version::ALL.into_iter().flat_map(|version| {
            Carrier::ALL
                .into_iter()
                .map(move |carrier| (carrier, version))
        });
        all.filter(|(carrier, version)| self.lacks(*carrier, *version).is_none())
            .map(|(carrier, version)| Cell {
                kind: self,
                carrier,
                version,
            })
            .collect()
    }

    /// Makes it ready to run; `None`, and said so, where it cannot be had.
    pub(crate) fn start(self, version: Version) -> Option<Box<dyn Program>> {
        let started = match self {
            Self::Paho => python("paho"),
            Self::Gmqtt => python("gmqtt"), // its version is one of the whole process
            Self::MqttJs => node(),
            Self::Rumqttc => Ok(Box::new(Rumqttc) as Box<dyn Program>),
            Self::Mosquitto => fetch::program(CACHE, "mosquitto_sub", "mosquitto-clients")
                .map(|()| Box::new(Mosquitto) as Box<dyn Program>),
        };
        started
            .map_err(|why| fetch::skip(&format!("{} {}", self.name(), version.name()), &why))
            .ok()
    }
}

/// A client over a transport in a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cell {
    pub(crate) kind: Kind,
    pub(crate) carrier: Carrier,
    pub(crate) version: Version,
}

impl Cell {
    /// Its name.
    pub(crate) fn name(self) -> String {
        let carrier = self.carrier.name().to_uppercase();
        format!("{} {carrier} {}", self.kind.name(), self.version.name())
    }
}

const CACHE: &str = env!("CARGO_TARGET_TMPDIR");

fn folder(name: &str) -> PathBuf {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    clients.join(name)
}

fn python(client: &str) -> Result<Box<dyn Program>, String> {
    let folder = folder("python");
    let python = fetch::python(CACHE, &folder.join("requirements.txt"))?;
    let mut command = Command::new(python);
    command.arg("-B").arg(folder.join("driver.py")).arg(client);
    Ok(Box::new(Script::start(&mut command)))
}

fn node() -> Result<Box<dyn Program>, String> {
    let home = fetch::node(CACHE, &folder("mqttjs"))?;
    let mut command = Command::new("node");
    command.arg("driver.mjs").current_dir(home);
    Ok(Box::new(Script::start(&mut command)))
}
