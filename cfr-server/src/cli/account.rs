//! `cfr-server account`.

use std::io::{IsTerminal as _, Read as _};

use cfr_core::secret::Secret;
use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::client::Call;
use super::error::CliError;
use super::output::{Column, note};
use super::{PageArgs, Session, Verb};
use crate::secrets::PLAIN_BYTES_MAX;

/// What to do with accounts at providers.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the accounts, without their secrets
    List {
        /// Only those of this tenant, by id or slug
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Add an account; its key is read from standard input, and never shown again
    Add {
        /// A name for people
        name: String,
        /// The provider, as in `openai`
        #[arg(long)]
        provider: String,
        /// The tenant that brings it, by id or slug [default: the platform]
        #[arg(long)]
        tenant: Option<String>,
        /// The address, when it is not the provider's usual one
        #[arg(long, value_name = "URL")]
        base_url: Option<String>,
        /// Where the provider works for us, as in `eu-central-1`
        #[arg(long)]
        region: Option<String>,
        /// The provider wants no key
        #[arg(long)]
        without_key: bool,
    },
    /// Show an account, without its secret
    Show {
        /// Id
        account: String,
    },
    /// Replace the key of an account; the new one is read from standard input
    SetKey {
        /// Id
        account: String,
    },
    /// Send calls to an account again
    Enable {
        /// Id
        account: String,
    },
    /// Send no more calls to an account
    Disable {
        /// Id
        account: String,
    },
    /// Ask the provider whether it knows the account; this costs nothing
    Check {
        /// Id
        account: String,
    },
    /// Remove an account and its key for good
    Remove {
        /// Id
        account: String,
    },
}

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("PROVIDER", "/provider"),
    ("TENANT", "/tenant"),
    ("KEY ENDS", "/secret_last4"),
    ("STATUS", "/status"),
    ("ID", "/id"),
];

const FIELDS: &[Column] = &[
    ("id", "/id"),
    ("tenant", "/tenant"),
    ("name", "/name"),
    ("provider", "/provider"),
    ("address", "/base_url"),
    ("region", "/region"),
    ("status", "/status"),
    ("key ends with", "/secret_last4"),
    ("key set", "/secret_set_at"),
    ("created", "/created_at"),
];

const RESOURCE: &str = "provider-accounts";

impl Verb for Command {
    async fn run(self, session: &Session) -> Result<(), CliError> {
        match self {
            Self::List { tenant, page } => {
                let call = page.of(&[RESOURCE]).query("tenant", tenant);
                session.printer.list(&session.client.send(call).await?, COLUMNS)
            }
            Self::Add { name, provider, tenant, base_url, region, without_key } => {
                let mut body = json!({"name": name, "provider": provider, "tenant": tenant, "base_url": base_url,
                    "region": region});
                if !without_key {
                    body["secret"] = key_of_input()?.expose().into();
                }
                show(session, Call::post(&[RESOURCE], &body)).await
            }
            Self::Show { account } => show(session, Call::get(&[RESOURCE, &account])).await,
            Self::SetKey { account } => change(session, &account, json!({"secret": key_of_input()?.expose()})).await,
            Self::Enable { account } => change(session, &account, json!({"status": "active"})).await,
            Self::Disable { account } => change(session, &account, json!({"status": "disabled"})).await,
            Self::Check { account } => {
                let said = session.client.send(Call::post(&[RESOURCE, &account, "check"], &json!({}))).await?;
                session.printer.one(&said, &[("works", "/works"), ("detail", "/detail")])
            }
            Self::Remove { account } => show(session, Call::new(Method::DELETE, &[RESOURCE, &account])).await,
        }
    }
}

async fn change(session: &Session, account: &str, body: Value) -> Result<(), CliError> {
    show(session, Call::patch(&[RESOURCE, account], &body)).await
}

async fn show(session: &Session, call: Call) -> Result<(), CliError> {
    session.printer.one(&session.client.send(call).await?, FIELDS)
}

/// A key never stands on a command line, where other users of the machine and the shell's history see it.
fn key_of_input() -> Result<Secret, CliError> {
    let mut input = std::io::stdin();
    let unread = |source| CliError::Io { what: "cannot read the key".into(), source };
    let mut text = String::new();
    if input.is_terminal() {
        note("Paste the provider's key and press Enter:")?;
        input.read_line(&mut text).map_err(unread)?;
    } else {
        let limit = PLAIN_BYTES_MAX as u64;
        input.by_ref().take(limit).read_to_string(&mut text).map_err(unread)?;
    }
    match text.trim() {
        "" => Err(CliError::misused("no key on standard input; a provider that wants none needs --without-key")),
        key => Ok(Secret::new(key)),
    }
}
