//! The ledger engine.
