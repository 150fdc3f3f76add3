//! `cfr-server product`.

use cfr_core::money::Margin;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Call;
use super::error::CliError;
use super::output::Column;
use super::{PageArgs, Session, Verb};

/// What to do with products.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List products with their newest version
    List(PageArgs),
    /// Publish a product
    Create {
        /// A short unique name: lower case letters, digits and `-`
        code: String,
        #[command(flatten)]
        terms: Box<TermsArgs>,
    },
    /// Publish the next version of a product; customers keep the one that they have
    Publish {
        /// Id or code
        product: String,
        #[command(flatten)]
        terms: Box<TermsArgs>,
    },
    /// Show a product
    Show {
        /// Id or code
        product: String,
    },
    /// List every version of a product, the newest first
    Versions {
        /// Id or code
        product: String,
    },
    /// Open a product for new customers
    Activate {
        /// Id or code
        product: String,
    },
    /// Close a product for new customers; those who have it keep it
    Deactivate {
        /// Id or code
        product: String,
    },
}

/// The terms of a version.
#[derive(Debug, Args)]
pub(crate) struct TermsArgs {
    /// The name on invoices
    #[arg(long)]
    name: String,
    /// For people
    #[arg(long, default_value = "")]
    description: String,
    /// The net price per interval, as in 9.99
    #[arg(long)]
    price: String,
    /// What each user may use per period, as in 25
    #[arg(long)]
    budget: String,
    /// The currency of price and budget
    #[arg(long, default_value = "EUR")]
    currency: String,
    /// When budgets begin anew
    #[arg(long, default_value = "calendar_month", value_parser = ["calendar_month", "anniversary_month", "week", "day", "never"])]
    period: String,
    /// Models that may be used, as in `gpt-4o,claude-*`
    #[arg(long, value_delimiter = ',', default_value = "*")]
    models: Vec<String>,
    /// Flags that the portal knows
    #[arg(long, value_delimiter = ',')]
    features: Vec<String>,
    /// Requests per minute of each key
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u32>,
    /// Requests of each key at the same time
    #[arg(long, value_name = "N")]
    parallel_requests_max: Option<u32>,
    /// Answer tokens per request when the caller names no cap
    #[arg(long, value_name = "N")]
    output_tokens_default: Option<u64>,
    /// What is added to the provider's cost, in hundredths of a percent
    #[arg(long, default_value_t = Margin::DEFAULT.bps())]
    margin_bps: u32,
    /// Users of a tenant on this product
    #[arg(long, value_name = "N")]
    seats: Option<u32>,
    /// Publish although a customer who uses the whole budget costs more than they pay
    #[arg(long)]
    confirm_loss: bool,
}

impl TermsArgs {
    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "description": self.description,
            "price": {"amount": self.price, "currency": self.currency},
            "budget": {"amount": self.budget, "currency": self.currency},
            "period": {"kind": self.period},
            "models": self.models,
            "features": self.features,
            "requests_per_minute": self.requests_per_minute,
            "parallel_requests_max": self.parallel_requests_max,
            "output_tokens_default": self.output_tokens_default,
            "margin_bps": self.margin_bps,
            "seats": self.seats,
        })
    }
}

const COLUMNS: &[Column] = &[
    ("CODE", "/code"),
    ("NAME", "/current/terms/name"),
    ("PRICE", "/current/terms/price"),
    ("BUDGET", "/current/terms/budget"),
    ("PERIOD", "/current/terms/period"),
    ("WORST CASE", "/current/worst_case_contribution"),
    ("VERSION", "/current/version"),
    ("ACTIVE", "/active"),
];

const VERSION_COLUMNS: &[Column] = &[
    ("VERSION", "/version"),
    ("NAME", "/terms/name"),
    ("PRICE", "/terms/price"),
    ("BUDGET", "/terms/budget"),
    ("WORST CASE", "/worst_case_contribution"),
    ("PUBLISHED", "/created_at"),
    ("ID", "/id"),
];

const FIELDS: &[Column] = &[
    ("id", "/id"),
    ("code", "/code"),
    ("active", "/active"),
    ("version", "/current/version"),
    ("version id", "/current/id"),
    ("name", "/current/terms/name"),
    ("description", "/current/terms/description"),
    ("price", "/current/terms/price"),
    ("budget", "/current/terms/budget"),
    ("period", "/current/terms/period"),
    ("models", "/current/terms/models"),
    ("features", "/current/terms/features"),
    ("requests per minute", "/current/terms/requests_per_minute"),
    ("parallel requests", "/current/terms/parallel_requests_max"),
    ("answer tokens", "/current/terms/output_tokens_default"),
    ("margin, 1/100 %", "/current/terms/margin_bps"),
    ("seats", "/current/terms/seats"),
    ("worst case", "/current/worst_case_contribution"),
];

impl Verb for Command {
    async fn run(self, session: &Session) -> Result<(), CliError> {
        let call = match self {
            Self::List(page) => {
                let listing = session.client.send(page.of(&["products"])).await?;
                return session.printer.list(&listing, COLUMNS);
            }
            Self::Versions { product } => {
                let listing = session.client.send(Call::get(&["products", &product, "versions"])).await?;
                return session.printer.list(&listing, VERSION_COLUMNS);
            }
            Self::Publish { product, terms } => {
                let body = json!({"terms": terms.json(), "confirm_loss": terms.confirm_loss});
                session.client.send(Call::post(&["products", &product, "versions"], &body)).await?;
                Call::get(&["products", &product])
            }
            Self::Create { code, terms } => {
                let body = json!({"code": code, "terms": terms.json(), "confirm_loss": terms.confirm_loss});
                Call::post(&["products"], &body)
            }
            Self::Show { product } => Call::get(&["products", &product]),
            Self::Activate { product } => Call::patch(&["products", &product], &json!({"active": true})),
            Self::Deactivate { product } => Call::patch(&["products", &product], &json!({"active": false})),
        };
        session.printer.one(&session.client.send(call).await?, FIELDS)
    }
}
