//! The engine does all that a ledger must do, over a store that one node owns and over one that many share.
#![allow(clippy::expect_used, clippy::panic, reason = "this is a test")]

mod support;

mod exclusive {
    use super::support;
    cfr_core::ledger_conformance!(support::Bench::exclusive().await);
}

mod shared {
    use super::support;
    cfr_core::ledger_conformance!(support::Bench::shared().await);
}
