//! Conversations that go well.

use cfr_core::chat::{Meter, Operation, UsageSource};
use serde_json::{Value, json};

use crate::client::{MODEL, Talk, open, records, request};
use crate::support::{FAKE, Site, terms};

const EURO: i64 = 1_000_000_000;

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["type"].as_str()).collect()
}

#[tokio::test]
async fn a_text_is_answered_and_its_record_says_what_it_cost() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let mut talk = Talk::in_text(&site, &key).await;
    talk.ask("fake:tokens:20").await;
    let events = talk.until("response.done").await;
    assert_eq!(kinds(&events)[0], "response.created");
    let said: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    let response = &events.last().expect("the end")["response"];
    assert_eq!(response["output"][0]["content"][0]["text"], said);
    assert_eq!(response["usage"]["output_token_details"]["text_tokens"], 20);
    let records = records(&site).await; // the end was told after the charge was durable
    let [record] = &records[..] else { panic!("one record: {records:?}") };
    assert_eq!((record.operation, record.source, record.status), (Operation::Realtime, UsageSource::Provider, 200));
    assert_eq!((&*record.model_requested, &*record.model_served, &*record.finish), (MODEL, MODEL, "stop"));
    assert_eq!(record.usage.get(Meter::OutputTokens), 20);
    assert_eq!(record.upstream_id.as_deref(), response["id"].as_str());
    assert!(record.streamed && record.charged_nanos > 0 && record.overrun_nanos == 0 && record.first_byte_ms.is_some());
    talk.leave().await;
    site.stop().await;
}

#[tokio::test]
async fn what_was_said_before_is_cheaper_the_second_time() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let mut talk = Talk::with(&site, &key).await;
    talk.answer("fake:tokens:10").await;
    talk.answer("fake:tokens:5").await;
    let records = records(&site).await;
    let (second, first) = (&records[0].usage, &records[1].usage);
    assert_eq!((first.get(Meter::OutputTokens), first.get(Meter::OutputAudioTokens)), (10, 10));
    assert_eq!(second.get(Meter::CacheReadTokens), first.get(Meter::InputTokens));
    assert_eq!(second.get(Meter::InputAudioTokens), 10, "what it said itself");
}

#[tokio::test]
async fn somebody_who_stops_speaking_is_answered() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let mut talk = Talk::with(&site, &key).await;
    let sound = |sample: &str| json!({ "type": "input_audio_buffer.append", "audio": sample.repeat(6_400) });
    for sample in ["AQAB", "AQAB", "AAAA"] {
        talk.say(sound(sample)).await; // 400 ms each
    }
    let events = talk.until("response.done").await;
    let kinds = kinds(&events);
    let place = |kind| kinds.iter().position(|known| *known == kind).unwrap_or_else(|| panic!("{kind}: {kinds:?}"));
    assert!(place("input_audio_buffer.speech_stopped") < place("input_audio_buffer.committed"));
    assert!(place("input_audio_buffer.committed") < place("response.created"));
    assert!(place("response.output_audio.delta") < place("response.done"));
    let records = records(&site).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].usage.get(Meter::InputAudioTokens), 12);
    assert!(records[0].usage.get(Meter::OutputAudioTokens) > 0);
}

#[tokio::test]
async fn nobody_is_answered_who_does_not_want_it() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let mut talk = Talk::with(&site, &key).await;
    let turns = json!({ "type": "server_vad", "create_response": false });
    let session = json!({ "type": "realtime", "audio": { "input": { "turn_detection": turns } } });
    talk.say(json!({ "type": "session.update", "session": session })).await;
    let updated = talk.until("session.updated").await.pop().expect("it");
    assert_eq!(updated["session"]["audio"]["input"]["turn_detection"]["create_response"], false);
    assert_eq!(updated["session"]["model"], MODEL);
    for sample in ["AQAB", "AAAA"] {
        talk.say(json!({ "type": "input_audio_buffer.append", "audio": sample.repeat(6_400) })).await;
    }
    talk.until("conversation.item.added").await;
    talk.say(json!({ "type": "input_audio_buffer.clear" })).await;
    assert_eq!(talk.next().await["type"], "input_audio_buffer.cleared", "and no response before it");
    assert!(records(&site).await.is_empty());
}

#[tokio::test]
async fn a_tool_is_called_and_its_result_is_read() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let mut talk = Talk::in_text(&site, &key).await;
    let tools =
        json!([{ "type": "function", "name": "weather", "parameters": { "type": "object", "properties": {} } }]);
    talk.say(json!({ "type": "session.update", "session": { "type": "realtime", "tools": tools } })).await;
    talk.until("session.updated").await;
    let response = talk.answer(r#"fake:call:weather:{"city":"Bonn"}"#).await;
    let call = &response["output"][0];
    assert_eq!((&call["type"], &call["arguments"]), (&json!("function_call"), &json!(r#"{"city":"Bonn"}"#)));
    let output = json!({ "type": "function_call_output", "call_id": call["call_id"], "output": "sunny" });
    talk.say(json!({ "type": "conversation.item.create", "item": output })).await;
    talk.until("conversation.item.done").await;
    talk.say(json!({ "type": "response.create" })).await;
    let end = talk.until("response.done").await.pop().expect("the end");
    assert_eq!(end["response"]["output"][0]["type"], "message");
    let records = records(&site).await;
    assert_eq!(records.iter().map(|record| &*record.finish).collect::<Vec<_>>(), ["stop", "tool_calls"]);
}

#[tokio::test]
async fn a_browser_presents_its_key_among_the_protocols() {
    let site = Site::start(FAKE).await;
    let key = site.key(terms(10 * EURO)).await;
    let mut asking = request(&site, &format!("/v1/realtime?model={MODEL}"), "");
    let protocols = format!("realtime, openai-insecure-api-key.{key}");
    asking.headers_mut().insert("sec-websocket-protocol", protocols.parse().expect("a header"));
    let (mut talk, response) = open(asking).await.expect("a session");
    assert_eq!(response.headers()["sec-websocket-protocol"], "realtime");
    assert_eq!(talk.next().await["type"], "session.created");
}

#[tokio::test]
async fn a_provider_is_spoken_to_over_a_websocket_of_its_own() {
    let provider = Site::start(FAKE).await;
    let key_there = provider.key(terms(10 * EURO)).await;
    let upstream = format!(
        "[[upstream]]\nname = \"far\"\nkind = \"openai\"\nbase_url = \"{}/v1\"\napi_key = \"{key_there}\"\n",
        provider.base
    );
    let site = Site::start(&upstream).await;
    let key = site.key(terms(10 * EURO)).await;
    let mut talk = Talk::with(&site, &key).await;
    let response = talk.answer("fake:tokens:12").await;
    assert_eq!(response["status"], "completed", "{response}");
    let (here, there) = (records(&site).await, records(&provider).await);
    assert_eq!((here.len(), here[0].usage), (1, there[0].usage));
    assert_eq!(there[0].output_tokens_max_applied, None, "the cap that we set is the caller's there");
    assert!(here[0].output_tokens_max_applied.is_some());
    talk.leave().await;
    site.stop().await;
}

#[tokio::test]
async fn what_a_provider_refuses_has_its_status_before_the_session_begins() {
    let provider = Site::start(FAKE).await;
    let upstream = format!(
        "[[upstream]]\nname = \"far\"\nkind = \"openai\"\nbase_url = \"{}/v1\"\napi_key = \"sk-0123456789abcdef0123\"\n",
        provider.base
    );
    let site = Site::start(&upstream).await;
    let key = site.key(terms(10 * EURO)).await;
    let refused = open(request(&site, &format!("/v1/realtime?model={MODEL}"), &key)).await;
    let (status, body) = refused.err().expect("refused");
    assert_eq!((status, &body["error"]["code"]), (502, &json!("upstream_auth")));
}
