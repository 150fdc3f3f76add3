//! Moderations and reranks: answered, charged by what they are, and refused where nobody can pay.

use axum::routing::post;
use axum::{Json, Router};
use cfr_core::chat::{Meter, Operation, Usage, UsageSource};
use cfr_core::ledger::UsageRecord;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::support::{FAKE, Site, chat_with, terms};

const EURO: i64 = 1_000_000_000;
/// Less than any search costs, in nano-euro.
const TOO_LITTLE: i64 = 1_000;
const COHERE: &str = "\n[[upstream]]\nname = \"ranks\"\nkind = \"fake\"\nprovider = \"cohere\"\n";

async fn site() -> Site {
    Site::start(&format!("{FAKE}{COHERE}")).await
}

fn rerank(documents: &[&str], more: Value) -> Value {
    let mut body = json!({"model": "rerank-v3.5", "query": "quiet river", "documents": documents});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

async fn records(site: &Site) -> Vec<UsageRecord> {
    site.app.books.store.usage(&Default::default(), Default::default()).await.expect("usage").items
}

#[tokio::test]
async fn a_rerank_puts_what_fits_best_first_and_is_charged_by_the_search() {
    let site = site().await;
    let key = site.key(terms(EURO)).await;
    let body = rerank(&["a loud city", "a quiet river", "bread"], json!({"top_n": 2, "return_documents": true}));
    for path in ["/v1/rerank", "/v2/rerank"] {
        let answer = site.post(path, &key, body.to_string()).await.json();
        let results = answer["results"].as_array().expect("results");
        assert_eq!((results.len(), &results[0]["index"]), (2, &json!(1)), "{answer}");
        assert_eq!(results[0]["document"]["text"], "a quiet river");
        assert_eq!(answer["meta"]["billed_units"]["search_units"], 1);
    }
    let records = records(&site).await;
    assert_eq!(records.len(), 2);
    for record in records {
        assert_eq!((record.operation, record.source), (Operation::Rerank, UsageSource::Provider));
        assert_eq!(record.usage.get(Meter::RerankQueries), 1);
        assert!(record.cost_nanos > TOO_LITTLE && record.charged_nanos == record.price_nanos, "{record:?}");
    }
}

#[tokio::test]
async fn a_rerank_that_nobody_counted_is_charged_by_its_documents() {
    let site = site().await;
    let key = site.key(terms(EURO)).await;
    let mut documents = vec!["a quiet river"; 150];
    documents.push("fake:no-usage");
    let seen = site.post("/v1/rerank", &key, rerank(&documents, json!({})).to_string()).await;
    assert_eq!((seen.status, seen.json()["meta"].is_null()), (200, true), "{}", seen.body);
    let [record] = &records(&site).await[..] else { panic!("one record") };
    assert_eq!((record.usage.get(Meter::RerankQueries), record.source), (2, UsageSource::Estimated));
    assert!(record.cost_nanos > 2 * TOO_LITTLE, "{record:?}");
}

/// A server of somebody's own that ranks, as vLLM does: it answers with what it was asked.
async fn own_server() -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let ranked = async |Json(asked): Json<Value>| {
        Json(json!({"asked": asked, "usage": {"total_tokens": 56}, "results": [{"index": 0, "relevance_score": 0.5}]}))
    };
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        axum::serve(listener, Router::new().route("/v1/rerank", post(ranked))).await.expect("served");
    });
    (format!("http://{address}/v1"), serving)
}

#[tokio::test]
async fn a_server_of_ones_own_ranks_at_its_own_price() {
    let (address, _serving) = own_server().await;
    let site = Site::start(&format!(
        "[[upstream]]\nname = \"own\"\nkind = \"vllm\"\nbase_url = \"{address}\"\n\
         [[upstream.price]]\nmodel = \"bge\"\nmode = \"rerank\"\ninput_per_million = \"1\"\n\
         [[model]]\nname = \"mine\"\ntargets = [{{ upstream = \"own\", model = \"bge\" }}]"
    ))
    .await;
    let key = site.key(terms(EURO)).await;
    let answer = site.post("/v1/rerank", &key, rerank(&["a"], json!({"model": "mine"})).to_string()).await.json();
    assert_eq!(answer["asked"], rerank(&["a"], json!({"model": "bge"})), "nothing else is changed");
    let [record] = &records(&site).await[..] else { panic!("one record") };
    assert_eq!((record.usage, record.source), (Usage::text(56, 0), UsageSource::Provider));
    assert!(record.cost_nanos > 0 && record.charged_nanos == record.price_nanos, "{record:?}");
}

#[tokio::test]
async fn a_rerank_that_could_cost_more_than_there_is_is_refused_before_anybody_works() {
    let site = site().await;
    let key = site.key(terms(TOO_LITTLE)).await;
    let seen = site.post("/v1/rerank", &key, rerank(&["a"], json!({})).to_string()).await;
    seen.is_error(402, "budget_exceeded");
    assert!(records(&site).await.is_empty());
}

#[tokio::test]
async fn what_can_not_be_ranked_is_refused_by_name() {
    let site = site().await;
    let key = site.key(terms(EURO)).await;
    let picture = json!({"documents": [{"image": "https://example.com/a.png"}]});
    let seen = site.post("/v1/rerank", &key, rerank(&[], picture).to_string()).await;
    assert_eq!(seen.is_error(400, "invalid_value")["param"], "documents");
    let chat = chat_with("hi", json!({"model": "rerank-v3.5"}));
    assert_ne!(site.chat(&key, &chat).await.status, 200, "a search is no chat");
    let other = rerank(&["a"], json!({"model": "nobody's"}));
    site.post("/v1/rerank", &key, other.to_string()).await.is_error(404, "model_not_found");
}

#[tokio::test]
async fn a_moderation_is_free_and_recorded_with_or_without_a_model() {
    let site = site().await;
    let key = site.key(terms(TOO_LITTLE)).await;
    for body in [json!({"input": ["good", "kill"]}), json!({"model": "omni-moderation-latest", "input": "kill"})] {
        let answer = site.post("/v1/moderations", &key, body.to_string()).await.json();
        let results = answer["results"].as_array().expect("results");
        assert_eq!(results.last().map(|last| &last["flagged"]), Some(&json!(true)), "{answer}");
        assert_eq!(answer["model"], "omni-moderation-latest");
    }
    let records = records(&site).await;
    assert_eq!(records.len(), 2);
    for record in records {
        assert_eq!((record.operation, record.charged_nanos), (Operation::Moderations, 0));
        assert!(record.usage != Usage::default(), "{record:?}");
    }
}

#[tokio::test]
async fn a_moderation_needs_a_key_and_counts_towards_limits() {
    let site = site().await;
    let body = json!({"input": "good"}).to_string();
    site.post("/v1/moderations", "cfr_live_nobody", body.clone()).await.is_error(401, "invalid_api_key");
    let mut limited = terms(EURO);
    limited.requests_per_minute = Some(1);
    let key = site.key(limited).await;
    assert_eq!(site.post("/v1/moderations", &key, body.clone()).await.status, 200);
    site.post("/v1/moderations", &key, body).await.is_error(429, "rate_limit_exceeded");
}

#[tokio::test]
async fn who_offers_no_moderation_says_so_of_the_usual_model_too() {
    let site = Site::start(COHERE).await;
    let key = site.key(terms(EURO)).await;
    let seen = site.post("/v1/moderations", &key, json!({"input": "good"}).to_string()).await;
    seen.is_error(404, "model_not_found");
}

#[tokio::test]
async fn models_that_rank_and_judge_are_listed() {
    let site = site().await;
    let key = site.key(terms(EURO)).await;
    for name in ["rerank-v3.5", "omni-moderation-latest"] {
        assert_eq!(site.get(&format!("/v1/models/{name}"), &key).await.json()["id"], name);
    }
}
