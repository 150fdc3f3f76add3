//! A disk that is full and a database that became read-only: calls are refused, nothing is lost, and the server goes on by
//! itself when it can write again.
//!
//! A full disk is made by the limit on the size of files that a running process may write, which the system lets anybody
//! lower and raise. Writes then fail in their middle, as on a disk with nothing left. A disk that cannot keep what was
//! written is made by `strace`, which answers the calls of `fsync` with an error.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tempfile::NamedTempFile;
use tokio::process::Command;
use tokio::time::timeout;

use support::books::Books;
use support::oracle::Oracle;
use support::outage::Witness;
use support::server::Server;
use support::site::{Customer, Site, customer};

mod support;

const LIMIT_NANOS: i64 = 1_000_000_000;
/// A command that has not ended after this long does not end by itself.
const END_TIMEOUT: Duration = Duration::from_secs(30);
/// Every so-many-th flush of a connection fails. One that opens and migrates the database needs fewer.
const FLUSHES: u32 = 80;
/// Failed flushes after which the test ends.
const FAILURES: usize = 4;
/// Not even one page.
const NO_SPACE: &str = "--fsize=1:unlimited";
const SPACE: &str = "--fsize=unlimited:unlimited";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_calls_loses_nothing_and_is_over_when_there_is_space() {
    let (run, mut witness) = start().await;
    witness.answered("before").await;
    witness.begin_stream("running").await;

    set_space(&run.server, NO_SPACE).await;
    witness.refused("full").await;
    witness.stream_is_cut().await;
    set_space(&run.server, SPACE).await;

    witness.resumed("space").await;
    witness.answered("after").await;
    run.end(witness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_became_read_only_refuses_calls_until_it_can_be_written() {
    let (run, mut witness) = start().await;
    witness.answered("before").await;

    // The first failed write makes the server open the file again, which by then nobody may write.
    make_writable(&run.site.data(), false);
    set_space(&run.server, NO_SPACE).await;
    witness.refused("full").await;
    set_space(&run.server, SPACE).await;
    witness.refused("read-only").await;
    make_writable(&run.site.data(), true);

    witness.resumed("writable").await;
    witness.answered("after").await;
    run.end(witness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_disk_fails_to_keep_is_written_again_before_anybody_is_told() {
    let trace = NamedTempFile::new().expect("a temporary file");
    let program = strace(trace.path(), &format!("inject=fsync,fdatasync:error=EIO:when={FLUSHES}+{FLUSHES}"));
    let (run, mut witness) = start_through(&program).await;

    let failures = || std::fs::read_to_string(trace.path()).expect("our own file").matches("EIO").count();
    let before = failures();
    for round in 0.. {
        witness.resumed(&format!("round {round}")).await;
        if failures() >= before + FAILURES {
            break;
        }
    }
    assert!(run.server.log().contains("reopening the database"), "{}", run.server.log());
    run.end(witness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_does_not_start_on_a_database_that_it_cannot_write() {
    let (Run { site, server, .. }, _) = start().await;
    server.stop().await;
    make_writable(&site.data(), false);
    let (config, data) = (site.config(), site.data());
    let output = without_privileges(&support::server::binary().to_string_lossy())
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(config)
        .arg("--data")
        .arg(data.as_os_str())
        .output();
    let output = timeout(END_TIMEOUT, output).await.expect("it ends by itself").expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("writable") || said.contains("Permission denied"), "{said}");
    make_writable(&site.data(), true);
}

/// A server with a customer.
struct Run {
    site: Site,
    server: Server,
    customer: Customer,
}

async fn start() -> (Run, Witness) {
    start_through(&prefix()).await
}

/// The same through a program that becomes the server.
async fn start_through(program: &[String]) -> (Run, Witness) {
    let oracle = Oracle::start().await;
    let site = Site::new(&oracle, "");
    let server = site.serve_through(&program.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let customer = customer(&server, "ada", LIMIT_NANOS, json!({})).await;
    let witness = Witness::new(oracle, server.client(&customer.key));
    (Run { site, server, customer }, witness)
}

impl Run {
    async fn end(self, witness: Witness) {
        self.server.stop().await;
        let books = Books::read(&self.site, &self.customer.budget).await;
        books.check(LIMIT_NANOS);
        witness.check(&books);
    }
}

/// A write beyond the limit is an error and not a signal; and who owns all files must obey their modes like anybody else.
fn prefix() -> Vec<String> {
    let command = without_privileges("env");
    let words = [command.as_std().get_program()].into_iter().chain(command.as_std().get_args());
    let words = words.map(|word| word.to_string_lossy().into_owned());
    words.chain(["--ignore-signal=XFSZ".to_owned()]).collect()
}

/// Answers calls of the system in its place, and writes them down. The server stays our own child.
fn strace(trace: &Path, inject: &str) -> Vec<String> {
    let found = std::process::Command::new("strace").arg("-V").output();
    assert!(found.is_ok(), "this test needs `strace`: install it with `apt-get install strace`");
    let trace = trace.to_str().expect("UTF-8");
    let words =
        ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", trace, "-e", "trace=fsync,fdatasync", "-e", inject];
    words.map(str::to_owned).into()
}

/// The modes of files bind everybody but the superuser.
fn without_privileges(program: &str) -> Command {
    let is_superuser = std::fs::metadata("/proc/self").expect("a process").uid() == 0;
    if !is_superuser {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", program]);
    command
}

async fn set_space(server: &Server, limit: &str) {
    let pid = server.pid().to_string();
    let set = Command::new("prlimit").args(["--pid", &pid, limit]).status().await.expect("prlimit");
    assert!(set.success(), "prlimit {limit}");
}

fn make_writable(folder: &Path, writable: bool) {
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("our own file");
    };
    mode(folder, if writable { 0o700 } else { 0o500 });
    for entry in std::fs::read_dir(folder).expect("our own folder") {
        let path = entry.expect("our own folder").path();
        if path.is_file() {
            mode(&path, if writable { 0o600 } else { 0o400 });
        }
    }
}
