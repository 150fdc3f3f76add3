//! Conversations over the realtime API, through real sockets.

#![expect(clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod client;
mod ends;
mod money;
mod rules;
#[path = "../http/support.rs"]
#[allow(dead_code, reason = "these tests use a part of it")]
mod support;
mod talks;
