//! A gateway inside another application: one budget in memory, one upstream, a call, and what it cost.

use std::error::Error;
use std::sync::Arc;

use cfr_core::chat::{Call, Operation};
use cfr_core::gateway::{Answer, Caller, Gateway, Offer};
use cfr_core::id::{BudgetId, TenantId};
use cfr_core::ledger::{BudgetSpec, LimitPolicy, MemoryLedger, Scope};
use cfr_core::money::{Currency, FxRate};
use cfr_core::price::PriceTable;
use cfr_core::route::{Routes, Target};
use cfr_core::time::{Clock, Period, SystemClock, TimeZone};
use cfr_providers::fake::Fake;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let clock = Arc::new(SystemClock::new());
    let budget = BudgetId::generate(clock.now());
    let ledger = MemoryLedger::new(clock.clone()).with_budget(BudgetSpec {
        id: budget,
        scope: Scope::Tenant,
        currency: Currency::EUR,
        included_nanos: 5_000_000_000, // 5 EUR
        policy: LimitPolicy::Hard,
        period: Period::CalendarMonth,
        zone: TimeZone::UTC,
    });
    let offer = Offer {
        routes: Arc::new(Routes::default().with("fast", vec![Target::new("demo", "openai", "gpt-5.4-mini")])),
        prices: PriceTable::bundled()?,
        fx: Arc::new([FxRate::new(Currency::EUR, 1_160_000)?]),
    };
    let gateway =
        Gateway::builder(Arc::new(ledger), offer, clock.clone()).upstream("demo", Arc::new(Fake::default())).build();

    let caller = Arc::new(Caller::new(TenantId::generate(clock.now()), [budget], Currency::EUR));
    let body = r#"{"model":"fast","messages":[{"role":"user","content":"Say hello."}],"max_tokens":50}"#;
    let call = Call::parse(Operation::ChatCompletions, body.into(), clock.now())?;
    if let Answer::Whole { head, body, .. } = gateway.answer(&caller, call).await? {
        let charged = head.charged.ok_or("a whole answer is settled")?;
        show(&format!("{}\ncharged {charged}, {} left", String::from_utf8_lossy(&body), head.available));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example shows what it did")]
fn show(text: &str) {
    println!("{text}");
}
