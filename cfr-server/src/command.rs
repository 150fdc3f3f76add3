//! The command line: what to run, and how it ends.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cfr_billing::audit_log::{Act, Event};
use cfr_core::money::Currency;
use cfr_core::secret::Secret;
use cfr_core::time::{Clock, SystemClock};
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Problems, summary};
use crate::database::Database;
use crate::demo;
use crate::observe::start_logs;
use crate::people::setup::SETUP_LASTS;
use crate::router::router;
use crate::seed::first_admin_key;
use crate::serve::{ListenError, StopSignals, listen, serve};
use crate::state::{App, Books, StartError};
use crate::terminal;

/// An LLM router that cannot overspend.
#[derive(Debug, Parser)]
#[command(name = "cfr-server", version, about = ABOUT, long_about = LONG_ABOUT, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

const ABOUT: &str = "An LLM router that cannot overspend";
const LONG_ABOUT: &str = "An LLM router that cannot overspend.

OpenAI clients talk to it unchanged. It holds the worst-case price of each call against every budget of the
caller, calls the provider, settles the true price, and writes one usage record.

Start with `cfr-server demo`: it needs no key, no network and no database server.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the router
    ///
    /// Reads cfr.toml when it exists. Without one, the providers whose keys are in the environment
    /// (OPENAI_API_KEY, MISTRAL_API_KEY, GROQ_API_KEY, …) are served with their priced models.
    Serve(Serve),
    /// Run the router with a built-in provider, demo tenants and keys: no key, no network needed
    Demo(DemoArgs),
    /// Say what would run, and every mistake of the configuration with its line
    CheckConfig(CheckConfig),
    /// Bring the database up to date, or say what is missing
    Migrate(Migrate),
    /// Check the books, and set right what can be
    #[command(subcommand)]
    Ledger(crate::cli::ledger::Command),
    /// Administrators of the platform: make one, help one who lost the second factor
    #[command(subcommand)]
    Admin(crate::cli::admin::Command),
    /// Who changed what, and whether the log of it is whole
    #[command(subcommand)]
    Audit(crate::cli::audit::Command),
    /// Move to another database
    #[command(subcommand)]
    Store(crate::cli::store::Command),
    /// Take over people, budgets and keys from what ran before
    #[command(subcommand)]
    Import(crate::import::command::Command),
    #[command(flatten)]
    Manage(crate::cli::Command),
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Source {
    /// The configuration [default: cfr.toml, when it exists]
    #[arg(long, value_name = "FILE", env = "CFR_CONFIG")]
    config: Option<PathBuf>,
    /// The folder of an SQLite database and of keys [default: ./cfr-data]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// The database: sqlite:path, or postgres://user@host/name for many replicas; a password belongs into
    /// CFR_DATABASE_URL [default: cfr.db in the data folder]
    #[arg(long, value_name = "URL", value_parser = secret)]
    database: Option<Secret>,
}

/// A text that no message repeats.
pub(crate) fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    source: Source,
    /// Where to listen [default: 127.0.0.1:4000]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", env = "CFR_LISTEN", default_value = crate::config::LISTEN)]
    listen: String,
    /// The folder of the database and keys
    #[arg(long, value_name = "FOLDER", env = "CFR_DATA", default_value = crate::config::DATA)]
    data: PathBuf,
}

#[derive(Debug, Args)]
struct CheckConfig {
    #[command(flatten)]
    source: Source,
}

#[derive(Debug, Args)]
struct Migrate {
    #[command(flatten)]
    source: Source,
    /// Change nothing; exit with 1 when something is missing
    #[arg(long)]
    check: bool,
}

/// Why a command ended early, in one line or a few.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system refuses something.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// A management command failed.
    #[error("{0}")]
    Manage(Box<str>),
}

impl From<Problems> for CommandError {
    fn from(problems: Problems) -> Self {
        Self::Start(problems.into())
    }
}

/// Reads the command line of this process and does what it says. Exits with 0 when all went well, with 1 when not, and
/// with 2 for a command line that makes no sense.
#[must_use]
pub fn run() -> ExitCode {
    let line = CommandLine::parse();
    start_logs(read_environment);
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(CommandError::from)
        .and_then(|runtime| runtime.block_on(execute(line.command)));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let _ = terminal::remark(&format!("cfr-server: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn read_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn execute(command: Command) -> Result<ExitCode, CommandError> {
    match command {
        Command::Serve(arguments) => run_serve(arguments).await,
        Command::Demo(arguments) => run_demo(arguments).await,
        Command::CheckConfig(arguments) => check_config(&arguments.source),
        Command::Migrate(arguments) => migrate(&arguments).await,
        Command::Ledger(command) => Ok(crate::cli::ledger::run(command).await),
        Command::Audit(command) => Ok(crate::cli::audit::run(command).await),
        Command::Store(command) => Ok(crate::cli::store::run(command).await),
        Command::Admin(command) => {
            let done = crate::cli::admin::run(command).await;
            done.map(|()| ExitCode::SUCCESS).map_err(|error| CommandError::Manage(error.to_string().into()))
        }
        Command::Import(command) => {
            let done = crate::import::command::run(command).await;
            done.map(|()| ExitCode::SUCCESS).map_err(|error| CommandError::Manage(error.to_string().into()))
        }
        Command::Manage(command) => {
            let done = crate::cli::run(command).await;
            done.map(|()| ExitCode::SUCCESS).map_err(|error| CommandError::Manage(error.to_string().into()))
        }
    }
}

async fn run_serve(arguments: Serve) -> Result<ExitCode, CommandError> {
    let mut config = load(&arguments.source)?;
    config.listen = arguments.listen.unwrap_or(config.listen);
    let listener = listen(&config.listen).await?;
    warn_about_defaults(&config);
    let drain = config.drain;
    let books = Books::open(&config, clock()).await?;
    tell_start(&config, &books).await?;
    first_admin_key(&config, &books).await?;
    offer_setup(&books).await?;
    run_until_stopped(listener, App::new(config, books).await?, drain).await
}

async fn run_demo(arguments: DemoArgs) -> Result<ExitCode, CommandError> {
    let config = demo::config(arguments.listen, arguments.data, &read_environment)?;
    let listener = listen(&config.listen).await?;
    let drain = config.drain;
    let books = Books::open(&config, clock()).await?;
    let card = demo::prepare(&books, &config.data, listener.local_addr()?).await?;
    let instructions = card.instructions(&config.data);
    let app = App::new(config, books).await?;
    terminal::print(&instructions)?;
    run_until_stopped(listener, app, drain).await
}

/// Writes down that a server starts, and by the hash of what it reads whether its configuration was changed.
async fn tell_start(config: &Config, books: &Books) -> Result<(), CommandError> {
    let digest = config.digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let changes = json!({ "version": env!("CARGO_PKG_VERSION"), "configuration": digest });
    let event = Event::server_started(&config.node()?, &changes);
    let act = Act::of_system(books.clock.now());
    Ok(books.store.record(&event, &act).await.map_err(StartError::from)?)
}

/// Prints the token that makes the first administrator, as long as there is none. It is logged nowhere.
async fn offer_setup(books: &Books) -> Result<(), CommandError> {
    let offered = books.people.offer_setup().await.map_err(|error| CommandError::Manage(error.to_string().into()))?;
    let Some(token) = offered else { return Ok(()) };
    let hours = SETUP_LASTS.as_secs() / 3_600;
    Ok(terminal::print(&format!(
        "There is no administrator yet. Make one with `cfr-server admin create`, or with POST /auth/setup and this token, \
         which works once in the next {hours} hours:\n  {}\n",
        token.expose()
    ))?)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn warn_about_defaults(config: &Config) {
    if !config.fx_is_set && config.fx.currency() != Currency::USD {
        let rate = config.fx.usd_per_unit_e6();
        tracing::warn!(rate_e6 = rate, "money.fx_usd_per_unit is not set: a built-in exchange rate is used");
    }
    if config.upstreams.is_empty() {
        tracing::warn!("no upstream: set a provider's key in the environment, or write an [[upstream]] into cfr.toml");
    }
}

/// Serves until the first signal, drains, closes the books. A second signal ends it at once.
async fn run_until_stopped(listener: TcpListener, app: App, drain: Duration) -> Result<ExitCode, CommandError> {
    let mut signals = StopSignals::watch()?;
    let app = Arc::new(app);
    let stop = CancellationToken::new();
    tracing::info!(address = %listener.local_addr()?, "listening");
    let mut server = std::pin::pin!(serve(listener, router(Arc::clone(&app)), stop.clone(), drain));
    tokio::select! {
        biased; // signals are watched before the first connection is accepted
        () = signals.next() => {}
        _ = server.as_mut() => {}
    }
    tracing::info!("draining: no new connections, running calls finish");
    stop.cancel();
    let cut_off = tokio::select! {
        cut_off = server => cut_off,
        () = signals.next() => {
            tracing::warn!("second signal: running calls are cut off");
            return Ok(ExitCode::FAILURE);
        }
    };
    if cut_off > 0 {
        tracing::warn!(cut_off, "calls did not finish in time and were cut off");
    }
    if let Some(app) = Arc::into_inner(app) {
        app.close().await?;
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn check_config(source: &Source) -> Result<ExitCode, CommandError> {
    let config = load(source)?;
    let summary = summary(&config, clock().now())?;
    terminal::print(&summary)?;
    Ok(ExitCode::SUCCESS)
}

async fn migrate(arguments: &Migrate) -> Result<ExitCode, CommandError> {
    let Migrate { source, check } = arguments;
    let config = source.load_without_keys()?;
    let url = config.database_url();
    let pending = Database::pending_migrations(&config).await?;
    if pending.is_empty() {
        terminal::print(&format!("{url} is up to date\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    for name in &pending {
        terminal::print(&format!("missing: {name}\n"))?;
    }
    if *check {
        return Ok(ExitCode::FAILURE);
    }
    Database::migrate(&config).await?;
    terminal::print(&format!("{url} is now up to date\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn load(source: &Source) -> Result<Config, Problems> {
    source.applied_to(Config::load(source.config.as_deref(), &read_environment)?)
}

impl Source {
    /// The configuration for commands that call no provider.
    pub(crate) fn load_without_keys(&self) -> Result<Config, Problems> {
        self.applied_to(Config::load_without_keys(self.config.as_deref(), &read_environment)?)
    }

    /// What the command line says wins.
    fn applied_to(&self, mut config: Config) -> Result<Config, Problems> {
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        if let Some(url) = &self.database {
            config.use_database(url)?;
        }
        Ok(config)
    }
}
