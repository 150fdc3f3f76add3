//! Lists as files: CSV for tables, one JSON object per line for programs. Long ones are streamed page by page, so that none
//! has to fit into memory; an error on the way cuts the connection, and no file ends as if it were whole.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use cfr_billing::store::{Cursor, PAGE_ROWS_MAX, Page, PageRequest};
use futures_core::Stream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;

/// How rows are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// One JSON document.
    #[default]
    Json,
    /// One JSON object per line.
    Jsonl,
    /// Comma separated values with a first line of names (RFC 4180).
    Csv,
}

/// How rows are written into a file of any length, a page at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FileFormat {
    /// One JSON object per line.
    Jsonl,
    /// Comma separated values with a first line of names (RFC 4180).
    Csv,
}

impl Format {
    const fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/json",
            Self::Jsonl => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        })
    }

    const fn ending(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }

    /// An answer that browsers save under this name.
    pub(crate) fn attach(self, name: &str, body: impl Into<Body>) -> Response {
        let mut response = body.into().into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, self.media_type());
        let disposition = format!("attachment; filename=\"{name}.{}\"", self.ending());
        if let Ok(value) = HeaderValue::try_from(disposition) {
            headers.insert(header::CONTENT_DISPOSITION, value);
        }
        response
    }
}

/// A list of any length as a file, one page of the store at a time.
///
/// # Errors
/// When the first page cannot be read: then there is a status to say so.
pub(crate) async fn pages<Row, Fetch, Reading>(
    name: &str,
    format: Format,
    fetch: Fetch,
    write: fn(Vec<Row>, first: bool) -> Result<Bytes, Problem>,
) -> Result<Response, Problem>
where
    Row: Send + 'static,
    Fetch: Fn(PageRequest) -> Reading + Send + 'static,
    Reading: Future<Output = Result<Page<Row>, Problem>> + Send + 'static,
{
    Ok(format.attach(name, body(written(fetch, write)).await?))
}

/// A body of these parts, begun when the first one is there.
///
/// # Errors
/// When the first part cannot be made.
pub(crate) async fn body(parts: impl Stream<Item = Result<Bytes, Problem>> + Send + 'static) -> Result<Body, Problem> {
    let mut parts = Box::pin(parts);
    let first = parts.try_next().await?.unwrap_or_default();
    let rest = parts.map_err(|problem| std::io::Error::other(String::from(problem.detail)));
    Ok(Body::from_stream(stream::iter([Ok(first)]).chain(rest)))
}

/// The pages of a list, each as it is written.
pub(crate) fn written<Row, Fetch, Reading>(
    fetch: Fetch,
    write: fn(Vec<Row>, first: bool) -> Result<Bytes, Problem>,
) -> impl Stream<Item = Result<Bytes, Problem>> + Send + 'static
where
    Row: Send + 'static,
    Fetch: Fn(PageRequest) -> Reading + Send + 'static,
    Reading: Future<Output = Result<Page<Row>, Problem>> + Send + 'static,
{
    stream::try_unfold(Some(None), move |place: Option<Option<Cursor>>| {
        let reading = place.map(|after| (after.is_none(), fetch(PageRequest { after, limit: PAGE_ROWS_MAX })));
        async move {
            let Some((first, reading)) = reading else { return Ok(None) };
            let page = reading.await?;
            Ok(Some((write(page.items, first)?, page.next.map(Some))))
        }
    })
}

/// Rows as the elements of a JSON array that is written page by page.
///
/// # Errors
/// When a row cannot be written as JSON.
pub(crate) fn json_elements<T: Serialize>(rows: &[T], first: bool) -> Result<Bytes, Problem> {
    let mut elements = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        if index > 0 || !first {
            elements.push(b',');
        }
        serde_json::to_writer(&mut elements, row).map_err(Problem::internal)?;
    }
    Ok(elements.into())
}

/// Each row as JSON on a line.
///
/// # Errors
/// When a row cannot be written as JSON.
pub(crate) fn json_lines<T: Serialize>(rows: &[T]) -> Result<Bytes, Problem> {
    let mut lines = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut lines, row).map_err(Problem::internal)?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}

/// Rows as comma separated values, with the names of the columns where `head` says so.
///
/// # Errors
/// When a row has something that is no single value.
pub(crate) fn csv<T: Serialize>(rows: impl Iterator<Item = T>, head: bool) -> Result<Bytes, Problem> {
    let mut writer = csv::WriterBuilder::new().has_headers(head).from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).map_err(Problem::internal)?;
    }
    Ok(writer.into_inner().map_err(Problem::internal)?.into())
}

/// A text that strangers may have chosen, as a cell: no spreadsheet takes it for a formula (OWASP, CSV injection).
pub(crate) fn cell(text: &str) -> String {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_no_formula() {
        for (text, shown) in [("=1+1", "'=1+1"), ("@x", "'@x"), ("gpt-4o", "gpt-4o"), ("", "")] {
            assert_eq!(cell(text), shown);
        }
    }

    #[test]
    fn rows_are_lines_under_their_names() {
        #[derive(Serialize)]
        struct Line {
            name: &'static str,
            tokens: Option<u32>,
        }
        let rows = || [Line { name: "a \"b\", c", tokens: Some(1) }, Line { name: "d", tokens: None }].into_iter();
        let table = csv(rows(), true).map_err(|problem| problem.detail).expect("plain rows");
        assert_eq!(table, "name,tokens\n\"a \"\"b\"\", c\",1\nd,\n");
        assert!(csv(rows(), false).map_err(|problem| problem.detail).expect("plain rows").starts_with(b"\"a"));
    }
}
