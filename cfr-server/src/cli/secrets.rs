//! `cfr-server secrets`.

use clap::Subcommand;
use serde_json::json;

use super::client::Call;
use super::error::CliError;
use super::output::Column;
use super::{Session, Verb};
use crate::secrets::MasterKey;
use crate::terminal;

/// What to do with the keys under which secrets are sealed.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print a fresh master key, for CFR_MASTER_KEY or the file that CFR_MASTER_KEY_FILE names
    NewKey,
    /// Wrap every data key with the first master key that the server has; the old ones are needed until then
    RotateKek,
    /// Make a new data key, and seal with it what the ones before sealed
    RotateDek {
        /// The tenant, by id or slug [default: the platform]
        #[arg(long)]
        tenant: Option<String>,
        /// Make no new key: go on where an interrupted rotation stopped
        #[arg(long)]
        resume: bool,
    },
    /// Open every data key and what they sealed, to know that nothing is lost
    Verify,
}

const ROTATED: &[Column] =
    &[("master key", "/master_key"), ("data keys wrapped anew", "/rewrapped"), ("wrapped before", "/already")];
const RESEALED: &[Column] = &[
    ("data key", "/data_key"),
    ("accounts sealed anew", "/resealed"),
    ("second factors sealed anew", "/seeds_resealed"),
    ("signing keys sealed anew", "/signing_keys_resealed"),
];
const VERIFIED: &[Column] = &[
    ("data keys", "/data_keys"),
    ("provider accounts", "/provider_accounts"),
    ("second factors", "/seeds"),
    ("signing keys", "/signing_keys"),
];

impl Verb for Command {
    async fn run(self, session: &Session) -> Result<(), CliError> {
        let (verb, body, fields) = match self {
            Self::NewKey => return new_key(),
            Self::RotateKek => ("rotate-master-key", json!({}), ROTATED),
            Self::RotateDek { tenant, resume } => {
                ("rotate-data-key", json!({"tenant": tenant, "resume": resume}), RESEALED)
            }
            Self::Verify => ("verify", json!({}), VERIFIED),
        };
        let done = session.client.send(Call::post(&["secrets", verb], &body)).await?;
        session.printer.one(&done, fields)
    }
}

/// Prints a fresh master key. It needs no server and no data.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn new_key() -> Result<(), CliError> {
    let text = format!("{}\n", MasterKey::generate().expose());
    terminal::print(&text).map_err(|source| CliError::Io { what: "cannot print".into(), source })
}
