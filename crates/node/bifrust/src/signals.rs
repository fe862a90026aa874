//! Signals as messages.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGTERM or SIGINT, the first time: stop gracefully.
    Stop,
    /// SIGHUP: read the settings again.
    Reload,
}

/// Signals of a server. A second SIGTERM or SIGINT ends the process at once.
pub(crate) fn of_server() -> std::io::Result<Receiver<Asked>> {
    let (sender, receiver) = sync_channel(16);
    listen(&[SIGTERM, SIGINT, SIGHUP], move |signal, is_second| {
        if signal == SIGHUP {
            let _ = sender.try_send(Asked::Reload); // one that waits is enough
        } else if is_second {
            end(signal);
        } else {
            let _ = sender.try_send(Asked::Stop); // the receiver has gone: it is stopping
        }
    })?;
    Ok(receiver)
}

/// Sends `message` at the first SIGTERM or SIGINT; a second one ends the process.
pub(crate) fn of_client<T: Send + 'static>(
    sender: SyncSender<T>,
    message: T,
) -> std::io::Result<()> {
    let mut message = Some(message);
    listen(&[SIGTERM, SIGINT], move |signal, is_second| {
        match message.take().filter(|_| !is_second) {
            Some(message) => {
                let _ = sender.try_send(message); // a full channel: the second signal ends it
            }
            None => end(signal),
        }
    })
}

fn listen(
    numbers: &[i32],
    mut handle: impl FnMut(i32, bool) + Send + 'static,
) -> std::io::Result<()> {
    let mut signals = Signals::new(numbers)?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut stops = 0;
            for signal in signals.forever() {
                stops += usize::from(signal != SIGHUP);
                handle(signal, stops > 1);
            }
        })?;
    Ok(())
}

fn end(signal: i32) -> ! {
    std::process::exit(128 + signal);
}
