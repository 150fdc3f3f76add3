//! Why a file is not taken or a batch is not made.

use cfr_billing::batch::BatchState;
use cfr_billing::store::StoreError;
use cfr_core::batch::{FILE_BYTES_MAX, LINES_MAX};
use cfr_core::gateway::GatewayError;
use cfr_core::upstream::UpstreamError;
use http::StatusCode;

use crate::calls::api_error;
use crate::config::Settings;
use crate::error::ApiError;

/// Why a file is not taken or a batch is not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The form of an upload is not one.
    #[error("the form cannot be read: {0}")]
    Form(Box<str>),
    /// A field is missing or wrong.
    #[error("{param}: {reason}")]
    Field {
        /// The field.
        param: &'static str,
        /// What is wrong.
        reason: Box<str>,
    },
    /// A line of a file is not one that could be asked.
    #[error("line {line}: {reason}")]
    Line {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        reason: Box<str>,
    },
    /// The file has more lines than a batch may have.
    #[error("a file of requests has at most {LINES_MAX} lines")]
    TooManyLines,
    /// The file is longer than one may be.
    #[error("a file of requests has at most {FILE_BYTES_MAX} bytes")]
    TooLarge,
    /// The account that has the file or the batch is not configured any more.
    #[error("the provider account `{upstream}` that has it is not configured any more")]
    Gone {
        /// The upstream.
        upstream: Box<str>,
    },
    /// The batch has come too far, or not far enough.
    #[error("a batch that is {} cannot be cancelled", .state.name())]
    NotCancellable {
        /// How far it has come.
        state: BatchState,
    },
    /// Nothing new is begun because the books do not agree.
    #[error("the books do not agree")]
    Halted,
    /// The store, which also says when something is not the caller's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Prices, budgets, the ledger.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

impl From<UpstreamError> for BatchError {
    fn from(error: UpstreamError) -> Self {
        GatewayError::Upstream { error: Box::new(error), attempts: Vec::new() }.into()
    }
}

impl BatchError {
    /// The answer to a request that failed.
    #[must_use]
    pub fn api(self, settings: &Settings) -> ApiError {
        let message = self.to_string();
        match self {
            Self::Form(_) => ApiError::bad_request("invalid_form", message),
            Self::Field { param, .. } => ApiError::bad_request("invalid_value", message).param(param),
            Self::Line { line, .. } => ApiError::bad_request("invalid_file", message).param("file").field("line", line),
            Self::TooManyLines | Self::TooLarge => {
                let (status, kind) = (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error");
                ApiError::new(status, kind, "file_too_large", message).param("file")
            }
            Self::Gone { .. } => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "api_error", "upstream_gone", message).alarm()
            }
            Self::NotCancellable { .. } => {
                ApiError::new(StatusCode::CONFLICT, "invalid_request_error", "not_cancellable", message)
            }
            Self::Halted => ApiError::ledger_unavailable(message),
            Self::Store(StoreError::NotFound { what }) => {
                ApiError::not_found(format!("{what}_not_found"), format!("there is no such {what}"))
            }
            Self::Store(error) => ApiError::ledger_unavailable(error),
            Self::Gateway(error) => api_error(error, settings),
        }
    }
}
