//! Certificate files of TLS listeners: read at start, and again whenever one of them changes. What
//! cannot be used leaves in force what was read last.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bifrust_mqtt::{ClientCertificates, Identity, ListenerKind, Tls, TlsError, TlsMaterial};
use bifrust_plugin_api::{Counter, Meter, Meters};

use crate::config::{Config, IdentityFiles, TlsFiles};

/// Between two looks at the files: one `stat` each.
const INTERVAL: Duration = Duration::from_millis(500);

/// Why certificate files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {cause}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// What is in them is of no use.
    #[error("TLS with {path}: {cause}")]
    Tls {
        /// The certificate of the listener.
        path: PathBuf,
        /// Why.
        cause: TlsError,
    },
}

/// Reads the files of all listeners and tells what cannot be used.
pub fn check_certificates(config: &Config) -> Result<(), CertificateError> {
    for files in config.listeners.iter().filter_map(|l| l.tls.as_ref()) {
        Tls::new(ListenerKind::Tls, &read(files)?).map_err(unusable(files))?;
    }
    Ok(())
}

/// What changes when a file is edited or replaced; `None` while there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    bytes: u64,
    inode: u64,
}

/// The files of one listener.
struct Watched {
    files: TlsFiles,
    tls: Tls,
    stamps: Vec<Option<Stamp>>,
}

/// All files, until they are watched.
#[derive(Default)]
pub(crate) struct Certificates {
    watched: Vec<Watched>,
}

impl Certificates {
    /// Reads the files of a listener.
    pub(crate) fn open(
        &mut self,
        kind: ListenerKind,
        files: &TlsFiles,
    ) -> Result<Tls, CertificateError> {
        // The stamps are taken first: an edit in between is read twice rather than missed.
        let stamps = stamps(files);
        let tls = Tls::new(kind, &read(files)?).map_err(unusable(files))?;
        self.watched.push(Watched {
            files: files.clone(),
            tls: tls.clone(),
            stamps,
        });
        Ok(tls)
    }

    /// Watches them from now on; without any there is nothing to do.
    pub(crate) fn watch(self, meters: &dyn Meters) -> io::Result<Option<Watch>> {
        if self.watched.is_empty() {
            return Ok(None);
        }
        let counter = |outcome| {
            let meter = Meter::new(
                "bifrust_tls_reloads",
                "Changed certificate files that were read.",
            );
            meters.counter(meter.label("outcome", outcome))
        };
        let (taken, failed) = (counter("taken"), counter("failed"));
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopping = stop.clone();
        let mut watched = self.watched;
        let thread = std::thread::Builder::new()
            .name("certificates".to_owned())
            .spawn(move || {
                while !pause(&stopping) {
                    for listener in &mut watched {
                        listener.look(&taken, &failed);
                    }
                }
            })?;
        Ok(Some(Watch {
            stop,
            thread: Some(thread),
        }))
    }
}

/// The thread that looks at the files; ends with this value.
pub(crate) struct Watch {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic was printed where it happened
        }
    }
}

/// True if it is time to stop.
fn pause(stop: &(Mutex<bool>, Condvar)) -> bool {
    let is_stopped = stop.0.lock().unwrap_or_else(PoisonError::into_inner);
    let (is_stopped, _) = stop
        .1
        .wait_timeout_while(is_stopped, INTERVAL, |is_stopped| !*is_stopped)
        .unwrap_or_else(PoisonError::into_inner);
    *is_stopped
}

impl Watched {
    fn look(&mut self, taken: &Counter, failed: &Counter) {
        let now = stamps(&self.files);
        if now == self.stamps {
            return;
        }
        self.stamps = now;
        let path = self.files.default.cert.display();
        let result = read(&self.files)
            .and_then(|material| self.tls.replace(&material).map_err(unusable(&self.files)));
        match result {
            Ok(()) => {
                taken.add(1);
                tracing::info!(%path, "certificates reloaded");
            }
            Err(error) => {
                failed.add(1);
                tracing::error!(%error, "the certificates read last stay in force");
            }
        }
    }
}

fn unusable(files: &TlsFiles) -> impl FnOnce(TlsError) -> CertificateError {
    let path = files.default.cert.clone();
    move |cause| CertificateError::Tls { path, cause }
}

fn paths(files: &TlsFiles) -> impl Iterator<Item = &Path> {
    let hosts = files.hosts.iter().filter_map(|host| host.identity.as_ref());
    let identities = std::iter::once(&files.default).chain(hosts);
    let clients = files.clients.iter();
    let lists = files.clients.iter().filter_map(|c| c.revoked.as_ref());
    identities
        .flat_map(|identity| [&identity.cert, &identity.key])
        .chain(clients.map(|clients| &clients.authorities))
        .chain(lists)
        .map(PathBuf::as_path)
}

fn stamps(files: &TlsFiles) -> Vec<Option<Stamp>> {
    let stamp = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Stamp {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            bytes: metadata.len(),
            inode: metadata.ino(),
        })
    };
    paths(files).map(stamp).collect()
}

fn read(files: &TlsFiles) -> Result<TlsMaterial, CertificateError> {
    let identity = |files: &IdentityFiles| {
        Ok(Identity {
            chain: read_file(&files.cert)?,
            key: read_file(&files.key)?,
        })
    };
    let mut hosts = Vec::new();
    for host in &files.hosts {
        if let Some(files) = &host.identity {
            hosts.push((host.name.clone(), identity(files)?));
        }
    }
    let clients = match &files.clients {
        None => None,
        Some(clients) => Some(ClientCertificates {
            authorities: read_file(&clients.authorities)?,
            revoked: clients.revoked.as_deref().map(read_file).transpose()?,
            is_required: clients.is_required,
        }),
    };
    Ok(TlsMaterial {
        default: identity(&files.default)?,
        hosts,
        clients,
        is_tls13_only: files.is_tls13_only,
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|cause| CertificateError::Io {
        path: path.to_owned(),
        cause,
    })
}
