//! The life of a subscription, pair by pair and moment by moment.

use SubscriptionStatus::{Active, Canceled, Incomplete, PastDue, Trialing, Unpaid};

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

fn subscription(status: SubscriptionStatus) -> Subscription {
    let created_at = at("2026-01-31T10:00:00Z");
    let blank = Subscription {
        id: SubscriptionId::from_u128(1),
        tenant: TenantId::from_u128(2),
        user: None,
        product_version: ProductVersionId::from_u128(3),
        status: Incomplete,
        payment_mode: PaymentMode::Invoice,
        seats: None,
        period: Period::AnniversaryMonth { anchor: at("2020-01-01T00:00:00Z") },
        zone: TimeZone::UTC,
        started_at: None,
        trial_ends_at: Some(at("2026-02-14T10:00:00Z")),
        grace_ends_at: None,
        cancel_at: None,
        ended_at: None,
        version: 1,
        created_at,
        updated_at: created_at,
    };
    blank.with_status(status, created_at)
}

#[test]
fn a_state_follows_on_the_states_that_the_design_names_and_on_no_other() {
    let legal = [
        (Incomplete, Trialing),
        (Incomplete, Active),
        (Incomplete, Canceled),
        (Trialing, Active),
        (Trialing, Canceled),
        (Active, PastDue),
        (Active, Canceled),
        (PastDue, Active),
        (PastDue, Unpaid),
        (PastDue, Canceled),
        (Unpaid, Active),
        (Unpaid, Canceled),
    ];
    for from in SubscriptionStatus::ALL {
        for to in SubscriptionStatus::ALL {
            assert_eq!(from.may_become(to), legal.contains(&(from, to)), "{from:?} to {to:?}");
            let before = subscription(from);
            let allowed = before.check_change(&before.with_status(to, at("2026-03-01T00:00:00Z"))).is_ok();
            assert_eq!(allowed, legal.contains(&(from, to)) || (from == to && from != Canceled), "{from:?} to {to:?}");
        }
    }
}

#[test]
fn a_trial_becomes_a_subscription_when_it_is_over() {
    let trial = subscription(Trialing);
    assert_eq!(trial.moved(at("2026-02-14T09:59:59Z")).status, Trialing);
    assert_eq!(trial.moved(at("2026-02-14T10:00:00Z")).status, Active);
    assert_eq!(trial.due_at(), trial.trial_ends_at);
}

#[test]
fn terms_hold_after_a_payment_was_due_until_the_grace_is_over() {
    let late = subscription(PastDue);
    assert_eq!(late.grace_ends_at, Some(at("2026-02-07T10:00:00Z")));
    assert_eq!(late.refuses(at("2026-02-07T09:59:59Z")), None);
    assert_eq!(late.refuses(at("2026-02-07T10:00:00Z")), Some(Unpaid));
    let paid = late.with_status(Active, at("2026-02-03T00:00:00Z"));
    assert_eq!((paid.grace_ends_at, paid.due_at()), (None, None));
}

#[test]
fn notice_ends_a_subscription_in_every_state_at_its_moment() {
    let end = at("2026-02-05T00:00:00Z");
    for status in [Incomplete, Trialing, Active, PastDue, Unpaid] {
        let noticed = Subscription { cancel_at: Some(end), ..subscription(status) };
        let ended = noticed.moved(at("2027-01-01T00:00:00Z"));
        assert_eq!((ended.status, ended.ended_at, ended.due_at()), (Canceled, Some(end), None), "{status:?}");
        assert_eq!(ended.refuses(end), Some(Canceled));
    }
}

#[test]
fn notice_at_the_end_of_the_trial_is_stronger_than_the_trial() {
    let trial = subscription(Trialing);
    let noticed = Subscription { cancel_at: trial.trial_ends_at, ..trial };
    assert_eq!(noticed.moved(at("2026-02-14T10:00:00Z")).status, Canceled);
}

#[test]
fn periods_begin_with_the_subscription_and_keep_its_day() {
    let started = subscription(Active);
    let window = |now| started.window_at(at(now)).expect("inside the calendar").expect("it began");
    assert_eq!(window("2026-02-01T00:00:00Z").end, Some(at("2026-02-28T10:00:00Z")));
    assert_eq!(window("2026-03-01T00:00:00Z").end, Some(at("2026-03-31T10:00:00Z")));
    assert_eq!(subscription(Incomplete).window_at(at("2026-02-01T00:00:00Z")), Ok(None));
}

#[test]
fn nobody_is_refused_for_what_never_began() {
    let never = subscription(Incomplete).with_status(Canceled, at("2026-02-01T00:00:00Z"));
    assert_eq!(never.started_at, None);
}
