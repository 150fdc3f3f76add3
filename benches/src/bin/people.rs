//! The management API over grown books, on SQLite and on Postgres: 100 000 users in 1 000 tenants, a million requests.
//!
//! `cargo run --release -p cfr-benches --bin people` prints Markdown for `RESULTS.md`; `people sqlite` and
//! `people postgres` measure one of them. It starts a private Postgres (package `postgresql`) on the same machine, and
//! ends it. The server, the database and the one client that asks share all cores.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::env;
use std::path::Path;

use cfr_benches::Failure;
use cfr_benches::people::ask::{Asker, Measured};
use cfr_benches::people::fill::{Dialect, statements};
use cfr_benches::people::questions::{EXPORTS, LISTS, Question, REPORTS, SIZE};
use cfr_benches::people::site::Site;
use cfr_benches::table::{grouped, markdown};
use cfr_core::time::{Clock as _, SystemClock};
use cfr_testbed::Postgres;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The database in a data folder.
const FILE: &str = cfr_server::config::DATABASE;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let wanted = env::args().nth(1);
    let both = wanted.is_none();
    if both || wanted.as_deref() == Some("sqlite") {
        over_sqlite().await?;
    }
    if both || wanted.as_deref() == Some("postgres") {
        over_postgres().await?;
    }
    Ok(())
}

async fn over_sqlite() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    prepare(folder.path(), None).await?;
    let url = format!("sqlite://{}", folder.path().join(FILE).display());
    let mut connection = SqliteConnection::connect(&url).await?;
    for statement in statements(Dialect::Sqlite, SIZE, SystemClock::new().now()) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    }
    connection.close().await?;
    measure("SQLite", folder.path(), None).await
}

async fn over_postgres() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let postgres = Postgres::start().await;
    let url = postgres.database().await;
    prepare(folder.path(), Some(&url)).await?;
    for statement in statements(Dialect::Postgres, SIZE, SystemClock::new().now()) {
        postgres.execute(&url, &statement).await;
    }
    measure("Postgres", folder.path(), Some(&url)).await
}

async fn prepare(folder: &Path, postgres: Option<&str>) -> Result<(), Failure> {
    let site = Site::start(folder, postgres).await?;
    site.make_patterns().await?;
    site.stop().await
}

async fn measure(name: &str, folder: &Path, postgres: Option<&str>) -> Result<(), Failure> {
    let site = Site::start(folder, postgres).await?;
    let mut asker = site.asker().await?;
    println!("### {name}\n");
    for (title, questions) in [("lists", LISTS), ("reports", REPORTS)] {
        let mut rows = Vec::new();
        for question in questions {
            rows.push(row(question, &mut asker).await);
        }
        println!("{}", markdown(&[title, "p50", "p99", "asked", "bytes"], &rows));
    }
    let mut rows = Vec::new();
    for (title, path) in EXPORTS {
        rows.push(export_row(title, &path(0), &mut asker).await?);
    }
    println!("{}", markdown(&["files", "first byte", "whole", "bytes", "MB per second"], &rows));
    drop(asker);
    site.stop().await
}

/// A question that is refused has a row too: it says why.
async fn row((name, path): &Question, asker: &mut Asker) -> Vec<String> {
    match asker.measure(*path).await {
        Ok(measured) => measured_row(name, &measured),
        Err(failure) => vec![(*name).to_owned(), failure.to_string()],
    }
}

fn measured_row(name: &str, measured: &Measured) -> Vec<String> {
    let asked = measured.whole_us.len() as u64;
    vec![
        name.to_owned(),
        millis(measured.whole(50)),
        millis(measured.whole(99)),
        grouped(asked),
        grouped(measured.bytes),
    ]
}

async fn export_row(name: &str, path: &str, asker: &mut Asker) -> Result<Vec<String>, Failure> {
    let took = asker.ask(path).await?;
    let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let rate = took.bytes.checked_div(micros(took.whole)).unwrap_or(0);
    let (first_byte, whole) = (millis(micros(took.first_byte)), millis(micros(took.whole)));
    Ok(vec![name.to_owned(), first_byte, whole, grouped(took.bytes), grouped(rate)])
}

/// Microseconds as milliseconds with one decimal.
fn millis(micros: u64) -> String {
    format!("{}.{} ms", grouped(micros / 1_000), micros % 1_000 / 100)
}
