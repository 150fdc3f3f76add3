//! The rules that every store must keep.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

cfr_billing::store_conformance!(Box::new(support::fresh().await));
