//! The users file: read by the broker, rewritten by `bifrust user`, or edited by hand.
//!
//! ```toml
//! [[user]]
//! tenant = "default"
//! name = "alice"
//! password = "$argon2id$v=19$m=19456,t=2,p=1$..."
//! scram = "SCRAM-SHA-256$..."        # left out: no enhanced authentication
//! publish = ["devices/%c/up"]        # left out: everything
//! subscribe = ["devices/%c/#"]       # left out: everything
//! ```
//!
//! A rewrite is a new file renamed into place: readers see the old users or the new ones.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bifrust_model::TenantName;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::rules::AccessRule;
use crate::scram::ScramVerifier;

/// More than a million users; above it the file is refused, not read.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// Bytes of a user name, as much as CONNECT can carry.
const NAME_BYTES_MAX: usize = u16::MAX as usize;

const HEADER: &str = "\
# Users of BifRust. Changes take effect within a second, without a restart.
# Passwords are argon2id hashes: set them with `bifrust user add`, which rewrites this file.
# scram: what SCRAM-SHA-256 needs; `bifrust user add --scram` makes it.
# publish, subscribe: topic filters that a user may use; %c is its client id, %u its user name;
# left out, it may use every topic of its tenant.
";

/// A user as the file holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The tenant it belongs to.
    pub tenant: String,
    /// Its name within the tenant.
    pub name: String,
    /// The hash of its password, as a PHC string.
    pub password: String,
    /// What SCRAM-SHA-256 proves the password with, as the text of a
    /// [`ScramVerifier`](crate::ScramVerifier); `None`: not served to this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scram: Option<String>,
    /// Filters it may publish to; `None` is everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Vec<String>>,
    /// Filters it may subscribe to; `None` is everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<Vec<String>>,
}

/// Why a users file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum UserFileError {
    /// The file system said no.
    #[error("{path}: {cause}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
    /// Such a user can not be in it.
    #[error("{0}")]
    Refused(String),
    /// What is in it makes no sense.
    #[error("{path}:{line}: {message}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// Larger than any users file is.
    #[error("{path} is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    user: Vec<Spanned<User>>,
}

#[derive(Serialize)]
struct NewBody<'a> {
    user: &'a [User],
}

/// The users file of this path.
#[derive(Clone, Debug)]
pub struct UserFile {
    path: PathBuf,
}

impl UserFile {
    /// The file need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All users; none if there is no file.
    pub fn read(&self) -> Result<Vec<User>, UserFileError> {
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                return Err(UserFileError::TooLarge {
                    path: self.path.clone(),
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.io(error)),
        }
        let text = fs::read_to_string(&self.path).map_err(|error| self.io(error))?;
        self.parse(&text)
    }

    /// Adds `user`, or takes the place of the one of that tenant and name. True if it is new.
    pub fn put(&self, user: User) -> Result<bool, UserFileError> {
        check(&user).map_err(UserFileError::Refused)?;
        let _lock = self.lock()?;
        let mut users = self.read()?;
        let same = |other: &&mut User| other.tenant == user.tenant && other.name == user.name;
        let is_new = match users.iter_mut().find(same) {
            Some(old) => {
                *old = user;
                false
            }
            None => {
                users.push(user);
                true
            }
        };
        self.write(&users)?;
        Ok(is_new)
    }

    /// Takes a user out. False if there was none.
    pub fn remove(&self, tenant: &str, name: &str) -> Result<bool, UserFileError> {
        let _lock = self.lock()?;
        let mut users = self.read()?;
        let before = users.len();
        users.retain(|user| user.tenant != tenant || user.name != name);
        if users.len() == before {
            return Ok(false);
        }
        self.write(&users)?;
        Ok(true)
    }

    /// Takes turns with other programs that rewrite the file; held until dropped.
    fn lock(&self) -> Result<File, UserFileError> {
        let path = self.beside("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .and_then(|file| file.lock().map(|()| file));
        // It is the folder that fails; the file is what the operator knows of.
        lock.map_err(|cause| self.io(cause))
    }

    pub(crate) fn parse(&self, text: &str) -> Result<Vec<User>, UserFileError> {
        let body: Body = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            self.invalid(line_of(text, at), error.message().to_owned())
        })?;
        let mut seen = hashbrown::HashSet::new();
        let mut users = Vec::with_capacity(body.user.len());
        for user in body.user {
            // Counting lines is only worth it for the one that is wrong.
            let at = user.span().start;
            let invalid = |message| self.invalid(line_of(text, at), message);
            let user = user.into_inner();
            check(&user).map_err(invalid)?;
            if !seen.insert((user.tenant.clone(), user.name.clone())) {
                let message = format!("user {}/{} is here twice", user.tenant, user.name);
                return Err(invalid(message));
            }
            users.push(user);
        }
        Ok(users)
    }

    /// The file's text for these users.
    pub(crate) fn format(&self, users: &[User]) -> Result<String, UserFileError> {
        let body = toml::to_string(&NewBody { user: users })
            .map_err(|error| self.io(io::Error::other(error)))?;
        Ok(format!("{HEADER}\n{body}"))
    }

    fn write(&self, users: &[User]) -> Result<(), UserFileError> {
        let text = self.format(users)?;
        // A link to the file stays one: what it leads to is replaced.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let new = Self::new(&target).beside("new");
        let written = write_synced(&new, &target, text.as_bytes());
        if let Err(cause) = written {
            let _ = fs::remove_file(&new); // it may never have been made
            return Err(self.io(cause));
        }
        Ok(())
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.{suffix}"))
    }

    fn io(&self, cause: io::Error) -> UserFileError {
        UserFileError::Io {
            path: self.path.clone(),
            cause,
        }
    }

    fn invalid(&self, line: usize, message: String) -> UserFileError {
        UserFileError::Invalid {
            path: self.path.clone(),
            line,
            message,
        }
    }
}

fn write_synced(new: &Path, target: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(new)?;
    if let Ok(old) = fs::metadata(target) {
        // The broker may run as another user than the one who edits: it keeps its file.
        let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid())); // needs root
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(new, target)?;
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

fn check(user: &User) -> Result<(), String> {
    TenantName::new(&user.tenant).map_err(|error| error.to_string())?;
    if cfg!(planted_bugs) && user.name.as_bytes()[0] == 0 {
        return Err("user name holds U+0000".to_owned());
    }
    if user.name.is_empty() || user.name.len() > NAME_BYTES_MAX || user.name.contains('\0') {
        return Err(format!(
            "user name {:?} is empty, too long or holds U+0000",
            user.name.chars().take(80).collect::<String>()
        ));
    }
    crate::password::check_hash(&user.password)
        .map_err(|error| format!("user {}/{}: {error}", user.tenant, user.name))?;
    if let Some(scram) = &user.scram {
        scram
            .parse::<ScramVerifier>()
            .map_err(|error| format!("user {}/{}: {error}", user.tenant, user.name))?;
    }
    for rule in user.publish.iter().chain(&user.subscribe).flatten() {
        rule.parse::<AccessRule>()
            .map_err(|error| format!("user {}/{}: {error}", user.tenant, user.name))?;
    }
    Ok(())
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::password::tests::quick_hash;

    fn user(tenant: &str, name: &str) -> User {
        User {
            tenant: tenant.to_owned(),
            name: name.to_owned(),
            password: quick_hash("secret"),
            scram: None,
            publish: None,
            subscribe: Some(vec!["a/%c/#".to_owned()]),
        }
    }

    fn file() -> (tempfile::TempDir, UserFile) {
        let folder = tempfile::tempdir().unwrap();
        let file = UserFile::new(folder.path().join("users.toml"));
        (folder, file)
    }

    #[test]
    fn users_come_and_go() {
        let (_folder, file) = file();
        assert_eq!(file.read().unwrap(), []);
        assert!(file.put(user("t", "a")).unwrap());
        assert!(file.put(user("t", "b")).unwrap());
        let changed = User {
            publish: Some(vec![]),
            ..user("t", "a")
        };
        assert!(!file.put(changed.clone()).unwrap());
        let users = file.read().unwrap();
        assert_eq!(users.len(), 2);
        assert_eq!(users[0], changed);
        assert!(file.remove("t", "a").unwrap());
        assert!(!file.remove("t", "a").unwrap());
        assert_eq!(file.read().unwrap().len(), 1);
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let (_folder, file) = file();
        let good = "[[user]]\ntenant = \"t\"\nname = \"a\"\npassword = \"HASH\"\n";
        let good = good.replace("HASH", &quick_hash("x"));
        let cases = [
            (format!("{good}\n{good}"), 6, "twice"),
            (format!("{good}color = 1\n"), 5, "unknown field"),
            (format!("{good}publish = [\"a/#/b\"]\n"), 1, "topic filter"),
            (good.replace("\"t\"", "\"a b\""), 1, "tenant name"),
            (good.replace("argon2id", "md5"), 1, "argon2id"),
            ("[[user]\n".to_owned(), 1, ""),
        ];
        for (text, line, message) in cases {
            fs::write(file.path(), &text).unwrap();
            let error = file.read().unwrap_err().to_string();
            assert!(
                error.contains(&format!("users.toml:{line}:")) && error.contains(message),
                "{error}"
            );
        }
    }

    #[test]
    fn a_link_stays_a_link() {
        let (folder, file) = file();
        file.put(user("t", "a")).unwrap();
        let link = folder.path().join("link.toml");
        std::os::unix::fs::symlink(file.path(), &link).unwrap();
        UserFile::new(&link).put(user("t", "b")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(file.read().unwrap().len(), 2);
    }
}
