//! `cfr-server tenant`.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::client::Call;
use super::error::CliError;
use super::output::Column;
use super::{PageArgs, Session, Verb, ask};

/// What to do with tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List tenants
    List(PageArgs),
    /// Create a tenant
    Create {
        /// A short unique name: lower case letters, digits and `-`
        slug: String,
        /// A name for people [default: the slug]
        #[arg(long)]
        name: Option<String>,
        /// Its own domain
        #[arg(long)]
        domain: Option<String>,
        /// What it is for [default: customer]
        #[arg(long, value_parser = crate::api::schema::TenantKind::WORDS.to_vec())]
        kind: Option<String>,
        /// Users that it may have
        #[arg(long, value_name = "N")]
        users_max: Option<u32>,
        /// Where its days begin [default: Europe/Berlin]
        #[arg(long, value_name = "ZONE")]
        time_zone: Option<String>,
        /// The currency of its budgets [default: EUR]
        #[arg(long)]
        currency: Option<String>,
    },
    /// Show a tenant
    Show {
        /// Id or slug
        tenant: String,
    },
    /// Change a tenant
    Set {
        /// Id or slug
        tenant: String,
        /// A new name
        #[arg(long)]
        name: Option<String>,
        /// A new state; a suspended tenant's requests are refused at once
        #[arg(long, value_parser = crate::api::schema::TenantStatus::WORDS.to_vec())]
        status: Option<String>,
        /// A new limit of users
        #[arg(long, value_name = "N")]
        users_max: Option<u32>,
    },
    /// Close a tenant and forget all of its people for good; usage and money stay
    Erase {
        /// Id or slug
        tenant: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

const COLUMNS: &[Column] = &[
    ("SLUG", "/slug"),
    ("NAME", "/name"),
    ("KIND", "/kind"),
    ("STATUS", "/status"),
    ("CURRENCY", "/currency"),
    ("ID", "/id"),
];

const FIELDS: &[Column] = &[
    ("id", "/id"),
    ("slug", "/slug"),
    ("name", "/name"),
    ("domain", "/domain"),
    ("kind", "/kind"),
    ("status", "/status"),
    ("users at most", "/users_max"),
    ("time zone", "/time_zone"),
    ("currency", "/currency"),
    ("created", "/created_at"),
    ("changed", "/updated_at"),
];

impl Verb for Command {
    async fn run(self, session: &Session) -> Result<(), CliError> {
        let call = match self {
            Self::List(page) => {
                let listing = session.client.send(page.of(&["tenants"])).await?;
                return session.printer.list(&listing, COLUMNS);
            }
            Self::Create { slug, name, domain, kind, users_max, time_zone, currency } => {
                let body = json!({
                    "slug": slug, "name": name, "domain": domain, "kind": kind,
                    "users_max": users_max, "time_zone": time_zone, "currency": currency,
                });
                Call::post(&["tenants"], &body)
            }
            Self::Erase { tenant, yes } => {
                if !yes {
                    ask::confirm(&format!("{tenant} and all of its people will be forgotten for good. Go on?"))?;
                }
                Call::post(&["tenants", &tenant, "erase"], &json!({}))
            }
            Self::Show { tenant } => Call::get(&["tenants", &tenant]),
            Self::Set { tenant, name, status, users_max } => Call::patch(
                &["tenants", &tenant],
                &given([("name", json!(name)), ("status", json!(status)), ("users_max", json!(users_max))]),
            ),
        };
        session.printer.one(&session.client.send(call).await?, FIELDS)
    }
}

/// A body of what the command line names; what it does not name stays as it is.
pub(super) fn given<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}
