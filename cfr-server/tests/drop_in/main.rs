//! What is here for programs of other gateways: the billing API, PocketBase's collections, LiteLLM's management, importers.

#![expect(clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod import_litellm;
mod import_pocketbase;
mod litellm;
mod pocketbase;
mod seed;
#[path = "../http/support.rs"]
#[allow(dead_code, reason = "what these tests do not need, others do")]
mod support;
mod world;
