//! What the end-to-end tests share: the real binary as a process, a provider that remembers what it served, and a client
//! that remembers what it saw.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

pub mod books;
pub mod client;
pub mod oracle;
pub mod price;
pub mod server;
pub mod site;
