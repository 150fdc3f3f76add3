//! Rows of another database. Every value is text: numbers are never made floats on their way.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use cfr_core::secret::Secret;
use cfr_core::time::Timestamp;
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, Row as _, SqliteConnection};

use crate::cli::error::CliError;

/// A row by the names of its columns. What is empty is not there.
#[derive(Debug, Clone, Default)]
pub(super) struct Row(BTreeMap<String, String>);

impl Row {
    fn new(columns: impl Iterator<Item = (String, Option<String>)>) -> Self {
        let filled = columns.filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)));
        Self(filled.collect())
    }

    /// A value.
    pub(super) fn text(&self, column: &str) -> Option<&str> {
        self.0.get(column).map(String::as_str)
    }

    /// A value that must be there.
    ///
    /// # Errors
    /// What is missing, in words for the report.
    pub(super) fn need(&self, column: &str) -> Result<&str, String> {
        self.text(column).ok_or_else(|| format!("it has no `{column}`"))
    }

    /// An amount, exactly as it is written there.
    ///
    /// # Errors
    /// In words for the report.
    pub(super) fn decimal(&self, column: &str) -> Result<Option<Decimal>, String> {
        let Some(text) = self.text(column) else { return Ok(None) };
        let read = Decimal::from_str(text).or_else(|_| Decimal::from_scientific(text));
        read.map(Some).map_err(|_| format!("`{column}` is no number: {text}"))
    }

    /// A whole number that is not negative; others are none.
    pub(super) fn count(&self, column: &str) -> Option<u32> {
        let value = self.decimal(column).ok().flatten()?;
        value.is_integer().then(|| u32::try_from(value.mantissa() / 10_i128.pow(value.scale())).ok()).flatten()
    }

    /// Whether a flag is set.
    pub(super) fn flag(&self, column: &str) -> bool {
        matches!(self.text(column), Some("1" | "true" | "t" | "TRUE"))
    }

    /// A moment, as PocketBase or Postgres write it.
    pub(super) fn time(&self, column: &str) -> Option<Timestamp> {
        let text = self.text(column)?.trim().replace(' ', "T");
        text.parse().or_else(|_| format!("{text}Z").parse()).ok()
    }

    /// A JSON document; what is none is left out.
    pub(super) fn json<T: DeserializeOwned>(&self, column: &str) -> Option<T> {
        serde_json::from_str(self.text(column)?).ok()
    }
}

/// An SQLite file that is only read.
#[derive(Debug)]
pub(super) struct SqliteSource(SqliteConnection);

impl SqliteSource {
    /// Opens the file. It is not changed.
    ///
    /// # Errors
    /// When there is none, or it is none.
    pub(super) async fn open(path: &Path) -> Result<Self, CliError> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).create_if_missing(false);
        let opened = options.connect().await;
        opened.map(Self).map_err(|error| CliError::misused(format_args!("{}: {error}", path.display())))
    }

    /// All rows of a table; none when there is no such table.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn rows(&mut self, table: &'static str) -> Result<Option<Vec<Row>>, CliError> {
        let columns = sqlx::query("SELECT name FROM pragma_table_info(?)").bind(table).fetch_all(&mut self.0).await;
        let names: Vec<String> = columns
            .map_err(unreadable)?
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()
            .map_err(unreadable)?;
        if names.is_empty() {
            return Ok(None);
        }
        let quoted: Vec<String> =
            names.iter().map(|name| format!("CAST(\"{0}\" AS TEXT)", name.replace('"', "\"\""))).collect();
        let sql = format!("SELECT {} FROM \"{table}\" ORDER BY rowid", quoted.join(", "));
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut self.0).await.map_err(unreadable)?;
        let read = rows.iter().map(|row| {
            let values = names.iter().enumerate().map(|(place, name)| Ok((name.clone(), row.try_get(place)?)));
            Ok(Row::new(values.collect::<Result<Vec<_>, sqlx::Error>>()?.into_iter()))
        });
        read.collect::<Result<_, sqlx::Error>>().map(Some).map_err(unreadable)
    }
}

/// A Postgres database that is only read.
#[derive(Debug)]
pub(super) struct PostgresSource(PgConnection);

impl PostgresSource {
    /// Connects, for reading only.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) async fn open(url: &Secret) -> Result<Self, CliError> {
        let refused = |error: sqlx::Error| CliError::misused(format_args!("the database to import from: {error}"));
        let options = PgConnectOptions::from_str(url.expose()).map_err(refused)?;
        let options = options.options([("default_transaction_read_only", "on")]);
        options.connect().await.map(Self).map_err(refused)
    }

    /// All rows of a table in the order of a column; none when there is no such table.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn rows(&mut self, table: &'static str, key: &'static str) -> Result<Option<Vec<Row>>, CliError> {
        let there = sqlx::query("SELECT to_regclass($1) IS NOT NULL").bind(format!("\"{table}\""));
        let there: bool = there.fetch_one(&mut self.0).await.and_then(|row| row.try_get(0)).map_err(unreadable)?;
        if !there {
            return Ok(None);
        }
        let sql = format!(
            "SELECT (SELECT jsonb_object_agg(key, value #>> '{{}}')::text FROM jsonb_each(to_jsonb(t))) \
             FROM \"{table}\" t ORDER BY \"{key}\""
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut self.0).await.map_err(unreadable)?;
        let read = rows.iter().map(|row| {
            let json: String = row.try_get(0).map_err(unreadable)?;
            let values: BTreeMap<String, Option<String>> =
                serde_json::from_str(&json).map_err(|error| CliError::misused(format_args!("{table}: {error}")))?;
            Ok(Row::new(values.into_iter()))
        });
        read.collect::<Result<_, CliError>>().map(Some)
    }
}

fn unreadable(error: sqlx::Error) -> CliError {
    CliError::misused(format_args!("the database to import from cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[(&str, &str)]) -> Row {
        Row::new(values.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))))
    }

    #[test]
    fn values_are_read_as_they_are_written() {
        let row = row(&[
            ("used", "1.5e-05"),
            ("rpm", "120.0"),
            ("active", "1"),
            ("empty", ""),
            ("at", "2025-11-21 09:30:00.123Z"),
        ]);
        assert_eq!(row.decimal("used"), Ok(Some("0.000015".parse().expect("a decimal"))));
        assert_eq!((row.count("rpm"), row.flag("active"), row.text("empty")), (Some(120), true, None));
        assert_eq!(row.time("at").map(|at| at.to_string()).as_deref(), Some("2025-11-21T09:30:00.123Z"));
        assert!(row.need("email").is_err());
    }
}
