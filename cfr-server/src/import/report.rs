//! What became of each row of the source, and why.

use serde::Serialize;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It is taken over, or would be.
    Taken,
    /// It is here already.
    Kept,
    /// It is not taken over.
    LeftOut,
}

/// A row of the source.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Line {
    /// The table.
    pub(super) kind: &'static str,
    /// Its id there.
    pub(super) source: String,
    /// What became of it.
    pub(super) outcome: Outcome,
    /// What it is here, or why it is not.
    pub(super) note: String,
}

/// All of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Whether anything was written.
    pub(super) applied: bool,
    /// The rows, in the order in which they were read.
    pub(super) items: Vec<Line>,
}

impl Report {
    pub(super) fn add(&mut self, kind: &'static str, source: &str, outcome: Outcome, note: impl Into<String>) {
        self.items.push(Line { kind, source: source.to_owned(), outcome, note: note.into() });
    }

    /// What came of a row that may have been left out.
    pub(super) fn note(&mut self, kind: &'static str, source: &str, became: Result<(Outcome, String), String>) {
        match became {
            Ok((outcome, note)) => self.add(kind, source, outcome, note),
            Err(reason) => self.add(kind, source, Outcome::LeftOut, reason),
        }
    }

    pub(super) fn count(&self, outcome: Outcome) -> usize {
        self.items.iter().filter(|line| line.outcome == outcome).count()
    }
}
