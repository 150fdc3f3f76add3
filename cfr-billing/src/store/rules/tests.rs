use super::*;

const ACCOUNT: AccountId = AccountId(1);
const BUDGET: BudgetId = BudgetId::from_u128(2);
const REQUEST: RequestId = RequestId::from_u128(3);
const TENANT: TenantId = TenantId::from_u128(4);

/// Exactly these rules are broken, in this order.
#[track_caller]
fn check(broken: &[AuditRule], rule: impl FnOnce(&mut Findings)) -> Vec<Finding> {
    let mut found = Findings::default();
    rule(&mut found);
    let found = found.finish();
    assert_eq!(found.iter().map(|finding| finding.rule).collect::<Vec<_>>(), broken, "{found:#?}");
    found
}

/// Of 100 that were granted 60 were charged and 40 are leased, and every part says so.
fn account() -> AccountFigures {
    AccountFigures {
        account: ACCOUNT,
        budget: BUDGET,
        booked: Counters { granted: 100, settled: 60, leased: 40, overrun: 7 },
        overcommit: 0,
        grants: 100,
        leases: 40,
        entries: EntrySums { granted: 100, settled: 60, overrun: 7 },
        records: Some(RecordSums { charged: 60, overrun: 7 }),
    }
}

#[track_caller]
fn check_account(figures: AccountFigures, broken: &[AuditRule]) -> Vec<Finding> {
    check(broken, |found| figures.check(found))
}

/// The counter alone is wrong, so that a correction sets it right.
#[track_caller]
fn correctable(booked: Counters, sum: Sum, from: i64, to: i64) {
    let found = check_account(AccountFigures { booked, ..account() }, &[AuditRule::Sums]);
    assert_eq!(found[0].correction, Some(Correction { account: ACCOUNT, budget: BUDGET, sum, from, to }));
}

/// The parts contradict each other, so that nobody knows what is right.
#[track_caller]
fn lasting(figures: AccountFigures) {
    let found = check_account(figures, &[AuditRule::Sums]);
    assert_eq!(found[0].correction, None);
}

#[test]
fn an_account_whose_parts_agree_is_clean() {
    check_account(account(), &[]);
    check_account(AccountFigures { records: None, ..account() }, &[]);
}

#[test]
fn a_counter_that_is_not_the_sum_of_its_parts_is_corrected_to_it() {
    let booked = account().booked;
    correctable(Counters { granted: 101, ..booked }, Sum::Granted, 101, 100);
    correctable(Counters { settled: 59, ..booked }, Sum::Settled, 59, 60);
    correctable(Counters { leased: 39, ..booked }, Sum::Leased, 39, 40);
    correctable(Counters { overrun: 8, ..booked }, Sum::Overrun, 8, 7);
}

#[test]
fn parts_that_contradict_each_other_are_not_corrected() {
    let (ours, entries) = (account(), account().entries);
    lasting(AccountFigures { grants: 99, ..ours });
    lasting(AccountFigures { entries: EntrySums { granted: 99, ..entries }, ..ours });
    lasting(AccountFigures { entries: EntrySums { settled: 59, ..entries }, ..ours });
    lasting(AccountFigures { entries: EntrySums { overrun: 6, ..entries }, ..ours });
    lasting(AccountFigures { records: Some(RecordSums { charged: 61, overrun: 7 }), ..ours });
    lasting(AccountFigures { records: Some(RecordSums { charged: 60, overrun: 8 }), ..ours });
}

#[test]
fn what_is_used_stays_within_what_was_granted_and_what_is_allowed_beyond() {
    let lowered = AccountFigures {
        booked: Counters { granted: 90, ..account().booked },
        grants: 90,
        entries: EntrySums { granted: 90, ..account().entries },
        ..account()
    };
    check_account(lowered, &[AuditRule::Limit]);
    check_account(AccountFigures { overcommit: 9, ..lowered }, &[AuditRule::Limit]);
    check_account(AccountFigures { overcommit: 10, ..lowered }, &[]);
}

#[test]
fn records_are_added_up_to_the_largest_number() {
    let mut sums = RecordSums::default();
    sums.add(2, 3);
    sums.add(5, 7);
    assert_eq!(sums, RecordSums { charged: 7, overrun: 10 });
    sums.add(1, i64::MAX);
    assert_eq!(sums, RecordSums { charged: 8, overrun: i64::MAX });
}

#[test]
fn a_price_is_charged_or_overrun_and_no_less_than_its_cost() {
    let record = RecordFigures { id: REQUEST, cost: 20, price: 30, charged: 25, overrun: 5 };
    let check_record = |record: RecordFigures, broken: &[AuditRule]| drop(check(broken, |found| record.check(found)));
    check_record(record, &[]);
    check_record(RecordFigures { cost: 30, ..record }, &[]);
    check_record(RecordFigures { cost: 0, ..record }, &[]);
    check_record(RecordFigures { charged: 24, ..record }, &[AuditRule::Prices]);
    check_record(RecordFigures { overrun: 6, ..record }, &[AuditRule::Prices]);
    check_record(RecordFigures { cost: 31, ..record }, &[AuditRule::Prices]);
    check_record(RecordFigures { cost: -1, ..record }, &[AuditRule::Prices]);
}

#[test]
fn a_request_is_charged_once_on_each_account() {
    let other = AccountId(2);
    let check_charges = |accounts: &[AccountId], broken: &[AuditRule]| {
        let path = PathFigures { id: REQUEST, tenant: TENANT, accounts };
        drop(check(broken, |found| path.check_charges(found)));
    };
    check_charges(&[], &[]);
    check_charges(&[ACCOUNT, other], &[]);
    check_charges(&[ACCOUNT, other, ACCOUNT], &[AuditRule::Charges]);
}

#[test]
fn a_request_is_charged_on_accounts_of_its_tenant_or_of_nobody() {
    let path = PathFigures { id: REQUEST, tenant: TENANT, accounts: &[ACCOUNT] };
    let check_owner = |owner: Option<Option<TenantId>>, broken: &[AuditRule]| {
        drop(check(broken, |found| path.check_owner(ACCOUNT, owner, found)));
    };
    check_owner(Some(Some(TENANT)), &[]);
    check_owner(Some(None), &[]);
    check_owner(Some(Some(TenantId::from_u128(5))), &[AuditRule::Isolation]);
    check_owner(None, &[AuditRule::Charges]);
}

#[test]
fn a_batch_charges_what_its_records_say() {
    let sums = RecordSums { charged: 60, overrun: 7 };
    let check_against = |records: RecordSums, broken: &[AuditRule]| {
        drop(check(broken, |found| check_batch("batch 1", ACCOUNT, sums, records, found)));
    };
    check_against(sums, &[]);
    check_against(RecordSums { charged: 61, ..sums }, &[AuditRule::Charges]);
    check_against(RecordSums { overrun: 6, ..sums }, &[AuditRule::Charges]);
}

#[test]
fn periods_are_numbered_and_begin_after_one_another() {
    let at = |second| Timestamp::from_second(second).expect("inside the calendar");
    let period = |seq, before| PeriodFigures { account: ACCOUNT, budget: BUDGET, seq, start: at(10), before };
    let check_period = |period: PeriodFigures, broken: &[AuditRule]| check(broken, |found| period.check(found));
    check_period(period(1, None), &[]);
    check_period(period(2, Some(Some(at(9)))), &[]);
    check_period(period(2, Some(Some(at(10)))), &[]);
    check_period(period(2, Some(Some(at(11)))), &[AuditRule::Periods]);
    check_period(period(2, Some(None)), &[AuditRule::Periods]);
    let gap = check_period(period(9, None), &[AuditRule::Periods]);
    assert!(gap[0].what.contains("there is no period 8"), "{gap:?}");
}
