//! `cfr-server import`: takes people, budgets and keys over from what ran before.
//!
//! ```text
//! source      rows of the other database, as text
//! pocketbase  tenants, products, users with their password hashes, keys, budgets with what was spent
//! litellm     teams, users and keys, which go on working, budgets with what was spent
//! desk        writes here: finds what is there already, and makes what is missing
//! report      what became of each row, and why
//! ```
//! Without `--apply` nothing is written: the report says what would be. Running it again changes nothing that is there.

pub(crate) mod command;
mod desk;
mod litellm;
mod pocketbase;
mod report;
mod source;
