//! The process dies, or the database does, at every point that the sources name: nothing that was acknowledged is lost,
//! nothing is booked twice, nothing is spent beyond a limit, nothing stays leased to the dead.
//!
//! `CFR_CRASH_HITS` says at how many of its times each point is where it ends; at all of them when it is large.
#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cfr_billing::conformance::crash::{self, Transcript};
use cfr_store_postgres::PostgresStore;
use cfr_testbed::Postgres;
use support::callers_clock;
use tempfile::TempDir;

/// Times that each point is where the process ends, unless the environment says otherwise.
const HITS: u32 = 3;
/// The same for the server, which takes longer to come back.
const SERVER_HITS: u32 = 1;
/// Coming back, the server need not open each of its files to know that they are on the disk.
const SYNC_AT_ONCE: &str = "recovery_init_sync_method=syncfs";
/// With this variable, the test binary is the process that dies: the folder of its transcript.
const FOLDER: &str = "CFR_CRASH_FOLDER";
/// Its database.
const DATABASE: &str = "CFR_CRASH_DATABASE";
/// Where it ends, and the how-many-th time it comes by.
const POINT: &str = "CFR_CRASH_POINT";
const HIT: &str = "CFR_CRASH_HIT";
/// What ends there, instead of the process.
const SERVER: &str = "CFR_CRASH_SERVER";
/// What the other process says when it waits for the end of its server.
const HERE: &str = "here the server ends";
/// `SIGABRT`.
const ABORTED: i32 = 6;

#[tokio::test]
async fn wherever_the_process_dies_the_books_agree() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return live_and_die(Path::new(&folder)).await;
    }
    let postgres = Postgres::shared().await;
    for (point, hit) in ends(postgres, HITS).await {
        let home = Home::new(postgres).await;
        let died = home.command(&[(POINT, point.clone()), (HIT, hit.to_string())]).output().unwrap();
        assert_eq!(died.status.signal(), Some(ABORTED), "{point}, hit {hit}: {}", said(&died));
        println!("the process ended at {point}, hit {hit}");
        home.check().await;
    }
}

#[tokio::test]
async fn wherever_the_database_dies_the_books_agree() {
    let postgres = Postgres::start_with(&[SYNC_AT_ONCE]).await;
    for (point, hit) in ends(&postgres, SERVER_HITS).await {
        let home = Home::new(&postgres).await;
        let variables = [(POINT, point.clone()), (HIT, hit.to_string()), (SERVER, "1".to_owned())];
        let mut command = home.command(&variables);
        let mut other = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(HERE)), "{point}, hit {hit} is never come by");
        postgres.restart_immediate().await;
        writeln!(other.stdin.take().unwrap(), "go on").unwrap();
        lines.for_each(drop);
        let ended = other.wait().unwrap();
        assert!(ended.success(), "{point}, hit {hit}: the process must outlive its server: {ended}");
        println!("the server ended at {point}, hit {hit}");
        home.check().await;
    }
}

/// Every point with the times at which to end there.
async fn ends(postgres: &Postgres, hits_max: u32) -> Vec<(String, u32)> {
    let hits = hits_of_a_whole_life(postgres).await;
    let declared = crash::declared_points(&sources());
    assert_eq!(
        hits.keys().cloned().collect::<Vec<_>>(),
        declared.into_iter().collect::<Vec<_>>(),
        "points that are hit"
    );
    let hits_max = std::env::var("CFR_CRASH_HITS").map_or(hits_max, |count| count.parse().expect("a number"));
    let times = |(point, count): (String, u32)| {
        crash::hits_to_try(count, hits_max).into_iter().map(move |hit| (point.clone(), hit))
    };
    hits.into_iter().flat_map(times).collect()
}

/// Every point with how often one undisturbed workload comes by.
async fn hits_of_a_whole_life(postgres: &Postgres) -> BTreeMap<String, u32> {
    let home = Home::new(postgres).await;
    let lived = home.command(&[]).output().unwrap();
    assert!(lived.status.success(), "the workload fails without any crash: {}", said(&lived));
    let text = std::fs::read_to_string(home.folder.path().join("hits")).unwrap();
    let hits = text.lines().map(|line| line.split_once(' ').unwrap());
    hits.map(|(point, count)| (point.to_owned(), count.parse().unwrap())).filter(|(_, count)| *count > 0).collect()
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// A database, and the transcript of who used it.
struct Home {
    folder: TempDir,
    url: String,
}

impl Home {
    async fn new(postgres: &Postgres) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), url: postgres.database().await }
    }

    /// The workload as another process.
    fn command(&self, variables: &[(&str, String)]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "wherever_the_process_dies_the_books_agree", "--nocapture"])
            .env(FOLDER, self.folder.path())
            .env(DATABASE, &self.url)
            .envs(variables.iter().map(|(name, value)| (name, value)));
        command
    }

    async fn check(&self) {
        let store = PostgresStore::open(&self.url, callers_clock()).await.unwrap();
        crash::check(Arc::new(store), &transcript_path(self.folder.path())).await;
    }
}

fn said(output: &Output) -> String {
    format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))
}

fn transcript_path(folder: &Path) -> PathBuf {
    folder.join("transcript")
}

/// In the other process: counts every point, and ends at the one that was named.
async fn live_and_die(folder: &Path) {
    let transcript = Transcript::create(&transcript_path(folder)).unwrap();
    let store = PostgresStore::open(&std::env::var(DATABASE).unwrap(), callers_clock()).await.unwrap();
    let deadly = std::env::var(POINT).ok();
    let deadly_hit: u32 = std::env::var(HIT).map_or(u32::MAX, |hit| hit.parse().unwrap());
    let mut counts = Vec::new();
    for point in crash::declared_points(&sources()) {
        let count = Arc::new(AtomicU32::new(0));
        counts.push((point.clone(), count.clone()));
        let is_deadly = deadly.as_ref() == Some(&point);
        let come_by = move || {
            if count.fetch_add(1, Ordering::SeqCst) + 1 == deadly_hit && is_deadly {
                end();
            }
        };
        fail::cfg_callback(point, come_by).unwrap();
    }
    let worked = crash::work(&store, transcript).await;
    assert!(worked.is_ok() || std::env::var_os(SERVER).is_some(), "{worked:?}");
    let lines = counts.iter().map(|(point, count)| format!("{point} {}\n", count.load(Ordering::SeqCst)));
    std::fs::write(folder.join("hits"), lines.collect::<String>()).unwrap();
}

/// The end of this process, or of its server: then it goes on when the server is back.
fn end() {
    if std::env::var_os(SERVER).is_none() {
        std::process::abort();
    }
    std::io::stdout().write_all(format!("{HERE}\n").as_bytes()).unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
}
