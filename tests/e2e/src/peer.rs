//! The suite against another broker: `BIFRUST_E2E_PEER=mosquitto` starts Debian's mosquitto in
//! place of bifrust, to see whether a test or the broker misreads the standard. Tests of bifrust's
//! own features fail there.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::broker::Addresses;

/// The command that starts the peer, if one is asked for.
pub(crate) fn command(home: &Path) -> Option<Command> {
    is_asked_for().then(|| {
        let config = home.join("mosquitto.conf");
        if !config.exists() {
            fs::write(&config, configuration(home)).expect("the peer's config is written");
        }
        let mut command = Command::new("/usr/sbin/mosquitto");
        command.arg("-c").arg(config);
        command
    })
}

/// The peer's addresses, once it accepts.
pub(crate) fn ready(home: &Path) -> Option<Addresses> {
    if !is_asked_for() {
        return None;
    }
    let text = fs::read_to_string(home.join("mosquitto.conf")).ok()?;
    let ports = text
        .lines()
        .filter_map(|line| line.strip_prefix("listener "));
    let ports: Vec<u16> = ports
        .filter_map(|rest| rest.split(' ').next()?.parse().ok())
        .collect();
    let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    TcpStream::connect(address(ports[0])).ok()?;
    Some(Addresses {
        tcp: address(ports[0]),
        tls: None,
        ws: Some(address(ports[1])),
        wss: None,
        api: None,
    })
}

/// Whether the suite runs against a peer.
pub fn is_asked_for() -> bool {
    std::env::var("BIFRUST_E2E_PEER").is_ok_and(|peer| peer == "mosquitto")
}

fn configuration(home: &Path) -> String {
    let (tcp, ws) = (free_port(), free_port());
    format!(
        "user root\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
         autosave_interval 1\nautosave_on_changes true\nmax_queued_messages 0\n\
         listener {tcp} 127.0.0.1\nlistener {ws} 127.0.0.1\nprotocol websockets\n",
        home.display()
    )
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}
