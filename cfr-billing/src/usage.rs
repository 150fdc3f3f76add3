//! What is asked of usage records.

use std::sync::Arc;

use cfr_core::id::{KeyId, RequestId, TenantId, UserId};
use cfr_core::ledger::UsageRecord;
use cfr_core::money::Currency;
use cfr_core::time::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// Which usage is wanted; what is none matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// Only this request.
    pub id: Option<RequestId>,
    /// Only of this tenant.
    pub tenant: Option<TenantId>,
    /// Only of this user.
    pub user: Option<UserId>,
    /// Only of this key.
    pub key: Option<KeyId>,
    /// Only with this served model.
    pub model: Option<Arc<str>>,
    /// Only from this moment on.
    pub from: Option<Timestamp>,
    /// Only before this moment.
    pub to: Option<Timestamp>,
}

/// The sum of a day (UTC) for one tenant, user, key and model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageDay {
    /// The day, UTC.
    pub day: Date,
    /// The tenant.
    pub tenant: TenantId,
    /// The user.
    pub user: Option<UserId>,
    /// The key.
    pub key: Option<KeyId>,
    /// The served model.
    pub model: Arc<str>,
    /// Its sums.
    #[serde(flatten)]
    pub sums: UsageSums,
}

/// What many requests add up to. A sum that does not fit ends at the largest number: tokens and costs follow what an upstream
/// reports, which may be nonsense.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageSums {
    /// Requests, failed ones included.
    pub requests: i64,
    /// Of them those that ended with a status from 400 on.
    #[serde(default)]
    pub failed: i64,
    /// Of them those whose time is in `latency_ms`; what was booked before this was kept is not.
    #[serde(default)]
    pub timed: i64,
    /// From arrival to the last byte, in milliseconds.
    #[serde(default)]
    pub latency_ms: i64,
    /// Of them those with a first byte, whose time is in `first_byte_ms`.
    #[serde(default)]
    pub first_bytes: i64,
    /// From arrival to the upstream's first byte, in milliseconds.
    #[serde(default)]
    pub first_byte_ms: i64,
    /// Prompt tokens.
    pub tokens_in: i64,
    /// Answer tokens.
    pub tokens_out: i64,
    /// What providers charge, in nano-units.
    pub cost_nanos: i64,
    /// What customers were charged, in nano-units.
    pub charged_nanos: i64,
}

impl UsageSums {
    /// The columns of the sums, in the order of [`UsageSums::columns`].
    pub const COLUMNS: [&str; 10] = [
        "requests",
        "failed",
        "timed",
        "latency_ms",
        "first_bytes",
        "first_byte_ms",
        "tokens_in",
        "tokens_out",
        "cost",
        "charged",
    ];

    /// Adds a record that was charged as much.
    pub fn count(&mut self, record: &UsageRecord, charged_nanos: i64) {
        self.add(&Self {
            requests: 1,
            failed: i64::from(record.status >= 400),
            timed: 1,
            latency_ms: record.latency_ms.into(),
            first_bytes: record.first_byte_ms.is_some().into(),
            first_byte_ms: record.first_byte_ms.unwrap_or_default().into(),
            tokens_in: i64::try_from(record.usage.input_total()).unwrap_or(i64::MAX),
            tokens_out: i64::try_from(record.usage.output_total()).unwrap_or(i64::MAX),
            cost_nanos: record.cost_nanos,
            charged_nanos,
        });
    }

    /// Adds other sums.
    pub fn add(&mut self, other: &Self) {
        let mut sums = self.columns();
        for (sum, more) in sums.iter_mut().zip(other.columns()) {
            *sum = sum.saturating_add(more);
        }
        *self = Self::from_columns(sums);
    }

    /// As a store keeps them.
    #[must_use]
    pub const fn columns(&self) -> [i64; Self::COLUMNS.len()] {
        [
            self.requests,
            self.failed,
            self.timed,
            self.latency_ms,
            self.first_bytes,
            self.first_byte_ms,
            self.tokens_in,
            self.tokens_out,
            self.cost_nanos,
            self.charged_nanos,
        ]
    }

    /// As a store kept them.
    #[must_use]
    pub const fn from_columns(columns: [i64; Self::COLUMNS.len()]) -> Self {
        let [
            requests,
            failed,
            timed,
            latency_ms,
            first_bytes,
            first_byte_ms,
            tokens_in,
            tokens_out,
            cost_nanos,
            charged_nanos,
        ] = columns;
        Self {
            requests,
            failed,
            timed,
            latency_ms,
            first_bytes,
            first_byte_ms,
            tokens_in,
            tokens_out,
            cost_nanos,
            charged_nanos,
        }
    }
}

/// What a report has a row for each of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Days, UTC.
    Day,
    /// Tenants.
    Tenant,
    /// Users.
    User,
    /// Keys.
    Key,
    /// Served models.
    Model,
    /// Currencies of tenants: sums of different ones are not added up.
    Currency,
}

/// One row of a report: what it was grouped by, and the sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportRow {
    /// The day, when grouped by days.
    pub day: Option<Date>,
    /// The tenant, when grouped by tenants.
    pub tenant: Option<TenantId>,
    /// The user, when grouped by users; none also for services.
    pub user: Option<UserId>,
    /// The key, when grouped by keys; none also for who has none.
    pub key: Option<KeyId>,
    /// The served model, when grouped by models; empty when no provider was asked.
    pub model: Option<Arc<str>>,
    /// The currency of the tenants, when grouped by currencies.
    pub currency: Option<Currency>,
    /// The sums.
    pub sums: UsageSums,
}

/// Rows of a report, at most. A store answers one more when there are more.
pub const REPORT_ROWS_MAX: usize = 10_000;
