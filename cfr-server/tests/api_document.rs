//! The OpenAPI document is made from the handlers, complete, and only changes on purpose.
#![allow(clippy::expect_used, reason = "a test that cannot be set up fails")]

use std::collections::BTreeSet;

use cfr_server::oidc;
use cfr_server::openapi::description;
use serde_json::Value;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

fn document() -> Value {
    serde_json::to_value(description()).expect("JSON")
}

#[test]
fn the_document_is_the_one_that_was_reviewed() {
    let now = format!("{:#}\n", document());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &now).expect("openapi.json can be written");
    }
    let reviewed = std::fs::read_to_string(GOLDEN).expect("openapi.json");
    assert!(now == reviewed, "openapi.json differs: review the change with UPDATE_GOLDEN=1 and git diff");
}

/// Reads the routes from the source: axum cannot list them.
#[test]
fn every_route_of_the_router_is_in_the_document() {
    let source = include_str!("../src/router.rs");
    let routes: BTreeSet<String> = source
        .split(".route(\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(|path| path.replace("{*", "{"))
        .collect();
    assert!(routes.len() > 5, "the routes were not found: {routes:?}");
    let document = document();
    let described = document["paths"].as_object().expect("paths");
    let missing: Vec<_> = routes.iter().filter(|path| !described.contains_key(*path)).collect();
    assert!(missing.is_empty(), "describe in openapi/surface.rs: {missing:?}");
}

#[test]
fn every_address_that_discovery_names_is_in_the_document() {
    let document = document();
    let described = document["paths"].as_object().expect("paths");
    for path in [oidc::DISCOVERY, oidc::DISCOVERY_OAUTH, oidc::JWKS, oidc::AUTHORIZE, oidc::TOKEN, oidc::REVOKE] {
        assert!(described.contains_key(path), "{path}");
    }
    assert!([oidc::USERINFO, oidc::LOGOUT].iter().all(|path| described.contains_key(*path)));
}

/// A generated client has one type for one thing.
#[test]
fn rows_of_lists_and_variants_are_schemas_with_names() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let pages: Vec<_> = schemas.iter().filter(|(name, _)| name.starts_with("Listing_")).collect();
    assert!(pages.len() > 10, "{} kinds of pages", pages.len());
    for (name, page) in pages {
        assert!(page["properties"]["items"]["items"]["$ref"].is_string(), "{name}");
    }
    assert_eq!(schemas["Period"]["oneOf"][0]["$ref"], "#/components/schemas/PeriodCalendarMonth");
    assert_eq!(schemas["Period"]["discriminator"]["propertyName"], "kind");
}

#[test]
fn every_operation_has_an_id_of_its_own_a_group_and_a_summary() {
    let document = document();
    let mut ids = BTreeSet::new();
    let tags: BTreeSet<_> =
        document["tags"].as_array().expect("tags").iter().filter_map(|tag| tag["name"].as_str()).collect();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id), "{id} twice");
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{method} {path}");
            assert!(operation["tags"][0].as_str().is_some_and(|tag| tags.contains(tag)), "{method} {path}");
            let managed = path.starts_with("/api/v1/");
            assert_eq!(operation["security"][0].get("admin_key").is_some(), managed, "{method} {path}");
            if managed {
                let problem =
                    &operation["responses"]["default"]["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(problem, "#/components/schemas/Problem", "{method} {path}");
            }
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    assert!(references.len() > 10);
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a local reference");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            references.extend(object.get("$ref").and_then(Value::as_str).map(ToOwned::to_owned));
            object.values().for_each(|value| collect(value, references));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}
