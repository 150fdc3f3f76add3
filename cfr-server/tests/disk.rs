//! A disk that is full and a database that became read-only: calls are refused, nothing is lost, and the server goes on by
//! itself when it can write again.
//!
//! A full disk is made by the limit on the size of files that a running process may write, which the system lets anybody
//! lower and raise. Writes then fail in their middle, as on a disk with nothing left.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

use support::books::Books;
use support::client::{Client, Seen};
use support::oracle::{Oracle, Script, Served};
use support::price::price_nanos;
use support::server::Server;
use support::site::{Customer, Site, customer};

mod support;

const LIMIT_NANOS: i64 = 1_000_000_000;
/// Calls before, during and after.
const CALLS: u32 = 8;
/// A server that does not go on after this long does not go on by itself.
const RESUME_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two questions whether it goes on.
const RESUME_POLL: Duration = Duration::from_millis(50);
/// Not even one page.
const NO_SPACE: &str = "--fsize=1:unlimited";
const SPACE: &str = "--fsize=unlimited:unlimited";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_calls_loses_nothing_and_is_over_when_there_is_space() {
    let mut run = Run::start().await;
    run.answered("before").await;
    let running = run.begin_stream("running").await;

    set_space(&run.server, NO_SPACE).await;
    run.refused("full").await;
    run.keep("running", running.await.expect("the client lives"));
    set_space(&run.server, SPACE).await;

    run.resumed("space").await;
    run.answered("after").await;
    run.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_became_read_only_refuses_calls_until_it_can_be_written() {
    let mut run = Run::start().await;
    run.answered("before").await;

    // The first failed write makes the server open the file again, which by then nobody may write.
    make_writable(&run.site.data(), false);
    set_space(&run.server, NO_SPACE).await;
    run.refused("full").await;
    set_space(&run.server, SPACE).await;
    run.refused("read-only").await;
    make_writable(&run.site.data(), true);

    run.resumed("writable").await;
    run.answered("after").await;
    run.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_does_not_start_on_a_database_that_it_cannot_write() {
    let run = Run::start().await;
    let site = run.site;
    run.server.stop().await;
    make_writable(&site.data(), false);
    let (config, data) = (site.config(), site.data());
    let output = without_privileges(&support::server::binary().to_string_lossy())
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(config)
        .arg("--data")
        .arg(data.as_os_str())
        .output();
    let output = timeout(RESUME_TIMEOUT, output).await.expect("it ends by itself").expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("writable") || said.contains("Permission denied"), "{said}");
    make_writable(&site.data(), true);
}

/// A server with a customer, and all that was ever asked.
struct Run {
    oracle: Oracle,
    site: Site,
    server: Server,
    customer: Customer,
    seen: BTreeMap<String, Seen>,
}

impl Run {
    async fn start() -> Self {
        let oracle = Oracle::start().await;
        let site = Site::new(&oracle, "");
        let program = prefix();
        let server = site.serve_through(&program.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let customer = customer(&server, "ada", LIMIT_NANOS, json!({})).await;
        Self { oracle, site, server, customer, seen: BTreeMap::new() }
    }

    fn client(&self) -> Client {
        self.server.client(&self.customer.key)
    }

    async fn answered(&mut self, phase: &str) {
        for seen in self.ask(phase).await {
            assert_eq!(seen.status, 200, "{phase}: {}", seen.text());
        }
    }

    async fn refused(&mut self, phase: &str) {
        for seen in self.ask(phase).await {
            assert_eq!((seen.status, seen.error_code().as_str()), (503, "ledger_unavailable"), "{phase}");
        }
    }

    async fn ask(&mut self, phase: &str) -> Vec<Seen> {
        let mut answers = Vec::new();
        for number in 0..CALLS {
            let id = format!("{phase}-{number}");
            let seen = self.client().chat(&short(&id), false).await;
            self.keep(&id, seen.clone());
            answers.push(seen);
        }
        answers
    }

    /// A stream that is under way when this returns.
    async fn begin_stream(&self, id: &str) -> tokio::task::JoinHandle<Seen> {
        let client = self.client();
        let script = Script { id: id.to_owned(), input: 9, output: 40, gap_ms: 25, ..Script::default() };
        let asked = script.id.clone();
        let stream = tokio::spawn(async move { client.chat(&script, true).await });
        timeout(RESUME_TIMEOUT, self.oracle.served_until(&asked, |served| served.output > 0)).await.expect("it begins");
        stream
    }

    /// Asks until the server answers again.
    async fn resumed(&mut self, phase: &str) {
        let asked = async {
            for number in 0.. {
                let id = format!("{phase}-{number}");
                let seen = self.client().chat(&short(&id), false).await;
                let status = seen.status;
                self.seen.insert(id, seen);
                match status {
                    200 => return,
                    503 => tokio::time::sleep(RESUME_POLL).await,
                    _ => panic!("{phase}: {status}"),
                }
            }
        };
        timeout(RESUME_TIMEOUT, asked).await.unwrap_or_else(|_| panic!("the server does not go on by itself: {phase}"));
    }

    fn keep(&mut self, id: &str, seen: Seen) {
        self.seen.insert(id.to_owned(), seen);
    }

    /// What was answered is charged once, and nobody for more than was served.
    async fn end(self) {
        self.server.stop().await;
        let books = Books::read(&self.site, &self.customer.budget).await;
        books.check(LIMIT_NANOS);
        let served: BTreeMap<String, Served> = self.oracle.served();
        let by_tag = books.by_tag();
        for (tag, records) in &by_tag {
            assert_eq!(records.len(), 1, "{tag} is charged once");
            let full = price_nanos(served[*tag].input, served[*tag].output);
            assert!(records[0].charged_nanos <= full, "{tag} is charged for no more than was served");
        }
        for (id, seen) in self.seen.iter().filter(|(_, seen)| seen.status == 200) {
            let record = by_tag.get(id.as_str()).unwrap_or_else(|| panic!("{id} was answered and not charged"))[0];
            if seen.whole {
                assert_eq!(record.charged_nanos, price_nanos(served[id].input, served[id].output), "{id}");
            }
        }
    }
}

fn short(id: &str) -> Script {
    Script { id: id.to_owned(), input: 9, output: 5, gap_ms: 2, ..Script::default() }
}

/// A write beyond the limit is an error and not a signal; and who owns all files must obey their modes like anybody else.
fn prefix() -> Vec<String> {
    let command = without_privileges("env");
    let words = [command.as_std().get_program()].into_iter().chain(command.as_std().get_args());
    let words = words.map(|word| word.to_string_lossy().into_owned());
    words.chain(["--ignore-signal=XFSZ".to_owned()]).collect()
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
