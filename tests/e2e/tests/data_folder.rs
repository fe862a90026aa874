//! Data folders that are locked, read-only, newer, damaged or full: a clear answer each.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bifrust_e2e::broker::{Builder, bifrust, run_command};
use bifrust_e2e::{Broker, Connect, Publish, Version};
use bifrust_fault::{Failure, LossyDisk};
use tempfile::TempDir;

/// A folder with a session and a message in it, its broker stopped.
fn used_folder() -> TempDir {
    let folder = TempDir::with_prefix("bifrust-folder-").expect("a folder");
    let mut broker = Broker::builder().data(folder.path()).start();
    let mut client = broker.connect(&Connect::persistent(Version::V5, "kept"));
    client.subscribe("kept", 1);
    client.disconnect();
    broker
        .connect(&Connect::v5("writer"))
        .publish(&Publish::new("kept", "x").qos(1));
    assert!(broker.terminate().success());
    folder
}

/// The broker must not start on `folder`, must say all of `words`, and must leave it usable.
fn refused(folder: &Path, words: &[&str]) -> i32 {
    let (status, log) = Builder::default().data(folder).run_to_end();
    assert!(!status.success(), "it started:\n{log}");
    for word in words {
        assert!(log.contains(word), "{word:?} is not in:\n{log}");
    }
    assert!(!log.contains("panicked"), "{log}");
    status.code().expect("it exits by itself")
}

fn usable(folder: &Path) {
    let broker = Broker::builder().data(folder).start();
    let mut client = broker.connect(&Connect::persistent(Version::V5, "kept"));
    assert!(client.is_present);
    assert_eq!(client.receive().text(), "x");
}

#[test]
fn locked_by_another_process() {
    let broker = Broker::start();
    let pid = broker.pid().to_string();
    let folder = broker.data().display().to_string();
    assert_eq!(refused(broker.data(), &[&folder, &pid]), 3);
    broker.connect(&Connect::v5("still")).ping();
}

#[test]
fn manifest_of_a_newer_version() {
    let folder = used_folder();
    let manifest = folder.path().join("manifest.json");
    let before = fs::read_to_string(&manifest).expect("a manifest");
    let mut value: serde_json::Value = serde_json::from_str(&before).expect("JSON");
    value["format_version"] = 999.into();
    value["something_new"] = "x".into();
    fs::write(&manifest, value.to_string()).expect("written");
    let after = fs::read_to_string(&manifest).expect("a manifest");
    refused(folder.path(), &["999", "newer"]);
    assert_eq!(
        fs::read_to_string(&manifest).expect("a manifest"),
        after,
        "left as it was"
    );
    fs::write(&manifest, before).expect("written");
    usable(folder.path());
}

#[test]
fn damaged_manifest() {
    let folder = used_folder();
    let manifest = folder.path().join("manifest.json");
    let before = fs::read(&manifest).expect("a manifest");
    let cut = before[..before.len() / 2].to_vec();
    for damage in [
        Vec::new(),
        cut,
        b"\0\0\0\0".to_vec(),
        b"{}".to_vec(),
        b"[1, 2]".to_vec(),
    ] {
        fs::write(&manifest, &damage).expect("written");
        refused(folder.path(), &["manifest"]);
        assert_eq!(
            fs::read(&manifest).expect("a manifest"),
            damage,
            "left as it was"
        );
    }
    fs::remove_file(&manifest).expect("removed");
    refused(folder.path(), &["manifest"]);
    fs::write(&manifest, before).expect("written");
    usable(folder.path());
}

#[test]
fn no_folder_at_all() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").expect("written");
    refused(&file, &["data folder", "file"]);
    refused(&file.join("below"), &["data folder", "below"]);
    refused(
        Path::new("/proc/bifrust"),
        &["data folder", "/proc/bifrust"],
    );
}

#[test]
fn read_only_folder() {
    let folder = used_folder();
    let nobody = TempDir::new().expect("a folder");
    let copy = nobody.path().join("bifrust");
    fs::copy(bifrust(), &copy).expect("the program is copied");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
    };
    mode(nobody.path(), 0o755);
    mode(&copy, 0o755);
    set_tree(folder.path(), 0o555, 0o444);
    // Permissions bind root not at all: it becomes nobody first.
    let is_root = rustix::process::getuid().is_root();
    let mut command = Command::new(if is_root { Path::new("setpriv") } else { &copy });
    if is_root {
        command
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&copy);
    }
    command.args([
        "start",
        "--dev",
        "--tcp",
        "127.0.0.1:0",
        "--ws",
        "off",
        "--api",
        "off",
    ]);
    let output = run_command(command.arg("--data").arg(folder.path()), "");
    set_tree(folder.path(), 0o755, 0o644);
    assert!(output.code > 0, "{output:?}");
    let path = folder.path().display().to_string();
    assert!(output.stderr.contains(&path), "{output:?}");
    let said = output.stderr.to_lowercase();
    assert!(
        said.contains("permission denied") || said.contains("read-only"),
        "{output:?}"
    );
    assert!(!said.contains("panicked"), "{output:?}");
    usable(folder.path());
}

fn set_tree(path: &Path, folders: u32, files: u32) {
    let entries: Vec<_> = fs::read_dir(path).expect("a folder").flatten().collect();
    for entry in entries {
        if entry.path().is_dir() {
            set_tree(&entry.path(), folders, files);
        } else {
            let permissions = fs::Permissions::from_mode(files);
            fs::set_permissions(entry.path(), permissions).expect("our own file");
        }
    }
    fs::set_permissions(path, fs::Permissions::from_mode(folders)).expect("our own folder");
}

#[test]
fn writes_stop_at_the_free_space_floor() {
    let folder = used_folder();
    let config = format!("[storage]\nfree_bytes_min = {}\n", 1_u64 << 50);
    let mut broker = Broker::builder().data(folder.path()).config(config).start();
    let mut writer = broker.connect(&Connect::v5("writer"));
    // Known not to be applied: v5 hears so (C1, C7).
    let code = writer.publish(&Publish::new("kept", "refused").qos(1));
    assert!(matches!(code, 0x83 | 0x97), "{code:#04x}");
    let code = writer.publish(&Publish::new("retained", "refused").qos(1).retain());
    assert!(matches!(code, 0x83 | 0x97), "{code:#04x}");
    assert!(broker.is_running());
    assert!(broker.terminate().success());
    usable(folder.path());
}

#[test]
fn a_full_disk_ends_the_process_and_loses_nothing() {
    for failure in [Failure::Write, Failure::Sync] {
        let home = TempDir::new().expect("a folder");
        let disk = LossyDisk::new(home.path().join("data"), home.path().join("undo"));
        let disk = Arc::new(disk.expect("the preloaded library builds"));
        let mut broker = Broker::builder().disk(Arc::clone(&disk)).start();
        let keep = Connect::persistent(Version::V5, "kept");
        let mut client = broker.connect(&keep);
        client.subscribe("kept", 1);
        client.disconnect();
        let mut writer = broker.connect(&Connect::v5("writer"));
        writer.publish(&Publish::new("kept", "x").qos(1));
        disk.fail(failure).expect("a switch file");
        writer.send_publish(&Publish::new("kept", "never acknowledged").qos(1));
        let status = broker.wait_end(std::time::Duration::from_secs(20));
        assert!(
            !status.success() && status.code().is_some(),
            "{failure:?}: {status}"
        );
        writer.expect_closed();
        disk.heal().expect("the switch file goes");
        broker.restart();
        let mut client = broker.connect(&keep);
        assert!(client.is_present);
        assert_eq!(client.receive().text(), "x", "{failure:?}");
    }
}
