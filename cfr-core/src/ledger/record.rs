//! The one usage record that every request leaves.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::CallerIds;
use crate::chat::{Operation, Tags, Usage, UsageSource};
use crate::id::RequestId;

/// What a request used, cost and was charged, and how it went. Immutable: a correction is a record of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// The request, and its hold.
    pub id: RequestId,
    /// When it began.
    pub at: Timestamp,
    /// Who asked.
    pub caller: CallerIds,
    /// What was asked for.
    pub operation: Operation,
    /// The model as the caller named it.
    pub model_requested: Arc<str>,
    /// The provider that was asked last, by its name in the price table; empty when none was.
    pub provider: Arc<str>,
    /// The model that this provider was asked for; empty when none was.
    pub model_served: Arc<str>,
    /// What was used.
    pub usage: Usage,
    /// Where `usage` comes from.
    pub source: UsageSource,
    /// What the provider charges us, in nano-units of the budget's currency.
    pub cost_nanos: i64,
    /// The price of that: cost plus margin.
    pub price_nanos: i64,
    /// What the customer was charged; the ledger fills it in.
    pub charged_nanos: i64,
    /// `price - charged`, the operator's loss; the ledger fills it in.
    pub overrun_nanos: i64,
    /// First eight bytes of the price table's hash.
    pub price_version: u64,
    /// The exchange rate that was frozen on the hold: millionths of a dollar per unit.
    pub fx_e6: i64,
    /// The margin in basis points.
    pub margin_bps: u32,
    /// How it ended, as HTTP counts: 200, the refusal of the upstream, 502, 503, 504, or 499 when the client went away.
    pub status: u16,
    /// Why the answer ended, in OpenAI's words; empty when unknown.
    pub finish: Arc<str>,
    /// Whether the answer was streamed.
    pub streamed: bool,
    /// From the request's arrival to its last byte, in milliseconds.
    pub latency_ms: u32,
    /// From the request's arrival to the upstream's first byte, in milliseconds.
    pub first_byte_ms: Option<u32>,
    /// Targets that were tried, the successful one last; empty when the first one answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// The provider's own id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_id: Option<Box<str>>,
    /// The caller's own names for the request.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// `max_tokens` that the gateway set because the caller sent none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens_max_applied: Option<u64>,
}

/// One target that was tried and failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The upstream by its configured name.
    pub upstream: Arc<str>,
    /// Its model.
    pub model: Arc<str>,
    /// What came of it, as a stable word.
    pub outcome: Box<str>,
}
