//! The official SDKs of OpenAI, Anthropic, Google and Cohere, unmodified, against `cfr-server demo`. The scripts are in
//! `sdk/`; `scripts/test` installs the SDKs.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::path::{Path, PathBuf};

use cfr_server::demo::{CARD_FILE, Card};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use support::server::Server;
use support::site::customer_of;

mod support;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dialect_works_with_its_python_sdk_over_every_provider() {
    let python = tool("CFR_TEST_PYTHON", "venv/bin/python", "Python with the SDKs");
    let mut command = Command::new(python);
    command.arg(script("dialects_python.py"));
    run(command).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_works_unmodified() {
    let python = tool("CFR_TEST_PYTHON", "venv/bin/python", "Python with the SDKs");
    let mut command = Command::new(python);
    command.arg(script("openai_python.py"));
    run(command).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversations_work_with_the_python_sdk_unmodified() {
    let python = tool("CFR_TEST_PYTHON", "venv/bin/python", "Python with the SDKs");
    let mut command = Command::new(python);
    command.arg(script("openai_realtime_python.py"));
    run(command).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reranks_work_with_the_python_sdk_of_cohere() {
    let python = tool("CFR_TEST_PYTHON", "venv/bin/python", "Python with the SDKs");
    let mut command = Command::new(python);
    command.arg(script("cohere_python.py"));
    run(command).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn litellm_asks_before_a_call_and_tells_afterwards() {
    let python = tool("CFR_TEST_LITELLM", "litellm/bin/python", "Python with LiteLLM");
    let mut command = Command::new(python);
    command.arg(script("litellm_python.py"));
    run(command).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_sdk_works_unmodified() {
    run(node("openai_node.mjs")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dialect_works_with_its_node_sdk_over_every_provider() {
    run(node("dialects_node.mjs")).await;
}

fn node(name: &str) -> Command {
    let modules = tool("CFR_TEST_NODE_MODULES", "node_modules", "the folder with the SDKs for Node");
    let mut command = Command::new("node");
    command.arg(script(name)).env("CFR_TEST_NODE_MODULES", modules);
    command
}

/// Runs a script against a demo of its own; it names each of its checks, and says how many failed.
async fn run(mut command: Command) {
    let data = TempDir::new().expect("a temporary folder");
    let folder = data.path().to_str().expect("UTF-8");
    let server = Server::start(&["demo", "--listen", "127.0.0.1:0", "--data", folder], &[]).await;
    let card: Card =
        serde_json::from_slice(&std::fs::read(data.path().join(CARD_FILE)).expect("a card")).expect("a card");
    let admin = server.client(&card.admin_key);
    let broke = customer_of(&admin, "broke", 1, json!({})).await;
    let limited = customer_of(&admin, "limited", 1_000_000_000, json!({"requests_per_minute": 1})).await;
    let output = command
        .env("CFR_BASE_URL", format!("{}/v1", card.base_url))
        .env("CFR_KEY", &card.keys.enterprise)
        .env("CFR_ADMIN_KEY", &card.admin_key)
        .env("CFR_BROKE_KEY", broke.key)
        .env("CFR_LIMITED_KEY", limited.key)
        .output()
        .await
        .expect("the interpreter starts");
    let told = String::from_utf8_lossy(&output.stdout);
    eprint!("{told}");
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    server.stop().await;
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(name)
}

/// A tool from the environment, or from where `scripts/test` puts it.
fn tool(variable: &str, place: &str, name: &str) -> PathBuf {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-tools").join(place);
    let path = std::env::var_os(variable).map_or_else(usual, PathBuf::from);
    assert!(path.exists(), "{name} is missing: run scripts/test, which installs it, or set {variable}");
    path
}
