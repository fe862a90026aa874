//! The file that says that the node serves, and where.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;

/// The first address of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) tcp: Option<SocketAddr>,
    pub(crate) tls: Option<SocketAddr>,
    pub(crate) ws: Option<SocketAddr>,
    pub(crate) wss: Option<SocketAddr>,
    pub(crate) api: Option<SocketAddr>,
}

/// Takes away what an earlier start left: until the new one is there, nothing serves.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes the file; a reader sees all of it or nothing.
pub(crate) fn write(path: &Path, addresses: &Addresses) -> io::Result<()> {
    let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
    let object = serde_json::json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "tcp": text(addresses.tcp),
        "tls": text(addresses.tls),
        "ws": text(addresses.ws),
        "wss": text(addresses.wss),
        "api": text(addresses.api),
    });
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = File::create(&new)
        .and_then(|mut file| writeln!(file, "{object}"))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new); // it may never have been made
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_are_there_and_off_is_null() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready");
        let addresses = Addresses {
            tcp: Some(([127, 0, 0, 1], 1883).into()),
            ..Addresses::default()
        };
        write(&path, &addresses).unwrap();
        let object: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(object["tcp"], "127.0.0.1:1883");
        assert_eq!(object["pid"], std::process::id());
        let keys: Vec<_> = object.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["api", "pid", "tcp", "tls", "version", "ws", "wss"]);
        assert!(object["wss"].is_null() && object["api"].is_null());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
