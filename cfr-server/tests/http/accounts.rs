//! Accounts at providers: how they are configured, and what becomes of calls when one is refused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use cfr_core::price::Factor;
use cfr_providers::registry::Kind;
use cfr_server::config::{Config, offering};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::support::{Site, chat_with, terms};

const EURO: i64 = 1_000_000_000;
const PROVIDERS: &str = include_str!("../../../docs/providers.md");

/// The configuration as `check-config` reads it, with everything that can be wrong with it.
fn checked(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let known: HashMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let path = Some("cfr.toml".as_ref());
    let config =
        Config::parse(path, text, &|name| known.get(name).cloned()).map_err(|problems| problems.to_string())?;
    let now = "2026-11-21T00:00:00Z".parse().expect("a time");
    let offering = offering(&config, None, now).map_err(|problems| problems.to_string())?;
    assert_eq!(offering.warnings, Vec::<String>::new());
    Ok(config)
}

fn section(kind: &str, more: &str) -> String {
    format!("[[upstream]]\nname = \"a\"\nkind = \"{kind}\"\n{more}")
}

#[track_caller]
fn refused(text: &str, environment: &[(&str, &str)], expected: &str) {
    let problems = checked(text, environment).expect_err("a mistake");
    assert!(problems.contains(expected), "expected `{expected}` in:\n{problems}");
}

/// What proves who we are, by the words of the summary.
#[track_caller]
fn proof(text: &str, environment: &[(&str, &str)]) -> Option<&'static str> {
    let config = checked(text, environment).unwrap_or_else(|problems| panic!("{problems}"));
    config.upstreams[0].account.proof()
}

#[test]
fn every_snippet_of_the_documentation_is_a_configuration() {
    let keys =
        ["ANTHROPIC_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_CLIENT_SECRET", "OPENAI_API_KEY_1", "OPENAI_API_KEY_2"];
    let environment = keys.map(|name| (name, "sk-0123456789abcdef"));
    let snippets: Vec<&str> =
        PROVIDERS.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(snippets.len() >= 8, "{} snippets", snippets.len());
    for snippet in snippets {
        checked(snippet, &environment).unwrap_or_else(|problems| panic!("{problems}\n{snippet}"));
    }
}

#[test]
fn the_documentation_has_every_kind_with_its_variables() {
    for kind in Kind::all() {
        let name = if kind.name() == "custom" { "openai-compatible" } else { kind.name() };
        let row = PROVIDERS.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{name}`")));
        let row = row.unwrap_or_else(|| panic!("{name} is not in the table"));
        for variable in kind.key_variable().into_iter().chain(kind.address_variable()) {
            assert!(row.contains(&format!("`{variable}`")), "{name}: {variable}");
        }
    }
}

#[test]
fn an_account_of_azure_is_a_key_or_an_identity() {
    let azure = |more: &str| section("azure", &format!("base_url = \"https://r.openai.azure.com\"\n{more}"));
    let application = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", "s")];
    assert_eq!(proof(&azure(""), &[("AZURE_OPENAI_API_KEY", "k")]), Some("a key"));
    assert_eq!(proof(&azure(""), &application), Some("tokens of Entra"));
    assert_eq!(proof(&azure("entra = { managed_identity = true }"), &[]), Some("tokens of Entra"));
    let key_first = [application[0], application[1], application[2], ("AZURE_OPENAI_API_KEY", "k")];
    assert_eq!(proof(&azure(""), &key_first), Some("a key"));
    let address = [("AZURE_OPENAI_ENDPOINT", "https://r.openai.azure.com"), ("AZURE_OPENAI_API_KEY", "k")];
    assert_eq!(proof(&section("azure", ""), &address), Some("a key"));
    assert_eq!(proof("", &address), Some("a key"), "the environment is enough");
    assert_eq!(checked("", &address[1..]).expect("good").upstreams.len(), 0, "a key without an address is no account");

    refused(
        &azure(""),
        &[],
        "cfr.toml:1: upstream.api_key_env: `a` needs a key or an identity: set AZURE_OPENAI_API_KEY, or AZURE_TENANT_ID",
    );
    refused(&section("azure", ""), &[], "upstream.base_url: `a` needs one, there or in AZURE_OPENAI_ENDPOINT");
    refused(
        &azure("entra = { client_id = \"c\" }"),
        &[],
        "cfr.toml:5: upstream.entra: tenant_id and client_id are needed",
    );
    refused(
        &azure("entra = { tenant_id = \"t\", client_id = \"c\" }"),
        &[],
        "upstream.entra: client_secret, client_secret_env",
    );
    refused(
        &azure("entra = { managed_identity = true, tenant_id = \"t\" }"),
        &[],
        "upstream.entra: a managed identity has no tenant",
    );
    refused(&azure("api_key = \"k\"\nentra = { managed_identity = true }"), &[], "`a` has two accounts");
    refused(&azure("api_key = \"k\"\napi_version = \"a b\""), &[], "`a`: `a b` is no version of Azure's API");
    let v1 = section("azure", "base_url = \"https://r/openai/v1\"\napi_version = \"2024-10-21\"\napi_key = \"k\"");
    refused(&v1, &[], "`api_version` belongs to addresses of deployments");
}

#[test]
fn keys_of_aws_are_found_in_the_order_of_its_own_tools() {
    let bedrock = section("bedrock", "");
    let region = ("AWS_REGION", "eu-central-1");
    let keys = [("AWS_ACCESS_KEY_ID", "AKIA1"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let role = [("AWS_ROLE_ARN", "arn:r"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/f")];
    let container = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x");
    assert_eq!(proof(&bedrock, &[region]), Some("the machine's keys of AWS"));
    assert_eq!(proof(&bedrock, &[region, container]), Some("the container's keys of AWS"));
    assert_eq!(proof(&bedrock, &[region, container, role[0], role[1]]), Some("a role of AWS"));
    let static_keys = [region, role[0], role[1], keys[0], keys[1], ("AWS_PROFILE", "p")];
    assert_eq!(proof(&bedrock, &static_keys), Some("keys of AWS"));
    let bearer = [region, keys[0], keys[1], ("AWS_BEARER_TOKEN_BEDROCK", "b")];
    assert_eq!(proof(&bedrock, &bearer), Some("a key"));
    let own = section("bedrock", "access_key_id = \"AKIA2\"\nsecret_access_key = \"s\"");
    assert_eq!(proof(&own, &bearer), Some("keys of AWS"), "the section comes first");

    refused(&bedrock, &[], "cfr.toml:1: upstream: `a`: `region` is needed, there or in AWS_REGION");
    refused(&bedrock, &[region, ("AWS_PROFILE", "work")], "profiles of AWS are not read, and AWS_PROFILE is `work`");
    refused(&bedrock, &[region, ("AWS_EC2_METADATA_DISABLED", "true")], "AWS_BEARER_TOKEN_BEDROCK is not set");
    refused(&section("bedrock", "access_key_id = \"AKIA2\""), &[region], "belong together");
    let elsewhere = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://keys.example/x");
    refused(&bedrock, &[region, elsewhere], "keys are taken from servers on this machine or over https only");
}

#[test]
fn a_token_of_oauth_stands_in_for_anthropics_key() {
    assert_eq!(proof("", &[("ANTHROPIC_AUTH_TOKEN", "t")]), Some("a bearer token"));
    assert_eq!(proof(&section("anthropic", ""), &[("ANTHROPIC_AUTH_TOKEN", "t")]), Some("a bearer token"));
    assert_eq!(proof("", &[("ANTHROPIC_AUTH_TOKEN", "t"), ("ANTHROPIC_API_KEY", "k")]), Some("a key"));
    assert_eq!(proof(&section("anthropic", "api_key = \"t\"\nauth = \"bearer\""), &[]), Some("a bearer token"));
    refused(&section("anthropic", "auth = \"basic\""), &[], "cfr.toml:4: unknown variant `basic`");
}

#[test]
fn what_a_kind_has_no_use_for_is_a_mistake() {
    for (kind, member, kinds) in [
        ("openai", "region = \"eu\"", "it is for bedrock, vertex"),
        ("groq", "project = \"p\"", "it is for openai, vertex"),
        ("anthropic", "organization = \"o\"", "it is for openai"),
        ("openai", "api_version = \"1\"", "it is for azure"),
        ("gemini", "entra = { managed_identity = true }", "it is for azure, azure_anthropic"),
        ("openai", "auth = \"bearer\"", "it is for anthropic"),
        ("openai", "anthropic_beta = \"b\"", "it is for anthropic, azure_anthropic, vertex"),
        ("gemini", "service_account_file = \"/nowhere\"", "it is for vertex"),
        ("openai", "session_token = \"t\"", "it is for bedrock"),
    ] {
        let name = member.split(' ').next().expect("a name");
        let expected = format!("cfr.toml:1: upstream.{name}: `{kind}` has no use for it: {kinds}");
        refused(&section(kind, &format!("api_key = \"k\"\n{member}")), &[], &expected);
    }
}

#[test]
fn headers_and_times_that_cannot_be_are_refused() {
    let with = |more: &str| section("openai", &format!("api_key = \"k\"\n{more}"));
    refused(&with("headers = { \"a b\" = \"c\" }"), &[], "cfr.toml:5: upstream.headers: `a b`: no name of a header");
    refused(&with("headers = { \"Content-Type\" = \"c\" }"), &[], "`Content-Type`: the router sets it itself");
    refused(&with("headers = { x = \"a\\nb\" }"), &[], "`x`: a value that no header can carry");
    refused(&with("header_seconds = 0"), &[], "cfr.toml:5: upstream.header_seconds: from 1 to 86400");
    refused(&with("idle_seconds = 90000"), &[], "cfr.toml:5: upstream.idle_seconds: from 1 to 86400");
    refused(
        &with("price_factor = \"0\""),
        &[],
        "cfr.toml:5: upstream.price_factor: a factor is a plain decimal number",
    );
    let config = checked(&with("headers = { x-secret = \"very-secret\" }"), &[]).expect("good");
    assert!(!format!("{config:?}").contains("very-secret"));
}

#[test]
fn a_deployment_costs_what_another_model_does_and_hides_the_others() {
    let azure = |more: &str| {
        let own = "base_url = \"https://r.openai.azure.com\"\napi_key = \"k\"\nprice_factor = \"1.1\"\n";
        section("azure", &format!("{own}[[upstream.price]]\nmodel = \"my-gpt\"\n{more}"))
    };
    let config = Config::parse(None, &azure("like = \"gpt-5.4\""), &|_| None).expect("good");
    let now = "2026-11-21T00:00:00Z".parse().expect("a time");
    let offer = offering(&config, None, now).expect("an offering").offer;
    let names: Vec<&str> = offer.routes.models().map(|model| &*model.name).collect();
    assert_eq!(names, ["my-gpt"]);
    let target = &offer.routes.find("my-gpt").expect("offered").targets[0];
    assert_eq!(target.price.factor, "1.1".parse::<Factor>().expect("a factor"));
    assert_eq!(target.entry(&offer.prices, now).expect("a price").model(), "gpt-5.4");

    let unknown = Config::parse(None, &azure("like = \"gpt-none\""), &|_| None).expect("good");
    let warnings = offering(&unknown, None, now).expect("an offering").warnings.join("\n");
    assert!(warnings.contains("`my-gpt` is to cost what `gpt-none` of `azure` does, which has no price"), "{warnings}");
    refused(
        &azure("like = \"gpt-5.4\"\nfree = true"),
        &[],
        "cfr.toml:7: upstream.price.like: `my-gpt` costs what `like` says",
    );
    refused(&azure("free = true\nfactor = \"1.1\""), &[], "cfr.toml:10: upstream.price.factor: it goes with `like`");
}

#[test]
fn prices_that_depend_on_a_region_know_it() {
    let vertex = section("vertex", "project = \"p\"\nregion = \"europe-west4\"");
    let config = Config::parse(None, &vertex, &|_| None).expect("good");
    let offer = offering(&config, None, "2026-11-21T00:00:00Z".parse().expect("a time")).expect("an offering").offer;
    let model = offer.routes.models().next().expect("a model");
    assert_eq!(model.targets[0].region.as_deref(), Some("europe-west4"));
    assert!(offer.routes.find("claude-opus-5").is_some(), "Anthropic's models are there too");
}

/// How often each key was shown.
type Shown = Arc<Mutex<HashMap<String, usize>>>;

/// A provider that does what the key says.
async fn behave(State(shown): State<Shown>, headers: HeaderMap, Json(call): Json<Value>) -> Response {
    let key = headers["authorization"].to_str().expect("text").trim_start_matches("Bearer ").to_owned();
    *shown.lock().expect("a lock").entry(key.clone()).or_default() += 1;
    let refusal = |status: StatusCode, code: &str| {
        (status, Json(json!({"error": {"message": "no", "type": "t", "param": null, "code": code}}))).into_response()
    };
    match key.as_str() {
        "bad" => refusal(StatusCode::UNAUTHORIZED, "invalid_api_key"),
        "forbidden" => refusal(StatusCode::FORBIDDEN, "model_not_enabled"),
        "used-up" => refusal(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota"),
        _ => Json(json!({"id": "1", "object": "chat.completion", "model": call["model"], "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}}))
        .into_response(),
    }
}

/// A site over two accounts at that provider. The provider lives as long as the set.
async fn two_accounts(first: &str) -> (Site, Shown, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (shown, mut provider) = (Shown::default(), JoinSet::new());
    let app = Router::new().fallback(behave).with_state(Arc::clone(&shown));
    provider.spawn(async move { axum::serve(listener, app).await.expect("served") });
    let account = |name: &str, key: &str| {
        format!(
            "[[upstream]]\nname = \"{name}\"\nkind = \"openai\"\nbase_url = \"http://{address}/v1\"\napi_key = \"{key}\"\n"
        )
    };
    let site = Site::start(&format!("{}{}", account("first", first), account("second", "good"))).await;
    (site, shown, provider)
}

/// Asks two models twice each, and says how often the first account's key was shown in all.
async fn shown_in_four_calls(first: &str) -> usize {
    let (site, shown, _provider) = two_accounts(first).await;
    let key = site.key(terms(EURO)).await;
    for model in ["gpt-4o", "gpt-4o", "gpt-4o-mini", "gpt-4o-mini"] {
        let seen = site.chat(&key, &chat_with("hi", json!({ "model": model }))).await;
        assert_eq!(seen.status, 200, "the other account answers: {}", seen.body);
    }
    let (bad, good) = {
        let shown = shown.lock().expect("a lock");
        (shown[first], shown["good"])
    };
    assert_eq!(good, 4);
    bad
}

#[tokio::test]
async fn an_account_whose_key_is_refused_comes_last_with_all_its_models_and_the_other_answers() {
    assert_eq!(shown_in_four_calls("bad").await, 1);
}

#[tokio::test]
async fn a_model_that_is_forbidden_or_used_up_comes_last_alone_and_the_other_account_answers() {
    assert_eq!(shown_in_four_calls("forbidden").await, 2, "once for each model");
    assert_eq!(shown_in_four_calls("used-up").await, 2, "once for each model");
}
