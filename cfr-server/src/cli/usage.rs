//! `cfr-server usage`.

use clap::{Args, Subcommand};

use super::client::Call;
use super::error::CliError;
use super::output::Column;
use super::{PageArgs, Session, Verb};

/// What to do with usage.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List requests, the newest first
    List {
        #[command(flatten)]
        filter: FilterArgs,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Sum up per day (UTC), tenant, user, key and model
    Summary(FilterArgs),
    /// Sum up by any of day, tenant, user, key and model
    Report {
        /// What has rows of its own, with commas between: day,tenant,user,key,model
        #[arg(long, value_name = "DIMENSIONS")]
        by: Option<String>,
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// Show one request
    Show {
        /// Id, as in the answer's x-request-id
        request: String,
    },
}

/// Which usage.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// Only of this tenant, by id or slug
    #[arg(long)]
    tenant: Option<String>,
    /// Only of this user, by id or e-mail address
    #[arg(long)]
    user: Option<String>,
    /// Only of this key, by id
    #[arg(long)]
    key: Option<String>,
    /// Only with this served model
    #[arg(long)]
    model: Option<String>,
    /// Only from this moment on, as in 2026-11-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only before this moment
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

impl FilterArgs {
    fn on(self, call: Call) -> Call {
        let call = call.query("tenant", self.tenant).query("user", self.user).query("key", self.key);
        call.query("model", self.model).query("from", self.from).query("to", self.to)
    }
}

const COLUMNS: &[Column] = &[
    ("AT", "/at"),
    ("MODEL", "/model"),
    ("IN", "/usage/input_tokens"),
    ("OUT", "/usage/output_tokens"),
    ("CHARGED", "/charged"),
    ("STATUS", "/status"),
    ("MS", "/latency_ms"),
    ("ID", "/id"),
];

const DAY_COLUMNS: &[Column] = &[
    ("DAY", "/day"),
    ("TENANT", "/tenant"),
    ("USER", "/user"),
    ("MODEL", "/model"),
    ("REQUESTS", "/requests"),
    ("IN", "/tokens_in"),
    ("OUT", "/tokens_out"),
    ("COST", "/cost"),
    ("CHARGED", "/charged"),
];

const REPORT_COLUMNS: &[Column] = &[
    ("DAY", "/day"),
    ("TENANT", "/tenant"),
    ("USER", "/user"),
    ("KEY", "/key"),
    ("MODEL", "/model"),
    ("REQUESTS", "/requests"),
    ("FAILED", "/failed"),
    ("IN", "/tokens_in"),
    ("OUT", "/tokens_out"),
    ("COST", "/cost"),
    ("CHARGED", "/charged"),
    ("MARGIN", "/margin"),
    ("MS", "/latency_ms"),
];

const FIELDS: &[Column] = &[
    ("id", "/id"),
    ("at", "/at"),
    ("tenant", "/tenant"),
    ("user", "/user"),
    ("key", "/key"),
    ("operation", "/operation"),
    ("model asked for", "/model_requested"),
    ("provider", "/provider"),
    ("model", "/model"),
    ("usage", "/usage"),
    ("source", "/source"),
    ("cost", "/cost"),
    ("price", "/price"),
    ("charged", "/charged"),
    ("overrun", "/overrun"),
    ("status", "/status"),
    ("finish", "/finish"),
    ("streamed", "/streamed"),
    ("milliseconds", "/latency_ms"),
    ("price table", "/price_version"),
    ("caller's id", "/tags/request_id"),
    ("caller's user", "/tags/user"),
    ("metadata", "/tags/metadata"),
];

impl Verb for Command {
    async fn run(self, session: &Session) -> Result<(), CliError> {
        match self {
            Self::List { filter, page } => {
                let listing = session.client.send(filter.on(page.of(&["usage"]))).await?;
                session.printer.list(&listing, COLUMNS)
            }
            Self::Summary(filter) => {
                let listing = session.client.send(filter.on(Call::get(&["usage", "daily"]))).await?;
                session.printer.list(&listing, DAY_COLUMNS)
            }
            Self::Report { by, filter } => {
                let call = filter.on(Call::get(&["reports", "usage"]).query("by", by));
                session.printer.list(&session.client.send(call).await?, REPORT_COLUMNS)
            }
            Self::Show { request } => {
                let listing = session.client.send(Call::get(&["usage"]).query("id", Some(request))).await?;
                let missing = || CliError::misused("no such request: a denied one leaves no record");
                session.printer.one(super::output::items(&listing).first().ok_or_else(missing)?, FIELDS)
            }
        }
    }
}
