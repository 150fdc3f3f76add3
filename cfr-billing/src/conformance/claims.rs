//! Rules of requests that callers repeat under one name.

use std::time::Duration;

use cfr_core::id::RequestId;
use cfr_core::time::Timestamp;
use tokio::join;

use super::fixture::noon;
use crate::store::Store;
use crate::store::claims::{Claim, Claimed, KeptAnswer};

/// Of many at once one does it; the others learn that it runs, and later what was answered.
pub async fn a_request_is_done_once_under_one_name(store: &dyn Store) {
    let (first, second) = (claim(1), claim(2));
    let (left, right) = join!(store.claim_request(&first, None), store.claim_request(&second, None));
    let claimed = [left.expect("a claim"), right.expect("a claim")];
    let winner = if claimed[0] == Claimed::New { &first } else { &second };
    let others = Claimed::Running { request: winner.request, since: winner.at };
    assert!(claimed.contains(&Claimed::New) && claimed.contains(&others), "{claimed:?}");
    store.answer_request(winner, &answer()).await.expect("an answer is kept");
    assert_eq!(store.claim_request(&claim(3), None).await.expect("a claim"), Claimed::Answered(answer()));
}

/// The same name for something else is told, and everybody has names of their own.
pub async fn a_name_stands_for_one_request_of_one_caller(store: &dyn Store) {
    assert_eq!(store.claim_request(&claim(1), None).await.expect("a claim"), Claimed::New);
    let other = Claim { digest: [9; 32], ..claim(2) };
    assert_eq!(store.claim_request(&other, None).await.expect("a claim"), Claimed::Other);
    let somebody = Claim { subject: "somebody else".into(), ..claim(3) };
    assert_eq!(store.claim_request(&somebody, None).await.expect("a claim"), Claimed::New);
}

/// A request that did nothing gives its name back, a dead one is replaced, and what it answers later is not kept.
pub async fn a_name_is_free_when_its_request_is_over_without_an_answer(store: &dyn Store) {
    assert_eq!(store.claim_request(&claim(1), None).await.expect("a claim"), Claimed::New);
    store.forget_request(&claim(1)).await.expect("the name is given back");
    assert_eq!(store.claim_request(&claim(2), None).await.expect("a claim"), Claimed::New);
    let dead = Some(claim(2).request);
    assert_eq!(store.claim_request(&claim(3), dead).await.expect("a claim"), Claimed::New);
    store.answer_request(&claim(2), &answer()).await.expect("nothing happens");
    store.forget_request(&claim(2)).await.expect("nothing happens");
    let running = Claimed::Running { request: claim(3).request, since: noon() };
    assert_eq!(store.claim_request(&claim(4), dead).await.expect("a claim"), running);
    store.answer_request(&claim(3), &answer()).await.expect("an answer is kept");
    let late = store.claim_request(&claim(4), Some(claim(3).request)).await.expect("a claim");
    assert_eq!(late, Claimed::Answered(answer()));
}

/// What is kept ends, also where nobody sweeps.
pub async fn answers_are_kept_until_their_end(store: &dyn Store) {
    store.claim_request(&claim(1), None).await.expect("a claim");
    store.answer_request(&claim(1), &answer()).await.expect("an answer is kept");
    let end = claim(1).until;
    let next = Claim { at: end, until: later(end), digest: [9; 32], ..claim(2) };
    assert_eq!(store.claim_request(&next, None).await.expect("a claim"), Claimed::New);
    assert_eq!(store.forget_requests(end).await.expect("a sweep"), 0);
    assert_eq!(store.forget_requests(later(end)).await.expect("a sweep"), 1);
}

fn claim(number: u128) -> Claim {
    Claim {
        subject: "operator".into(),
        key: "a-name".into(),
        digest: [1; 32],
        request: RequestId::from_u128(number),
        at: noon(),
        until: later(noon()),
    }
}

fn later(at: Timestamp) -> Timestamp {
    at.checked_add(Duration::from_secs(86_400)).expect("in range")
}

fn answer() -> KeptAnswer {
    let headers = vec![("etag".into(), "\"1\"".into())];
    KeptAnswer { status: 201, headers, body: r#"{"name": "Grün \u0000"}"#.into() }
}
