//! The gateway over a scripted upstream and a ledger whose commits the test decides.
#![allow(clippy::expect_used, clippy::panic, unreachable_pub, reason = "this is a test")]

mod cached;
mod counted;
mod durability;
mod scripted;
mod stored;
mod streamed;
mod whole;
