//! LiteLLM's `model_prices_and_context_window.json` as a change to a table of ours (providers.md §19).
//!
//! The file knows no dates, no currency and no difference between free and unknown. So it replaces what it says of a
//! model and nothing else; what it does not mention stays, and what we do not understand of it is left out and named.
//! Its numbers are read as decimal text: no float is ever made of them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::PriceTableError;

mod entry;
mod field;
mod file;
mod merge;
mod model;
mod tier;

/// Models in one file at the most; the file of 2026 has 4 553.
pub const LITELLM_MODELS_MAX: usize = 100_000;

/// A table of ours that takes in LiteLLM's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceUpdate {
    /// The new table, of schema `cfr.prices/1`.
    pub json: Vec<u8>,
    /// What was left out of the file, by reason.
    pub left_out: Vec<LeftOut>,
    /// Models of the table that the file does not mention: they keep their prices.
    pub not_mentioned: Vec<Box<str>>,
}

/// What was left out of a file for one reason.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// Why.
    pub reason: Box<str>,
    /// The models by the file's names, `model: field` where it is only a field; of foreign providers, the providers.
    pub names: Vec<Box<str>>,
}

impl PriceUpdate {
    /// Takes LiteLLM's file into the table `base`, as of `at`.
    ///
    /// # Errors
    /// When `base` is no table of schema `cfr.prices/1`, or `file` is not what LiteLLM publishes.
    pub fn from_litellm(base: &[u8], file: &[u8], at: Timestamp) -> Result<Self, PriceTableError> {
        let today = at.to_zoned(TimeZone::UTC).date().to_string();
        let mut omissions = Omissions::default();
        let models = file::read(file, &today, &mut omissions)?;
        let mut table: Map<String, Value> =
            serde_json::from_slice(base).map_err(|error| malformed(error.to_string()))?;
        let entries = table.get_mut("entries").and_then(Value::as_array_mut);
        let entries = entries.ok_or_else(|| malformed("the table to update has no entries"))?;
        let not_mentioned = merge::merge(entries, models, &today, &mut omissions)?;
        table.insert("as_of".into(), json!(today));
        let json = serde_json::to_vec(&table).map_err(|error| malformed(error.to_string()))?;
        Ok(Self { json, left_out: omissions.list(), not_mentioned })
    }

    /// Whether this looks like LiteLLM's file and not like a table of ours.
    #[must_use]
    pub fn is_litellm(json: &[u8]) -> bool {
        file::is_litellm(json)
    }
}

fn malformed(reason: impl Into<Box<str>>) -> PriceTableError {
    PriceTableError::Malformed { reason: reason.into() }
}

/// What is left out, by reason.
#[derive(Debug, Default)]
struct Omissions(BTreeMap<&'static str, BTreeSet<Box<str>>>);

impl Omissions {
    fn add(&mut self, reason: &'static str, name: impl Into<Box<str>>) {
        self.0.entry(reason).or_default().insert(name.into());
    }

    fn list(self) -> Vec<LeftOut> {
        let list = self.0.into_iter();
        list.map(|(reason, names)| LeftOut { reason: reason.into(), names: names.into_iter().collect() }).collect()
    }
}
