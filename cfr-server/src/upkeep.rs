//! What is done once a minute beside the requests: uses of keys are written down, subscriptions go where time brings them,
//! sessions, links, answers and leads that are over are forgotten.

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::audit_log::Act;
use cfr_billing::lead::LeadFilter;
use cfr_billing::store::{DUE_MAX, PageRequest, Store, StoreError};
use cfr_core::time::{Clock, Timestamp};

use crate::auth::Keys;

/// How often. Uses of keys are noted to the minute.
const EVERY: Duration = Duration::from_mins(1);

/// Does so until it is stopped. Leads are kept for `leads_kept` after they were last changed.
///
/// # Cancel safety
/// What was not done is done by another server or after the next start; a last use of a key may be forgotten.
pub(crate) async fn run(keys: Arc<Keys>, store: Arc<dyn Store>, clock: Arc<dyn Clock>, leads_kept: Duration) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = keys.write_uses().await {
            tracing::warn!(%error, "uses of keys were not written down");
        }
        match move_subscriptions(&*store, clock.now()).await {
            Ok(true) => keys.changed().await,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "subscriptions that are due were not brought further"),
        }
        if let Err(error) = store.sweep(clock.now()).await {
            tracing::warn!(%error, "sessions and links that are over were not forgotten");
        }
        if let Err(error) = store.forget_requests(clock.now()).await {
            tracing::warn!(%error, "answers were kept for longer than they had to be");
        }
        if let Err(error) = forget_leads(&*store, clock.now(), leads_kept).await {
            tracing::warn!(%error, "leads were kept for longer than they may be");
        }
    }
}

/// Writes down what time made of subscriptions: trials, grace and notice that are over. Says whether anything changed. Of
/// several servers that find the same one, the first one writes it; what nobody could write waits for the next minute.
async fn move_subscriptions(store: &dyn Store, now: Timestamp) -> Result<bool, StoreError> {
    let mut moved = false;
    loop {
        let (due, mut moved_now) = (store.due_subscriptions(now).await?, false);
        for subscription in &due {
            match store.update_subscription(&subscription.moved(now), &Act::of_system(now)).await {
                Ok(_) => moved_now = true,
                Err(StoreError::Conflict { .. }) => {} // another server was faster
                Err(error) => return Err(error),
            }
        }
        moved |= moved_now;
        if due.len() < DUE_MAX as usize || !moved_now {
            return Ok(moved);
        }
    }
}

/// Forgets leads that nobody changed for too long. Of several servers that find the same one, the first one forgets it.
async fn forget_leads(store: &dyn Store, now: Timestamp, kept: Duration) -> Result<(), StoreError> {
    // No lead is older than time itself.
    let Ok(before) = now.checked_sub(kept) else { return Ok(()) };
    let filter = LeadFilter { before: Some(before), ..LeadFilter::default() };
    loop {
        let over = store.leads(&filter, PageRequest::default()).await?.items;
        if over.is_empty() {
            return Ok(());
        }
        for lead in over {
            match store.remove_lead(lead.id, &Act::of_system(now)).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cfr_billing::identity::{Language, NewTenant, TenantKind};
    use cfr_billing::lead::{Lead, LeadStatus};
    use cfr_billing::plan::{NewProduct, Terms};
    use cfr_billing::store::{CatalogStore as _, LeadStore as _, MemoryStore, SubscriptionStore as _};
    use cfr_billing::subscription::{PaymentMode, Subscription, SubscriptionStatus};
    use cfr_core::id::{LeadId, SubscriptionId};
    use cfr_core::money::Currency;
    use cfr_core::time::{Period, TimeZone};

    use super::*;

    fn noon() -> Timestamp {
        "2026-03-10T12:00:00Z".parse().expect("a moment")
    }

    async fn trial(store: &MemoryStore) -> Subscription {
        let act = Act::of_system(noon());
        let tenant = NewTenant {
            slug: "acme".into(),
            name: "Acme".into(),
            domain: None,
            kind: TenantKind::Customer,
            users_max: None,
            zone: TimeZone::UTC,
            currency: Currency::EUR,
            settings: Default::default(),
        };
        let terms = Terms {
            name: "Pro".into(),
            description: "".into(),
            price_minor: 0,
            currency: Currency::EUR,
            budget_included_nanos: 1,
            period: Period::CalendarMonth,
            models: vec!["*".into()],
            features: Vec::new(),
            requests_per_minute: None,
            parallel_requests_max: None,
            output_tokens_default: None,
            margin_bps: 0,
            seats: None,
        };
        let new = Subscription {
            id: SubscriptionId::generate(noon()),
            tenant: store.create_tenant(&tenant, &act).await.expect("a tenant").id,
            user: None,
            product_version: store
                .publish_product(&NewProduct { code: "pro".into(), terms }, &act)
                .await
                .expect("a product")
                .id,
            status: SubscriptionStatus::Incomplete,
            payment_mode: PaymentMode::Free,
            seats: None,
            period: Period::CalendarMonth,
            zone: TimeZone::UTC,
            started_at: None,
            trial_ends_at: Some(noon() + EVERY),
            grace_ends_at: None,
            cancel_at: None,
            ended_at: None,
            version: 1,
            created_at: noon(),
            updated_at: noon(),
        };
        let new = new.with_status(SubscriptionStatus::Trialing, noon());
        store.add_subscription(&new, &act).await.expect("the first one");
        new
    }

    #[tokio::test]
    async fn two_servers_bring_a_trial_that_is_over_further_once() {
        let store = MemoryStore::exclusive();
        let trial = trial(&store).await;
        assert!(!move_subscriptions(&store, noon()).await.expect("an answer"), "the trial is not over");
        let over = noon() + EVERY;
        let (first, second) = tokio::join!(move_subscriptions(&store, over), move_subscriptions(&store, over));
        assert!(first.expect("an answer") | second.expect("an answer"));
        let found = store.subscription(trial.id).await.expect("it is there");
        assert_eq!((found.status, found.version), (SubscriptionStatus::Active, 2));
    }

    #[tokio::test]
    async fn leads_go_when_their_time_is_over_and_stay_when_it_never_is() {
        let store = MemoryStore::exclusive();
        let lead = Lead {
            id: LeadId::generate(noon()),
            name: "Ada".into(),
            company: None,
            email: "ada@example.org".into(),
            message: "Hello".into(),
            locale: Language::En,
            consent_at: noon(),
            status: LeadStatus::New,
            note: None,
            version: 1,
            created_at: noon(),
            updated_at: noon(),
        };
        store.add_lead(&lead, None, &Act::of_system(noon())).await.expect("room");
        let left = async |kept| {
            forget_leads(&store, noon() + EVERY, kept).await.expect("an answer");
            store.leads(&LeadFilter::default(), PageRequest::default()).await.expect("a page").items.len()
        };
        assert_eq!(left(Duration::MAX).await, 1);
        assert_eq!(left(2 * EVERY).await, 1);
        assert_eq!(left(EVERY / 2).await, 0);
    }
}
