//! Requests that Schemathesis invents from the document, some that it allows and some that it forbids, against a running
//! server on each database: as an administrator, as a key of one tenant, and as nobody.
//!
//! `CFR_SCHEMATHESIS_EXAMPLES` is how many are invented for each operation, beside those that Schemathesis derives from
//! the limits and examples in the document. `CFR_SEED` begins another sequence.

use std::fmt::Write as _;

use serde_json::json;
use tokio::process::Command;

use super::support::{setting, site::ADMIN_KEY};
use super::world::{Database, World, tool};

/// Requests for each operation unless the environment says otherwise.
const EXAMPLES: u64 = 8;
/// An answer that takes longer is a failure, in seconds.
const ANSWER_SECONDS_MAX: &str = "20";
/// How often a request is about something that is there.
const OFTEN: &str = "0.7";

/// What must hold of every answer: no 5xx, no status, type or shape that the document does not know.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
/// The management API, and what people do who sign in.
const PATHS: &str = "^/(api/v1|auth)/";
/// A stream of events ends after minutes: `api_reports` follows it.
const ENDLESS: &str = "follow_events";

/// Things that requests name, beside those of the world, by the field that names them.
const NAMES: &[(&str, &[&str])] = &[
    ("tenant", &["acme", "rival"]),
    ("user", &["anna@acme.example", "ben@rival.example"]),
    ("product", &["basic"]),
    ("key", &[]),
    ("budget", &[]),
    ("invitation", &[]),
    ("account", &[]),
    ("client", &[]),
    ("doomed_tenant", &["doomed"]),
    ("doomed_user", &["dora@doomed.example"]),
    ("currency", &["EUR"]),
    ("amount", &["10", "0.5"]),
];
/// Fields of queries and bodies, and what they name.
const FIELDS: &[(&str, &str)] = &[
    ("query.tenant", "tenant"),
    ("query.user", "user"),
    ("query.key", "key"),
    ("query.subject", "user"),
    ("body.tenant", "tenant"),
    ("body.user", "user"),
    ("body.product", "product"),
    ("body.subject", "user"),
    ("body.currency", "currency"),
    ("body.limit.amount", "amount"),
    ("body.limit.currency", "currency"),
    ("body.amount.amount", "amount"),
    ("body.amount.currency", "currency"),
    ("body.terms.price.amount", "amount"),
    ("body.terms.price.currency", "currency"),
    ("body.terms.budget.amount", "amount"),
    ("body.terms.budget.currency", "currency"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_breaks_a_server_on_sqlite() {
    let world = World::on(Database::Sqlite).await;
    storm(&world, Some(ADMIN_KEY), "examples,coverage,fuzzing").await;
    let tenant = World::on(Database::Sqlite).await;
    storm(&tenant, Some(&tenant.tenant_key), "examples,fuzzing").await;
    storm(&tenant, None, "examples,fuzzing").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_breaks_a_server_on_postgres() {
    let world = World::on(Database::Postgres).await;
    storm(&world, Some(ADMIN_KEY), "examples,coverage,fuzzing").await;
}

/// Sends invented requests with a key, or without one, and fails with what Schemathesis found.
async fn storm(world: &World, key: Option<&str>, phases: &str) {
    let config = world.folder().join("schemathesis.toml");
    std::fs::write(&config, configuration(world)).expect("a file");
    let program = tool("CFR_TEST_SCHEMATHESIS", "schemathesis/bin/schemathesis", "Schemathesis");
    let mut command = Command::new(program);
    command.arg("--config-file").arg(&config).args(["run", &format!("{}/openapi.json", world.base())]);
    command.args(["--checks", CHECKS, "--include-path-regex", PATHS, "--exclude-operation-id", ENDLESS]);
    let examples = setting("CFR_SCHEMATHESIS_EXAMPLES").unwrap_or(EXAMPLES).to_string();
    let seed = setting("CFR_SEED").unwrap_or(1).to_string();
    command.args(["--phases", phases, "--max-examples", &examples, "--seed", &seed]);
    command.args(["--continue-on-failure", "--generation-database", "none", "--warnings", "off"]);
    command.args(["--request-timeout", ANSWER_SECONDS_MAX, "--workers", "2", "--no-color"]);
    if let Some(key) = key {
        command.args(["--header", &format!("Authorization: Bearer {key}")]);
    }
    let output = command.current_dir(world.folder()).output().await.expect("Schemathesis starts");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("Test cases:"), "{told}");
}

/// What is there: without it almost every request would be about nothing.
fn configuration(world: &World) -> String {
    let mut text = String::new();
    for (name, words) in NAMES {
        let mut values: Vec<&str> = words.to_vec();
        values.extend(world.things.get(name).map(String::as_str));
        writeln!(text, "[dictionaries.{name}]\nvalues = {}", json!(values)).expect("text");
    }
    text.push_str("[parameters]\n");
    for (name, _) in NAMES.iter().filter(|(name, _)| world.things.contains_key(name)) {
        bind(&mut text, &format!("path.{name}"), name);
    }
    for (field, name) in FIELDS {
        bind(&mut text, field, name);
    }
    for thing in ["tenant", "user"] {
        let path = format!("/api/v1/{thing}s/{{{thing}}}/erase");
        writeln!(text, "[[operations]]\ninclude-path = {}\n[operations.parameters]", json!(path)).expect("text");
        bind(&mut text, &format!("path.{thing}"), &format!("doomed_{thing}"));
    }
    text
}

fn bind(text: &mut String, field: &str, name: &str) {
    writeln!(text, "\"{field}\" = {{ dictionary = \"{name}\", probability = {OFTEN} }}").expect("text");
}
