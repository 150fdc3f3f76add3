//! Many rows in few statements: each statement crosses to SQLite's thread and back, a row does not.

use std::sync::{Arc, OnceLock};

use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, SqliteConnection};

use crate::error::Fault;

/// Rows per statement. A few fixed sizes, so that every statement is prepared once.
const SIZES: [usize; 4] = [64, 16, 4, 1];

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(Arc<str>),
    Blob(Vec<u8>),
}

impl Cell {
    pub(crate) fn id_opt(id: Option<[u8; 16]>) -> Self {
        id.map_or(Self::Null, |id| Self::Blob(id.to_vec()))
    }

    pub(crate) fn int_opt(value: Option<i64>) -> Self {
        value.map_or(Self::Null, Self::Int)
    }
}

/// A statement with a list of rows in its middle: `before (?, ?), (?, ?) after`.
#[derive(Debug)]
pub(crate) struct Bulk {
    before: &'static str,
    columns: usize,
    after: &'static str,
    statements: [OnceLock<Arc<str>>; SIZES.len()],
}

impl Bulk {
    pub(crate) const fn new(before: &'static str, columns: usize, after: &'static str) -> Self {
        Self { before, columns, after, statements: [const { OnceLock::new() }; SIZES.len()] }
    }

    /// Runs the statement for all rows, whose cells lie one after the other. Returns the number of rows affected.
    pub(crate) async fn run(&self, connection: &mut SqliteConnection, cells: Vec<Cell>) -> Result<u64, Fault> {
        let mut rows = cells.len() / self.columns;
        let mut cells = cells.into_iter();
        let mut affected = 0;
        for (index, &size) in SIZES.iter().enumerate() {
            while rows >= size {
                let arguments = arguments(cells.by_ref().take(size * self.columns), size * self.columns)?;
                let statement = sqlx::query_with(AssertSqlSafe(self.statement(index)), arguments);
                affected += statement.execute(&mut *connection).await?.rows_affected();
                rows -= size;
            }
        }
        Ok(affected)
    }

    fn statement(&self, index: usize) -> Arc<str> {
        self.statements[index].get_or_init(|| self.text(SIZES[index]).into()).clone()
    }

    fn text(&self, rows: usize) -> String {
        let row = format!("({})", vec!["?"; self.columns].join(","));
        format!("{}{}{}", self.before, vec![row; rows].join(","), self.after)
    }
}

fn arguments(cells: impl Iterator<Item = Cell>, count: usize) -> Result<SqliteArguments, Fault> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(count, 0);
    for cell in cells {
        match cell {
            Cell::Null => arguments.add(None::<i64>),
            Cell::Int(value) => arguments.add(value),
            Cell::Text(value) => arguments.add(value),
            Cell::Blob(value) => arguments.add(value),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}
