//! Rules of asks that are answered together.

use cfr_core::id::BudgetId;
use cfr_core::ledger::LimitPolicy;
use cfr_core::time::Period;

use super::fixture::{DAY, Node, TTL, ask};
use super::history::{Random, number_from_env};
use crate::store::{AcquireError, LeaseAsk, LeaseGrant, Store, StoreError};

/// Rounds of random groups that are played unless `CFR_STORE_SEQUENCES` says otherwise.
const ROUNDS: u64 = 20;
/// Groups in one round, at most.
const GROUPS_MAX: u64 = 12;

type Answer = Result<Vec<LeaseGrant>, AcquireError>;

async fn acquire_all(node: &Node<'_>, groups: &[&[LeaseAsk]]) -> Vec<Answer> {
    let answers = node.store.acquire_all(&node.by, groups, TTL, node.now).await;
    assert_eq!(answers.len(), groups.len(), "one answer per group");
    answers
}

/// What was granted, by ask.
fn amounts(answer: &Answer) -> Option<Vec<i64>> {
    Some(answer.as_ref().ok()?.iter().map(|grant| grant.granted).collect())
}

/// A group that is denied, one that asks for what does not exist, and one without any ask, between groups that get theirs.
pub async fn a_refused_group_takes_nothing_from_the_others(store: &dyn Store) {
    let node = Node::start(store).await;
    let (rich, poor, unknown) = (node.hard(100).await, node.hard(5).await, BudgetId::generate(node.now));
    let groups: [&[LeaseAsk]; 5] = [
        &[ask(rich, 10, 10), ask(poor, 2, 2)],
        &[ask(rich, 10, 10), ask(poor, 4, 4)],
        &[ask(rich, 10, 10), ask(unknown, 1, 1)],
        &[],
        &[ask(poor, 3, 3), ask(rich, 20, 20)],
    ];
    let answers = acquire_all(&node, &groups).await;
    assert_eq!(amounts(&answers[0]), Some(vec![10, 2]));
    assert!(
        matches!(answers[1], Err(AcquireError::Denied { budget, room: 3, .. }) if budget == poor),
        "{:?}",
        answers[1]
    );
    assert!(matches!(answers[2], Err(AcquireError::UnknownBudget { budget }) if budget == unknown), "{:?}", answers[2]);
    assert_eq!(amounts(&answers[3]), Some(vec![]));
    assert_eq!(amounts(&answers[4]), Some(vec![3, 20]), "in the order of the asks");
    assert_eq!((node.sums(rich).await, node.sums(poor).await), ((100, 0, 30), (5, 0, 5)));
    node.assert_books_agree().await;
}

/// Who comes first is served first, and each is told what is left after it.
pub async fn groups_on_one_account_are_answered_in_their_order(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let asks = [ask(budget, 60, 70), ask(budget, 50, 50), ask(budget, 20, 90), ask(budget, 0, 90)];
    let groups: Vec<&[LeaseAsk]> = asks.iter().map(std::slice::from_ref).collect();
    let answers = acquire_all(&node, &groups).await;
    let granted: Vec<_> = answers.iter().map(amounts).collect();
    assert_eq!(granted, [Some(vec![70]), None, Some(vec![30]), Some(vec![0])]);
    assert!(matches!(answers[1], Err(AcquireError::Denied { room: 30, .. })), "{:?}", answers[1]);
    let rooms: Vec<_> = answers.iter().flatten().flatten().map(|grant| grant.room).collect();
    assert_eq!(rooms, [30, 0, 0]);
    assert_eq!(node.sums(budget).await, (100, 0, 100));
    node.assert_books_agree().await;
}

/// Soft limits count across groups, they do not deny.
pub async fn soft_budgets_are_granted_to_every_group(store: &dyn Store) {
    let node = Node::start(store).await;
    for policy in [LimitPolicy::Soft, LimitPolicy::Unlimited] {
        let (soft, hard) = (node.budget(10, policy, Period::Never).await, node.hard(30).await);
        let asks = [ask(soft, 25, 25), ask(hard, 25, 25)];
        let answers = acquire_all(&node, &[&asks, &asks, &asks[..1]]).await;
        let granted: Vec<_> = answers.iter().map(amounts).collect();
        assert_eq!(granted, [Some(vec![25, 25]), None, Some(vec![25])]);
        assert_eq!((node.sums(soft).await, node.sums(hard).await), ((10, 0, 50), (30, 0, 25)));
    }
    node.assert_books_agree().await;
}

/// Open periods, new ones and ended ones side by side; what was bought follows.
pub async fn groups_open_the_periods_that_they_need(store: &dyn Store) {
    let today = Node::start(store).await;
    let mut budgets = Vec::new();
    for number in 0..4 {
        let budget = today.budget(100, LimitPolicy::Hard, Period::Day).await;
        today.grant(budget, 50, &format!("bought-{number}")).await;
        budgets.push(budget);
    }
    let tomorrow = today.later(DAY);
    assert_eq!(tomorrow.state(budgets[3]).await.seq, 2, "one is open already");
    budgets.push(tomorrow.budget(100, LimitPolicy::Hard, Period::Day).await);
    let asks: Vec<LeaseAsk> = budgets.iter().map(|&budget| ask(budget, 0, i64::MAX)).collect();
    let answers = acquire_all(&tomorrow, &[&asks[..2], &asks[1..4], &asks[4..]]).await;
    let granted: Vec<_> = answers.iter().map(amounts).collect();
    assert_eq!(granted, [Some(vec![150, 150]), Some(vec![0, 150, 150]), Some(vec![100])]);
    for (budget, seq) in budgets.iter().zip([2, 2, 2, 2, 1]) {
        assert_eq!(tomorrow.state(*budget).await.seq, seq);
    }
    tomorrow.assert_books_agree().await;
}

/// Sums end at the largest number. A group that would go beyond is refused, whatever the others ask for.
pub async fn a_group_beyond_what_the_books_can_count_is_refused_alone(store: &dyn Store) {
    let node = Node::start(store).await;
    let (endless, hard) = (node.budget(0, LimitPolicy::Unlimited, Period::Never).await, node.hard(10).await);
    let most = i64::MAX - 10;
    let groups: [&[LeaseAsk]; 4] = [
        &[ask(endless, most, most)],
        &[ask(hard, 1, 1), ask(endless, 11, 11)],
        &[ask(hard, 4, 4)],
        &[ask(endless, 10, 10), ask(hard, 6, 6)],
    ];
    let answers = acquire_all(&node, &groups).await;
    assert!(matches!(answers[1], Err(AcquireError::Store(StoreError::Invalid { .. }))), "{:?}", answers[1]);
    let granted: Vec<_> = answers.iter().map(amounts).collect();
    assert_eq!(granted, [Some(vec![most]), None, Some(vec![4]), Some(vec![10, 6])]);
    assert_eq!((node.sums(endless).await, node.sums(hard).await), ((0, 0, i64::MAX), (10, 0, 10)));
    node.assert_books_agree().await;
}

/// None of them (R9).
pub async fn groups_of_a_dead_epoch_get_no_rights(store: &dyn Store) {
    let node = Node::start(store).await;
    let (first, second) = (node.hard(100).await, node.hard(100).await);
    node.restarted().await;
    for answer in acquire_all(&node, &[&[ask(first, 1, 1)], &[ask(second, 1, 1)]]).await {
        assert!(matches!(answer, Err(AcquireError::Store(StoreError::Fenced))), "{answer:?}");
    }
    assert_eq!((node.sums(first).await, node.sums(second).await), ((100, 0, 0), (100, 0, 0)));
}

/// Random groups over twins of the same budgets: together here, one after the other there. `CFR_SEED` plays one round
/// alone.
pub async fn groups_are_answered_as_if_they_came_one_after_the_other(store: &dyn Store) {
    let rounds = number_from_env("CFR_STORE_SEQUENCES").unwrap_or(ROUNDS);
    let seeds = number_from_env("CFR_SEED").map_or(0..rounds, |seed| seed..seed + 1);
    let mut node = Node::start(store).await;
    let (together, apart) = (twin(&node).await, twin(&node).await);
    for seed in seeds {
        let mut random = Random(seed ^ 0x6f0c_9b1d_33e5_a7f2);
        node = node.later(DAY / 3);
        let groups: Vec<_> = (0..=random.below(GROUPS_MAX)).map(|_| group(&mut random)).collect();
        let here: Vec<Vec<LeaseAsk>> = groups.iter().map(|group| asks(group, &together)).collect();
        let mut expected = Vec::new();
        for group in &groups {
            expected.push(said(&node.acquire(&asks(group, &apart)).await, &apart));
        }
        let answers = acquire_all(&node, &here.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
        let answers: Vec<String> = answers.iter().map(|answer| said(answer, &together)).collect();
        assert_eq!(answers, expected, "CFR_SEED={seed}, {groups:?}");
        for (here, there) in together.iter().zip(&apart).take(TWINS.len()) {
            assert_eq!(node.sums(*here).await, node.sums(*there).await, "CFR_SEED={seed}, {groups:?}");
        }
    }
    node.assert_books_agree().await;
}

const TWINS: [(i64, LimitPolicy, Period); 5] = [
    (2_000, LimitPolicy::Hard, Period::Day),
    (9_000, LimitPolicy::Hard, Period::Never),
    (500, LimitPolicy::Hard, Period::Day),
    (300, LimitPolicy::Soft, Period::Day),
    (0, LimitPolicy::Unlimited, Period::Never),
];

/// Budgets of all kinds, and one that does not exist.
async fn twin(node: &Node<'_>) -> Vec<BudgetId> {
    let mut budgets = Vec::new();
    for (included, policy, period) in TWINS {
        budgets.push(node.budget(included, policy, period).await);
    }
    budgets.push(BudgetId::generate(node.now));
    budgets
}

/// Places of budgets with the least that helps and what is wanted.
fn group(random: &mut Random) -> Vec<(usize, i64, i64)> {
    let mut places: Vec<usize> = (0..TWINS.len()).filter(|_| random.below(3) == 0).collect();
    if random.below(8) == 0 {
        places.push(TWINS.len());
    }
    let mut wish = |place| {
        let min = random.amount(300);
        (place, min, min + random.amount(300))
    };
    places.into_iter().map(&mut wish).collect()
}

fn asks(group: &[(usize, i64, i64)], budgets: &[BudgetId]) -> Vec<LeaseAsk> {
    group.iter().map(|&(place, min, want)| ask(budgets[place], min, want)).collect()
}

/// An answer in words that fit both twins.
fn said(answer: &Answer, budgets: &[BudgetId]) -> String {
    let place = |budget: &BudgetId| budgets.iter().position(|known| known == budget);
    match answer {
        Ok(grants) => grants
            .iter()
            .map(|grant| {
                format!("{:?}: {} of {:?}, {} left; ", place(&grant.budget), grant.granted, grant.period, grant.room)
            })
            .collect(),
        Err(AcquireError::Denied { budget, room, .. }) => format!("{:?} has {room}", place(budget)),
        Err(AcquireError::UnknownBudget { budget }) => format!("{:?} is unknown", place(budget)),
        Err(AcquireError::Store(error)) => error.to_string(),
    }
}
