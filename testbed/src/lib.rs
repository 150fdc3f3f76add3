//! Real servers for tests: each starts in a folder of its own on a free port of the loopback and ends with its handle.
//!
//! | what | for |
//! |---|---|
//! | [`Postgres`] | a private database server, that can be stopped, crashed and started again |
//! | [`Redis`] | the same for Redis |
//! | [`PgBouncer`] | a connection pool in front of a [`Postgres`] |
//! | [`Proxy`] | a network that is cut, slow or silent on command |
//!
//! Nothing outlives the test process, not even when it is killed: a small shell supervises each server and reads a pipe
//! whose other end the test process holds. At its end the shell stops the server and deletes the folder. A server that
//! refuses to run as root runs as another user.
//!
//! This is support of tests: what cannot be done panics with the reason and what to install.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, and so does what it is built on")]

mod pgbouncer;
mod place;
mod postgres;
mod proxy;
mod redis;
mod supervisor;

pub use pgbouncer::{PgBouncer, PoolMode};
pub use postgres::{NEEDS_PASSWORD, Postgres};
pub use proxy::Proxy;
pub use redis::Redis;
