//! What the tests need from outside: fetched once into the target folder, or listed as skipped.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Says that something was left out and why; a failure where no skip is allowed (`CI` set, or
/// `BIFRUST_ALLOW_SKIP=0`).
pub fn skip(what: &str, why: &str) {
    let line = format!("SKIPPED: {what}: {why}\n");
    // Past the test runner's capture: a skip is always seen.
    let _ = std::io::stderr().write_all(line.as_bytes()); // nowhere else to say it
    if let Some(list) = std::env::var_os("BIFRUST_SKIP_LIST") {
        let file = fs::OpenOptions::new().create(true).append(true).open(list);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the list of skips");
    }
    let is_allowed = match std::env::var("BIFRUST_ALLOW_SKIP") {
        Ok(allow) => allow != "0",
        Err(_) => std::env::var_os("CI").is_none(),
    };
    assert!(is_allowed, "no skip is allowed here: {line}");
}

/// A folder that holds what is fetched, and the lock under which it is filled.
fn locked_cache(root: &str) -> (PathBuf, File) {
    let folder = Path::new(root).join("bifrust-e2e-clients");
    fs::create_dir_all(&folder).expect("the target folder is ours");
    let lock = File::create(folder.join("lock")).expect("the target folder is ours");
    lock.lock().expect("a lock");
    (folder, lock)
}

/// Runs a command quietly; its output if it failed.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    let tail: Vec<&str> = text.lines().rev().take(6).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    Err(format!(
        "{command:?}: {}: {}",
        output.status,
        tail.join(" | ")
    ))
}

/// Whether `stamp` holds `content`: then what it stands for has been fetched.
fn is_fetched(stamp: &Path, content: &[u8]) -> bool {
    fs::read(stamp).is_ok_and(|found| found == content)
}

/// A Python with the packages of `requirements`, in a virtual environment below `root`.
pub fn python(root: &str, requirements: &Path) -> Result<PathBuf, String> {
    let (folder, _lock) = locked_cache(root);
    let venv = folder.join("python");
    let python = venv.join("bin/python");
    let wanted = fs::read(requirements).map_err(|error| error.to_string())?;
    let stamp = venv.join("requirements.stamp");
    if is_fetched(&stamp, &wanted) {
        return Ok(python);
    }
    let _ = fs::remove_dir_all(&venv); // not there at first
    let mut made = run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    if made.is_err() {
        install(&["python3-venv"])?;
        made = run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&venv));
    }
    made?;
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    run(Command::new(&python)
        .args(pip)
        .args(["--require-hashes", "-r"])
        .arg(requirements))?;
    fs::write(stamp, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

/// A folder below `root` with the scripts of `source` and the packages of its lock file.
pub fn node(root: &str, source: &Path) -> Result<PathBuf, String> {
    let (folder, _lock) = locked_cache(root);
    let home = folder.join("node");
    fs::create_dir_all(&home).map_err(|error| error.to_string())?;
    for name in ["package.json", "package-lock.json", "driver.mjs"] {
        let wanted = fs::read(source.join(name)).map_err(|error| error.to_string())?;
        // Another test may be about to run what is there.
        if !is_fetched(&home.join(name), &wanted) {
            fs::write(home.join(name), wanted).map_err(|error| error.to_string())?;
        }
    }
    let wanted = fs::read(source.join("package-lock.json")).map_err(|error| error.to_string())?;
    let stamp = home.join("lock.stamp");
    if is_fetched(&stamp, &wanted) {
        return Ok(home);
    }
    if !has("node") || !has("npm") {
        install(&["nodejs", "npm"])?;
    }
    let options = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"];
    run(Command::new("npm").args(options).current_dir(&home))?;
    fs::write(stamp, wanted).map_err(|error| error.to_string())?;
    Ok(home)
}

/// A program, from a Debian package where it is missing.
pub fn program(root: &str, program: &str, package: &str) -> Result<(), String> {
    let (_folder, _lock) = locked_cache(root);
    if has(program) {
        return Ok(());
    }
    install(&[package])
}

/// Whether a program is on the path.
pub fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

/// Installs Debian packages, as root or through a sudo that asks nothing.
fn install(packages: &[&str]) -> Result<(), String> {
    let apt = |arguments: &[&str]| {
        let mut command = if rustix::process::getuid().is_root() {
            Command::new("apt-get")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
            sudo
        };
        run(command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(arguments))
    };
    if !has("apt-get") {
        return Err(format!("{packages:?} are missing, and there is no apt-get"));
    }
    let all: Vec<&str> = ["install", "-y", "--no-install-recommends"]
        .iter()
        .chain(packages)
        .copied()
        .collect();
    apt(&all).or_else(|_| {
        apt(&["update"])?;
        apt(&all)
    })
}
