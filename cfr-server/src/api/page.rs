//! Lists come in pages: at most `limit` rows and a cursor to the next ones.

use cfr_billing::store::{Cursor, PAGE_ROWS_MAX, Page, PageRequest};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Listing<T> {
    /// The rows of this page.
    pub(crate) items: Vec<T>,
    /// Send it as `cursor` to get the next page; absent on the last one. It has no meaning of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

impl<T> Listing<T> {
    /// A page of the store, shown.
    pub(crate) fn of<Row>(page: Page<Row>, show: impl FnMut(Row) -> T) -> Self {
        Self { items: page.items.into_iter().map(show).collect(), next_cursor: page.next.map(print_cursor) }
    }

    /// Rows that were shown already.
    #[must_use]
    pub(crate) fn page(items: Vec<T>, next: Option<Cursor>) -> Self {
        Self { items, next_cursor: next.map(print_cursor) }
    }

    /// Everything on one page.
    #[must_use]
    pub(crate) fn complete(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }
}

/// The page that a query asks for.
///
/// # Errors
/// 400 for a limit outside 1 to [`PAGE_ROWS_MAX`] and for a cursor that no list gave out.
pub(crate) fn page_request(cursor: Option<&str>, limit: Option<u32>) -> Result<PageRequest, Problem> {
    let limit = limit.unwrap_or(PageRequest::default().limit);
    if !(1..=PAGE_ROWS_MAX).contains(&limit) {
        return Err(Problem::bad_request(format_args!("limit: from 1 to {PAGE_ROWS_MAX}")));
    }
    let after = cursor.map(parse_cursor).transpose()?;
    Ok(PageRequest { after, limit })
}

fn print_cursor(cursor: Cursor) -> String {
    format!("{:032x}", cursor.0)
}

fn parse_cursor(text: &str) -> Result<Cursor, Problem> {
    let hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let value = hex.then(|| u128::from_str_radix(text, 16).ok()).flatten();
    value.map(Cursor).ok_or_else(|| Problem::bad_request("cursor: send back the `next_cursor` of the page before"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_print_and_parse() {
        for value in [0, 1, u128::MAX] {
            assert_eq!(parse_cursor(&print_cursor(Cursor(value))).ok(), Some(Cursor(value)));
        }
    }

    #[test]
    fn a_foreign_cursor_and_an_absurd_limit_are_refused() {
        for (cursor, limit) in
            [(Some("12"), None), (Some("+0000000000000000000000000000001"), None), (None, Some(0)), (None, Some(1_001))]
        {
            assert_eq!(page_request(cursor, limit).map_err(|problem| problem.status), Err(400));
        }
    }
}
