//! What the end-to-end tests share: the real binary as a process, a provider that remembers what it served, and a client
//! that remembers what it saw.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

pub mod books;
pub mod client;
pub mod cluster;
pub mod oracle;
pub mod outage;
pub mod price;
pub mod race;
pub mod server;
pub mod site;

/// A number that the environment may set.
pub fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
