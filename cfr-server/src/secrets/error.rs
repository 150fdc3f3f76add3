//! Why a secret cannot be sealed or opened.

use cfr_billing::store::StoreError;
use cfr_core::id::DataKeyId;

use super::sealed::{PLAIN_BYTES_MAX, Place};

/// Why a secret cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// Nobody said with which key.
    #[error(
        "there is no master key to seal secrets with; set CFR_MASTER_KEY, or CFR_MASTER_KEY_FILE, to what \
         `cfr-server secrets new-key` prints: the same on every server"
    )]
    NoMasterKey,
    /// What was given is no key.
    #[error("{place}: {what}; make one with `cfr-server secrets new-key`")]
    BadMasterKey {
        /// Which variable or file.
        place: Box<str>,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The secrets in the database are under a master key that is not here.
    #[error(
        "secrets in the database are sealed under the master key {wanted}, which {place} does not have{}; give back the \
         old key (as CFR_MASTER_KEY, or as {} in the data folder), next to the new one if there is one", listed(.known),
        super::master::FILE
    )]
    UnknownMasterKey {
        /// The id of the key that is missing.
        wanted: Box<str>,
        /// Where keys come from.
        place: Box<str>,
        /// The ids of those that are here.
        known: Vec<String>,
    },
    /// The file with the master key cannot be read or made.
    #[error("cannot read or write {path}: {source}")]
    File {
        /// The file.
        path: Box<str>,
        /// Why.
        source: std::io::Error,
    },
    /// The seal is broken: the value was changed, or belongs elsewhere.
    #[error("the sealed value in {table}.{column} of {row} is not one that was sealed for this place")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The row.
        row: Box<str>,
        /// The column.
        column: &'static str,
    },
    /// The data key itself is not what was wrapped.
    #[error("the data key {id} is damaged")]
    DamagedDataKey {
        /// The key.
        id: DataKeyId,
    },
    /// The key that sealed it is gone for good.
    #[error("the key that sealed this secret was destroyed")]
    Shredded,
    /// Nothing that belongs into a column.
    #[error("a secret has at most {PLAIN_BYTES_MAX} bytes")]
    TooLong,
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl VaultError {
    /// Whether it may be right again without any change of what was sealed: a key or a database that cannot be read now.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::NoMasterKey
            | Self::BadMasterKey { .. }
            | Self::UnknownMasterKey { .. }
            | Self::File { .. }
            | Self::Store(_) => true,
            Self::Damaged { .. } | Self::DamagedDataKey { .. } | Self::Shredded | Self::TooLong => false,
        }
    }

    pub(super) fn damaged(place: Place<'_>) -> Self {
        Self::Damaged { table: place.table, row: place.row.into(), column: place.column }
    }
}

fn listed(ids: &[String]) -> String {
    if ids.is_empty() { String::new() } else { format!(" (it has {})", ids.join(", ")) }
}
