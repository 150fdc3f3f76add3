//! How SQLite finds what the statements of requests and of lists ask for: by a key, never by reading a table from end to
//! end that grows with users or requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use cfr_billing::conformance;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use crate::SqliteStore;

/// Tables that have a row per user, per request or per batch of requests.
const GROWING: [&str; 12] = [
    "users",
    "api_keys",
    "budgets",
    "accounts",
    "grants",
    "leases",
    "usage_records",
    "usage_lists",
    "usage_daily",
    "ledger_batches",
    "ledger_entries",
    "entry_lists",
];

/// Statements that may read such a table from end to end, by how they begin.
const WHOLE: [&str; 8] = [
    // The audit of the whole books.
    "SELECT account_id, kind, sum(amount)",
    "SELECT coalesce(d.day, u.day) AS day",
    "SELECT coalesce(t.day, d.day) AS day",
    "SELECT count(*) FROM ledger_batches WHERE id < 1",
    "SELECT count(*) FROM ledger_entries WHERE batch < 1",
    "SELECT count(*) FROM usage_records WHERE row < 1",
    "SELECT row, id, tenant_id, charged, overrun, accounts FROM usage_records",
    // Leases of lives that are over, once when a server starts.
    "SELECT l.node, l.epoch, l.account_id",
];

/// Plays rules, each on a store of its own.
macro_rules! play {
    ($($rule:ident)*) => { $(
        let (_folder, store) = fresh().await;
        Box::pin(conformance::$rule(&store)).await;
        store.close().await.expect("closed");
    )* };
}

#[tokio::test]
async fn no_statement_of_requests_and_lists_reads_a_growing_table_from_end_to_end() {
    tracing::subscriber::set_global_default(Statements).expect("no other test listens");
    let (_folder, store) = fresh().await;
    let of_migrations = heard();
    play! {
        a_batch_that_is_repeated_is_booked_once
        groups_open_the_periods_that_they_need
        a_note_and_a_raise_of_a_hold_keep_each_other
        bought_money_that_comes_back_late_rolls_over
        a_limit_lowered_below_use_admits_nothing_until_it_has_drained
        grants_are_listed_newest_first
        lists_are_paged_completely_and_once
        a_key_context_lists_the_path_in_order
        usage_is_filtered_and_listed_newest_first
        accounts_are_audited_in_pieces
        a_batch_that_is_due_is_claimed_by_one
        events_are_filtered_and_listed_newest_first
        a_user_with_a_product_gets_its_budget
    }
    let run: Vec<String> = heard().difference(&of_migrations).cloned().collect();
    assert!(WHOLE.iter().all(|whole| run.iter().any(|sql| sql.starts_with(whole))), "each of them is run: {run:#?}");
    let mut connection = store.readers().acquire().await.expect("a connection");
    let tables = tables(&mut connection).await;
    let mut wrong = Vec::new();
    for statement in run.iter().filter(|sql| !WHOLE.iter().any(|whole| sql.starts_with(whole))) {
        let read = read_whole(&mut connection, statement, &tables).await;
        wrong.extend(read.map(|table| format!("{table}: {statement}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What was run so far.
fn heard() -> BTreeSet<String> {
    RUN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

async fn fresh() -> (tempfile::TempDir, SqliteStore) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path().join("cfr.db"), Default::default()).await.expect("it opens");
    (folder, store)
}

/// Tables, and their indexes, by the page that each begins with.
async fn tables(connection: &mut SqliteConnection) -> BTreeMap<i64, String> {
    let rows = sqlx::query("SELECT rootpage, tbl_name FROM sqlite_schema WHERE rootpage > 0").fetch_all(connection);
    rows.await.expect("the schema").iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// A growing table that a statement goes through from one end, row by row, and does not stop at the end of a page.
async fn read_whole<'a>(
    connection: &mut SqliteConnection,
    statement: &str,
    tables: &'a BTreeMap<i64, String>,
) -> Option<&'a str> {
    let explain = sqlx::query(AssertSqlSafe(format!("EXPLAIN {statement}"))).fetch_all(connection).await;
    let Ok(steps) = explain else { return None }; // of a transaction, or not a statement of its own
    let step = |row: &sqlx::sqlite::SqliteRow| -> (String, i64, i64) { (row.get(1), row.get(2), row.get(3)) };
    let steps: Vec<_> = steps.iter().map(step).collect();
    let on = |names: [&str; 2], cursor: i64| {
        steps.iter().any(|(name, on, _)| names.contains(&name.as_str()) && *on == cursor)
    };
    let paged = steps.iter().any(|(name, ..)| name == "DecrJumpZero");
    let opened = steps.iter().filter(|(name, ..)| matches!(name.as_str(), "OpenRead" | "OpenWrite" | "ReopenIdx"));
    let whole =
        opened.filter(|(_, cursor, _)| !paged && on(["Rewind", "Last"], *cursor) && on(["Next", "Prev"], *cursor));
    whole.filter_map(|(_, _, page)| tables.get(page)).map(String::as_str).find(|table| GROWING.contains(table))
}

/// What was run, statement by statement.
static RUN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Hears of every statement that a store of this process runs.
struct Statements;

impl Subscriber for Statements {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let text = if text.whole.is_empty() { text.summary } else { text.whole };
        let mut run = RUN.lock().unwrap_or_else(PoisonError::into_inner);
        run.extend(text.split(';').map(|sql| sql.trim().to_owned()).filter(|sql| !sql.is_empty()));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The text of a statement: a short one is its own summary.
#[derive(Default)]
struct Text {
    summary: String,
    whole: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.whole),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
