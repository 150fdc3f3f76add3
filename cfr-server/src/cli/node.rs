//! `cfr-server node`.

use std::io::{BufRead as _, IsTerminal as _};

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Call;
use super::error::CliError;
use super::output::{Column, note};
use super::{Session, Verb};

/// What to do with the processes that share a database.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the processes that share the database, and what each has leased
    List {
        /// Also those that have ended and have nothing any longer
        #[arg(long)]
        all: bool,
    },
    /// Declare a process dead, so that what it leased is free at once
    ///
    /// Only for a machine that is gone for good and will not start again under its name: its money comes back by itself
    /// after a while. The holds of its calls end by the orphan policy. A process that lives after all loses nothing: its
    /// running calls are still charged, and it goes on with a new epoch.
    Fence {
        /// Its name, as `node list` shows it
        node: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

const COLUMNS: &[Column] = &[
    ("NODE", "/node"),
    ("EPOCH", "/epoch"),
    ("ALIVE", "/alive"),
    ("SEEN", "/seen_at"),
    ("LEASES", "/leases"),
    ("LEASED", "/leased"),
    ("OPEN HOLDS", "/open_holds"),
];

impl Verb for Command {
    async fn run(self, session: &Session) -> Result<(), CliError> {
        match self {
            Self::List { all } => {
                let mut listing = session.client.send(Call::get(&["nodes"])).await?;
                if let (false, Some(nodes)) = (all, listing.get_mut("items").and_then(Value::as_array_mut)) {
                    nodes.retain(has_something);
                }
                session.printer.list(&listing, COLUMNS)
            }
            Self::Fence { node, yes } => {
                if !yes {
                    confirm(&node)?;
                }
                let fenced = session.client.send(Call::post(&["nodes", &node, "fence"], &json!({}))).await?;
                session.printer.one(&fenced, COLUMNS)
            }
        }
    }
}

/// Whether a node is of interest: a server that lives, or one whose money waits for its death to be proven.
fn has_something(node: &Value) -> bool {
    let is = |field: &str| node.get(field).is_some_and(|value| value != &json!(0) && value != &json!(false));
    is("leases") || is("open_holds") || is("alive")
}

fn confirm(node: &str) -> Result<(), CliError> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(CliError::misused("nobody is there to be asked: add --yes"));
    }
    note(&format!("What `{node}` leased can be taken back at once, and its open holds end by the orphan policy."))?;
    note("A process that lives comes back with a new epoch. Go on? [y/N]")?;
    let mut answer = String::new();
    let read = input.lock().read_line(&mut answer);
    read.map_err(|source| CliError::Io { what: "cannot read the answer".into(), source })?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(CliError::misused("nothing was changed")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_shown_while_it_lives_or_has_something() {
        let node = |alive: bool, leases: u64, holds: u64| {
            has_something(&json!({"node": "one", "alive": alive, "leases": leases, "open_holds": holds}))
        };
        assert!(node(true, 0, 0) && node(false, 1, 0) && node(false, 0, 1));
        assert!(!node(false, 0, 0));
    }
}
