//! A node started and stopped in this process.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use bifrust_model::Settings;
use bifrust_node::config::{Config, Flags, Sources, Transport};
use bifrust_node::{RunningNode, StartError, start};

const WITHIN: Duration = Duration::from_secs(10);

fn config(data: &Path) -> Config {
    let free = || Some("127.0.0.1:0".to_owned());
    let sources = Sources {
        flags: Flags {
            data: Some(data.to_owned()),
            tcp: free(),
            ws: free(),
            api: free(),
            is_dev: true,
            ..Flags::default()
        },
        ..Sources::default()
    };
    sources.load().unwrap().config
}

fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Connects as an MQTT 3.1.1 client and returns the return code of CONNACK.
fn connect(node: &RunningNode, client_id: &str) -> u8 {
    let mut stream = TcpStream::connect(node.address(Transport::Tcp).unwrap()).unwrap();
    let id = client_id.as_bytes();
    let mut packet = vec![0x10, u8::try_from(12 + id.len()).unwrap(), 0, 4];
    packet.extend(b"MQTT\x04\x02\x00\x0a\x00");
    packet.push(u8::try_from(id.len()).unwrap());
    packet.extend(id);
    stream.write_all(&packet).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    answer[3]
}

#[test]
fn a_node_serves_stops_and_serves_again() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let node = start(config(folder.path())).unwrap();
        let api = node.api_address().unwrap();
        assert_eq!(connect(&node, "c"), 0);
        assert!(ask(api, "/readyz").contains("200 OK"));
        let metrics = ask(api, "/metrics");
        for meter in [
            "\nbifrust_ready 1\n",
            "bifrust_events_total{type=\"CLIENT_CONNECTED\"} 1\n",
            "\nprocess_open_fds ",
            "\nbifrust_kv_commands_total ",
        ] {
            assert!(metrics.contains(meter), "{meter} not in\n{metrics}");
        }
        node.stop(WITHIN);
        assert!(TcpStream::connect(api).is_err());
    }
}

#[test]
fn a_locked_data_folder_and_a_taken_port_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(config(&folder.path().join("a"))).unwrap();
    let locked = refused(config(&folder.path().join("a")));
    assert!(
        locked.is_locked() && !locked.is_address_in_use(),
        "{locked}"
    );

    let mut taken = config(&folder.path().join("b"));
    taken.listeners[0].address = node.address(Transport::Tcp).unwrap();
    let taken = refused(taken);
    assert!(taken.is_address_in_use() && !taken.is_locked(), "{taken}");

    let mut taken = config(&folder.path().join("b"));
    taken.api = node.api_address();
    assert!(refused(taken).is_address_in_use());
    // What was opened for the refused nodes is closed again.
    start(config(&folder.path().join("b")))
        .unwrap()
        .stop(WITHIN);
    node.stop(WITHIN);
}

fn refused(config: Config) -> StartError {
    match start(config) {
        Ok(_) => panic!("the node started"),
        Err(error) => error,
    }
}

#[test]
fn settings_change_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(config(folder.path())).unwrap();
    let long = "x".repeat(30);
    assert_eq!(connect(&node, &long), 0);
    let short_ids = Settings {
        max_client_id_length: 23,
        ..Settings::default()
    };
    node.replace_settings(short_ids, HashMap::new());
    assert_eq!(connect(&node, &long), 2);
    node.stop(WITHIN);
}

#[test]
fn without_users_everybody_is_refused_until_one_is_added() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.is_dev = false;
    config.auth.file = folder.path().join("users.toml");
    let node = start(config).unwrap();
    assert_eq!(connect(&node, "c"), 4);
    node.stop(WITHIN);
}
