//! LiteLLM's price file, from whoever has it: refused, or a table of ours that can be read, with every entry that it had.

use cfr_core::price::{PriceTable, PriceUpdate};
use jiff::Timestamp;

/// A table with one model that files know.
const BASE: &[u8] = br#"{"schema":"cfr.prices/1","as_of":"2026-11-21","currency":"USD","entries":[
{"provider":"openai","model":"gpt-5.4-mini","mode":"chat","currency":"USD","limits":{},"rates":[
{"meter":"input_tokens","tier":"standard","above":0,"price":"0.00000075"},
{"meter":"output_tokens","tier":"standard","above":0,"price":"0.0000045"}]}]}"#;

/// What such a file says, for the first inputs.
pub const SEEDS: [&str; 3] = [
    r#"{"gpt-5.4-mini":{"litellm_provider":"openai","mode":"chat","input_cost_per_token":7.5e-07,"output_cost_per_token":4.5e-06,"max_input_tokens":272000,"max_output_tokens":128000}}"#,
    r#"{"sample_spec":{},"claude-sonnet-5-5":{"litellm_provider":"anthropic","mode":"chat","input_cost_per_token":3e-06,"output_cost_per_token":1.5e-05,"cache_read_input_token_cost":3e-07,"cache_creation_input_token_cost":3.75e-06,"input_cost_per_token_above_200k_tokens":6e-06,"search_context_cost_per_query":{"search_context_size_medium":0.01}}}"#,
    r#"{"gemini/gemini-3.8-flash":{"litellm_provider":"gemini","mode":"chat","input_cost_per_token":"1e-7","input_cost_per_audio_token":1e-06,"output_cost_per_token_batches":2e-07,"deprecation_date":"2027-01-01"}}"#,
];

/// The body is the file.
///
/// # Panics
/// When the table that it makes cannot be read, or lost an entry.
pub fn check(data: &[u8]) {
    let before = PriceTable::from_json(BASE).expect("a table");
    let _ = PriceUpdate::is_litellm(data);
    let Ok(update) = PriceUpdate::from_litellm(BASE, data, Timestamp::UNIX_EPOCH) else { return };
    let after = PriceTable::from_json(&update.json).unwrap_or_else(|cause| panic!("a table that we made: {cause}"));
    assert!(after.entries().len() >= before.entries().len(), "an entry is lost");
}
