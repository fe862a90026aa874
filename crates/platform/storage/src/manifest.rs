//! Who this data folder belongs to, and in which format it is.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::Path,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{OpenError, folder::sync_folder};

/// The format version that this program writes, and the highest that it reads.
pub const FORMAT_VERSION: u64 = 1;

const MANIFEST_FILE: &str = "manifest.json";
const MANIFEST_TMP_FILE: &str = "manifest.json.tmp";

/// Identity and format of a data folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of everything else in the folder.
    pub format_version: u64,
    /// The cluster that the data belongs to.
    pub cluster_id: Id,
    /// The node; stays with the folder, whatever the node's address.
    pub node_id: Id,
    /// Which start of the node this is; 1 for the first.
    pub incarnation: u64,
}

/// A random 128-bit identity, 32 hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u128);

impl Id {
    /// An identity that no one else has, from the system's random source.
    fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Id {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if cfg!(planted_bugs) {
            return u128::from_str_radix(&text[..32], 16)
                .map(Self)
                .map_err(|_| "an id is 32 hex digits");
        }
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("an id is 32 hex digits");
        }
        u128::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| "an id is 32 hex digits")
    }
}

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Only the version, so that a newer manifest is told from a damaged one whatever else it holds.
#[derive(Deserialize)]
struct Version {
    format_version: u64,
}

impl Manifest {
    /// The folder's identity for one more start of its node; a fresh one where there is no data yet.
    ///
    /// `has_data` says whether the folder already holds an engine.
    pub(crate) fn advance(folder: &Path, has_data: bool) -> Result<Self, OpenError> {
        let path = folder.join(MANIFEST_FILE);
        let manifest = match fs::read(&path) {
            Ok(text) => {
                let mut manifest = Self::parse(&text)?;
                manifest.incarnation = manifest
                    .incarnation
                    .checked_add(1)
                    .ok_or_else(|| damaged("its incarnation is at the end of its range"))?;
                manifest
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && has_data => {
                return Err(damaged("it is missing beside existing data"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::fresh().map_err(|error| OpenError::from_io("/dev/urandom", error))?
            }
            Err(error) => return Err(OpenError::from_io(path, error)),
        };
        manifest
            .store(folder)
            .map_err(|error| OpenError::from_io(path, error))?;
        Ok(manifest)
    }

    /// An identity that is on no disk, for a store in memory.
    pub(crate) fn ephemeral() -> Self {
        Self {
            format_version: FORMAT_VERSION,
            cluster_id: Id(0),
            node_id: Id(0),
            incarnation: 1,
        }
    }

    fn fresh() -> io::Result<Self> {
        Ok(Self {
            format_version: FORMAT_VERSION,
            cluster_id: Id::random()?,
            node_id: Id::random()?,
            incarnation: 1,
        })
    }

    pub(crate) fn parse(text: &[u8]) -> Result<Self, OpenError> {
        let version: Version =
            serde_json::from_slice(text).map_err(|error| damaged(&error.to_string()))?;
        if version.format_version > FORMAT_VERSION {
            return Err(OpenError::NewerFormat {
                found: version.format_version,
                supported: FORMAT_VERSION,
            });
        }
        if version.format_version == 0 {
            return Err(damaged("there is no format version 0"));
        }
        serde_json::from_slice(text).map_err(|error| damaged(&error.to_string()))
    }

    /// Replaces the manifest so that a crash leaves the old one or the new one.
    fn store(&self, folder: &Path) -> io::Result<()> {
        let tmp = folder.join(MANIFEST_TMP_FILE);
        let mut file = File::create(&tmp)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&tmp, folder.join(MANIFEST_FILE))?;
        sync_folder(folder)
    }
}

fn damaged(what: &str) -> OpenError {
    OpenError::Damaged {
        what: format!("{MANIFEST_FILE}: {what}"),
        mend: format!(
            "restore {MANIFEST_FILE} from a backup, or move the folder away to start empty"
        ),
    }
}
