//! Streams against a small budget in an SQLite file until it is used up. Run it twice: the money is still gone.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use cfr_billing::audit_log::Act;
use cfr_billing::budget::{BudgetFilter, NewBudget, ScopeId};
use cfr_billing::escrow::{Escrow, EscrowConfig};
use cfr_billing::identity::{NewTenant, Tenant, TenantKind};
use cfr_billing::store::{CatalogStore, PageRequest};
use cfr_core::chat::{Call, Operation};
use cfr_core::gateway::{Answer, Caller, Gateway, GatewayError, Offer};
use cfr_core::id::BudgetId;
use cfr_core::ledger::{BudgetLedger, LimitPolicy, Scope};
use cfr_core::money::Currency;
use cfr_core::price::PriceTable;
use cfr_core::route::{Routes, Target};
use cfr_core::time::{Clock, Period, SystemClock, TimeZone};
use cfr_providers::fake::Fake;
use cfr_store_sqlite::{SqliteOptions, SqliteStore};
use futures_util::StreamExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let file = std::env::args().nth(1).map_or_else(|| folder.path().join("books.db"), Into::into);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (store, tenant, budget) = open(&file, &*clock).await?;
    let escrow = Escrow::start(store, Arc::clone(&clock), EscrowConfig::new("example")).await?;
    let ledger: Arc<dyn BudgetLedger> = Arc::clone(&escrow) as _;
    let gateway =
        Gateway::builder(ledger, offer()?, Arc::clone(&clock)).upstream("demo", Arc::new(Fake::instant())).build();
    let caller = Arc::new(Caller::new(tenant.id, [budget], Currency::USD));

    let denial = loop {
        let body = r#"{"model":"fast","stream":true,"messages":[{"role":"user","content":"Tell me a story."}],"max_tokens":200}"#;
        let call = Call::parse(Operation::ChatCompletions, body.into(), clock.now())?;
        match gateway.answer(&caller, call).await {
            Ok(Answer::Stream { mut body, .. }) => {
                let mut bytes = 0;
                while let Some(frames) = body.next().await {
                    bytes += frames?.len();
                }
                let left = gateway.ledger().balance(budget).await?.available;
                show(&format!("streamed {bytes} bytes, {left} left"));
            }
            Ok(_) => return Err("a stream was asked for".into()),
            Err(GatewayError::BudgetExceeded(denial)) => break denial,
            Err(error) => return Err(error.into()),
        }
    };
    show(&format!("{denial}; {} answer tokens would be affordable", denial.output_tokens_affordable));
    escrow.shutdown().await?;
    Ok(())
}

/// The books, and the tenant with its budget: made when the file is new.
async fn open(file: &Path, clock: &dyn Clock) -> Result<(Arc<SqliteStore>, Tenant, BudgetId), Box<dyn Error>> {
    let store = Arc::new(SqliteStore::open(file, SqliteOptions::default()).await?);
    if let Some(tenant) = store.tenant_by_slug("example").await? {
        let filter = BudgetFilter { tenant: Some(tenant.id), ..BudgetFilter::default() };
        let budgets = store.budgets(&filter, PageRequest::default()).await?.items;
        let budget = budgets.first().ok_or("the tenant has no budget")?.spec.id;
        return Ok((store, tenant, budget));
    }
    let now = clock.now();
    let tenant = NewTenant {
        slug: "example".into(),
        name: "Example".into(),
        domain: None,
        kind: TenantKind::Development,
        users_max: None,
        zone: TimeZone::UTC,
        currency: Currency::USD,
        settings: Default::default(),
    };
    let tenant = store.create_tenant(&tenant, &Act::of_system(now)).await?;
    let budget = NewBudget {
        scope: Scope::Tenant,
        scope_id: ScopeId(tenant.id.as_u128()),
        tenant: Some(tenant.id),
        currency: Currency::USD,
        included_nanos: 5_000_000, // half a cent
        policy: LimitPolicy::Hard,
        period: Period::CalendarMonth,
        zone: TimeZone::UTC,
    };
    let budget = store.create_budget(&budget, &Act::of_system(now)).await?.spec.id;
    Ok((store, tenant, budget))
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
