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
    assert!(dependencies.iter().any(|name| name == "tokio"), "the tree of {package} was not read");
    let found: Vec<_> = forbidden.iter().filter(|name| dependencies.iter().any(|known| known == *name)).collect();
    assert!(found.is_empty(), "{package} must not depend on {found:?}");
}

const STORES: [&str; 2] = ["cfr-store-sqlite", "cfr-store-postgres"];
/// What only tests have.
const TESTBED: [&str; 1] = ["cfr-testbed"];

#[test]
fn the_core_reaches_no_socket_and_no_database() {
    check("cfr-core", &["sqlx", "redis", "hyper", "reqwest", "axum", "rustls", "mio"]);
    check("cfr-core", &["cfr-providers", "cfr-billing", "cfr-server"]);
    check("cfr-core", &STORES);
}

#[test]
fn providers_know_only_the_core() {
    check("cfr-providers", &["sqlx", "redis", "axum", "cfr-billing", "cfr-server"]);
    check("cfr-providers", &STORES);
}

#[test]
fn the_business_knows_no_database_and_no_wire() {
    check("cfr-billing", &["sqlx", "redis", "hyper", "reqwest", "axum", "cfr-providers", "cfr-server"]);
    check("cfr-billing", &STORES);
}

#[test]
fn a_store_knows_no_wire_no_shell_and_no_other_store() {
    for store in STORES {
        check(store, &["redis", "hyper", "reqwest", "axum", "cfr-providers", "cfr-server"]);
        check(store, &STORES.into_iter().filter(|other| *other != store).collect::<Vec<_>>());
    }
    check("cfr-store-sqlite", &["sqlx-postgres"]);
    check("cfr-store-postgres", &["sqlx-sqlite", "libsqlite3-sys"]);
}

#[test]
fn servers_for_tests_know_nothing_of_ours_and_nobody_builds_on_them() {
    check("cfr-testbed", &["cfr-core", "cfr-providers", "cfr-billing", "cfr-server"]);
    check("cfr-testbed", &STORES);
    for package in ["cfr-core", "cfr-providers", "cfr-billing", "cfr-server"].into_iter().chain(STORES) {
        check(package, &TESTBED);
    }
}
