//! Answers that a provider keeps, and whose they are.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use cfr_core::chat::{Call, EnvelopeError, Operation, Usage};
use cfr_core::gateway::{Answer, Caller, GatewayError, IdSeal, StoredRequest};
use cfr_core::id::UserId;
use cfr_core::ledger::CallerIds;
use cfr_core::time::Clock as _;
use cfr_core::upstream::{
    Capabilities, FinishReason, Order, Reply, Report, StoredAction, StoredOrder, StoredReply, StreamEvent, StreamReply,
    Upstream, UpstreamError, WholeReply,
};
use futures_util::StreamExt;
use http::{HeaderValue, StatusCode};

use crate::scripted::{FIRST, MODEL, SECOND, Setup, World};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Puts the upstream and the user behind the id.
#[derive(Debug)]
struct Marks;

fn mark(owner: &CallerIds, upstream: &str) -> String {
    format!("-{upstream}-{}", owner.user.map(|user| user.to_string()).unwrap_or_default())
}

impl IdSeal for Marks {
    fn seal(&self, owner: &CallerIds, upstream: &str, id: &str) -> Box<str> {
        format!("{id}{}", mark(owner, upstream)).into()
    }

    fn open<'a>(&self, owner: &CallerIds, upstream: &str, sealed: &'a str) -> Option<&'a str> {
        sealed.strip_suffix(&mark(owner, upstream))
    }
}

/// Keeps everything as `resp_1`, and remembers what it was asked.
#[derive(Debug, Default)]
struct Keeping {
    asked: Mutex<Vec<String>>,
}

impl Keeping {
    fn note(&self, asked: String) {
        self.asked.lock().expect("not poisoned").push(asked);
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("not poisoned"))
    }
}

#[async_trait]
impl Upstream for Keeping {
    fn capabilities(&self) -> Capabilities {
        Capabilities::TEXT
    }

    async fn send(&self, order: Order<'_>) -> Result<Reply, UpstreamError> {
        self.note(String::from_utf8_lossy(&order.call.body).into_owned());
        let kept = Report { kept_as: Some("resp_1".into()), ..Report::default() };
        let end = Report { finish: Some(FinishReason::Stop), usage: Some(Usage::text(1, 1)), ..Report::default() };
        if order.call.body.ends_with(br#""metadata":{"fail":"1"}}"#) {
            let frame = Some(Bytes::from_static(br#"{"response":{"id":"resp_1","status":"failed"}}"#));
            let failed = Err(UpstreamError::InStream { message: "failed".into(), frame });
            let first = Ok(StreamEvent { bytes: r#"{"response":{"id":"resp_1"}}"#.into(), report: kept });
            let events = futures_util::stream::iter([first, failed]).boxed();
            return Ok(Reply::Stream(StreamReply { events, upstream_id: None, dropped: Vec::new() }));
        }
        if order.call.envelope.stream {
            let event = |bytes: &'static str, report| Ok(StreamEvent { bytes: bytes.into(), report });
            let events = [
                event(r#"data: {"response":{"id":"resp_1"}}"#, kept),
                event(r#"data: {"response":{"id":"resp_1","previous_response_id":"resp_0"}}"#, end),
            ];
            let events = futures_util::stream::iter(events).boxed();
            return Ok(Reply::Stream(StreamReply { events, upstream_id: None, dropped: Vec::new() }));
        }
        let body = Bytes::from_static(br#"{"id":"resp_1","previous_response_id":"resp_0","output":"\"resp_1\""}"#);
        let report = Report { kept_as: kept.kept_as, ..end };
        Ok(Reply::Whole(WholeReply { content_type: JSON, body, report, upstream_id: None, dropped: Vec::new() }))
    }

    async fn stored(&self, order: StoredOrder<'_>) -> Result<StoredReply, UpstreamError> {
        self.note(format!("{:?} {} {:?}", order.action, order.id, order.query));
        if order.action == StoredAction::Cancel {
            let (status, kind) = (StatusCode::NOT_FOUND, cfr_core::upstream::Rejection::Invalid);
            return Err(UpstreamError::Rejected { status, kind, message: "gone".into(), body: None });
        }
        let body = Bytes::from_static(br#"{"id":"resp_1","previous_response_id":"resp_0"}"#);
        Ok(StoredReply { content_type: JSON, body, ids: vec!["resp_1".into(), "resp_0".into()] })
    }
}

struct Site {
    world: World,
    first: Arc<Keeping>,
    second: Arc<Keeping>,
}

impl Site {
    fn new() -> Self {
        let (first, second) = (Arc::new(Keeping::default()), Arc::new(Keeping::default()));
        let (one, other) = (Arc::clone(&first), Arc::clone(&second));
        let world = Setup::default()
            .build_with(|builder| builder.upstream(FIRST, one).upstream(SECOND, other).id_seal(Arc::new(Marks)));
        Self { world, first, second }
    }

    fn user(&self, number: u128) -> Arc<Caller> {
        let caller = Caller::clone(&self.world.caller);
        let ids = CallerIds { user: Some(UserId::from_u128(number)), ..caller.ids };
        Arc::new(Caller { ids, ..caller })
    }

    async fn ask(&self, caller: &Arc<Caller>, more: &str) -> Result<String, GatewayError> {
        let body = format!(r#"{{"model":"{MODEL}","input":"hello","max_output_tokens":20{more}}}"#);
        let call = Call::parse(Operation::Responses, body.into(), self.world.clock.now())?;
        match self.world.gateway.answer(caller, call).await? {
            Answer::Whole { body, .. } => Ok(String::from_utf8_lossy(&body).into_owned()),
            Answer::Stream { body, .. } => {
                let pieces: Vec<Bytes> = body.map(|piece| piece.expect("a piece")).collect().await;
                Ok(String::from_utf8_lossy(&pieces.concat()).into_owned())
            }
            other => panic!("{other:?}"),
        }
    }
}

fn id_at(owner: &Caller, upstream: &str, id: &str) -> String {
    Marks.seal(&owner.ids, upstream, id).into()
}

#[tokio::test]
async fn the_id_that_leaves_is_the_callers_own_whole_and_streamed() {
    let site = Site::new();
    let ada = site.user(1);
    let (sealed, earlier) = (id_at(&ada, FIRST, "resp_1"), id_at(&ada, FIRST, "resp_0"));
    let whole = site.ask(&ada, "").await.expect("an answer");
    let quoted = format!(r#"{{"id":"{sealed}","previous_response_id":"resp_0","output":"\"resp_1\""}}"#);
    assert_eq!(whole, quoted, "what the model says stays");
    let more = format!(r#","stream":true,"previous_response_id":"{earlier}""#);
    let streamed = site.ask(&ada, &more).await.expect("an answer");
    assert_eq!(streamed.matches(&format!("\"{sealed}\"")).count(), 2, "{streamed}");
    assert!(streamed.contains(&format!("\"{earlier}\"")), "{streamed}");
}

#[tokio::test]
async fn a_stream_that_fails_names_the_same_id() {
    let site = Site::new();
    let ada = site.user(1);
    let body =
        format!(r#"{{"model":"{MODEL}","input":"x","max_output_tokens":20,"stream":true,"metadata":{{"fail":"1"}}}}"#);
    let call = Call::parse(Operation::Responses, body.into(), site.world.clock.now()).expect("a call");
    let Ok(Answer::Stream { mut body, .. }) = site.world.gateway.answer(&ada, call).await else { panic!("a stream") };
    body.next().await.expect("an event").expect("a beginning");
    let Some(Err(GatewayError::Upstream { error, .. })) = body.next().await else { panic!("a failure") };
    let UpstreamError::InStream { frame: Some(frame), .. } = *error else { panic!("{error}") };
    let sealed = id_at(&ada, FIRST, "resp_1");
    assert_eq!(frame, format!(r#"{{"response":{{"id":"{sealed}","status":"failed"}}}}"#));
}

#[tokio::test]
async fn a_call_goes_on_where_the_earlier_answer_is_kept() {
    let site = Site::new();
    let ada = site.user(1);
    let earlier = id_at(&ada, SECOND, "resp_0");
    let answer = site.ask(&ada, &format!(r#","previous_response_id":"{earlier}""#)).await.expect("an answer");
    assert!(answer.contains(&id_at(&ada, SECOND, "resp_1")) && answer.contains(&earlier), "{answer}");
    assert!(site.first.asked().is_empty());
    assert!(site.second.asked()[0].contains(r#""previous_response_id":"resp_0"}"#));
}

#[tokio::test]
async fn what_is_anothers_or_nobodys_is_not_there() {
    let site = Site::new();
    let (ada, eve) = (site.user(1), site.user(2));
    let adas = id_at(&ada, FIRST, "resp_1");
    for id in [adas.as_str(), "resp_1", ""] {
        for field in ["previous_response_id", "conversation"] {
            let error = site.ask(&eve, &format!(r#","{field}":"{id}""#)).await.expect_err("not hers");
            assert!(matches!(&error, GatewayError::NotStored { field: Some(named), .. } if *named == field), "{error}");
        }
        let request = StoredRequest { id: id.into(), action: StoredAction::Show, query: None };
        let error = site.world.gateway.stored(&eve, request).await.expect_err("not hers");
        assert!(matches!(error, GatewayError::NotStored { field: None, .. }), "{error}");
    }
    assert!(site.first.asked().is_empty() && site.second.asked().is_empty(), "nobody was asked");
    assert!(site.world.ledger.books.records().is_empty());
}

#[tokio::test]
async fn what_is_kept_is_asked_for_by_the_providers_id_and_shown_under_the_callers() {
    let site = Site::new();
    let ada = site.user(1);
    let stored = async |action| {
        let request = StoredRequest { id: id_at(&ada, SECOND, "resp_1").into(), action, query: Some("limit=2".into()) };
        site.world.gateway.stored(&ada, request).await
    };
    let shown = stored(StoredAction::Show).await.expect("it is kept");
    let [one, earlier] = ["resp_1", "resp_0"].map(|id| id_at(&ada, SECOND, id));
    assert_eq!(shown.body, format!(r#"{{"id":"{one}","previous_response_id":"{earlier}"}}"#));
    assert_eq!(site.second.asked(), [r#"Show resp_1 Some("limit=2")"#]);
    let error = stored(StoredAction::Cancel).await.expect_err("gone");
    assert!(matches!(&error, GatewayError::NotStored { id, .. } if **id == *one), "{error}");
}

#[tokio::test]
async fn a_model_of_another_provider_cannot_go_on() {
    let site = Site::new();
    let ada = site.user(1);
    let stranger = Setup::default()
        .build_with(|builder| builder.upstream("stranger", Arc::new(Keeping::default())).id_seal(Arc::new(Marks)));
    let more = format!(r#","previous_response_id":"{}""#, id_at(&ada, "stranger", "resp_1"));
    let elsewhere = Site { world: stranger, ..site };
    let error = elsewhere.ask(&ada, &more).await.expect_err("another provider's");
    let GatewayError::Envelope(EnvelopeError::Field { param, .. }) = error else { panic!("{error}") };
    assert_eq!(param, "previous_response_id");
}
