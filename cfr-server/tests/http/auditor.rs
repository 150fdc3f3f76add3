//! The online auditor: what it finds on a running server, and that nobody pays for books that do not agree.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::support::{FAKE, Site, chat, terms};

/// How long the auditor may take to come by; it pauses for a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// Edits the file behind the server's back.
async fn edit(database: &Path, sql: &'static str) {
    let options = SqliteConnectOptions::new().filename(database).busy_timeout(PATIENCE);
    let mut connection = options.connect().await.expect("the file opens");
    sqlx::raw_sql(sql).execute(&mut connection).await.expect("the edit works");
    connection.close().await.expect("the file closes");
}

/// Asks until the answer has this text.
async fn await_text(site: &Site, path: &str, text: &str) {
    let asked = async {
        let mut pauses = tokio::time::interval(Duration::from_millis(50));
        while !site.get(path, "").await.body.contains(text) {
            pauses.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{path} never says `{text}`"));
}

async fn edited_site(ledger: &str) -> (Site, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("data").join("cfr.db");
    let site = Site::start_in(folder, &format!("[ledger]\naudit_seconds = 1\n{ledger}\n{FAKE}")).await;
    let key = site.key(terms(1_000_000_000)).await;
    assert_eq!(site.chat(&key, &chat("hello")).await.status, 200);
    assert!(site.get("/metrics", "").await.body.contains("cfr_ledger_invariant_violation_total{rule=\"sums\"} 0"));
    edit(&database, "UPDATE accounts SET overrun = overrun + 1").await;
    await_text(&site, "/metrics", "cfr_ledger_invariant_violation_total{rule=\"sums\"} 1").await;
    (site, key)
}

#[tokio::test]
async fn edited_books_are_counted_and_calls_go_on() {
    let (site, key) = edited_site("").await;
    assert_eq!(site.chat(&key, &chat("hello")).await.status, 200);
    assert_eq!(site.get("/health/ready", "").await.status, 200);
    site.stop().await;
}

#[tokio::test]
async fn edited_books_stop_new_calls_when_the_operator_wants_it() {
    let (site, key) = edited_site("halt_on_violation = true").await;
    site.chat(&key, &chat("hello")).await.is_error(503, "ledger_unavailable");
    let ready = site.get("/health/ready", "").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["problem"], "the books do not agree: run `cfr-server ledger verify`");
    site.stop().await;
}
