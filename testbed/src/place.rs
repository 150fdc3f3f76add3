//! Where a server lives: its folder, its user, its port and its program.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports for servers. They lie below those that systems give to clients, so that a server that is stopped finds its port
/// free when it starts again.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Where programs lie that a package does not put on the path; the last folder of a kind is the newest version.
const POSTGRES_HOME: &str = "/usr/lib/postgresql";

/// Users to run servers as when the tests run as root, in the order of preference.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// Whom a server runs as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The user for servers; none when the tests do not run as root, and servers can run as their user.
pub(crate) fn user() -> Option<User> {
    static USER: OnceLock<Option<User>> = OnceLock::new();
    *USER.get_or_init(|| (id("-u", None) == Some(0)).then(unprivileged))
}

fn unprivileged() -> User {
    let found = USERS.iter().find_map(|name| Some(User { uid: id("-u", Some(name))?, gid: id("-g", Some(name))? }));
    found.unwrap_or_else(|| panic!("servers do not run as root, and this machine has no user named {USERS:?}"))
}

fn id(which: &str, name: Option<&str>) -> Option<u32> {
    let output = Command::new("id").arg(which).args(name).output().expect("`id` runs");
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// A new folder that only the user of servers can enter. Its supervisor deletes it.
pub(crate) fn folder(purpose: &str) -> PathBuf {
    let folder =
        tempfile::Builder::new().prefix(&format!("cfr-{purpose}-")).tempdir().expect("a temporary folder").keep();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).expect("the folder is ours");
    give(&folder);
    folder
}

/// Writes a file for the user of servers.
pub(crate) fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
    give(path);
}

fn give(path: &Path) {
    if let Some(user) = user() {
        std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).expect("root can give files away");
    }
}

/// A port that nobody uses at the moment.
pub(crate) fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU16::new(random_u16()));
    let width = PORTS.end - PORTS.start;
    (0..width)
        .map(|_| PORTS.start + next.fetch_add(1, Ordering::Relaxed) % width)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a free port on the loopback")
}

/// Processes that start at the same time must not try the same ports in the same order.
fn random_u16() -> u16 {
    let [first, second, ..] = RandomState::new().hash_one(std::process::id()).to_le_bytes();
    u16::from_le_bytes([first, second])
}

/// The full path of a program, from the path or from where Postgres keeps its own.
pub(crate) fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = postgres_folders().into_iter().chain(std::env::split_paths(&path)).chain(["/usr/sbin".into()]);
    let found = found.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("this test starts a real `{name}` and found none: run `apt-get install {package}`"))
}

/// The newest version first.
fn postgres_folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(POSTGRES_HOME).into_iter().flatten().flatten();
    let mut versions: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.iter().map(|version| Path::new(POSTGRES_HOME).join(version.to_string()).join("bin")).collect()
}
