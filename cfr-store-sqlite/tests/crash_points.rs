//! The process dies at every point that the sources name, at every time that a workload comes by: nothing that was
//! acknowledged is lost, nothing is booked twice, nothing is spent beyond a limit, nothing stays leased to the dead.
//!
//! `CFR_CRASH_HITS` says at how many of its times each point ends the process; all of them when it is large.
#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cfr_billing::conformance::crash::{self, Transcript};
use cfr_store_sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

/// Times that each point ends the process unless the environment says otherwise.
const HITS: u32 = 6;
/// With this variable, the test binary is the process that dies: the folder of its store.
const FOLDER: &str = "CFR_CRASH_FOLDER";
/// Where it dies, and the how-many-th time it comes by.
const POINT: &str = "CFR_CRASH_POINT";
const HIT: &str = "CFR_CRASH_HIT";

#[tokio::test]
async fn wherever_the_process_dies_the_books_agree() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return live_and_die(Path::new(&folder)).await;
    }
    let hits = hits_of_a_whole_life();
    let declared = crash::declared_points(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert_eq!(
        hits.keys().cloned().collect::<Vec<_>>(),
        declared.into_iter().collect::<Vec<_>>(),
        "points that are hit"
    );
    let hits_max = std::env::var("CFR_CRASH_HITS").map_or(HITS, |count| count.parse().expect("a number"));
    for (point, count) in hits {
        for hit in crash::hits_to_try(count, hits_max) {
            let home = Home::new();
            let died = home.run(&[(POINT, point.clone()), (HIT, hit.to_string())]);
            assert_eq!(died.status.signal(), Some(ABORTED), "{point}, hit {hit} of {count}: {}", said(&died));
            println!("{point}, hit {hit} of {count}");
            home.check().await;
        }
    }
}

/// `SIGABRT`.
const ABORTED: i32 = 6;

/// Every point with how often one undisturbed workload comes by.
fn hits_of_a_whole_life() -> BTreeMap<String, u32> {
    let home = Home::new();
    let lived = home.run(&[]);
    assert!(lived.status.success(), "the workload fails without any crash: {}", said(&lived));
    let text = std::fs::read_to_string(home.folder.path().join("hits")).unwrap();
    let hits = text.lines().map(|line| line.split_once(' ').unwrap());
    hits.map(|(point, count)| (point.to_owned(), count.parse().unwrap())).filter(|(_, count)| *count > 0).collect()
}

/// A folder with a store, and the transcript of who used it.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Runs the workload in another process.
    fn run(&self, variables: &[(&str, String)]) -> Output {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "wherever_the_process_dies_the_books_agree", "--nocapture"])
            .env(FOLDER, self.folder.path())
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .output()
            .unwrap()
    }

    async fn check(&self) {
        let store = SqliteStore::open(store_path(self.folder.path()), SqliteOptions::default()).await.unwrap();
        crash::check(Arc::new(store), &transcript_path(self.folder.path())).await;
    }
}

fn said(output: &Output) -> String {
    format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))
}

fn store_path(folder: &Path) -> PathBuf {
    folder.join("cfr.db")
}

fn transcript_path(folder: &Path) -> PathBuf {
    folder.join("transcript")
}

/// In the other process: counts every point, and ends the process at the one that was named.
async fn live_and_die(folder: &Path) {
    let transcript = Transcript::create(&transcript_path(folder)).unwrap();
    let store = SqliteStore::open(store_path(folder), SqliteOptions::default()).await.unwrap();
    let deadly = std::env::var(POINT).ok();
    let deadly_hit: u32 = std::env::var(HIT).map_or(u32::MAX, |hit| hit.parse().unwrap());
    let mut counts = Vec::new();
    for point in crash::declared_points(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let count = Arc::new(AtomicU32::new(0));
        counts.push((point.clone(), count.clone()));
        let is_deadly = deadly.as_ref() == Some(&point);
        let come_by = move || {
            if count.fetch_add(1, Ordering::SeqCst) + 1 == deadly_hit && is_deadly {
                std::process::abort();
            }
        };
        fail::cfg_callback(point, come_by).unwrap();
    }
    crash::work(&store, transcript).await.unwrap();
    let lines = counts.iter().map(|(point, count)| format!("{point} {}\n", count.load(Ordering::SeqCst)));
    std::fs::write(folder.join("hits"), lines.collect::<String>()).unwrap();
}
