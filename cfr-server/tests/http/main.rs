//! The server as clients meet it, over real sockets: answers, errors, keys, processes, configuration.

#![expect(clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod accounts;
mod answers;
mod auditor;
mod bad_input;
mod batches;
mod budgets;
mod clients;
mod configuration;
mod counts;
mod judged;
mod keys;
mod media;
mod process;
mod stored;
mod support;
mod upstreams;
