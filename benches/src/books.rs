//! The ledger over real stores: what a settlement costs when several engines share the books.
//!
//! Everything runs in one process, with the database beside it on the same cores: [`workload`] makes tenants and the
//! budgets of paths, [`counted`] counts what the engines ask the store for, [`measure`] drives them.

pub mod counted;
pub mod measure;
pub mod workload;
