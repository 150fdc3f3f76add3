//! Answers that come whole.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cfr_core::chat::{Call, Operation, Usage, UsageSource};
use cfr_core::gateway::{Answer, Caller, GatewayConfig, GatewayError, Offer};
use cfr_core::hook::{DenyReason, PostHook, PreHook, Verdict};
use cfr_core::ledger::UsageRecord;
use cfr_core::limit::{Limit, LimitExceeded, Permit, RateLimiter};
use cfr_core::price::{PicoUsd, PricedAs};
use cfr_core::route::{Routes, Target};
use cfr_core::time::Clock as _;
use cfr_core::upstream::{FinishReason, Rejection, Report, UpstreamError};

use crate::scripted::{FIRST, MODEL, SECOND, Setup, Step, overloaded};

/// 100 prompt tokens at 750 and 10 answer tokens at 4 500 nano-dollars.
const PRICE_NANOS: i64 = 100 * 750 + 10 * 4_500;

fn answer(usage: Usage) -> Step {
    Step::Whole { usage: Some(usage), output_bytes: 40 }
}

#[tokio::test]
async fn the_true_price_is_charged_and_the_rest_of_the_hold_is_free_again() {
    let world = Setup::default().build();
    world.first.then(answer(Usage::text(100, 10)));
    let Ok(Answer::Whole { head, body, .. }) = world.ask(r#","max_tokens":50,"user":"ada""#).await else {
        panic!("an answer")
    };
    assert_eq!((body.as_ref(), head.charged.expect("whole").nanos()), (b"{}".as_ref(), PRICE_NANOS));
    let balance = world.balance().await;
    assert_eq!((balance.settled.nanos(), balance.held.nanos()), (PRICE_NANOS, 0));
    let record = world.record();
    assert_eq!((record.status, record.source, record.charged_nanos), (200, UsageSource::Provider, PRICE_NANOS));
    assert_eq!((record.tags.user.as_deref(), record.upstream_id.as_deref()), (Some("ada"), Some("up-1")));
    assert_eq!(*world.first.caps.lock().expect("not poisoned"), [None], "the caller's own cap stays");
}

#[tokio::test]
async fn a_call_without_a_cap_is_shortened_to_what_the_budget_affords() {
    let world = Setup { nanos: 5_000_000, ..Setup::default() }.build();
    world.first.then(answer(Usage::text(100, 10)));
    let Ok(Answer::Whole { head, .. }) = world.ask("").await else { panic!("an answer") };
    let cap = head.output_tokens_max_applied.expect("a cap");
    assert_eq!(*world.first.caps.lock().expect("not poisoned"), [Some(cap)]);
    assert!((256..1_111).contains(&cap), "5 milli-euro pay at most 1111 answer tokens, not {cap}");
}

#[tokio::test]
async fn a_call_that_the_budget_cannot_pay_says_what_it_could() {
    let world = Setup { nanos: 3_000_000, ..Setup::default() }.build();
    let Err(GatewayError::BudgetExceeded(exceeded)) = world.ask(r#","max_tokens":1000"#).await else {
        panic!("a denial")
    };
    let affordable = exceeded.output_tokens_affordable;
    assert_eq!(exceeded.denial.budget, world.budget);
    assert!(exceeded.denial.period_end.is_some());
    world.first.then(answer(Usage::text(1, 1)));
    assert!(world.ask(&format!(r#","max_tokens":{affordable}"#)).await.is_ok(), "{affordable} tokens are affordable");
    let more = world.ask(&format!(r#","max_tokens":{}"#, affordable + 100)).await;
    assert!(matches!(more, Err(GatewayError::BudgetExceeded(_))));
}

#[tokio::test]
async fn another_target_answers_when_one_fails_and_only_its_answer_is_charged() {
    let world = Setup::default().build();
    world.first.then(Step::Fail(overloaded()));
    world.second.then(answer(Usage::text(100, 10)));
    assert!(world.ask("").await.is_ok());
    let record = world.record();
    assert_eq!(record.attempts.len(), 1);
    assert_eq!((&*record.attempts[0].upstream, &*record.attempts[0].outcome), ("first", "failed"));
    assert_eq!(record.charged_nanos, PRICE_NANOS);
}

#[tokio::test]
async fn a_refusal_that_is_the_callers_to_mend_is_not_tried_elsewhere_and_costs_nothing() {
    let world = Setup::default().build();
    world.first.then(Step::Fail(UpstreamError::Rejected {
        status: http::StatusCode::BAD_REQUEST,
        kind: Rejection::ContextWindow,
        message: "too long".into(),
        body: None,
    }));
    assert!(matches!(world.ask("").await, Err(GatewayError::Upstream { .. })));
    assert_eq!(world.second.calls.load(Ordering::SeqCst), 0);
    let record = world.record();
    assert_eq!((record.status, record.charged_nanos, record.source), (400, 0, UsageSource::None));
    let balance = world.balance().await;
    assert_eq!(balance.available, balance.granted);
}

#[tokio::test]
async fn an_answer_without_usage_is_counted_from_its_bytes() {
    let world = Setup::default().build();
    world.first.then(Step::Whole { usage: None, output_bytes: 40 });
    assert!(world.ask("").await.is_ok());
    let record = world.record();
    assert_eq!((record.source, record.usage.output_total()), (UsageSource::Estimated, 16));
    assert!(record.charged_nanos > 0);
}

#[tokio::test]
async fn an_explicit_zero_is_zero() {
    let world = Setup::default().build();
    world.first.then(answer(Usage::default()));
    assert!(world.ask("").await.is_ok());
    assert_eq!((world.record().source, world.record().charged_nanos), (UsageSource::Provider, 0));
}

#[tokio::test]
async fn a_price_above_hold_and_budget_is_the_operators_loss() {
    let world = Setup { nanos: 5_000_000, ..Setup::default() }.build();
    world.first.then(answer(Usage::text(1_000_000, 0)));
    assert!(world.ask(r#","max_tokens":50"#).await.is_ok());
    let record = world.record();
    assert_eq!((record.charged_nanos, record.overrun_nanos), (5_000_000, 750_000_000 - 5_000_000));
    assert_eq!(world.balance().await.available.nanos(), 0);
}

#[tokio::test]
async fn a_dropped_call_is_charged_for_its_input_alone() {
    let world = Setup::default().build();
    world.first.then(Step::Hang);
    let mut call = Box::pin(world.ask(r#","max_tokens":50"#));
    assert!(futures_util::poll!(&mut call).is_pending());
    assert!(world.balance().await.held.nanos() > 0);
    drop(call);
    let record = world.record();
    assert_eq!((record.status, record.source, record.usage.output_total()), (499, UsageSource::Partial, 0));
    assert_eq!(record.charged_nanos, i64::try_from(record.usage.input_total()).expect("few") * 750);
    assert_eq!((&*record.provider, &*record.model_served), ("openai", MODEL));
    assert_eq!(world.balance().await.held.nanos(), 0);
}

#[tokio::test]
async fn a_dropped_call_is_priced_as_the_target_that_was_asked_last() {
    let world = Setup::default().build();
    world.first.then(Step::Fail(overloaded()));
    world.second.then(Step::Hang);
    let mut call = Box::pin(world.ask(r#","max_tokens":50"#));
    assert!(futures_util::poll!(&mut call).is_pending());
    drop(call);
    let record = world.record();
    assert_eq!(record.charged_nanos, i64::try_from(record.usage.input_total()).expect("few") * 750);
}

#[tokio::test]
async fn a_cost_below_nothing_is_no_cost_and_strands_no_hold() {
    let world = Setup::default().build();
    let report =
        Report { usage: Some(Usage::text(100, 10)), provider_cost: Some(PicoUsd(-1_000_000)), ..Report::default() };
    world.first.then(Step::Says(report));
    assert!(world.ask(r#","max_tokens":50"#).await.is_ok());
    assert_eq!(world.record().charged_nanos, PRICE_NANOS);
    assert_eq!(world.balance().await.held.nanos(), 0);
}

#[tokio::test]
async fn a_geography_is_charged_unless_the_provider_was_not_told_of_it() {
    let usage = Report { usage: Some(Usage::text(100, 0)), ..Report::default() };
    let plain = 100 * 100; // nano-dollars of 100 prompt tokens
    for (step, charged) in
        [(Step::Says(usage.clone()), plain * 11 / 10), (Step::SaysWithout("inference_geo", usage), plain)]
    {
        let world = Setup::default().build();
        let routes = Routes::default().with(MODEL, vec![Target::new(FIRST, "anthropic", "claude-haiku-5-5")]);
        world.gateway.set_offer(Offer { routes: Arc::new(routes), ..Offer::clone(&world.gateway.offer()) });
        world.first.then(step);
        let body = format!(
            r#"{{"model":"{MODEL}","max_tokens":9,"inference_geo":"us","messages":[{{"role":"user","content":"hi"}}]}}"#
        );
        let call = Call::parse(Operation::Messages, body.into(), world.clock.now()).expect("a good body");
        assert!(world.gateway.answer(&world.caller, call).await.is_ok());
        assert_eq!(world.record().charged_nanos, charged);
    }
}

/// What is charged for an answer that was made in this geography, by a caller who names none.
async fn charged_in(geo: Option<&str>, model: &str) -> (i64, bool) {
    let world = Setup::default().build();
    let routes = Routes::default().with(MODEL, vec![Target::new(FIRST, "anthropic", model)]);
    world.gateway.set_offer(Offer { routes: Arc::new(routes), ..Offer::clone(&world.gateway.offer()) });
    world.first.then(Step::Says(Report {
        usage: Some(Usage::text(100, 0)),
        geo: geo.map(Box::from),
        ..Report::default()
    }));
    let held = world.balance().await.available.nanos();
    assert!(world.ask(r#","max_tokens":9"#).await.is_ok());
    let record = world.record();
    (record.charged_nanos, record.charged_nanos == held - world.balance().await.available.nanos())
}

#[tokio::test]
async fn the_geography_that_the_provider_names_is_charged_although_no_caller_asked_for_it() {
    let plain = 100 * 100; // nano-dollars of 100 prompt tokens
    assert_eq!(charged_in(None, "claude-haiku-5-5").await.0, plain);
    assert_eq!(charged_in(Some("global"), "claude-haiku-5-5").await.0, plain);
    assert_eq!(charged_in(Some("us"), "claude-haiku-5-5").await, (plain * 11 / 10, true));
    let (whole_hold, free) =
        (charged_in(Some("moon"), "claude-haiku-5-5").await.0, charged_in(None, "claude-haiku-5-5").await.1);
    assert!(whole_hold > plain * 11 / 10 && free, "a geography without a price costs all that was held");
}

#[tokio::test]
async fn an_upstreams_words_on_a_record_are_cut() {
    let world = Setup::default().build();
    let finish = FinishReason::Other("é".repeat(100_000).into());
    world.first.then(Step::Says(Report { finish: Some(finish), ..Report::default() }));
    assert!(world.ask(r#","max_tokens":50"#).await.is_ok());
    let kept = world.record().finish;
    assert!(kept.len() <= 256 && kept.starts_with("é"), "{} bytes", kept.len());
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_that_never_comes_is_cut_when_the_holds_time_is_up() {
    let config = GatewayConfig { hold_max: Duration::from_secs(60), ..GatewayConfig::default() };
    let world = Setup { config, ..Setup::default() }.build();
    world.first.then(Step::Hang);
    let Err(GatewayError::Upstream { error, .. }) = world.ask(r#","max_tokens":50"#).await else { panic!("cut") };
    assert!(matches!(*error, UpstreamError::Timeout { .. }));
    assert_eq!((world.record().status, world.balance().await.held.nanos()), (504, 0));
}

#[tokio::test]
async fn unknown_and_forbidden_models_are_told_apart() {
    let world = Setup::default().build();
    let body = r#"{"model":"gpt-none","messages":[]}"#;
    let call = || Call::parse(Operation::ChatCompletions, body.into(), cfr_core::time::Timestamp::UNIX_EPOCH);
    let unknown = world.gateway.answer(&world.caller, call().expect("good")).await;
    assert!(matches!(unknown, Err(GatewayError::UnknownModel { .. })));
    let mut caller = Caller::clone(&world.caller);
    caller.models = cfr_core::gateway::ModelAccess::all().and([Arc::from("other")]);
    let forbidden = world.gateway.answer(&Arc::new(caller), world.call("")).await;
    assert!(matches!(forbidden, Err(GatewayError::ForbiddenModel { .. })));
}

#[tokio::test]
async fn a_target_without_a_price_is_left_out_and_a_model_without_one_is_refused() {
    let world = Setup::default().build();
    let offer = world.gateway.offer();
    let unpriced = || Target::new(FIRST, "openai", "gpt-none");
    let second = || Target { order: 1, ..Target::new(SECOND, "openai", MODEL) };
    let offering = |targets| Offer { routes: Arc::new(Routes::default().with(MODEL, targets)), ..Offer::clone(&offer) };
    world.gateway.set_offer(offering(vec![unpriced(), second()]));
    world.second.then(answer(Usage::text(100, 10)));
    assert!(world.ask("").await.is_ok());
    assert_eq!((world.first.calls.load(Ordering::SeqCst), world.record().charged_nanos), (0, PRICE_NANOS));
    world.gateway.set_offer(offering(vec![unpriced()]));
    assert!(matches!(world.ask("").await, Err(GatewayError::ModelNotPriced { .. })));
}

/// What an answer of a target costs that says that another, cheaper model answered.
async fn charged_at(target: Target) -> (i64, i64) {
    let world = Setup::default().build();
    let routes = Arc::new(Routes::default().with(MODEL, vec![target]));
    world.gateway.set_offer(Offer { routes, ..Offer::clone(&world.gateway.offer()) });
    let (usage, model) = (Some(Usage::text(100, 10)), Some("gpt-5.4-nano".into()));
    world.first.then(Step::Says(Report { usage, model, ..Report::default() }));
    world.ask(r#","max_tokens":10"#).await.expect("an answer");
    (world.record().charged_nanos, world.record().overrun_nanos)
}

#[tokio::test]
async fn a_deployment_costs_what_the_operator_says_whatever_model_answers() {
    let factor = "1.1".parse().expect("a factor");
    let price = PricedAs { model: Some(MODEL.into()), factor };
    let deployment = Target { price, ..Target::new(FIRST, "openai", "my-deployment") };
    assert_eq!(charged_at(deployment).await, (PRICE_NANOS * 11 / 10, 0));
    let plain = charged_at(Target::new(FIRST, "openai", MODEL)).await.0;
    assert!(plain < PRICE_NANOS, "as the model that answered: {plain}");
    let dearer = Target { price: PricedAs { model: None, factor }, ..Target::new(FIRST, "openai", MODEL) };
    assert_eq!(charged_at(dearer).await.0, plain * 11 / 10);
}

#[tokio::test]
async fn the_rate_limit_comes_before_the_budget() {
    let world = Setup { requests_per_minute: Some(1), ..Setup::default() }.build();
    world.first.then(answer(Usage::text(1, 1)));
    let Ok(Answer::Whole { head, .. }) = world.ask("").await else { panic!("an answer") };
    assert_eq!(head.rate.expect("limited").remaining, 0);
    let Err(GatewayError::LimitExceeded(exceeded)) = world.ask("").await else { panic!("refused") };
    assert_eq!(exceeded.retry_after.as_secs(), 60);
    assert_eq!(world.ledger.books.records().len(), 1, "a refused call leaves no record");
}

/// Lets in as many as it is told, wherever it counts them.
#[derive(Debug)]
struct Turnstile(AtomicU32);

#[async_trait]
impl RateLimiter for Turnstile {
    async fn admit(&self, limits: &[Limit]) -> Result<Permit, LimitExceeded> {
        let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        let refused = || LimitExceeded { what: "own", scope: limits[0].scope, limit: 1, retry_after: Duration::ZERO };
        left.map(|_| Permit::default()).map_err(|_| refused())
    }
}

#[tokio::test]
async fn a_limiter_of_ones_own_takes_the_place_of_the_usual_one() {
    let turnstile = Arc::new(Turnstile(AtomicU32::new(1)));
    let world = Setup { requests_per_minute: Some(1_000), ..Setup::default() }
        .build_with(|builder| builder.rate_limiter(turnstile));
    world.first.then(answer(Usage::text(1, 1)));
    assert!(world.ask("").await.is_ok());
    let Err(GatewayError::LimitExceeded(exceeded)) = world.ask("").await else { panic!("refused") };
    assert_eq!(exceeded.what, "own");
}

#[derive(Debug, Default)]
struct Hooked {
    verdict: Mutex<Option<Verdict>>,
    seen: Mutex<Vec<UsageRecord>>,
}

#[async_trait]
impl PreHook for Hooked {
    async fn before(&self, _: &Caller, _: &Call) -> Verdict {
        self.verdict.lock().expect("not poisoned").take().unwrap_or(Verdict::Allow)
    }
}

impl PostHook for Hooked {
    fn after(&self, _: &Caller, record: &UsageRecord) {
        self.seen.lock().expect("not poisoned").push(record.clone());
    }
}

#[tokio::test]
async fn a_hook_denies_and_another_sees_the_record() {
    let hook = Arc::new(Hooked::default());
    let world = Setup::default()
        .build_with(|builder| builder.pre_hook(Arc::clone(&hook) as _).post_hook(Arc::clone(&hook) as _));
    let reason = DenyReason { code: Cow::Borrowed("region_not_allowed"), message: Cow::Borrowed("not from here") };
    *hook.verdict.lock().expect("not poisoned") = Some(Verdict::Deny(reason.clone()));
    let Err(GatewayError::DeniedByHook(denied)) = world.ask("").await else { panic!("denied") };
    assert_eq!(denied, reason);
    world.first.then(answer(Usage::text(100, 10)));
    assert!(world.ask("").await.is_ok());
    let seen = hook.seen.lock().expect("not poisoned");
    assert_eq!(seen.iter().map(|record| record.charged_nanos).collect::<Vec<_>>(), [PRICE_NANOS]);
}

#[tokio::test]
async fn a_rewritten_body_is_read_and_priced_again() {
    let hook = Arc::new(Hooked::default());
    let world =
        Setup { nanos: 3_000_000, ..Setup::default() }.build_with(|builder| builder.pre_hook(Arc::clone(&hook) as _));
    let dear = world.call(r#","max_tokens":100000"#).body;
    *hook.verdict.lock().expect("not poisoned") = Some(Verdict::Rewrite(dear));
    assert!(matches!(world.ask(r#","max_tokens":10"#).await, Err(GatewayError::BudgetExceeded(_))));
}
