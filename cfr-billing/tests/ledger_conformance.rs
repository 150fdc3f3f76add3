//! The engine over a store that one node owns does all that a ledger must do.
#![allow(clippy::expect_used, clippy::panic, reason = "this is a test")]

mod support;

cfr_core::ledger_conformance!(support::Bench::exclusive().await);
