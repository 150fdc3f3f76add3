//! `cfr-server store copy` of the real binary: from SQLite into Postgres and back.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use cfr_store_sqlite::{SqliteOptions, SqliteStore};
use cfr_testbed::Postgres;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

/// A data folder with a customer, a key and some money in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        folder.done(&["migrate"]);
        folder.done(&["tenant", "create", "acme", "--name", "Acme GmbH"]);
        folder.done(&["product", "create", "basic", "--name", "Basic", "--price", "20", "--budget", "10"]);
        folder.done(&["user", "create", "anna@acme.example", "--tenant", "acme", "--product", "basic"]);
        folder.done(&["budget", "grant", "anna@acme.example", "2.50", "--reason", "welcome"]);
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The address of an SQLite database in the folder.
    fn url(&self, name: &str) -> String {
        format!("sqlite:{}", self.file(name).display())
    }

    fn run(&self, arguments: &[&str]) -> Output {
        command().args(arguments).arg("--data").arg(self.path()).output().expect("the binary runs")
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

/// Runs the binary with nothing of our own environment that it reads.
fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cfr-server"));
    for name in ["CFR_SERVER_URL", "CFR_ADMIN_KEY", "CFR_DATA", "CFR_CONFIG", "CFR_KEY_PEPPER", "CFR_DATABASE_URL"] {
        command.env_remove(name);
    }
    command.current_dir(std::env::temp_dir());
    command
}

fn copy(from: &str, to: &str, more: &[&str]) -> Output {
    command().args(["store", "copy", "--from", from, "--to", to]).args(more).output().expect("the binary runs")
}

/// What a copy that succeeds counted, section by section.
#[track_caller]
fn copied(from: &str, to: &str, more: &[&str]) -> Value {
    let output = copy(from, to, &[&["--json"], more].concat());
    assert!(output.status.success(), "{from} → {to}: {}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    report.get("sections").expect("what was counted").clone()
}

/// The last line of a copy that fails.
#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    text(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn the_books_move_to_postgres_and_back_and_the_commands_go_on() {
    let folder = Folder::new();
    let (here, there) = (folder.url("cfr.db"), Postgres::shared().await.database().await);
    let back = folder.url("back/cfr.db");
    let budgets = folder.done(&["budget", "list", "--json"]);
    let before = std::fs::read(folder.file("cfr.db")).expect("the file");

    let rehearsed = copied(&here, &there, &["--dry-run"]);
    let moved = copied(&here, &there, &[]);
    assert_eq!(moved, rehearsed);
    assert_eq!(copied(&there, &back, &[]), moved, "back again, everything is as it was");
    assert_eq!(std::fs::read(folder.file("cfr.db")).expect("the file"), before, "the source is unchanged");
    let rights = std::fs::metadata(folder.file("back")).expect("the folder").permissions().mode();
    assert_eq!(rights & 0o077, 0, "a folder that was made for the books is its owner's alone");

    for database in [there.as_str(), back.as_str()] {
        folder.done(&["ledger", "verify", "--database", database]);
        assert_eq!(folder.done(&["budget", "list", "--json", "--database", database]), budgets);
        folder.done(&["budget", "grant", "anna@acme.example", "1", "--reason", "moved", "--database", database]);
    }
}

#[tokio::test]
async fn a_server_with_another_pepper_is_refused_after_the_move() {
    let (folder, other) = (Folder::new(), tempfile::tempdir().expect("a folder"));
    let there = Postgres::shared().await.database().await;
    let output = copy(&folder.url("cfr.db"), &there, &[]);
    assert!(text(&output.stderr).contains("key.pepper"), "{}", text(&output.stderr));
    let data = other.path().to_str().expect("UTF-8");
    let elsewhere = command()
        .args(["serve", "--listen", "127.0.0.1:0", "--database", &there, "--data", data])
        .output()
        .expect("it runs");
    assert!(refused(&elsewhere).contains("pepper"), "{}", text(&elsewhere.stderr));
    folder.done(&["tenant", "list", "--database", &there]);
}

#[tokio::test]
async fn a_target_with_rows_and_a_source_in_use_are_refused() {
    let folder = Folder::new();
    let there = Postgres::shared().await.database().await;
    copied(&folder.url("cfr.db"), &there, &[]);
    for more in [&[][..], &["--dry-run"]] {
        let said = refused(&copy(&folder.url("cfr.db"), &there, more));
        assert!(said.contains("it is not empty") && said.contains("name an empty database"), "{said}");
    }
    let owner = SqliteStore::open(folder.file("cfr.db"), SqliteOptions::default()).await.expect("it opens");
    let said = refused(&copy(&folder.url("cfr.db"), &folder.url("other.db"), &[]));
    assert!(said.contains("in use by process") && said.contains("stop that process first"), "{said}");
    assert!(!folder.file("other.db").exists(), "nothing was made for a copy that cannot begin");
    owner.close().await.expect("it closes");
    let said = refused(&copy(&folder.url("cfr.db"), &folder.url("cfr.db"), &[]));
    assert!(said.contains("the same database"), "{said}");
}

#[test]
fn a_password_is_never_repeated() {
    let folder = Folder::new();
    for to in ["postgres://cfr:hush-hush@127.0.0.1:1/books", "postgre://cfr:hush-hush@127.0.0.1:1/books"] {
        let output = copy(&folder.url("cfr.db"), to, &[]);
        assert_eq!(output.status.code(), Some(1));
        assert!(!text(&output.stderr).contains("hush-hush"), "{}", text(&output.stderr));
    }
}

/// The copy is killed while it waits for a lock between two sections.
#[tokio::test]
async fn a_killed_copy_leaves_a_target_that_nobody_opens() {
    let folder = Folder::new();
    let postgres = Postgres::shared().await;
    let there = postgres.database().await;
    folder.done(&["migrate", "--database", &there]);
    let blocked = there.clone();
    let mut blocker = JoinSet::new();
    blocker.spawn(async move {
        let lock = "BEGIN; LOCK TABLE users IN SHARE MODE; SELECT pg_sleep(60)";
        Postgres::shared().await.try_execute(&blocked, lock).await
    });
    wait_for(&there, "SELECT count(*) FROM pg_locks WHERE mode = 'ShareLock' AND relation = 'users'::regclass").await;
    let mut copying = start_copy(&folder.url("cfr.db"), &there);
    wait_for(&there, "SELECT count(*) FROM products").await;
    copying.kill().expect("it runs");
    copying.wait().expect("it ends");
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
                  AND pid <> pg_backend_pid()";
    postgres.execute(&there, others).await;
    let blocked = blocker.join_next().await.expect("it began").expect("no panic");
    blocked.expect_err("its session was ended");

    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["ledger", "verify"], &["tenant", "list"]] {
        let output = folder.run(&[arguments, &["--database", &there]].concat());
        assert!(!output.status.success());
        let said = text(&output.stderr);
        assert!(said.contains("unfinished copy of sqlite:") && said.contains("copy into an empty one"), "{said}");
    }
    copied(&folder.url("cfr.db"), &postgres.database().await, &[]);
}

fn start_copy(from: &str, to: &str) -> Child {
    let mut command = command();
    command.args(["store", "copy", "--from", from, "--to", to]).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the binary runs")
}

/// Waits until a count is not zero.
async fn wait_for(database: &str, sql: &str) {
    let postgres = Postgres::shared().await;
    let counted = async {
        while postgres.execute(database, sql).await.trim() == "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), counted).await.expect("it comes to that in time");
}
