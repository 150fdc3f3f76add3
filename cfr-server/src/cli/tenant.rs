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
    /// Say how people join a tenant; what is not named stays
    SignUp {
        /// Id or slug
        tenant: String,
        /// Who may become a user; `request` and `open` need mail
        #[arg(long, value_parser = crate::api::schema::SignupMode::WORDS.to_vec())]
        mode: Option<String>,
        /// Domains whose addresses may sign up, as in `acme.example,acme.org`; empty for all of them
        #[arg(long, value_delimiter = ',')]
        domains: Option<Vec<String>>,
        /// The product of who signs up, by id or code
        #[arg(long)]
        product: Option<String>,
        /// Whether who signs up under `open` is active at once, while there is a place
        #[arg(long, value_name = "BOOL")]
        activate: Option<bool>,
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

const SIGN_UP: &[Column] = &[
    ("tenant", "/slug"),
    ("sign-up", "/signup"),
    ("domains", "/signup_domains"),
    ("product", "/signup_product"),
    ("active at once", "/signup_activates"),
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
            Self::SignUp { tenant, mode, domains, product, activate } => {
                let domains =
                    domains.map(|domains| domains.into_iter().filter(|domain| !domain.is_empty()).collect::<Vec<_>>());
                let changes = [
                    ("signup", json!(mode)),
                    ("signup_domains", json!(domains)),
                    ("signup_product", json!(product)),
                    ("signup_activates", json!(activate)),
                ];
                let done = session.client.send(Call::patch(&["tenants", &tenant], &given(changes))).await?;
                return session.printer.one(&done, SIGN_UP);
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
