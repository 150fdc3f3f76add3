//! Many statements in one message, and many rows in one argument per column.
//!
//! Each message costs a round trip, and each argument of many values an allocation per value: that, and not the B-trees, is
//! what a commit would spend most of its time on. So a commit is one [`Script`], and its rows are encoded here as the
//! arrays of Postgres' protocol, which `unnest` makes rows of again.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgHasArrayType, PgTypeInfo};
use sqlx::types::Uuid;
use sqlx::{Arguments, AssertSqlSafe, Encode, Postgres, Row, Type};

use cfr_billing::store::StoreError;
use cfr_core::id::AccountId;

use crate::error::Fault;
use crate::writer::Tx;

/// How long a null value is in an array of the protocol.
const NULL: i32 = -1;

/// One value of a row. The same position of every row has the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    Int(i64),
    IntOpt(Option<i64>),
    Id([u8; 16]),
    IdOpt(Option<[u8; 16]>),
    Text(&'a str),
    TextOpt(Option<&'a str>),
    /// Arrays of arrays must not be ragged: these travel as text, and the statement casts them to `bigint[]`.
    Accounts(&'a [AccountId]),
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int,
    Id,
    Text,
}

impl Cell<'_> {
    const fn kind(&self) -> Kind {
        match self {
            Self::Int(_) | Self::IntOpt(_) => Kind::Int,
            Self::Id(_) | Self::IdOpt(_) => Kind::Id,
            Self::Text(_) | Self::TextOpt(_) | Self::Accounts(_) => Kind::Text,
        }
    }
}

/// Rows as one argument per column. The same rows are always the same bytes, so that they can be sealed.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    columns: Vec<Column>,
    count: i32,
}

impl Rows {
    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn count(&self) -> i64 {
        self.count.into()
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, cells: &[Cell<'_>]) {
        if self.is_empty() {
            self.columns = cells.iter().map(|cell| Column::of(cell.kind())).collect();
        }
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.push(cell);
        }
        self.count += 1;
    }

    /// The bytes of the values, row by row, to be sealed. Each value is framed by its length.
    pub(crate) fn seal(&self, mut add: impl FnMut(&[u8])) {
        let mut columns: Vec<&[u8]> = self.columns.iter().map(|column| &column.bytes[..]).collect();
        for _ in 0..self.count {
            for column in &mut columns {
                let (value, rest) = column.split_at(framed_length(column));
                add(value);
                *column = rest;
            }
        }
    }
}

/// How many bytes the first value of a column takes, with its frame.
fn framed_length(column: &[u8]) -> usize {
    let Some((frame, values)) = column.split_first_chunk() else { return column.len() };
    let length = usize::try_from(i32::from_be_bytes(*frame)).unwrap_or_default(); // of null there is only the frame
    frame.len() + length.min(values.len())
}

/// The values of one column, as elements of an array.
#[derive(Debug)]
struct Column {
    kind: Kind,
    count: i32,
    bytes: Vec<u8>,
}

impl Column {
    const fn of(kind: Kind) -> Self {
        Self { kind, count: 0, bytes: Vec::new() }
    }

    fn push(&mut self, cell: &Cell<'_>) {
        match cell {
            Cell::Int(value) | Cell::IntOpt(Some(value)) => self.push_value(&value.to_be_bytes()),
            Cell::Id(id) | Cell::IdOpt(Some(id)) => self.push_value(id),
            Cell::Text(text) | Cell::TextOpt(Some(text)) => self.push_value(text.as_bytes()),
            Cell::Accounts(accounts) => self.push_value(array_text(accounts).as_bytes()),
            Cell::IntOpt(None) | Cell::IdOpt(None) | Cell::TextOpt(None) => {
                self.bytes.extend_from_slice(&NULL.to_be_bytes());
            }
        }
        self.count += 1;
    }

    /// Postgres takes no value of two gigabytes, so a length that does not fit is refused there.
    fn push_value(&mut self, value: &[u8]) {
        let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value);
    }

    fn element_type(&self) -> PgTypeInfo {
        match self.kind {
            Kind::Int => <i64 as Type<Postgres>>::type_info(),
            Kind::Id => <Uuid as Type<Postgres>>::type_info(),
            Kind::Text => <str as Type<Postgres>>::type_info(),
        }
    }

    fn array_type(&self) -> PgTypeInfo {
        match self.kind {
            Kind::Int => <i64 as PgHasArrayType>::array_type_info(),
            Kind::Id => <Uuid as PgHasArrayType>::array_type_info(),
            Kind::Text => <&str as PgHasArrayType>::array_type_info(),
        }
    }
}

impl Type<Postgres> for Column {
    fn type_info() -> PgTypeInfo {
        <i64 as PgHasArrayType>::array_type_info()
    }

    fn compatible(_: &PgTypeInfo) -> bool {
        true
    }
}

impl Encode<'_, Postgres> for Column {
    fn produces(&self) -> Option<PgTypeInfo> {
        Some(self.array_type())
    }

    /// One dimension that begins at 1, then the elements.
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let element = self.element_type().oid().ok_or("a type without a number")?;
        for number in [1, 1] {
            buffer.extend_from_slice(&i32::to_be_bytes(number)); // dimensions, and that there may be nulls
        }
        buffer.extend_from_slice(&element.0.to_be_bytes());
        for number in [self.count, 1] {
            buffer.extend_from_slice(&number.to_be_bytes());
        }
        buffer.extend_from_slice(&self.bytes);
        Ok(IsNull::No)
    }
}

/// `{1,2}`, as Postgres writes an array.
fn array_text(accounts: &[AccountId]) -> String {
    let ids: Vec<String> = accounts.iter().map(|account| account.0.to_string()).collect();
    format!("{{{}}}", ids.join(","))
}

/// Statements that run as one, in no order: none sees what another one does, and no two may change the same row. Their text
/// is one of a few, so that it stays prepared.
#[derive(Debug, Default)]
pub(crate) struct Script {
    text: String,
    /// What has to be true afterwards.
    conditions: String,
    arguments: PgArguments,
    statements: u32,
}

/// When the transaction began, by the clock of the database, in microseconds.
pub(crate) const BEGAN: &str = "(extract(epoch FROM transaction_timestamp()) * 1000000)::bigint";

impl Script {
    /// Adds a statement that changes rows. Its arguments are its own `$1`, `$2`, and follow in their order.
    pub(crate) fn statement(&mut self, text: &'static str) {
        let name = format!("s{}", self.statements + 1);
        self.named(&name, text);
    }

    /// Adds one whose rows the others see by its name.
    pub(crate) fn named(&mut self, name: &str, text: &'static str) {
        self.text.push_str(if self.statements == 0 { "WITH " } else { ", " });
        self.statements += 1;
        self.text.push_str(name);
        self.text.push_str(" AS (");
        push_renumbered(&mut self.text, text, self.arguments.len());
        self.text.push(')');
    }

    /// Adds what has to be true of named statements or of the rows before all of them: else nothing is done, and the
    /// script fails. Its arguments follow, like those of a statement.
    pub(crate) fn require(&mut self, condition: &'static str) {
        if !self.conditions.is_empty() {
            self.conditions.push_str(" AND ");
        }
        push_renumbered(&mut self.conditions, condition, self.arguments.len());
    }

    /// The next argument.
    pub(crate) fn bind<'q>(&mut self, value: impl Encode<'q, Postgres> + Type<Postgres>) -> Result<(), Fault> {
        Ok(self.arguments.add(value).map_err(sqlx::Error::Encode)?)
    }

    /// The next arguments: the columns of rows, for `unnest`.
    pub(crate) fn bind_rows(&mut self, rows: Rows) -> Result<(), Fault> {
        rows.columns.into_iter().try_for_each(|column| self.bind(column))
    }

    /// Adds a statement whose first arguments are rows, unless there are none. Whether it did.
    pub(crate) fn statement_for(&mut self, text: &'static str, rows: Rows) -> Result<bool, Fault> {
        let name = format!("s{}", self.statements + 1);
        self.named_for(&name, text, rows)
    }

    /// The same for a named one.
    pub(crate) fn named_for(&mut self, name: &str, text: &'static str, rows: Rows) -> Result<bool, Fault> {
        if rows.is_empty() {
            return Ok(false);
        }
        self.named(name, text);
        self.bind_rows(rows)?;
        Ok(true)
    }

    /// Runs it.
    pub(crate) async fn run(self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        if self.statements == 0 {
            return Ok(());
        }
        let text = AssertSqlSafe(self.text_with("1"));
        let done = tx.prepared(text, self.arguments).execute(tx.connection()).await?;
        match done.rows_affected() {
            1 => Ok(()),
            _ => Err(StoreError::unavailable("Postgres did not say that a script was run").into()),
        }
    }

    /// Runs it as the only statement of a transaction, which learns its moment from it.
    pub(crate) async fn run_alone(self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        let text = AssertSqlSafe(self.text_with(BEGAN));
        let row = tx.prepared(text, self.arguments).fetch_one(tx.connection()).await?;
        tx.set_moment(row.try_get(0)?)
    }

    /// A condition that is not met divides by zero: the one way in which a query can refuse.
    fn text_with(&self, answer: &str) -> String {
        let Self { text, conditions, .. } = self;
        match conditions.is_empty() {
            true => format!("{text} SELECT {answer}"),
            false => format!("{text} SELECT {answer}, 1 / ({conditions})::int"),
        }
    }
}

/// Arguments are numbered on from those before.
fn push_renumbered(target: &mut String, text: &str, base: usize) {
    let mut pieces = text.split('$');
    target.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let digits = piece.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(piece.len());
        let (number, rest) = piece.split_at(digits);
        let number = number.parse::<usize>().unwrap_or_default() + base;
        target.push_str(&format!("${number}{rest}"));
    }
}
