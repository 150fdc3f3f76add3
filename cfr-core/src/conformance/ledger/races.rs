//! Rules under concurrency. Their tests run on several threads.

use tokio::task::JoinSet;

use super::LedgerUnderTest;
use super::fixture::{add_hard, ask, expect, figures, hold, nanos, settlement};
use crate::ledger::{AuthorizeError, ReleaseReason, Scope};

/// Callers that race for the same money.
const RACERS: usize = 200;

/// As many get the money as it is enough for, and not one more.
pub async fn racing_holds_never_exceed_the_limit(subject: &dyn LedgerUnderTest) {
    let user = add_hard(subject, Scope::User, 1_000).await;
    let tenant = add_hard(subject, Scope::Tenant, 100).await;
    let mut racers = JoinSet::new();
    for _ in 0..RACERS {
        let (ledger, request) = (subject.ledger(), ask(subject, &[user, tenant], 7));
        racers.spawn(async move { ledger.authorize(request).await.is_ok() });
    }
    let winners = racers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(winners, 14, "100 is enough for 14 holds of 7");
    expect(subject, user, 1_000, 0, 98).await;
    expect(subject, tenant, 100, 0, 98).await;
}

/// Prices above their holds race for the free money, and only that much is charged.
pub async fn racing_settlements_never_exceed_the_limit(subject: &dyn LedgerUnderTest) {
    let user = add_hard(subject, Scope::User, 1_000).await;
    let tenant = add_hard(subject, Scope::Tenant, 900).await;
    let mut racers = JoinSet::new();
    for _ in 0..RACERS {
        let (ledger, request) = (subject.ledger(), ask(subject, &[user, tenant], 7));
        racers.spawn(async move {
            let id = request.id;
            match ledger.authorize(request).await {
                Ok(_) => ledger.settle(id, settlement(id, 11)).expect("the hold is open").charged.nanos(),
                Err(AuthorizeError::Denied(_)) => 0,
                Err(AuthorizeError::Ledger(error)) => panic!("{error}"),
            }
        });
    }
    let charged: i64 = racers.join_all().await.into_iter().sum();
    assert!(charged <= 900, "{charged} was charged under a limit of 900");
    assert!(charged > 900 - 7, "{charged} was charged: the next hold of 7 would have fitted");
    expect(subject, user, 1_000, charged, 0).await;
    expect(subject, tenant, 900, charged, 0).await;
}

/// Retries that overlap are one request.
pub async fn racing_retries_make_one_hold(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 1_000).await;
    let request = ask(subject, &[budget], 10);
    let mut racers = JoinSet::new();
    for _ in 0..RACERS {
        let (ledger, request) = (subject.ledger(), request.clone());
        racers.spawn(async move { ledger.authorize(request).await.map(|hold| hold.amount) });
    }
    for answer in racers.join_all().await {
        assert_eq!(answer, Ok(nanos(10)));
    }
    expect(subject, budget, 1_000, 0, 10).await;
}

/// A client that goes away while its answer ends is charged or released, once.
pub async fn racing_ends_end_a_hold_once(subject: &dyn LedgerUnderTest) {
    let budget = add_hard(subject, Scope::User, 1_000).await;
    let id = hold(subject, &[budget], 10).await;
    let mut racers = JoinSet::new();
    for racer in 0..RACERS {
        let ledger = subject.ledger();
        racers.spawn(async move {
            match racer % 2 {
                0 => ledger.settle(id, settlement(id, 10)).is_ok(),
                _ => ledger.release(id, ReleaseReason::Abandoned).is_ok(),
            }
        });
    }
    let ended = racers.join_all().await.into_iter().filter(|ended| *ended).count();
    assert_eq!(ended, 1);
    let after = figures(subject, budget).await;
    assert!(after.held == 0 && [0, 10].contains(&after.settled), "{after:?}");
}
