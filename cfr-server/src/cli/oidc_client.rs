//! `cfr-server oidc-client`.

use clap::Subcommand;
use serde_json::json;

use super::client::Call;
use super::error::CliError;
use super::output::{Column, details, note};
use super::{PageArgs, Session, Verb};

/// What to do with programs that people sign in to.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List them, without their secrets
    List {
        /// Only those of this tenant, by id or slug
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Register one and show its secret, this once
    Create {
        /// A name for people
        name: String,
        /// Whose people may sign in to it, by id or slug
        #[arg(long)]
        tenant: String,
        /// Where people are sent with a code; give it once for each address
        #[arg(long = "redirect-uri", value_name = "URI", required = true)]
        redirect_uris: Vec<String>,
        /// Where people may be sent after they signed out
        #[arg(long = "post-logout-uri", value_name = "URI")]
        post_logout_uris: Vec<String>,
        /// Where it is told that somebody signed out
        #[arg(long, value_name = "URI")]
        backchannel_uri: Option<String>,
        /// It is the tenant's own: nobody is asked for consent, and its tokens open /v1
        #[arg(long)]
        first_party: bool,
    },
    /// Show one, without its secret
    Show {
        /// Id
        client: String,
    },
    /// Give one a new secret, which is shown this once
    Rotate {
        /// Id
        client: String,
    },
    /// Shut one out for good
    Revoke {
        /// Id
        client: String,
    },
}

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("TENANT", "/tenant"),
    ("FIRST PARTY", "/first_party"),
    ("REVOKED", "/revoked_at"),
    ("ID", "/id"),
];

const FIELDS: &[Column] = &[
    ("client id", "/id"),
    ("client secret", "/client_secret"),
    ("tenant", "/tenant"),
    ("name", "/name"),
    ("redirect", "/redirect_uris"),
    ("after sign-out", "/post_logout_uris"),
    ("back channel", "/backchannel_uri"),
    ("first party", "/first_party"),
    ("created", "/created_at"),
    ("revoked", "/revoked_at"),
];

impl Verb for Command {
    async fn run(self, session: &Session) -> Result<(), CliError> {
        match self {
            Self::List { tenant, page } => {
                let call = page.of(&["oidc-clients"]).query("tenant", tenant);
                session.printer.list(&session.client.send(call).await?, COLUMNS)
            }
            Self::Create { name, tenant, redirect_uris, post_logout_uris, backchannel_uri, first_party } => {
                let body = json!({
                    "name": name,
                    "tenant": tenant,
                    "redirect_uris": redirect_uris,
                    "post_logout_uris": post_logout_uris,
                    "backchannel_uri": backchannel_uri,
                    "first_party": first_party,
                });
                show_secret(session, Call::post(&["oidc-clients"], &body)).await
            }
            Self::Show { client } => {
                session.printer.one(&session.client.send(Call::get(&["oidc-clients", &client])).await?, FIELDS)
            }
            Self::Rotate { client } => {
                show_secret(session, Call::post(&["oidc-clients", &client, "rotate"], &json!({}))).await
            }
            Self::Revoke { client } => {
                let call = Call::post(&["oidc-clients", &client, "revoke"], &json!({}));
                session.printer.one(&session.client.send(call).await?, FIELDS)
            }
        }
    }
}

async fn show_secret(session: &Session, call: Call) -> Result<(), CliError> {
    let client = session.client.send(call).await?;
    session.printer.text(&client, &details(&client, FIELDS))?;
    if session.printer.json { Ok(()) } else { note("Keep the secret now: it is shown this once.") }
}
