//! Dependencies point inwards, and this proves it.
#![allow(clippy::expect_used, reason = "a test helper fails by panicking")]

use std::process::Command;

/// The crates that `package` is built from, by name, itself included.
fn dependencies(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-e", "normal", "--prefix", "none", "-f", "{p}", "--all-features", "-p", package])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().filter_map(|line| line.split_whitespace().next()).map(ToOwned::to_owned).collect()
}

#[track_caller]
fn check(package: &str, forbidden: &[&str]) {
    let dependencies = dependencies(package);
    assert!(dependencies.iter().any(|name| name == "serde"), "the tree of {package} was not read");
    let found: Vec<_> = forbidden.iter().filter(|name| dependencies.iter().any(|known| known == *name)).collect();
    assert!(found.is_empty(), "{package} must not depend on {found:?}");
}

#[test]
fn the_core_reaches_no_socket_and_no_database() {
    let outside = ["sqlx", "hyper", "reqwest", "axum", "rustls", "mio"];
    check("cfr-core", &outside);
    check("cfr-core", &["cfr-providers", "cfr-billing", "cfr-store-sqlite", "cfr-server"]);
}

#[test]
fn providers_know_only_the_core() {
    check("cfr-providers", &["sqlx", "axum", "cfr-billing", "cfr-store-sqlite", "cfr-server"]);
}

#[test]
fn the_business_knows_no_database_and_no_wire() {
    check("cfr-billing", &["sqlx", "hyper", "reqwest", "axum", "cfr-providers", "cfr-store-sqlite", "cfr-server"]);
}

#[test]
fn the_store_knows_no_wire_and_no_shell() {
    check("cfr-store-sqlite", &["hyper", "reqwest", "axum", "cfr-providers", "cfr-server"]);
}
