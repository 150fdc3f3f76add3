//! The management API as outsiders see it: programs that know nothing but its OpenAPI document. One invents requests, one
//! is a client made from the document, and one sends what attackers send wherever the document says that text goes.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

mod client;
mod injection;
mod sample;
mod schemathesis;
#[path = "../support/mod.rs"]
mod support;
mod world;
