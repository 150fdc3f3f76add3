//! `cfr-server budget`.

use cfr_core::id::RequestId;
use cfr_core::time::{Clock, SystemClock};
use clap::{Args, Subcommand};
use http::HeaderName;
use serde_json::{Value, json};

use super::client::Call;
use super::error::CliError;
use super::output::{Column, items};
use super::{PageArgs, Session, Verb};
use crate::api::schema::{LimitPolicy, Scope};

/// What to do with budgets. A user's address stands for the user's only budget.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List budgets
    List {
        /// Only those of this tenant, by id or slug
        #[arg(long)]
        tenant: Option<String>,
        /// Only those of this user, by id or e-mail address
        #[arg(long, conflicts_with_all = ["scope", "subject"])]
        user: Option<String>,
        /// Only those of this scope
        #[arg(long, value_parser = Scope::WORDS.to_vec())]
        scope: Option<String>,
        /// Only those of this key, user, tenant or product, by id or name
        #[arg(long, requires = "scope")]
        subject: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Create a budget
    Create(CreateArgs),
    /// Show a budget with what is left of it now
    Show {
        /// Id, or a user's e-mail address
        budget: String,
    },
    /// Change what each period is granted, the current one included
    Limit {
        /// Id, or a user's e-mail address
        budget: String,
        /// As in 25
        amount: String,
    },
    /// Add money to the current period, or take some with a negative amount
    Grant {
        /// Id, or a user's e-mail address
        budget: String,
        /// As in 5 or -2.50
        #[arg(allow_hyphen_values = true)]
        amount: String,
        /// Why, for the books
        #[arg(long)]
        reason: String,
        /// Where it comes from [default: top_up, or adjustment when negative]
        #[arg(long, value_parser = ["top_up", "promo", "adjustment", "import"])]
        kind: Option<String>,
        /// Take money although less is left than is already used
        #[arg(long)]
        overcommit: bool,
        /// A unique key that makes a repetition harmless [default: a new one]
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// Let a budget be spent anew: what was spent in the current period is granted once more
    Reset {
        /// Id, or a user's e-mail address
        budget: String,
        /// Why, for the books
        #[arg(long)]
        reason: String,
    },
    /// List what was granted, the newest first
    Grants {
        /// Id, or a user's e-mail address
        budget: String,
        #[command(flatten)]
        page: PageArgs,
    },
}

/// A budget to make.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Whom it limits
    #[arg(long, value_parser = Scope::WORDS.to_vec())]
    scope: String,
    /// The key, user, tenant or product, by id or name
    #[arg(long)]
    subject: Option<String>,
    /// What each period is granted, as in 25
    #[arg(long)]
    limit: String,
    /// The currency
    #[arg(long, default_value = "EUR")]
    currency: String,
    /// What happens at the limit
    #[arg(long, default_value = "hard", value_parser = LimitPolicy::WORDS.to_vec())]
    policy: String,
    /// When it begins anew
    #[arg(long, default_value = "calendar_month", value_parser = ["calendar_month", "anniversary_month", "week", "day", "never"])]
    period: String,
    /// The zone of the period's edges [default: the tenant's]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
}

const COLUMNS: &[Column] = &[
    ("SCOPE", "/scope"),
    ("SUBJECT", "/subject"),
    ("LIMIT", "/limit"),
    ("POLICY", "/policy"),
    ("PERIOD", "/period"),
    ("ACTIVE", "/active"),
    ("ID", "/id"),
];

const FIELDS: &[Column] = &[
    ("id", "/id"),
    ("scope", "/scope"),
    ("subject", "/subject"),
    ("tenant", "/tenant"),
    ("limit", "/limit"),
    ("policy", "/policy"),
    ("period", "/period"),
    ("time zone", "/time_zone"),
    ("active", "/active"),
    ("from", "/balance/period/start"),
    ("to", "/balance/period/end"),
    ("granted", "/balance/granted"),
    ("settled", "/balance/settled"),
    ("held", "/balance/held"),
    ("available", "/balance/available"),
];

const GRANT_FIELDS: &[Column] = &[
    ("id", "/id"),
    ("budget", "/budget"),
    ("kind", "/kind"),
    ("amount", "/amount"),
    ("reason", "/reason"),
    ("actor", "/actor"),
    ("idempotency key", "/idempotency_key"),
    ("at", "/at"),
];

const GRANT_COLUMNS: &[Column] =
    &[("AT", "/at"), ("KIND", "/kind"), ("AMOUNT", "/amount"), ("REASON", "/reason"), ("ACTOR", "/actor")];

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

impl Verb for Command {
    async fn run(self, session: &Session) -> Result<(), CliError> {
        let client = &session.client;
        match self {
            Self::List { tenant, user, scope, subject, page } => {
                let scope = user.as_ref().map(|_| "user".to_owned()).or(scope);
                let call = page.of(&["budgets"]).query("tenant", tenant).query("scope", scope);
                session.printer.list(&client.send(call.query("subject", user.or(subject))).await?, COLUMNS)
            }
            Self::Create(arguments) => {
                let call = Call::post(&["budgets"], &arguments.json());
                session.printer.one(&client.send(call).await?, FIELDS)
            }
            Self::Show { budget } => session.printer.one(&find(session, &budget).await?, FIELDS),
            Self::Limit { budget, amount } => {
                let budget = find(session, &budget).await?;
                let body = json!({"limit": {"amount": amount, "currency": currency(&budget)}});
                session.printer.one(&client.send(Call::patch(&["budgets", id(&budget)], &body)).await?, FIELDS)
            }
            Self::Grant { budget, amount, reason, kind, overcommit, idempotency_key } => {
                let budget = find(session, &budget).await?;
                let amount = json!({"amount": amount, "currency": currency(&budget)});
                let body = json!({"amount": amount, "reason": reason, "kind": kind, "overcommit": overcommit});
                let call = Call::post(&["budgets", id(&budget), "grants"], &body);
                let call = call.header(IDEMPOTENCY_KEY, idempotency_key.unwrap_or_else(unique));
                session.printer.one(&client.send(call).await?, GRANT_FIELDS)
            }
            Self::Reset { budget, reason } => {
                let budget = find(session, &budget).await?;
                let call = Call::post(&["budgets", id(&budget), "reset"], &json!({"reason": reason}));
                session.printer.one(&client.send(call).await?, FIELDS)
            }
            Self::Grants { budget, page } => {
                let budget = find(session, &budget).await?;
                let listing = client.send(page.of(&["budgets", id(&budget), "grants"])).await?;
                session.printer.list(&listing, GRANT_COLUMNS)
            }
        }
    }
}

impl CreateArgs {
    fn json(&self) -> Value {
        json!({
            "scope": self.scope,
            "subject": self.subject,
            "limit": {"amount": self.limit, "currency": self.currency},
            "policy": self.policy,
            "period": {"kind": self.period},
            "time_zone": self.time_zone,
        })
    }
}

/// The budget with this id, or the only budget of the user with this address.
async fn find(session: &Session, name: &str) -> Result<Value, CliError> {
    if !name.contains('@') {
        return session.client.send(Call::get(&["budgets", name])).await;
    }
    let call = Call::get(&["budgets"]).query("scope", Some("user")).query("subject", Some(name));
    let listing = session.client.send(call).await?;
    match items(&listing) {
        [budget] => session.client.send(Call::get(&["budgets", id(budget)])).await,
        [] => Err(CliError::misused(format_args!(
            "{name} has no budget: make one with `budget create --scope user --subject {name} --limit 25`"
        ))),
        several => {
            let ids: Vec<_> = several.iter().map(id).collect();
            Err(CliError::misused(format_args!("{name} has several budgets, name one of them: {}", ids.join(" "))))
        }
    }
}

fn id(budget: &Value) -> &str {
    budget.get("id").and_then(Value::as_str).unwrap_or_default()
}

fn currency(budget: &Value) -> Option<&Value> {
    budget.pointer("/limit/currency")
}

/// A key that nobody used before: each run of the command is a grant of its own.
fn unique() -> String {
    format!("cli-{}", RequestId::generate(SystemClock::new().now()))
}
