//! The question before something that cannot be undone.

use std::io::{BufRead as _, IsTerminal as _};

use super::error::CliError;
use super::output::note;

/// Asks whoever sits at the terminal.
///
/// # Errors
/// When the answer is not yes, or nobody sits there.
pub(crate) fn confirm(question: &str) -> Result<(), CliError> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(CliError::misused("nobody is there to be asked: add --yes"));
    }
    note(&format!("{question} [y/N]"))?;
    let mut answer = String::new();
    let read = input.lock().read_line(&mut answer);
    read.map_err(|source| CliError::Io { what: "cannot read the answer".into(), source })?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(CliError::misused("nothing was changed")) }
}
