//! The store in memory does all that a store must do: it is the reference.

use std::sync::Arc;

use cfr_billing::store::MemoryStore;

mod exclusive {
    use super::*;
    cfr_billing::store_conformance!(Arc::new(MemoryStore::exclusive()));
}

mod shared {
    use super::*;
    cfr_billing::store_conformance!(Arc::new(MemoryStore::shared()));
}

#[tokio::test]
async fn an_audit_names_the_account_whose_sums_are_wrong() {
    use cfr_billing::store::LedgerStore;
    use cfr_core::id::BudgetId;
    use cfr_core::ledger::{BudgetSpec, LimitPolicy, Scope};
    use cfr_core::money::Currency;
    use cfr_core::time::{Period, TimeZone, Timestamp};

    let (store, now) = (MemoryStore::exclusive(), Timestamp::UNIX_EPOCH);
    let (id, scope, currency) = (BudgetId::from_u128(1), Scope::User, Currency::EUR);
    let (policy, period, zone) = (LimitPolicy::Hard, Period::Never, TimeZone::UTC);
    store.add_budget(BudgetSpec { id, scope, currency, included_nanos: 10, policy, period, zone }, now);
    let account = store.account(id, now).await.expect("it exists").account;
    store.tamper(account, 3);
    let found: Vec<_> = store.audit().await.expect("the store works").iter().map(ToString::to_string).collect();
    assert_eq!(found, [format!("{account}: settled is 3 but its parts add up to 0")]);
}
