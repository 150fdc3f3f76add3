//! Pages of lists.

use cfr_billing::store::{Cursor, PAGE_ROWS_MAX, Page, PageRequest};
use sqlx::postgres::PgRow;

use crate::error::Fault;

/// Rows to read for a page: one more than it has, to know whether there is a next one.
pub(crate) fn rows_wanted(page: PageRequest) -> i64 {
    i64::from(limit(page)) + 1
}

fn limit(page: PageRequest) -> u32 {
    page.limit.clamp(1, PAGE_ROWS_MAX)
}

/// A page of the rows that were read.
pub(crate) fn page_of<T>(
    rows: Vec<PgRow>,
    page: PageRequest,
    from_row: fn(&PgRow) -> Result<T, Fault>,
    id: fn(&T) -> u128,
) -> Result<Page<T>, Fault> {
    let limit = usize::try_from(limit(page)).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    let items = rows.iter().take(limit).map(from_row).collect::<Result<Vec<T>, Fault>>()?;
    let next = items.last().filter(|_| more).map(|item| Cursor(id(item)));
    Ok(Page { items, next })
}
