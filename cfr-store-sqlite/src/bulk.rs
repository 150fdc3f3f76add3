//! Many statements in one message to SQLite's thread, and many rows in one argument.
//!
//! Each message costs two switches between threads, and each argument an allocation on both sides: that, and not the
//! B-trees, is what a commit would spend most of its time on. So a commit is one [`Script`], and its rows are encoded here
//! as SQLite's binary JSON (<https://sqlite.org/jsonb.html>), which `jsonb_each` reads without parsing it.

use std::io::Write;

use fail::fail_point;
use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteArguments, SqliteQueryResult};
use sqlx::{Arguments, AssertSqlSafe, Encode, Executor, Sqlite, SqliteConnection, Type};

use crate::error::Fault;

/// Element types of binary JSON.
const NULL: u8 = 0;
const INTEGER: u8 = 3;
const TEXT: u8 = 10;
const ARRAY: u8 = 11;

/// In the upper half of an element's first byte: its size follows in four bytes, big endian.
const SIZE_FOLLOWS: u8 = 0xe0;
/// Sizes up to here are the upper half themselves.
const SMALL_SIZE_MAX: usize = 11;
/// Of an element whose size follows.
const HEADER_BYTES: usize = 5;

/// One value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    /// Binary JSON has no bytes: they travel as hexadecimal digits, and the statement takes them with `unhex`.
    Blob(&'a [u8]),
}

impl<'a> Cell<'a> {
    pub(crate) fn id_opt(id: Option<&'a [u8; 16]>) -> Self {
        id.map_or(Self::Null, |id| Self::Blob(id))
    }

    pub(crate) fn int_opt(value: Option<i64>) -> Self {
        value.map_or(Self::Null, Self::Int)
    }
}

/// Rows as one argument: an array of arrays. The same rows are always the same bytes, so that they can be sealed.
#[derive(Debug)]
pub(crate) struct Rows {
    bytes: Vec<u8>,
    count: i64,
}

impl Default for Rows {
    fn default() -> Self {
        Self { bytes: vec![0; HEADER_BYTES], count: 0 }
    }
}

impl Rows {
    pub(crate) const fn count(&self) -> i64 {
        self.count
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn push(&mut self, cells: &[Cell<'_>]) {
        let start = self.bytes.len();
        self.bytes.extend([0; HEADER_BYTES]);
        for &cell in cells {
            self.push_cell(cell);
        }
        self.close_array(start);
        self.count += 1;
    }

    /// Adds a row of one column, which is itself the value that `jsonb_each` reads.
    pub(crate) fn push_single(&mut self, cell: Cell<'_>) {
        self.push_cell(cell);
        self.count += 1;
    }

    /// The rows without what frames them.
    pub(crate) fn contents(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }

    fn into_argument(mut self) -> Vec<u8> {
        self.close_array(0);
        self.bytes
    }

    fn close_array(&mut self, start: usize) {
        let size = self.bytes.len() - start - HEADER_BYTES;
        self.bytes[start..start + HEADER_BYTES].copy_from_slice(&header(ARRAY, size));
    }

    fn push_cell(&mut self, cell: Cell<'_>) {
        match cell {
            Cell::Null => self.bytes.push(NULL),
            Cell::Int(value) => self.push_int(value),
            Cell::Text(text) => {
                self.push_header(TEXT, text.len());
                self.bytes.extend_from_slice(text.as_bytes());
            }
            Cell::Blob(blob) => {
                self.push_header(TEXT, blob.len() * 2);
                self.bytes.extend(blob.iter().flat_map(|byte| [hex_digit(byte >> 4), hex_digit(byte & 0xf)]));
            }
        }
    }

    /// Digits, at most twenty with the sign.
    fn push_int(&mut self, value: i64) {
        let mut digits = [0; 20];
        let mut free = &mut digits[..];
        // Writing to a slice that is large enough does not fail.
        let _ = write!(free, "{value}");
        let unused = free.len();
        let used = digits.len() - unused;
        self.push_header(INTEGER, used);
        self.bytes.extend_from_slice(&digits[..used]);
    }

    fn push_header(&mut self, kind: u8, size: usize) {
        match u8::try_from(size) {
            Ok(small) if size <= SMALL_SIZE_MAX => self.bytes.push(small << 4 | kind),
            _ => self.bytes.extend(header(kind, size)),
        }
    }
}

/// SQLite takes no value of four gigabytes, so a size that does not fit is refused there.
fn header(kind: u8, size: usize) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes();
    [SIZE_FOLLOWS | kind, a, b, c, d]
}

const fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

/// Statements that run one after the other until one fails. Their text is one of a few, so that it stays prepared.
#[derive(Debug, Default)]
pub(crate) struct Script {
    text: String,
    arguments: SqliteArguments,
}

impl Script {
    /// Adds a statement; its arguments follow in their order.
    pub(crate) fn statement(&mut self, text: &'static str) {
        self.text.push_str(text);
        self.text.push(';');
    }

    /// The next argument.
    pub(crate) fn bind<'q>(&mut self, value: impl Encode<'q, Sqlite> + Type<Sqlite>) -> Result<(), Fault> {
        Ok(self.arguments.add(value).map_err(sqlx::Error::Encode)?)
    }

    /// The next argument: rows for `jsonb_each`.
    pub(crate) fn bind_rows(&mut self, rows: Rows) -> Result<(), Fault> {
        self.bind(rows.into_argument())
    }

    /// Adds a statement whose only argument is rows, unless there are none.
    pub(crate) fn statement_for(&mut self, text: &'static str, rows: Rows) -> Result<(), Fault> {
        if rows.is_empty() {
            return Ok(());
        }
        self.statement(text);
        self.bind_rows(rows)
    }

    /// Runs it. Returns how many rows each statement affected.
    pub(crate) async fn run(self, connection: &mut SqliteConnection) -> Result<Vec<u64>, Fault> {
        if self.text.is_empty() {
            return Ok(Vec::new());
        }
        let query = sqlx::query_with(AssertSqlSafe(self.text), self.arguments);
        let results = connection.execute_many(query).inspect_ok(|_| fail_point!("script.statement_run"));
        let results: Vec<SqliteQueryResult> = results.try_collect().await?;
        Ok(results.iter().map(SqliteQueryResult::rows_affected).collect())
    }
}
