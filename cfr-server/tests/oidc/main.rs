//! Signing in to other programs with an account here, and what their tokens open.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod clients;
mod code_flow;
mod federation;
mod gateway;
mod logout;
mod replicas;
mod support;
mod tokens;
