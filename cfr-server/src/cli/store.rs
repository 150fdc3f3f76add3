//! `cfr-server store`: moves the books to another database.

use std::path::Path;
use std::process::ExitCode;

use cfr_billing::store::StoreError;
use cfr_billing::store::archive::{Archive, CopyProgress, CopyReport, Counted, Counts, Section, copy, count};
use cfr_core::secret::Secret;
use cfr_core::time::{Clock as _, SystemClock, Timestamp};
use cfr_store_postgres::{PostgresOptions, PostgresStore};
use cfr_store_sqlite::{SqliteOptions, SqliteStore};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::error::CliError;
use super::output::{Column, Printer, note, table};
use crate::auth::Pepper;
use crate::command::secret;
use crate::config::DatabaseUrl;
use crate::database::make_data_folder;
use crate::state::{PEPPER, StartError};
use crate::terminal;

/// What names the two sides.
const FROM: &str = "--from";
const TO: &str = "--to";

/// Rows of a section after which the next line says how far a copy is.
const PROGRESS_ROWS: u64 = 100_000;

/// What to do with a whole database.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Copy everything into another, empty database, and compare both
    ///
    /// From SQLite to Postgres when one machine is no longer enough, and back. Stop every server first: the source is not
    /// changed, and what is spent on it after the copy would be spent twice. Until the copy is complete, compared and
    /// audited, no server opens the target.
    Copy(Copy),
}

/// Both sides of a copy.
#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// The database to copy: sqlite:path or postgres://user@host/name; a password belongs into CFR_COPY_FROM
    #[arg(long, value_name = "URL", env = "CFR_COPY_FROM", hide_env_values = true, value_parser = secret)]
    from: Secret,
    /// The empty database to copy into; a password belongs into CFR_COPY_TO
    #[arg(long, value_name = "URL", env = "CFR_COPY_TO", hide_env_values = true, value_parser = secret)]
    to: Secret,
    /// Read and count the source, look whether the target can be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON in place of a table
    #[arg(long)]
    json: bool,
    /// The secret that keys are hashed with [default: the file beside an SQLite source]
    #[arg(long, hide = true, env = "CFR_KEY_PEPPER", hide_env_values = true, value_parser = secret)]
    key_pepper: Option<Secret>,
}

/// Runs a command about a whole database. What keeps it from its work goes to the standard error.
pub(crate) async fn run(command: Command) -> ExitCode {
    let Command::Copy(arguments) = command;
    let outcome = match arguments.sides() {
        Ok((from, to)) if arguments.dry_run => rehearse(&arguments, &from, &to).await,
        Ok((from, to)) => move_books(&arguments, &from, &to).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = terminal::remark(&format!("cfr-server: {error}"));
            ExitCode::FAILURE
        }
    }
}

impl Copy {
    fn sides(&self) -> Result<(DatabaseUrl, DatabaseUrl), CliError> {
        let side = |name: &str, url: &Secret| {
            DatabaseUrl::parse(url).map_err(|problem| CliError::misused(format_args!("{name}: {problem}")))
        };
        let (from, to) = (side(FROM, &self.from)?, side(TO, &self.to)?);
        if from == to {
            return Err(CliError::misused("--from and --to name the same database"));
        }
        Ok((from, to))
    }

    /// The fingerprint of the secret under which the keys of the source are hashed, if it is at hand.
    async fn fingerprint(&self, from: &DatabaseUrl, source: &Side) -> Result<Option<Vec<u8>>, StartError> {
        if let Side::Postgres(store) = source
            && let Some(agreed) = store.agreed(PEPPER).await?
        {
            return Ok(Some(agreed));
        }
        let pepper = match (&self.key_pepper, from) {
            (Some(secret), _) => Pepper::new(secret).map(Some),
            (None, DatabaseUrl::Sqlite(path)) => Pepper::load(path.parent().unwrap_or(Path::new(""))),
            (None, DatabaseUrl::Postgres(_)) => Ok(None),
        };
        if let Err(error) = &pepper {
            tracing::warn!(%error, "the books are copied without word of their key pepper"); // they do not need it
        }
        Ok(pepper.ok().flatten().map(|pepper| pepper.fingerprint().to_vec()))
    }
}

/// One side of a copy.
#[derive(Debug)]
enum Side {
    Sqlite(Box<SqliteStore>),
    Postgres(Box<PostgresStore>),
}

impl Side {
    /// For reading, while nobody writes.
    async fn stopped(url: &DatabaseUrl, named_by: &'static str) -> Result<Self, StartError> {
        Ok(match url {
            DatabaseUrl::Sqlite(path) => {
                let opened = SqliteStore::open_stopped(path).await;
                Self::Sqlite(Box::new(opened.map_err(StartError::of_file(path))?))
            }
            DatabaseUrl::Postgres(url) => {
                let opened = PostgresStore::open_read_only(url.expose(), PostgresOptions::default()).await;
                Self::Postgres(Box::new(opened.map_err(StartError::of_postgres(url, named_by))?))
            }
        })
    }

    /// For writing, with an up-to-date schema.
    async fn fresh(url: &DatabaseUrl) -> Result<Self, StartError> {
        Ok(match url {
            DatabaseUrl::Sqlite(path) => {
                make_data_folder(path.parent().unwrap_or(Path::new("")))?;
                let opened = SqliteStore::open(path, SqliteOptions::default()).await;
                Self::Sqlite(Box::new(opened.map_err(StartError::of_file(path))?))
            }
            DatabaseUrl::Postgres(url) => {
                let opened = PostgresStore::open(url.expose(), PostgresOptions::default()).await;
                Self::Postgres(Box::new(opened.map_err(StartError::of_postgres(url, TO))?))
            }
        })
    }

    fn archive(&self) -> &dyn Archive {
        match self {
            Self::Sqlite(store) => &**store,
            Self::Postgres(store) => &**store,
        }
    }

    async fn close(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }
}

async fn move_books(arguments: &Copy, from: &DatabaseUrl, to: &DatabaseUrl) -> Result<(), CliError> {
    let source = Side::stopped(from, FROM).await?;
    let copied = copy_into(arguments, from, &source, to).await;
    source.close().await.map_err(StartError::from)?;
    let (report, fingerprint) = copied?;
    let rows = json!({"from": name(from), "to": name(to), "sections": report.sections, "renamed": report.renamed});
    Printer { json: arguments.json }.text(&rows, &counted(&report.sections)?)?;
    if report.renamed > 0 {
        let renamed = report.renamed;
        note(&format!(
            "{renamed} rows name a model that the target cannot keep as it was: there it has another name."
        ))?;
    }
    note(&format!("{} is now in {}: both sides are equal, and the books agree.", name(from), name(to)))?;
    note(&pepper_advice(from, to, fingerprint.is_some()))
}

async fn copy_into(
    arguments: &Copy,
    from: &DatabaseUrl,
    source: &Side,
    to: &DatabaseUrl,
) -> Result<(CopyReport, Option<Vec<u8>>), CliError> {
    let fingerprint = arguments.fingerprint(from, source).await?;
    let target = Side::fresh(to).await?;
    let copied = fill(source, &target, &name(from), fingerprint.as_deref()).await;
    target.close().await.map_err(StartError::from)?;
    Ok((copied?, fingerprint))
}

/// Servers that share the target must hash keys as the source did: the fingerprint keeps them from doing otherwise.
async fn fill(source: &Side, target: &Side, name: &str, fingerprint: Option<&[u8]>) -> Result<CopyReport, CliError> {
    let mut reporter = Reporter::default();
    let mut progress = |step| reporter.report(step);
    let copied = Box::pin(copy(source.archive(), target.archive(), name, now(), &mut progress)).await;
    let report = copied.map_err(|error| CliError::Refused(error.to_string().into()))?;
    if let (Side::Postgres(store), Some(fingerprint)) = (target, fingerprint) {
        store.agree(PEPPER, fingerprint, now()).await.map_err(StartError::from)?;
    }
    Ok(report)
}

/// Everything that a copy does before it writes.
async fn rehearse(arguments: &Copy, from: &DatabaseUrl, to: &DatabaseUrl) -> Result<(), CliError> {
    let source = Side::stopped(from, FROM).await?;
    let mut reporter = Reporter::default();
    let mut so_far = |counts| reporter.report(CopyProgress::Copying(counts));
    let found = count(source.archive(), now(), &mut so_far).await;
    source.close().await.map_err(StartError::from)?;
    let sections = found.map_err(StartError::from)?;
    check_target(to).await?;
    let rows = json!({"from": name(from), "to": name(to), "sections": sections});
    Printer { json: arguments.json }.text(&rows, &counted(&sections)?)?;
    note(&format!("Nothing was written. {} can be copied into {}.", name(from), name(to)))
}

/// A target without a schema is empty; one with a schema has no rows.
async fn check_target(url: &DatabaseUrl) -> Result<(), CliError> {
    let pending = match url {
        DatabaseUrl::Sqlite(path) => SqliteStore::pending_migrations(path).await.map_err(StartError::of_file(path))?,
        DatabaseUrl::Postgres(url) => {
            let pending = PostgresStore::rehearse_migrations(url.expose(), PostgresOptions::default()).await;
            pending.map_err(StartError::of_postgres(url, TO))?
        }
    };
    if !pending.is_empty() {
        return note("The target's schema will be made or brought up to date.");
    }
    let target = Side::stopped(url, TO).await?;
    let empty = target.archive().check_empty().await;
    target.close().await.map_err(StartError::from)?;
    Ok(empty.map_err(StartError::from)?)
}

fn now() -> Timestamp {
    SystemClock::new().now()
}

/// A side as somebody may read it.
fn name(url: &DatabaseUrl) -> String {
    match url {
        DatabaseUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
        DatabaseUrl::Postgres(url) => url.to_string(),
    }
}

const COLUMNS: &[Column] =
    &[("SECTION", "/section"), ("ROWS", "/rows"), ("USAGE RECORDS", "/usage_records"), ("DIGEST", "/digest")];

fn counted(sections: &[Counted]) -> Result<String, CliError> {
    let rows = sections.iter().map(|section| serde_json::to_value(section).map_err(CliError::misused));
    Ok(table(&rows.collect::<Result<Vec<Value>, CliError>>()?, COLUMNS))
}

/// The books have keys only as hashes under a secret that is not in them.
fn pepper_advice(from: &DatabaseUrl, to: &DatabaseUrl, known: bool) -> String {
    let place = match from {
        DatabaseUrl::Sqlite(path) => path.with_file_name("key.pepper").display().to_string(),
        DatabaseUrl::Postgres(_) => "key.pepper of the old servers".into(),
    };
    let refused = if known && to.is_shared() { " A server with another one refuses to start." } else { "" };
    format!(
        "API keys work on with the same key pepper only, which is not in the database: give every server {place} in its \
         data folder, or its content as CFR_KEY_PEPPER.{refused}"
    )
}

/// Says now and then how far a copy is.
#[derive(Debug, Default)]
struct Reporter {
    /// The last step that was named.
    named: Option<&'static str>,
    section: Option<Section>,
    said: u64,
}

impl Reporter {
    fn report(&mut self, step: CopyProgress) {
        let (name, counts) = match step {
            CopyProgress::AuditingSource => ("auditing the source", None),
            CopyProgress::Copying(counts) => ("reading", Some(counts)),
            CopyProgress::Comparing(counts) => ("comparing", Some(counts)),
            CopyProgress::AuditingTarget => ("auditing the target", None),
            _ => return,
        };
        if self.named != Some(name) {
            self.named = Some(name);
            self.section = None;
            let _ = note(name);
        }
        if let Some(counts) = counts {
            self.count(name, counts);
        }
    }

    fn count(&mut self, name: &str, counts: Counts) {
        let Counts { section, rows, usage_records } = counts;
        if self.section != Some(section) {
            (self.section, self.said) = (Some(section), 0);
        }
        let hundred_thousands = (rows + usage_records) / PROGRESS_ROWS;
        if hundred_thousands > self.said {
            self.said = hundred_thousands;
            let _ = note(&format!("{name} {}: {rows}, with {usage_records} usage records", section.name()));
        }
    }
}
