//! A policy of one's own: refuse calls that name a secret project, and watch what every call costs.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use cfr_core::chat::{Call, Operation};
use cfr_core::gateway::{Caller, Gateway, GatewayError, Offer};
use cfr_core::hook::{DenyReason, PostHook, PreHook, Verdict};
use cfr_core::id::{BudgetId, TenantId};
use cfr_core::ledger::{BudgetSpec, LimitPolicy, MemoryLedger, Scope, UsageRecord};
use cfr_core::money::Currency;
use cfr_core::price::PriceTable;
use cfr_core::route::{Routes, Target};
use cfr_core::time::{Clock, Period, SystemClock, TimeZone};
use cfr_providers::fake::Fake;

/// Refuses bodies that contain a word.
#[derive(Debug)]
struct SecretWord(&'static str);

#[async_trait]
impl PreHook for SecretWord {
    async fn before(&self, _caller: &Caller, call: &Call) -> Verdict {
        let names_it = String::from_utf8_lossy(&call.body).contains(self.0);
        if !names_it {
            return Verdict::Allow;
        }
        Verdict::Deny(DenyReason { code: "secret_word".into(), message: "this project stays in the house".into() })
    }
}

/// Adds up what was charged.
#[derive(Debug, Default)]
struct Meter {
    nanos: AtomicI64,
}

impl PostHook for Meter {
    fn after(&self, _caller: &Caller, record: &UsageRecord) {
        self.nanos.fetch_add(record.charged_nanos, Ordering::Relaxed);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let clock = Arc::new(SystemClock::new());
    let budget = BudgetId::generate(clock.now());
    let meter = Arc::new(Meter::default());
    let gateway = Gateway::builder(Arc::new(ledger(budget, clock.clone())), offer()?, clock.clone())
        .upstream("demo", Arc::new(Fake::default()))
        .pre_hook(Arc::new(SecretWord("Project Nightingale")))
        .post_hook(meter.clone())
        .build();
    let caller = Arc::new(Caller::new(TenantId::generate(clock.now()), [budget], Currency::USD));

    for question in ["What is a nightingale?", "What is Project Nightingale?"] {
        let body = serde_json::json!({
            "model": "fast", "max_tokens": 40, "messages": [{"role": "user", "content": question}],
        });
        let call = Call::parse(Operation::ChatCompletions, body.to_string().into(), clock.now())?;
        match gateway.answer(&caller, call).await {
            Ok(_) => show(&format!("{question} answered")),
            Err(GatewayError::DeniedByHook(reason)) => show(&format!("{question} refused: {reason}")),
            Err(error) => return Err(error.into()),
        }
    }
    show(&format!("charged {} nano-dollars in all", meter.nanos.load(Ordering::Relaxed)));
    Ok(())
}

fn ledger(budget: BudgetId, clock: Arc<dyn Clock>) -> MemoryLedger {
    MemoryLedger::new(clock).with_budget(BudgetSpec {
        id: budget,
        scope: Scope::Tenant,
        currency: Currency::USD,
        included_nanos: 1_000_000_000, // 1 USD
        policy: LimitPolicy::Hard,
        period: Period::Day,
        zone: TimeZone::UTC,
    })
}

fn offer() -> Result<Offer, Box<dyn Error>> {
    Ok(Offer {
        routes: Arc::new(Routes::default().with("fast", vec![Target::new("demo", "openai", "gpt-5.4-mini")])),
        prices: PriceTable::bundled()?,
        fx: Arc::new([]),
    })
}

#[expect(clippy::print_stdout, reason = "an example shows what it did")]
fn show(text: &str) {
    println!("{text}");
}
