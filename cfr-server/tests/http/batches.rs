//! Files and batches: one router over another that has the fake provider, so that both its sides speak over sockets.

use std::time::Duration;

use cfr_billing::batch::{Batch, BatchState, Owner};
use cfr_billing::escrow::AsideAsk;
use cfr_core::id::BatchId;
use cfr_core::money::Money;
use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};

use crate::support::{FAKE, MODEL, Seen, Site, client, see, terms};

/// Longer than any batch here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pepper of servers that share a database.
const PEPPER: &str = "pepper-of-the-tests-0123456789abcdef";
/// A budget for everything, in nano-euro.
const PLENTY: i64 = 100_000_000_000;

/// A router whose provider is another router.
struct Chain {
    far: Site,
    far_key: String,
    near: Site,
}

impl Chain {
    async fn start() -> Self {
        let far = Site::start(FAKE).await;
        let far_key = far.key_for("router@example.org", terms(PLENTY), &[]).await;
        let near = Site::start(&config(&far, &far_key)).await;
        Self { far, far_key, near }
    }
}

fn config(far: &Site, key: &str) -> String {
    let base = far.url("/v1");
    format!("[[upstream]]\nname = \"openai\"\nkind = \"openai\"\nbase_url = \"{base}\"\napi_key = \"{key}\"\n")
}

fn line(id: &str, message: &str, more: &Value) -> String {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": message}]});
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body}).to_string()
}

/// Three requests, of which the last one fails at the provider.
fn three() -> String {
    let cap = json!({"max_tokens": 40});
    [
        line("one", "fake:tokens:7", &cap),
        line("two", "fake:tokens:9", &json!({})),
        line("three", "fake:error:429", &cap),
    ]
    .join("\n")
}

async fn upload(site: &Site, key: &str, content: impl Into<String>) -> Seen {
    upload_form(site, key, &[("purpose", "batch")], content.into(), false).await
}

/// A form as clients write it, with the file before the other fields or after them.
async fn upload_form(site: &Site, key: &str, fields: &[(&str, &str)], content: String, file_first: bool) -> Seen {
    let part = |head: String, body: &str| format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{body}\r\n");
    let file = part("name=\"file\"; filename=\"requests.jsonl\"".into(), &content);
    let others: String = fields.iter().map(|(name, value)| part(format!("name=\"{name}\""), value)).collect();
    let form = if file_first { format!("{file}{others}--b--\r\n") } else { format!("{others}{file}--b--\r\n") };
    let request = client().post(site.url("/v1/files")).header(AUTHORIZATION, format!("Bearer {key}"));
    see(request.header("content-type", "multipart/form-data; boundary=b").body(form)).await
}

async fn uploaded(site: &Site, key: &str, content: impl Into<String>) -> String {
    let seen = upload(site, key, content).await;
    assert_eq!(seen.status, 200, "{}", seen.body);
    text(&seen.json()["id"])
}

async fn begin(site: &Site, key: &str, file: &str) -> Seen {
    let wish = json!({
        "input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h",
        "metadata": {"mine": "yes"},
    });
    site.post("/v1/batches", key, wish.to_string()).await
}

async fn begun(site: &Site, key: &str, file: &str) -> String {
    let seen = begin(site, key, file).await;
    assert_eq!(seen.status, 200, "{}", seen.body);
    text(&seen.json()["id"])
}

/// Asks until the batch is over, and returns it as it is then.
async fn ended(site: &Site, key: &str, id: &str) -> Value {
    let asked = async {
        loop {
            let batch = site.get(&format!("/v1/batches/{id}"), key).await.json();
            match batch["status"].as_str() {
                Some("validating" | "in_progress" | "finalizing" | "cancelling") => {
                    assert_eq!(
                        (&batch["output_file_id"], &batch["completed_at"]),
                        (&Value::Null, &Value::Null),
                        "{batch}"
                    );
                    tokio::time::sleep(Duration::from_millis(20)).await; // what a client does between two looks
                }
                _ => return batch,
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("the batch ends")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}

/// What the key's user has in use: settled and held, in nano-euro.
async fn used(site: &Site) -> (i64, i64) {
    let budgets = site.app.books.store.budgets(&Default::default(), Default::default()).await.expect("readable");
    let mut used = (0, 0);
    for budget in budgets.items {
        let balance =
            cfr_core::ledger::BudgetLedger::balance(&*site.app.books.escrow, budget.spec.id).await.expect("known");
        used = (used.0 + balance.settled.nanos(), used.1 + balance.held.nanos());
    }
    used
}

async fn records(site: &Site) -> Vec<cfr_core::ledger::UsageRecord> {
    site.app.books.store.usage(&Default::default(), Default::default()).await.expect("readable").items
}

#[tokio::test]
async fn a_batch_is_held_when_it_is_made_and_charged_line_by_line_at_the_batch_price() {
    let chain = Chain::start().await;
    let key = chain.near.key(terms(PLENTY)).await;
    let file = uploaded(&chain.near, &key, three()).await;
    assert_eq!(used(&chain.near).await, (0, 0), "a file costs nothing");
    let id = begun(&chain.near, &key, &file).await;
    let (_, held) = used(&chain.near).await;
    let batch = ended(&chain.near, &key, &id).await;
    assert_eq!(
        (&batch["status"], &batch["id"], &batch["input_file_id"]),
        (&json!("completed"), &json!(id), &json!(file))
    );
    assert_eq!(batch["metadata"], json!({"mine": "yes"}), "without the mark");
    assert_eq!(batch["request_counts"], json!({"total": 3, "completed": 2, "failed": 1}));

    let output = chain.near.get(&format!("/v1/files/{}/content", text(&batch["output_file_id"])), &key).await;
    let lines: Vec<Value> = output.body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.iter().map(|line| text(&line["custom_id"])).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(lines[0]["response"]["body"]["usage"]["completion_tokens"], 7);
    let errors = chain.near.get(&format!("/v1/files/{}/content", text(&batch["error_file_id"])), &key).await;
    assert!(errors.body.contains("three"), "{}", errors.body);

    let (settled, still_held) = used(&chain.near).await;
    assert_eq!(still_held, 0, "the rest went back");
    assert!(settled > 0 && settled <= held, "{settled} of {held}");
    let records = records(&chain.near).await;
    assert_eq!(records.iter().map(|record| record.charged_nanos).sum::<i64>(), settled);
    let of = |name: &str| records.iter().find(|record| record.tags.request_id.as_deref() == Some(name)).expect(name);
    assert_eq!(of("three").charged_nanos, 0, "what failed costs nothing");
    let one = of("one");
    // gpt-4o-mini in a batch: 0.075 and 0.30 dollars per million, 1.16 dollars per euro, and a fifth on top.
    let usage = &lines[0]["response"]["body"]["usage"];
    let pico = usage["prompt_tokens"].as_i64().unwrap_or(0) * 75_000 + 7 * 300_000;
    assert!((one.price_nanos - pico * 12 / 11_600).abs() <= 1, "{one:?}");
    assert_eq!(chain.near.app.books.store.audit().await.expect("readable"), []);
    assert_eq!(chain.far.app.books.store.audit().await.expect("readable"), []);
}

#[tokio::test]
async fn a_batch_that_does_not_fit_is_refused_and_nothing_is_made_or_held() {
    let chain = Chain::start().await;
    let key = chain.near.key(terms(1_000)).await;
    let file = uploaded(&chain.near, &key, three()).await;
    let refused = begin(&chain.near, &key, &file).await;
    let error = refused.is_error(402, "budget_exceeded");
    assert_eq!(error["scope"], "user", "{error}");
    assert_eq!(used(&chain.near).await, (0, 0));
    assert_eq!(chain.near.get("/v1/batches", &key).await.json()["data"], json!([]));
    assert_eq!(chain.far.get("/v1/batches", &chain.far_key).await.json()["data"], json!([]), "the provider has none");
}

#[tokio::test]
async fn files_and_batches_are_their_owners_alone() {
    let chain = Chain::start().await;
    let (ada, bob) = (
        chain.near.key_for("ada@example.org", terms(PLENTY), &[]).await,
        chain.near.key_for("bob@example.org", terms(PLENTY), &[]).await,
    );
    let file = uploaded(&chain.near, &ada, three()).await;
    let batch = begun(&chain.near, &ada, &file).await;
    for path in [format!("/v1/files/{file}"), format!("/v1/files/{file}/content")] {
        chain.near.get(&path, &bob).await.is_error(404, "file_not_found");
    }
    chain.near.get(&format!("/v1/batches/{batch}"), &bob).await.is_error(404, "batch_not_found");
    chain.near.post(&format!("/v1/batches/{batch}/cancel"), &bob, "{}").await.is_error(404, "batch_not_found");
    begin(&chain.near, &bob, &file).await.is_error(404, "file_not_found");
    let delete = client().delete(chain.near.url(&format!("/v1/files/{file}")));
    see(delete.header(AUTHORIZATION, format!("Bearer {bob}"))).await.is_error(404, "file_not_found");
    assert_eq!(chain.near.get("/v1/files", &bob).await.json()["data"], json!([]));
    let listed = chain.near.get("/v1/files?purpose=batch", &ada).await.json();
    assert_eq!((&listed["data"][0]["id"], &listed["data"][0]["filename"]), (&json!(file), &json!("requests.jsonl")));
    assert_eq!(chain.near.get("/v1/batches", &ada).await.json()["data"][0]["id"], json!(batch));
    ended(&chain.near, &ada, &batch).await;
    let delete = client().delete(chain.near.url(&format!("/v1/files/{file}")));
    let deleted = see(delete.header(AUTHORIZATION, format!("Bearer {ada}"))).await;
    assert_eq!(deleted.json(), json!({"id": file, "object": "file", "deleted": true}));
    chain.near.get(&format!("/v1/files/{file}"), &ada).await.is_error(404, "file_not_found");
    assert_eq!(chain.far.get("/v1/files?purpose=batch", &chain.far_key).await.json()["data"], json!([]));
}

#[tokio::test]
async fn a_line_that_could_not_be_asked_keeps_the_whole_file_away() {
    let chain = Chain::start().await;
    let key = chain.near.key_for("ada@example.org", terms(PLENTY), &[MODEL]).await;
    let good = line("good", "hello", &json!({}));
    let dear = good.replace(MODEL, "gpt-4o");
    for (bad, said) in [
        ("nonsense".to_owned(), "line 2"),
        (good.replace(MODEL, "no-such-model"), "does not exist"),
        (dear, "not part of your plan"),
        (line("x", "hello", &json!({"stream": true})), "stream"),
        (line("x", "hello", &json!({"service_tier": "priority"})), "service_tier"),
        (good.replace("/v1/chat/completions", "/v1/embeddings"), "asks for the same"),
        (good.replace("/v1/chat/completions", "/v1/files"), "cannot be asked"),
    ] {
        let refused = upload(&chain.near, &key, format!("{good}\n{bad}\n")).await;
        let error = refused.is_error(400, "invalid_file");
        assert!(text(&error["message"]).contains(said) && error["line"] == 2, "{said}: {error}");
    }
    upload(&chain.near, &key, "").await.is_error(400, "invalid_value");
    let no_purpose = upload_form(&chain.near, &key, &[], good.clone(), true).await;
    assert_eq!(no_purpose.is_error(400, "invalid_value")["param"], "purpose");
    let other = upload_form(&chain.near, &key, &[("purpose", "assistants")], good.clone(), true).await;
    assert_eq!(other.is_error(400, "invalid_value")["param"], "purpose");
    assert_eq!(chain.near.get("/v1/files", &key).await.json()["data"], json!([]));
    assert_eq!(
        chain.far.get("/v1/files", &chain.far_key).await.json()["data"],
        json!([]),
        "the provider keeps nothing"
    );
    let last = upload_form(&chain.near, &key, &[("purpose", "batch")], good, true).await;
    assert_eq!(last.status, 200, "a client may send the file first: {}", last.body);
}

#[tokio::test]
async fn the_next_process_charges_what_the_last_one_began() {
    let chain = Chain::start().await;
    let key = chain.near.key(terms(PLENTY)).await;
    let file = uploaded(&chain.near, &key, three()).await;
    let id = begun(&chain.near, &key, &file).await;
    let (_, held) = used(&chain.near).await;
    let Chain { far, far_key, near } = chain;
    let folder = near.stop().await;
    let near = Site::start_in(folder, &config(&far, &far_key)).await;
    assert_eq!(used(&near).await.1, held, "what is set aside outlasts the process");
    assert_eq!(ended(&near, &key, &id).await["status"], "completed");
    let (settled, still_held) = used(&near).await;
    assert!(settled > 0 && still_held == 0);
    assert_eq!(near.app.books.store.audit().await.expect("readable"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_on_the_same_database_charges_what_one_began_that_was_killed() {
    let far = Site::start(FAKE).await;
    let far_key = far.key_for("router@example.org", terms(PLENTY), &[]).await;
    let postgres = cfr_testbed::Postgres::start().await;
    let url = postgres.database().await;
    let server = async |node: &str| {
        let variables = [("CFR_DATABASE_URL", &*url), ("CFR_NODE", node), ("CFR_KEY_PEPPER", PEPPER)];
        let folder = tempfile::tempdir().expect("a folder");
        Site::start_with(folder, &config(&far, &far_key), &variables).await
    };
    let (one, two) = (server("one").await, server("two").await);
    let key = one.key(terms(PLENTY)).await;
    let file = uploaded(&one, &key, three()).await;
    let id = begun(&one, &key, &file).await;
    let (_, held) = used(&two).await;
    drop(one);
    assert!(held > 0);
    assert_eq!(ended(&two, &key, &id).await["status"], "completed");
    let (settled, _) = used(&two).await;
    assert!(settled > 0 && settled <= held, "{settled} of {held}");
    assert_eq!(records(&two).await.iter().map(|record| record.charged_nanos).sum::<i64>(), settled);
    assert_eq!(two.app.books.store.audit().await.expect("readable"), []);
}

/// A batch as a process leaves it behind that dies after `steps` of its making: written down, rights set aside, that
/// written down, made at the provider.
async fn left_behind(chain: &Chain, key: &str, steps: u32) -> BatchId {
    let file = uploaded(&chain.near, key, three()).await;
    let id = begun(&chain.near, key, &file).await;
    let ended = ended(&chain.near, key, &id).await; // for what its lines and rights look like
    assert_eq!(ended["status"], "completed");
    let (store, escrow) = (&chain.near.app.books.store, &chain.near.app.books.escrow);
    let caller = records(&chain.near).await[0].caller;
    let model = store.batch(Owner::of(&caller), id.parse().expect("an id")).await.expect("it is there");
    let now = chain.near.app.clock.now();
    let begun = Batch {
        id: BatchId::generate(now),
        state: BatchState::Begun,
        due_at: now,
        upstream_id: None,
        accounts: Vec::new(),
        created_at: now,
        output_file: None,
        error_file: None,
        ..model
    };
    store.add_batch(&begun).await.expect("a new one");
    let (life, amount) = (begun.life(), Money::from_nanos(begun.amount_nanos, begun.currency));
    let mut reserved = Batch { state: BatchState::Reserved, ..begun.clone() };
    if steps > 1 {
        let ask = AsideAsk { life: &life, path: &begun.path, amount, keep: PATIENCE };
        reserved.accounts = escrow.set_aside(ask).await.expect("there is room");
    }
    if steps > 2 {
        store.update_batch(BatchState::Begun, &reserved, &[]).await.expect("it is begun");
    }
    if steps > 3 {
        let far_file = uploaded(&chain.far, &chain.far_key, three()).await;
        let wish = json!({
            "input_file_id": far_file, "endpoint": "/v1/chat/completions", "completion_window": "24h",
            "metadata": {"cfr_batch": begun.id.to_string()},
        });
        assert_eq!(chain.far.post("/v1/batches", &chain.far_key, wish.to_string()).await.status, 200);
    }
    begun.id
}

#[tokio::test]
async fn whoever_dies_while_a_batch_is_made_loses_no_money_and_no_batch() {
    for steps in 1..=4 {
        let chain = Chain::start().await;
        let key = chain.near.key(terms(PLENTY)).await;
        let id = left_behind(&chain, &key, steps).await;
        let (settled, held) = used(&chain.near).await;
        assert_eq!(held > 0, steps > 1, "after {steps} steps");
        chain.near.app.batches.look_after_all().await.expect("the store works");
        let batch = ended(&chain.near, &key, &id.to_string()).await;
        let made = steps > 3;
        assert_eq!(batch["status"], if made { "completed" } else { "failed" }, "after {steps} steps");
        let (settled_then, held_then) = used(&chain.near).await;
        assert_eq!((settled_then - settled, held_then), (if made { settled } else { 0 }, 0), "after {steps} steps");
        assert_eq!(chain.near.app.books.store.audit().await.expect("readable"), []);
    }
}

#[tokio::test]
async fn a_batch_is_charged_once_however_often_and_from_wherever_it_is_settled() {
    let chain = Chain::start().await;
    let key = chain.near.key(terms(PLENTY)).await;
    let file = uploaded(&chain.near, &key, three()).await;
    let id = begun(&chain.near, &key, &file).await;
    ended(&chain.near, &key, &id).await;
    let settled = used(&chain.near).await;
    let store = &chain.near.app.books.store;
    let caller = records(&chain.near).await[0].caller;
    let batch = store.batch(Owner::of(&caller), id.parse().expect("an id")).await.expect("it is there");
    let again = Batch { state: BatchState::Running, due_at: chain.near.app.clock.now(), ..batch.clone() };
    store.update_batch(BatchState::Settled, &again, &[]).await.expect("as if the last step had not been written");
    chain.near.app.batches.look_after_all().await.expect("the store works");
    assert_eq!(ended(&chain.near, &key, &id).await["status"], "completed");
    assert_eq!(used(&chain.near).await, settled);
    assert_eq!(records(&chain.near).await.len(), 3);
    assert_eq!(store.audit().await.expect("readable"), []);
}

#[tokio::test]
async fn an_answer_that_does_not_say_what_it_used_costs_the_most_that_a_line_can_cost() {
    let chain = Chain::start().await;
    let key = chain.near.key(terms(PLENTY)).await;
    let cap = json!({"max_tokens": 40});
    let lines = [line("told", "fake:tokens:7", &cap), line("untold", "fake:no-usage", &cap)].join("\n");
    let file = uploaded(&chain.near, &key, lines).await;
    let id = begun(&chain.near, &key, &file).await;
    let (_, held) = used(&chain.near).await;
    ended(&chain.near, &key, &id).await;
    let records = records(&chain.near).await;
    let of = |name: &str| records.iter().find(|record| record.tags.request_id.as_deref() == Some(name)).expect(name);
    assert!(of("untold").charged_nanos > of("told").charged_nanos, "{records:?}");
    assert!(of("untold").charged_nanos >= held / 2 - 1 && used(&chain.near).await.0 <= held);
}

#[tokio::test]
async fn a_cancelled_batch_is_over_and_its_rights_go_back() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(PLENTY)).await;
    let file = uploaded(&site, &key, three()).await;
    let id = begun(&site, &key, &file).await;
    assert!(used(&site).await.1 > 0);
    let cancelled = site.post(&format!("/v1/batches/{id}/cancel"), &key, "{}").await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("finalizing")), "{}", cancelled.body);
    assert_eq!(ended(&site, &key, &id).await["status"], "cancelled");
    assert_eq!(used(&site).await, (0, 0));
    site.post(&format!("/v1/batches/{id}/cancel"), &key, "{}").await.is_error(409, "not_cancellable");
}
