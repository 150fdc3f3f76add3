//! `cfr-server admin`: administrators of the platform, by whoever can open the database. No other way makes a second one.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::sync::Arc;

use cfr_billing::audit_log::{Act, Actor, ActorKind};
use cfr_core::secret::Secret;
use cfr_core::time::SystemClock;
use clap::{Args, Subcommand};

use super::error::CliError;
use crate::command::Source;
use crate::people::setup::NewAdmin;
use crate::people::{People, Refusal};
use crate::state::{Books, StartError};
use crate::terminal;

/// What to do with administrators.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an administrator of the platform; asks for the password, or reads it from the standard input
    ///
    /// They sign in at /auth/sign-in and have to add a second factor there before they may do anything.
    Create(Create),
    /// Remove the second factors of somebody who lost theirs, and sign them out everywhere
    ResetMfa(ResetMfa),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Their address
    #[arg(long, value_name = "ADDRESS")]
    email: String,
    /// Their name [default: the address]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    source: Source,
}

#[derive(Debug, Args)]
pub(crate) struct ResetMfa {
    /// Their address
    #[arg(long, value_name = "ADDRESS")]
    email: String,
    #[command(flatten)]
    source: Source,
}

/// Runs a command about administrators.
///
/// # Errors
/// One line that says what went wrong and what to do next.
pub(crate) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Create(arguments) => create(arguments).await,
        Command::ResetMfa(arguments) => reset_mfa(arguments).await,
    }
}

async fn create(arguments: Create) -> Result<(), CliError> {
    let Create { email, name, source } = arguments;
    let mut checks = crate::api::input::Checks::default();
    checks.email("--email", &email);
    checks.finish().map_err(|problem| CliError::misused(problem.detail))?;
    let new = NewAdmin {
        name: name.unwrap_or_else(|| email.clone()).into(),
        email: email.into(),
        password: read_password()?,
    };
    with_people(&source, async |people, act| {
        let user = people.create_admin(&new, act).await?;
        Ok(format!("{} is an administrator of the platform: {}\n", user.email, user.id))
    })
    .await
}

async fn reset_mfa(arguments: ResetMfa) -> Result<(), CliError> {
    let ResetMfa { email, source } = arguments;
    with_people(&source, async |people, act| {
        let user = people.remove_factors_of(&email, act).await?;
        Ok(format!("{} has no second factor now and is signed out everywhere\n", user.email))
    })
    .await
}

/// Opens the books, works, says what came of it, and closes them whatever that was.
async fn with_people(
    source: &Source,
    work: impl AsyncFnOnce(&People, &Act) -> Result<String, Refusal>,
) -> Result<(), CliError> {
    let config = source.load_without_keys().map_err(StartError::from)?;
    let books = Books::open_for_command(&config, Arc::new(SystemClock::new())).await?;
    let people = Arc::clone(&books.people);
    let act = Act { by: Arc::new(Actor::of_kind(ActorKind::Operator)), at: books.clock.now() };
    let done = work(&people, &act).await;
    drop(people);
    books.close().await?;
    let text = done.map_err(|refusal| CliError::misused(refusal.to_string()))?;
    terminal::print(&text).map_err(|source| CliError::Io { what: "cannot print".into(), source })
}

/// A password from the terminal, unseen, or the first line of the standard input.
fn read_password() -> Result<Secret, CliError> {
    let failed = |source| CliError::Io { what: "cannot read the password".into(), source };
    if io::stdin().is_terminal() {
        return rpassword::prompt_password("Password (at least 15 characters): ").map(Secret::new).map_err(failed);
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(failed)?;
    Ok(Secret::new(line.trim_end_matches(['\r', '\n'])))
}
