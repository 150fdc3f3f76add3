//! What the catalog's tables have in common: pages, versions and uniqueness.

use crate::store::{Cursor, PAGE_ROWS_MAX, Page, PageRequest, StoreError};

/// One page of rows that come in the order of their list.
pub(super) fn page<T>(rows: impl Iterator<Item = (u128, T)>, request: PageRequest, descending: bool) -> Page<T> {
    let limit = request.limit.clamp(1, PAGE_ROWS_MAX) as usize;
    let after = |id: u128| request.after.is_none_or(|Cursor(after)| if descending { id < after } else { id > after });
    let mut rows = rows.filter(|(id, _)| after(*id));
    let taken: Vec<(u128, T)> = rows.by_ref().take(limit).collect();
    let next = taken.last().map(|(id, _)| Cursor(*id)).filter(|_| rows.next().is_some());
    Page { items: taken.into_iter().map(|(_, row)| row).collect(), next }
}

/// Whether a row is still the one that its editor read.
pub(super) fn check_version(found: i64, expected: i64) -> Result<(), StoreError> {
    if found == expected { Ok(()) } else { Err(StoreError::conflict("it was changed meanwhile")) }
}

/// Whether a unique value is free.
pub(super) fn check_free(taken: bool, what: &str) -> Result<(), StoreError> {
    if taken { Err(StoreError::conflict(format_args!("{what} is taken"))) } else { Ok(()) }
}

/// Lower case letters, digits and `-`.
pub(super) fn check_slug(slug: &str) -> Result<(), StoreError> {
    let fine =
        !slug.is_empty() && slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fine { Ok(()) } else { Err(StoreError::invalid("a short name has lower case letters, digits and `-`")) }
}
