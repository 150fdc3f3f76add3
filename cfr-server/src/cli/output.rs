//! What the commands print: tables for people, the API's JSON for programs.

use comfy_table::{Table, presets};
use serde_json::Value;

use super::error::CliError;
use crate::terminal;

/// A column: its heading, and where the value is (RFC 6901).
pub(crate) type Column = (&'static str, &'static str);

/// Prints answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    /// As the API's JSON.
    pub(crate) json: bool,
}

impl Printer {
    /// Shows a page of a list, and how to get the next one.
    pub(crate) fn list(self, listing: &Value, columns: &[Column]) -> Result<(), CliError> {
        if self.json {
            return print_json(listing);
        }
        let rows = items(listing);
        print(&table(rows, columns))?;
        match listing.get("next_cursor").and_then(Value::as_str) {
            Some(cursor) => note(&format!("There is more: add --cursor {cursor}")),
            None => Ok(()),
        }
    }

    /// Shows one thing, a line for each of its fields.
    pub(crate) fn one(self, thing: &Value, fields: &[Column]) -> Result<(), CliError> {
        if self.json { print_json(thing) } else { print(&details(thing, fields)) }
    }

    /// Shows text to people; programs get the JSON.
    pub(crate) fn text(self, thing: &Value, text: &str) -> Result<(), CliError> {
        if self.json { print_json(thing) } else { print(text) }
    }
}

/// The rows of a listing.
pub(crate) fn items(listing: &Value) -> &[Value] {
    listing.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A table with a heading.
pub(crate) fn table(rows: &[Value], columns: &[Column]) -> String {
    let mut table = plain();
    table.set_header(columns.iter().map(|(heading, _)| *heading));
    for row in rows {
        table.add_row(columns.iter().map(|(_, pointer)| show(row.pointer(pointer))));
    }
    lines(&table)
}

/// One thing, a line for each field that it has.
pub(crate) fn details(thing: &Value, fields: &[Column]) -> String {
    let mut table = plain();
    for (heading, pointer) in fields {
        if let Some(value) = thing.pointer(pointer) {
            table.add_row([(*heading).to_owned(), show(Some(value))]);
        }
    }
    lines(&table)
}

/// A line for people that is no part of the answer.
pub(crate) fn note(text: &str) -> Result<(), CliError> {
    terminal::remark(text).map_err(cannot_print)
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn lines(table: &Table) -> String {
    table.trim_fmt().lines().map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
}

/// A value in a cell: an amount with its currency, a list with commas, a dash for nothing.
fn show(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) if text.is_empty() => "-".into(),
        Some(Value::String(text)) => text.replace(char::is_control, " "),
        Some(Value::Bool(true)) => "yes".into(),
        Some(Value::Bool(false)) => "no".into(),
        Some(Value::Array(list)) if list.is_empty() => "-".into(),
        Some(Value::Array(list)) => list.iter().map(|entry| show(Some(entry))).collect::<Vec<_>>().join(", "),
        Some(Value::Object(object)) => match (object.get("amount"), object.get("currency"), object.get("kind")) {
            (Some(amount), Some(currency), _) => format!("{} {}", show(Some(amount)), show(Some(currency))),
            (_, _, Some(kind)) => show(Some(kind)),
            _ => Value::Object(object.clone()).to_string(),
        },
        Some(number) => number.to_string(),
    }
}

fn print_json(value: &Value) -> Result<(), CliError> {
    print(&format!("{value:#}\n"))
}

fn print(text: &str) -> Result<(), CliError> {
    terminal::print(text).map_err(cannot_print)
}

fn cannot_print(source: std::io::Error) -> CliError {
    CliError::Io { what: "cannot print".into(), source }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_shows_money_lists_and_nothing() {
        let rows =
            [json!({"slug": "acme", "limit": {"amount": "1.5", "currency": "EUR"}, "models": ["a", "b"], "end": null})];
        let shown = table(&rows, &[("SLUG", "/slug"), ("LIMIT", "/limit"), ("MODELS", "/models"), ("END", "/end")]);
        assert_eq!(shown, "SLUG  LIMIT    MODELS  END\nacme  1.5 EUR  a, b    -\n");
    }

    #[test]
    fn details_leave_out_what_is_not_there() {
        let shown =
            details(&json!({"id": "x", "active": true}), &[("id", "/id"), ("active", "/active"), ("gone", "/gone")]);
        assert_eq!(shown, "id      x\nactive  yes\n");
    }

    #[test]
    fn a_value_cannot_move_the_cursor_of_a_terminal() {
        assert_eq!(show(Some(&json!("a\u{1b}[2Jb\n"))), "a [2Jb ");
    }
}
