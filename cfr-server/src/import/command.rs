//! `cfr-server import pocketbase FILE` and `cfr-server import litellm-db URL`.

use std::path::PathBuf;
use std::sync::Arc;

use cfr_core::secret::Secret;
use cfr_core::time::SystemClock;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::desk::Desk;
use super::report::{Outcome, Report};
use super::source::{PostgresSource, SqliteSource};
use super::{litellm, pocketbase};
use crate::cli::error::CliError;
use crate::cli::output::{Column, Printer, note, table};
use crate::command::{Source, secret};
use crate::state::{Books, StartError};

/// What to take over.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tenants, products, users with their passwords and keys, and budgets of PocketBase's data.db
    ///
    /// Without --apply nothing is written: the report says what would become of each row, and why. Run again, it changes
    /// nothing that is there. Stop the server first when the books are an SQLite file.
    Pocketbase(FromPocketbase),
    /// Teams, users, keys and budgets of LiteLLM's Postgres; its keys work on
    ///
    /// Without --apply nothing is written: the report says what would become of each row, and why. Run again, it changes
    /// nothing that is there. Stop the server first when the books are an SQLite file.
    LitellmDb(FromLitellm),
}

/// What every import is told.
#[derive(Debug, Args)]
struct Manner {
    /// Write; without it the report says what would be written
    #[arg(long)]
    apply: bool,
    /// Print JSON in place of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    books: Source,
}

/// Where PocketBase keeps everything.
#[derive(Debug, Args)]
pub(crate) struct FromPocketbase {
    /// PocketBase's file, as in pb_data/data.db; it is only read
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    manner: Manner,
}

/// Where LiteLLM keeps everything.
#[derive(Debug, Args)]
pub(crate) struct FromLitellm {
    /// LiteLLM's database: postgres://user@host/name; a password belongs into CFR_IMPORT_FROM. It is only read
    #[arg(value_name = "URL", env = "CFR_IMPORT_FROM", hide_env_values = true, value_parser = secret)]
    url: Secret,
    #[command(flatten)]
    manner: Manner,
}

/// Takes over what another program kept.
///
/// # Errors
/// When the source cannot be read, or the books cannot be opened.
pub(crate) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Pocketbase(arguments) => {
            let mut source = SqliteSource::open(&arguments.file).await?;
            in_books(&arguments.manner, pocketbase::SOURCE, async |desk| pocketbase::import(&mut source, desk).await)
                .await
        }
        Command::LitellmDb(arguments) => {
            let mut source = PostgresSource::open(&arguments.url).await?;
            in_books(&arguments.manner, litellm::SOURCE, async |desk| litellm::import(&mut source, desk).await).await
        }
    }
}

/// Opens the books, works, and closes them whatever came of it.
async fn in_books(
    manner: &Manner,
    source: &'static str,
    work: impl AsyncFnOnce(&Desk<'_>) -> Result<Report, CliError>,
) -> Result<(), CliError> {
    let config = manner.books.load_without_keys().map_err(StartError::from)?;
    let books = Books::open_for_command(&config, Arc::new(SystemClock::new())).await?;
    let report = work(&Desk::new(&books, manner.apply, source)).await;
    books.close().await?;
    print(&report?, manner.json)
}

const COLUMNS: &[Column] = &[("TABLE", "/kind"), ("ID THERE", "/source"), ("OUTCOME", "/outcome"), ("NOTE", "/note")];

fn print(report: &Report, json: bool) -> Result<(), CliError> {
    let whole = serde_json::to_value(report).map_err(CliError::misused)?;
    let rows = whole.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    Printer { json }.text(&json!(whole), &table(rows, COLUMNS))?;
    let [taken, kept, left] = [Outcome::Taken, Outcome::Kept, Outcome::LeftOut].map(|outcome| report.count(outcome));
    let written =
        if report.applied { "were taken over" } else { "would be taken over; nothing was written: add --apply" };
    note(&format!("{taken} rows {written}. {kept} are here already, {left} are left out."))
}
