//! `cfr-server key`.

use cfr_core::time::{Clock, SystemClock};
use clap::Subcommand;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::client::Call;
use super::error::CliError;
use super::output::{Column, details, note};
use super::tenant::given;
use super::{PageArgs, Session, Verb};
use crate::api::schema::KeyKind;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List keys, without their secrets
    List {
        /// Only those of this tenant, by id or slug
        #[arg(long)]
        tenant: Option<String>,
        /// Only those of this user, by id or e-mail address
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Create a key and show its secret, this once
    Create {
        /// A name for people
        name: String,
        /// The user that it acts for, by id or e-mail address
        #[arg(long)]
        user: Option<String>,
        /// The tenant of a service key, by id or slug
        #[arg(long)]
        tenant: Option<String>,
        /// What it opens
        #[arg(long, default_value = "live", value_parser = KeyKind::WORDS.to_vec())]
        kind: String,
        /// Models that it may use, as in `gpt-4o,gpt-4o-mini` [default: all of the product]
        #[arg(long, value_delimiter = ',')]
        models: Vec<String>,
        /// Days until it ends [default: 365]
        #[arg(long, value_name = "DAYS", conflicts_with = "never_expires")]
        expires_in_days: Option<u32>,
        /// Let it live until it is revoked
        #[arg(long)]
        never_expires: bool,
    },
    /// Show a key, without its secret
    Show {
        /// Id
        key: String,
    },
    /// Give a key a new secret and show it, this once; budgets, limits and usage stay the key's
    Rotate {
        /// Id
        key: String,
        /// How long the secret before works beside the new one; 0 for one that leaked [default: a day]
        #[arg(long, value_name = "SECONDS")]
        grace_seconds: Option<u64>,
    },
    /// Switch a key off; its next request is refused
    Disable {
        /// Id
        key: String,
    },
    /// Switch a key on again
    Enable {
        /// Id
        key: String,
    },
    /// Revoke a key for good
    Revoke {
        /// Id
        key: String,
    },
}

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("KIND", "/kind"),
    ("BEGINS", "/prefix"),
    ("ENDS", "/last4"),
    ("STATUS", "/status"),
    ("EXPIRES", "/expires_at"),
    ("ID", "/id"),
];

const FIELDS: &[Column] = &[
    ("id", "/id"),
    ("tenant", "/tenant"),
    ("user", "/user"),
    ("name", "/name"),
    ("kind", "/kind"),
    ("begins with", "/prefix"),
    ("ends with", "/last4"),
    ("models", "/models"),
    ("status", "/status"),
    ("expires", "/expires_at"),
    ("created", "/created_at"),
    ("secret", "/secret"),
];

impl Verb for Command {
    async fn run(self, session: &Session) -> Result<(), CliError> {
        match self {
            Self::List { tenant, user, page } => {
                let call = page.of(&["keys"]).query("tenant", tenant).query("user", user);
                session.printer.list(&session.client.send(call).await?, COLUMNS)
            }
            Self::Create { name, user, tenant, kind, models, expires_in_days, never_expires } => {
                let mut body = json!({"name": name, "user": user, "tenant": tenant, "kind": kind, "models": models});
                if let Some(end) = expiry(expires_in_days, never_expires)? {
                    body["expires_at"] = end;
                }
                show_once(session, Call::post(&["keys"], &body)).await
            }
            Self::Rotate { key, grace_seconds } => {
                let body = given([("grace_seconds", json!(grace_seconds))]);
                show_once(session, Call::post(&["keys", &key, "rotate"], &body)).await
            }
            Self::Disable { key } => switch(session, &key, false).await,
            Self::Enable { key } => switch(session, &key, true).await,
            Self::Show { key } => session.printer.one(&session.client.send(Call::get(&["keys", &key])).await?, FIELDS),
            Self::Revoke { key } => {
                let call = Call::post(&["keys", &key, "revoke"], &json!({}));
                session.printer.one(&session.client.send(call).await?, FIELDS)
            }
        }
    }
}

/// Makes a secret and shows it.
async fn show_once(session: &Session, call: Call) -> Result<(), CliError> {
    let key = session.client.send(call).await?;
    session.printer.text(&key, &details(&key, FIELDS))?;
    if session.printer.json { Ok(()) } else { note("Keep the secret now: it is shown this once.") }
}

async fn switch(session: &Session, key: &str, enabled: bool) -> Result<(), CliError> {
    let call = Call::patch(&["keys", key], &json!({"enabled": enabled}));
    session.printer.one(&session.client.send(call).await?, FIELDS)
}

/// What to send as the end of a new key: nothing for the server's default, null for never.
fn expiry(days: Option<u32>, never: bool) -> Result<Option<Value>, CliError> {
    let Some(days) = days else { return Ok(never.then_some(Value::Null)) };
    let life = SignedDuration::from_hours(i64::from(days) * 24);
    let end = SystemClock::new().now().checked_add(life);
    let end = end.map_err(|_| CliError::misused("--expires-in-days: too far in the future; use --never-expires"))?;
    Ok(Some(json!(end)))
}
