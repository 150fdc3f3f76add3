//! People who sign in, as their browsers meet the server over real sockets.

#![expect(clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod account;
mod authenticator;
mod factors;
mod forgery;
mod joining;
mod pages;
mod passkeys;
mod sessions;
mod setup;
mod sign_in;
mod smtp;
mod support;
