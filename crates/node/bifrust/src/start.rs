//! `bifrust start`.

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Context as _;
use bifrust_node::RunningNode;
use bifrust_node::config::Transport;

use crate::arguments::StartArguments;
use crate::ready_file::{self, Addresses};
use crate::signals::{self, Asked};
use crate::{exit, logging};

/// What a stop may take beyond its bound before the process ends without it.
const GRACE: Duration = Duration::from_secs(2);

pub(crate) fn run(arguments: &StartArguments) -> anyhow::Result<ExitCode> {
    keep_pages_small();
    let loaded = arguments.node.sources()?.load()?;
    logging::start(&loaded.config.log)?;
    let signals = signals::of_server().context("signals cannot be taken")?;
    for warning in &loaded.warnings.0 {
        tracing::warn!("{warning}");
    }
    if let Some(path) = &arguments.ready_file {
        ready_file::remove(path).with_context(|| path.display().to_string())?;
    }
    let stop_within = Duration::from_secs(loaded.config.limits.stop_seconds);
    let data = loaded.config.data.clone();
    let node = bifrust_node::start(loaded.config)?;
    let addresses = Addresses {
        tcp: node.address(Transport::Tcp),
        tls: node.address(Transport::Tls),
        ws: node.address(Transport::Ws),
        wss: node.address(Transport::Wss),
        api: node.api_address(),
    };
    let text = |address: Option<std::net::SocketAddr>| {
        address.map_or_else(|| "off".to_owned(), |address| address.to_string())
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        tcp = text(addresses.tcp),
        tls = text(addresses.tls),
        ws = text(addresses.ws),
        wss = text(addresses.wss),
        api = text(addresses.api),
        data = %data.display(),
        "ready"
    );
    // After the line: who sees the file finds it in the log.
    if let Some(path) = &arguments.ready_file {
        ready_file::write(path, &addresses).with_context(|| path.display().to_string())?;
    }
    serve(&node, &signals, arguments);
    tracing::info!(within = ?stop_within, "stopping");
    Ok(stop(node, stop_within))
}

/// Many small idle connections lie far apart: a huge page for a few of them would cost half of the
/// memory again. Older kernels that cannot be asked serve all the same.
fn keep_pages_small() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        eprintln!("huge pages stay on, connections take more memory: {error}");
    }
}

/// Waits for the signal that ends it.
fn serve(node: &RunningNode, signals: &Receiver<Asked>, arguments: &StartArguments) {
    while let Ok(Asked::Reload) = signals.recv() {
        let loaded = arguments
            .node
            .sources()
            .and_then(|sources| Ok(sources.load()?));
        match loaded {
            Ok(loaded) => {
                node.replace_settings(loaded.config.settings, loaded.config.tenants);
                tracing::info!("settings read again; all else in the config needs a restart");
            }
            Err(error) => {
                tracing::error!("the config is not valid, the settings stay as they were: {error}");
            }
        }
    }
}

/// Stops within the bound, whatever the node does.
fn stop(node: RunningNode, within: Duration) -> ExitCode {
    let (done, is_done) = channel();
    let stopping = std::thread::Builder::new()
        .name("stop".to_owned())
        .spawn(move || {
            node.stop(within);
            let _ = done.send(()); // nobody waits any more
        });
    let waited = match stopping {
        Ok(_) => is_done.recv_timeout(within + GRACE),
        // No thread to be had: the process ends as it is, which loses nothing acknowledged.
        Err(_) => Err(RecvTimeoutError::Disconnected),
    };
    match waited {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(_) => {
            tracing::error!("not stopped within its bound; ending the process");
            std::process::exit(exit::code_of_late_stop());
        }
    }
}
