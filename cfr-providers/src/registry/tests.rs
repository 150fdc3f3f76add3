//! What an account makes of a call: where it goes, and what it carries.

use std::time::Duration;

use cfr_core::time::{ManualClock, Timestamp};
use cfr_core::upstream::{Order, Upstream};
use serde_json::json;

use super::*;
use crate::sign::aws::AwsKeys;
use crate::sign::entra::{Identity, Proof};
use crate::testing::{KeyServer, asking, call};
use crate::upstream::Manner;

const TOKEN: &str = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"eyJ0"}"#;

fn with_key() -> Account {
    Account { key: Some(Secret::new("k1")), ..Account::default() }
}

fn at(base_url: &str, account: Account) -> Account {
    Account { base_url: Some(base_url.into()), ..account }
}

fn kind(name: &str) -> Kind {
    Kind::by_name(name).expect("a kind")
}

/// The last request that a call for `model` leads to: its address, and the server that was asked.
async fn sent(name: &str, account: &Account, model: &str) -> (String, Arc<KeyServer>) {
    sent_in(&Manner::default(), (name, account, model), json!({})).await
}

/// The same in a manner, for a call with more members.
async fn sent_in(
    manner: &Manner,
    (name, account, model): (&str, &Account, &str),
    more: serde_json::Value,
) -> (String, Arc<KeyServer>) {
    let server = KeyServer::new(&[("/token", TOKEN)]);
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let upstream = kind(name).upstream(account, server.clone(), clock).expect("an upstream").with_manner(manner);
    let call = call(&asking(more));
    let timeout = Duration::from_secs(1);
    let order = Order { call: &call, model, output_tokens_max: None, timeout, idle_timeout: timeout };
    upstream.send(order).await.expect_err("it refuses everything");
    let (line, _) = server.asked().pop().expect("a question");
    (line.trim_start_matches("POST ").to_owned(), server)
}

/// Where a call goes, and one header of it.
async fn header(name: &str, account: &Account, header: &str) -> (String, Option<String>) {
    let (address, server) = sent(name, account, "m").await;
    (address, server.header(server.asked().len() - 1, header))
}

#[tokio::test]
async fn each_provider_gets_its_key_in_its_own_header() {
    let azure = at("https://r.openai.azure.com", with_key());
    let foundry = at("https://r.services.ai.azure.com/anthropic", with_key());
    for (name, account, expected, value, address) in [
        ("openai", &with_key(), "authorization", "Bearer k1", "https://api.openai.com/v1/chat/completions"),
        ("azure", &azure, "api-key", "k1", "https://r.openai.azure.com/openai/v1/chat/completions"),
        ("anthropic", &with_key(), "x-api-key", "k1", "https://api.anthropic.com/v1/messages"),
        ("azure_anthropic", &foundry, "x-api-key", "k1", "https://r.services.ai.azure.com/anthropic/v1/messages"),
        ("cohere", &with_key(), "authorization", "Bearer k1", "https://api.cohere.com/v2/chat"),
    ] {
        let found = header(name, account, expected).await;
        assert_eq!(found, (address.to_owned(), Some(value.to_owned())), "{name}");
        if expected != "authorization" {
            assert_eq!(header(name, account, "authorization").await.1, None, "{name}");
        }
    }
}

#[tokio::test]
async fn a_token_of_oauth_is_a_bearers_and_asks_for_features_in_trial() {
    let betas = Some(HeaderValue::from_static("oauth-2025-04-20"));
    let account = Account { bearer: true, betas, ..with_key() };
    assert_eq!(header("anthropic", &account, "authorization").await.1.as_deref(), Some("Bearer k1"));
    assert_eq!(header("anthropic", &account, "anthropic-beta").await.1.as_deref(), Some("oauth-2025-04-20"));
    assert_eq!(header("anthropic", &account, "x-api-key").await.1, None);
}

#[tokio::test]
async fn tokens_of_entra_take_the_place_of_a_key() {
    let proof = Proof::Secret(Secret::new("s"));
    let identity = Identity::Application { tenant: "t".into(), client_id: "c".into(), proof };
    let account = Account { entra: Some(Entra::new(identity)), ..Account::default() };
    for (name, base_url, sent_to) in [
        (
            "azure",
            "https://r.openai.azure.com/openai/deployments",
            "/openai/deployments/m/chat/completions?api-version=",
        ),
        ("azure_anthropic", "https://r.services.ai.azure.com/anthropic", "/anthropic/v1/messages"),
    ] {
        let (address, server) = sent(name, &at(base_url, account.clone()), "m").await;
        assert!(address.contains(sent_to), "{address}");
        assert_eq!(server.asked()[0].0, "POST https://login.microsoftonline.com/t/oauth2/v2.0/token");
        assert_eq!(server.header(1, "authorization").as_deref(), Some("Bearer eyJ0"));
        assert_eq!(server.header(1, "api-key"), None);
    }
}

#[tokio::test]
async fn vertex_has_the_models_of_two_makers() {
    let (project, region) = (Some("p".to_owned()), Some("europe-west1".to_owned()));
    let account = Account { project, region, ..Account::default() };
    let models = "https://europe-west1-aiplatform.googleapis.com/v1/projects/p/locations/europe-west1/publishers";
    let (address, server) = sent("vertex", &account, "claude-opus-4-6@20260205").await;
    assert_eq!(address, format!("{models}/anthropic/models/claude-opus-4-6%4020260205:rawPredict"));
    assert_eq!(server.header(1, "authorization").as_deref(), Some("Bearer eyJ0"), "the machine's token");
    let (address, _) = sent("vertex", &account, "gemini-3.8-flash").await;
    let google = models.replace("/v1/", "/v1beta1/");
    assert_eq!(address, format!("{google}/google/models/gemini-3.8-flash:generateContent"));
}

#[tokio::test]
async fn who_pays_at_openai_stands_in_headers() {
    let (organization, project) = (Some("org-1".to_owned()), Some("proj_2".to_owned()));
    let account = Account { organization, project, ..with_key() };
    assert_eq!(header("openai", &account, "openai-organization").await.1.as_deref(), Some("org-1"));
    assert_eq!(header("openai", &account, "openai-project").await.1.as_deref(), Some("proj_2"));
    assert_eq!(header("groq", &account, "openai-project").await.1, None);
}

#[tokio::test]
async fn keys_of_aws_sign_and_are_not_sent() {
    let secret_access_key = Secret::new("hush");
    let keys = AwsKeys { access_key_id: "AKIA1".into(), secret_access_key, session_token: None };
    let region = Some("eu-central-1".to_owned());
    let account = Account { aws: Some(AwsSource::Keys(keys)), region, ..Account::default() };
    let (address, signature) = header("bedrock", &account, "authorization").await;
    assert_eq!(address, "https://bedrock-runtime.eu-central-1.amazonaws.com/model/m/converse");
    let signature = signature.expect("a signature");
    assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIA1/19700101/eu-central-1/bedrock/"), "{signature}");
}

#[tokio::test]
async fn the_operators_headers_are_sent_and_do_not_replace_the_key() {
    let said = [("x-team", "search"), ("authorization", "Basic dTpw"), ("user-agent", "ours")];
    let said = said.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let manner = Manner { headers: HeaderMap::from_iter(said), ..Manner::default() };
    let project = Account { project: Some("proj_2".into()), ..with_key() };
    let (_, server) = sent_in(&manner, ("openai", &project, "m"), json!({})).await;
    let seen = ["x-team", "authorization", "user-agent", "openai-project"].map(|name| server.header(0, name));
    assert_eq!(seen.map(Option::unwrap_or_default), ["search", "Bearer k1", "ours", "proj_2"]);
    let keyless = at("http://127.0.0.1:8000/v1", Account::default());
    let (_, server) = sent_in(&manner, ("vllm", &keyless, "m"), json!({})).await;
    assert_eq!(server.header(0, "authorization").as_deref(), Some("Basic dTpw"));
}

#[tokio::test]
async fn an_operator_may_allow_what_the_caller_did_not() {
    let manner = Manner { drop_params: true, ..Manner::default() };
    let (_, server) = sent_in(&manner, ("anthropic", &with_key(), "claude-sonnet-4-6"), json!({"n": 2})).await;
    assert!(!server.asked()[0].1.contains("\"n\""), "left out");
}

#[test]
fn what_is_missing_is_named_with_its_variable() {
    let server = KeyServer::new(&[]);
    for (name, account, expected) in [
        ("bedrock", with_key(), "`region` is needed, there or in AWS_REGION"),
        ("vertex", Account::default(), "`project` is needed, there or in GOOGLE_CLOUD_PROJECT"),
        (
            "vertex",
            Account { project: Some("p".into()), ..Account::default() },
            "`region` is needed, there or in GOOGLE_CLOUD_LOCATION",
        ),
    ] {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let error = kind(name).upstream(&account, server.clone(), clock).expect_err(name);
        assert_eq!(error.to_string(), expected);
    }
}
