//! What the gateway costs, measured beside what the work costs at the least.
//!
//! The end-to-end comparison (`cargo run --release -p cfr-benches --bin compare`) starts a mock provider ([`mock`]), bare
//! hyper proxies that do one part of a gateway's work each ([`floor`]) and the gateway itself as processes of their own
//! ([`process`], [`gateway`]), drives them in turns ([`load`]) and prints every figure with its ratio to the floors
//! ([`table`]). The micro benches are in `benches/`.
//!
//! The ledger over real stores is measured by [`books`] (`--bin books`), the management API over grown ones by [`people`]
//! (`--bin people`).
//!
//! Amounts of time are integers, in microseconds or nanoseconds as their names say.

pub mod answers;
pub mod body;
pub mod books;
pub mod floor;
pub mod gateway;
pub mod load;
pub mod mock;
pub mod pairs;
pub mod people;
pub mod process;
pub mod serve;
pub mod table;

/// Whatever stops a measurement. Nothing here is recovered from: the comparison ends and says why.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
