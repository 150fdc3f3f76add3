//! How management commands fail.

use crate::state::StartError;

/// Why a management command ended early: one line with the next step.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The API refuses.
    #[error("{0}")]
    Refused(Box<str>),
    /// There is no API to ask.
    #[error("{0}")]
    Unreachable(Box<str>),
    /// What the command line says makes no sense together.
    #[error("{0}")]
    Misused(Box<str>),
    /// The data folder cannot be opened.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A file cannot be read, or the answer cannot be printed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: Box<str>,
        /// What the system says.
        source: std::io::Error,
    },
}

impl CliError {
    /// The command line makes no sense.
    pub(crate) fn misused(what: impl ToString) -> Self {
        Self::Misused(what.to_string().into())
    }
}
