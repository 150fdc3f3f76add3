//! `cfr-server ledger` and `cfr-server audit` of the real binary over an SQLite file that somebody edited.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::path::PathBuf;
use std::process::{Command, Output};

use cfr_billing::store::LedgerStore as _;
use cfr_store_postgres::{PostgresOptions, PostgresStore};
use cfr_testbed::Postgres;
use serde_json::Value;
use sqlx::{ConnectOptions as _, Connection as _};
use tempfile::TempDir;

/// What all processes that share a database hash keys with.
const PEPPER: &str = "a secret of a test, as long as such secrets have to be";

/// A data folder, or a database elsewhere, with a customer and some money in it.
struct Folder(TempDir, Option<String>);

impl Folder {
    fn new() -> Self {
        Self::over(None)
    }

    /// Over a database, or a file in the folder.
    fn over(url: Option<String>) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"), url);
        folder.done(&["migrate"]);
        folder.done(&["tenant", "create", "acme", "--name", "Acme GmbH"]);
        folder.done(&["product", "create", "basic", "--name", "Basic", "--price", "20", "--budget", "10"]);
        folder.done(&["user", "create", "anna@acme.example", "--tenant", "acme", "--product", "basic"]);
        folder.done(&["budget", "grant", "anna@acme.example", "2.50", "--reason", "welcome"]);
        folder
    }

    fn database(&self) -> PathBuf {
        self.0.path().join("cfr.db")
    }

    /// Runs the binary with nothing of our own environment that it reads.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cfr-server"));
        for name in ["CFR_SERVER_URL", "CFR_ADMIN_KEY", "CFR_DATA", "CFR_CONFIG", "CFR_KEY_PEPPER", "CFR_DATABASE_URL"]
        {
            command.env_remove(name);
        }
        command.current_dir(std::env::temp_dir()).args(arguments).arg("--data").arg(self.0.path());
        if let Some(url) = &self.1 {
            command.args(["--database", url]).env("CFR_KEY_PEPPER", PEPPER);
        }
        command.output().expect("the binary runs")
    }

    /// The exit code, and what was printed.
    fn says(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        let code = output.status.code().expect("it ends by itself");
        assert!(code < 2 || output.stdout.is_empty(), "what is unreadable has no answer");
        (code, String::from_utf8_lossy(if code < 2 { &output.stdout } else { &output.stderr }).into_owned())
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_slice(&self.run(&[arguments, &["--json"]].concat()).stdout).expect("JSON")
    }

    /// Edits the file behind the server's back.
    async fn edit(&self, sql: &'static str) {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.database());
        let mut connection = options.connect().await.expect("the file opens");
        sqlx::raw_sql(sql).execute(&mut connection).await.expect("the edit works");
        connection.close().await.expect("the file closes");
    }
}

const FORGET_A_GRANT: &str = "UPDATE accounts SET granted = granted - 1500000000";

#[test]
fn clean_books_are_said_to_agree() {
    let folder = Folder::new();
    let (code, said) = folder.says(&["ledger", "verify"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.ends_with("the books agree\n"), "{said}");
    assert_eq!(folder.says(&["ledger", "repair"]), (0, "No sum needs a correction.\n".into()));
}

#[tokio::test]
async fn a_changed_sum_is_one_line_with_its_figures() {
    let folder = Folder::new();
    folder.edit(FORGET_A_GRANT).await;
    let (code, said) = folder.says(&["ledger", "verify"]);
    assert_eq!(code, 1, "{said}");
    let first = said.lines().next().expect("a finding");
    let expected = "granted is 11000000000 but its parts add up to 12500000000 [`ledger repair` can correct it]";
    assert!(first.starts_with("sums: acc_1: ") && first.ends_with(expected), "{first}");
    assert!(said.ends_with(": 1 finding\n"), "{said}");
}

#[tokio::test]
async fn findings_are_json_for_programs() {
    let folder = Folder::new();
    folder.edit(FORGET_A_GRANT).await;
    let report = folder.json(&["ledger", "verify"]);
    assert_eq!((&report["clean"], &report["warnings"]), (&false.into(), &serde_json::json!([])));
    let correction = &report["findings"][0]["correction"];
    assert_eq!(report["findings"][0]["rule"], "sums");
    assert_eq!((&correction["account"], &correction["sum"]), (&"acc_1".into(), &"granted".into()));
    assert_eq!((&correction["from_nanos"], &correction["to_nanos"]), (&"11000000000".into(), &"12500000000".into()));
}

#[tokio::test]
async fn a_repair_is_proposed_then_booked_and_the_books_agree_again() {
    let folder = Folder::new();
    folder.edit(FORGET_A_GRANT).await;
    let (code, table) = folder.says(&["ledger", "repair"]);
    assert_eq!(code, 1, "something is still wrong");
    let row = table.lines().nth(1).expect("a row");
    assert!(row.starts_with("acc_1") && row.contains("granted  11000000000  12500000000"), "{table}");
    assert_eq!(folder.says(&["ledger", "verify"]).0, 1, "a proposal changes nothing");

    let output = folder.run(&["ledger", "repair", "--apply", "--reason", "disk error in May", "--yes"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(folder.says(&["ledger", "verify"]).0, 0);
    let budget = folder.json(&["budget", "show", "anna@acme.example"]);
    assert_eq!(budget["balance"]["available"]["amount"], "12.5");
    assert_eq!(folder.says(&["ledger", "repair"]), (0, "No sum needs a correction.\n".into()));
}

#[tokio::test]
async fn a_correction_that_is_changed_later_breaks_the_chain() {
    let folder = Folder::new();
    folder.edit(FORGET_A_GRANT).await;
    folder.done(&["ledger", "repair", "--apply", "--reason", "disk error in May", "--yes"]);
    folder.edit("DROP TRIGGER ledger_corrections_stay; UPDATE ledger_corrections SET reason = 'nothing'").await;
    let (code, said) = folder.says(&["ledger", "verify"]);
    assert!(code == 1 && said.starts_with("chain: batch "), "{said}");
}

#[tokio::test]
async fn what_no_booking_can_set_right_is_named_with_what_to_do() {
    let folder = Folder::new();
    folder
        .edit("DROP TRIGGER ledger_entries_stay; UPDATE ledger_entries SET amount = amount + 1 WHERE batch = 2")
        .await;
    let (code, said) = folder.says(&["ledger", "repair"]);
    assert_eq!(code, 1);
    assert!(said.contains("chain: batch 2 was changed after it was sealed; the last good batch is 1"), "{said}");
    assert!(said.contains("no booking sets this right: restore the last backup"), "{said}");
    let (code, after) = folder.says(&["ledger", "repair", "--apply", "--reason", "try", "--yes"]);
    assert_eq!((code, after), (1, said), "it does not pretend");
}

#[tokio::test]
async fn nobody_is_asked_where_nobody_can_answer() {
    let folder = Folder::new();
    folder.edit(FORGET_A_GRANT).await;
    let output = folder.run(&["ledger", "repair", "--apply", "--reason", "disk error"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nobody is there to be asked: add --yes"));
    assert_eq!(folder.says(&["ledger", "verify"]).0, 1, "nothing was booked");
    assert_eq!(folder.run(&["ledger", "repair", "--apply"]).status.code(), Some(2), "a reason is needed");
}

#[tokio::test]
async fn money_that_waits_to_be_taken_back_is_a_warning() {
    let folder = Folder::new();
    let a_node_that_died = "INSERT INTO nodes (name, epoch, registered_at) VALUES ('gone', 1, 0); \
         INSERT INTO leases (account_id, node, epoch, granted) VALUES (1, 'gone', 1, 5); \
         UPDATE accounts SET leased = leased + 5 WHERE id = 1";
    folder.edit(a_node_that_died).await;
    let (code, said) = folder.says(&["ledger", "verify"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("warning: node `gone` does not run, but has 5 billionths leased on 1 accounts"), "{said}");
    assert!(said.ends_with("the books agree\n"), "{said}");
    assert_eq!(folder.json(&["ledger", "verify"])["warnings"][0]["rule"], "stranded");
}

#[tokio::test]
async fn a_postgres_database_is_checked_and_set_right_while_others_use_it() {
    let server = Postgres::shared().await;
    let url = server.database().await;
    let folder = Folder::over(Some(url.clone()));
    let beside = PostgresStore::open(&url, PostgresOptions::default()).await.expect("another process opens it");
    assert_eq!(folder.says(&["ledger", "verify"]).0, 0);
    server.execute(&url, FORGET_A_GRANT).await;
    let (code, said) = folder.says(&["ledger", "verify"]);
    assert!(code == 1 && said.contains("granted is 11000000000 but its parts add up to 12500000000"), "{said}");
    folder.done(&["ledger", "repair", "--apply", "--reason", "a test", "--yes"]);
    assert_eq!(folder.says(&["ledger", "verify"]).0, 0);
    assert_eq!(beside.audit().await.expect("it works on"), []);
    beside.close().await.expect("closed");
}

#[test]
fn books_that_cannot_be_read_are_not_called_clean() {
    let empty = Folder(tempfile::tempdir().expect("a folder"), None);
    let (code, said) = empty.says(&["ledger", "verify"]);
    assert_eq!(code, 2);
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn the_audit_log_tells_who_did_what_from_the_command_line() {
    let folder = Folder::new();
    let told = folder.json(&["audit", "list"]);
    let told: Vec<(&str, &str)> = told["items"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| (event["action"].as_str().expect("a name"), event["actor"]["kind"].as_str().expect("a kind")))
        .collect();
    let expected = [
        ("grant.booked", "operator"),
        ("user.created", "operator"),
        ("product.published", "operator"),
        ("tenant.created", "operator"),
    ];
    assert_eq!(told, expected);
    let (code, said) = folder.says(&["audit", "list", "--action", "tenant.", "--tenant", "acme"]);
    assert!(code == 0 && said.contains("tenant.created") && !said.contains("user.created"), "{said}");
    let (code, said) = folder.says(&["audit", "verify"]);
    assert!(code == 0 && said.starts_with("the audit log is whole: 4 events, the last with hash "), "{said}");
}

#[tokio::test]
async fn an_edited_audit_log_is_found_out() {
    let folder = Folder::new();
    let refused = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.database());
    let mut connection = refused.connect().await.expect("the file opens");
    let error = sqlx::query("DELETE FROM audit_events").execute(&mut connection).await.expect_err("it is append-only");
    assert!(error.to_string().contains("append-only"), "{error}");
    connection.close().await.expect("the file closes");
    folder.edit("DROP TRIGGER audit_events_stay; UPDATE audit_events SET actor_kind = 'key' WHERE seq = 3").await;
    let report = folder.json(&["audit", "verify"]);
    assert_eq!((&report["whole"], &report["events"]), (&false.into(), &2.into()));
    let (code, said) = folder.says(&["audit", "verify"]);
    assert_eq!(
        (code, said.lines().next()),
        (1, Some("event 3 of the audit log is not the one that was sealed; the 2 before it are as they were written"))
    );
}
