//! The engine over a store that one node owns does all that a ledger must do.

mod support;

cfr_core::ledger_conformance!(support::Bench::exclusive().await);
