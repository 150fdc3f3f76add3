//! Who may do what in the management API, and what becomes of repetitions and of hostile input.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

#[path = "../api/mod.rs"]
mod api;
mod document;
mod idempotency;
mod injection;
mod keys;
mod matrix;
mod people;
mod sales;
mod tenants;
