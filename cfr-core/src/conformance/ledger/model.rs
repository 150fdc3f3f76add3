//! Random histories against a model of the ledger that is small enough to be seen to be right.
//!
//! A history is played on the ledger and on the model in lock-step; every answer and, after every step, every balance must
//! agree, and the invariants must hold. A history is a function of its seed: the message of a failure names it, and
//! `CFR_SEED` plays it alone. `CFR_LEDGER_SEQUENCES` says how many are played.

use std::collections::HashMap;
use std::time::Duration;

use self::random::Random;
use self::sums::{Answer, Model, ModelHold, Sums};
use super::LedgerUnderTest;
use super::fixture::{ask, charge, figures, hard, nanos, settlement};
use crate::id::{AccountId, BudgetId, HoldId};
use crate::ledger::invariants::{self, AccountView, ChargeView, Violation};
use crate::ledger::{AuthorizeError, BudgetSpec, HoldRequest, LedgerError, LimitPolicy, ReleaseReason, Scope};
use crate::time::{Clock, Period, PeriodWindow, Timestamp};

mod random;
mod sums;

/// Histories that are played unless the environment says otherwise.
const SEQUENCES: u64 = 100;
/// Commands in one history.
const COMMANDS: u32 = 80;
/// Budgets of a history: scope, policy, what it includes, period.
const BUDGETS: [(Scope, LimitPolicy, i64, Period); 5] = [
    (Scope::Key, LimitPolicy::Hard, 400, Period::Day),
    (Scope::User, LimitPolicy::Hard, 1_000, Period::Never),
    (Scope::Tenant, LimitPolicy::Hard, 700, Period::Day),
    (Scope::Product, LimitPolicy::Soft, 300, Period::Never),
    (Scope::Platform, LimitPolicy::Unlimited, 0, Period::Day),
];
/// The budget without periods that gets the grants.
const GRANTED: usize = 1;
const DAY_SECONDS: i64 = 86_400;

/// Plays random histories; see the module.
pub async fn random_histories_agree_with_a_model(subject: &dyn LedgerUnderTest) {
    match number_from_env("CFR_SEED") {
        Some(seed) => play(subject, seed).await,
        None => {
            for seed in 0..number_from_env("CFR_LEDGER_SEQUENCES").unwrap_or(SEQUENCES) {
                play(subject, seed).await;
            }
        }
    }
}

fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not `{text}`")))
}

async fn play(subject: &dyn LedgerUnderTest, seed: u64) {
    let mut history = History::begin(subject, seed).await;
    for step in 0..COMMANDS {
        let command = history.next_command();
        let context = format!("CFR_SEED={seed}, step {step}, {command:?}");
        history.run(command, &context).await;
        history.agrees(&context).await;
    }
    history.end(&format!("CFR_SEED={seed}, at the end")).await;
}

/// What a caller may do. A hold is named by its position among those made so far.
#[derive(Debug, Clone)]
enum Command {
    Authorize { path: Vec<usize>, amount: i64, amount_min: i64 },
    Retry { request: usize },
    RetryWithOtherArguments { request: usize },
    Extend { request: usize, amount: i64, repeat: bool },
    Checkpoint { request: usize, price: i64 },
    Settle { request: usize, price: i64 },
    Release { request: usize },
    Grant { amount: i64, repeat: bool },
    Tick { hours: u64 },
}

struct History<'a> {
    subject: &'a dyn LedgerUnderTest,
    seed: u64,
    random: Random,
    budgets: Vec<BudgetId>,
    /// Everything that was asked for, in order.
    requests: Vec<HoldRequest>,
    raises: HashMap<HoldId, u32>,
    grants: u32,
    model: Model,
    charges: Vec<ChargeView>,
}

impl<'a> History<'a> {
    /// At midnight, on budgets of its own, with ids that follow from the seed: what was played before does not matter.
    async fn begin(subject: &'a dyn LedgerUnderTest, seed: u64) -> Self {
        subject.clock().advance(until_midnight(subject.clock().now()));
        let mut budgets = Vec::new();
        for (position, (scope, policy, included, period)) in BUDGETS.into_iter().enumerate() {
            let id = BudgetId::from_u128(unique(seed, position));
            subject.add_budget(BudgetSpec { id, policy, period, ..hard(subject, scope, included) }).await;
            budgets.push(id);
        }
        let (requests, raises, charges) = (Vec::new(), HashMap::new(), Vec::new());
        Self {
            subject,
            seed,
            random: Random(seed),
            budgets,
            requests,
            raises,
            grants: 0,
            model: Model::default(),
            charges,
        }
    }

    fn next_command(&mut self) -> Command {
        let random = &mut self.random;
        let known = self.requests.len();
        if known == 0 || random.below(100) < 35 {
            let amount = if random.below(10) == 0 { 0 } else { random.within(1..260) };
            let amount_min = if random.below(2) == 0 { amount } else { random.within(0..amount + 1) };
            return Command::Authorize { path: random.some_of(BUDGETS.len()), amount, amount_min };
        }
        // Half of the time one of the latest, which is probably still open.
        let request = if random.below(2) == 0 { known - 1 - random.below(known.min(4)) } else { random.below(known) };
        match random.below(65) {
            0..5 => Command::Retry { request },
            5..10 => Command::RetryWithOtherArguments { request },
            10..20 => Command::Extend { request, amount: random.within(0..120), repeat: random.below(3) == 0 },
            20..25 => Command::Checkpoint { request, price: random.within(0..300) },
            25..47 => Command::Settle { request, price: self.price_of(request) },
            47..56 => Command::Release { request },
            56..60 => Command::Grant { amount: random.within(1..200), repeat: random.below(3) == 0 },
            _ => Command::Tick { hours: 1 + random.below(30) as u64 },
        }
    }

    /// Below, equal to and above what is held.
    fn price_of(&mut self, request: usize) -> i64 {
        let held = self.model.amount_of(self.requests[request].id);
        match self.random.below(4) {
            0 => held,
            1 => held + self.random.within(1..150),
            _ => self.random.within(0..held + 1),
        }
    }

    async fn run(&mut self, command: Command, context: &str) {
        let ledger = self.subject.ledger();
        match command {
            Command::Authorize { path, amount, amount_min } => {
                let budgets: Vec<_> = path.iter().map(|&position| self.budgets[position]).collect();
                let id = HoldId::from_u128(unique(self.seed, self.requests.len()));
                let amount_min = nanos(amount_min);
                let request = HoldRequest { id, amount_min, ..ask(self.subject, &budgets, amount) };
                self.requests.push(request.clone());
                let expected = self.model.authorize(id, path, amount, amount_min.nanos(), self.today());
                self.answers(request, expected, context).await;
            }
            Command::Retry { request } => {
                let request = self.requests[request].clone();
                let expected = self.model.answer_again(request.id);
                self.answers(request, expected, context).await;
            }
            Command::RetryWithOtherArguments { request } => {
                let request = self.requests[request].clone();
                let dearer = HoldRequest { amount: nanos(request.amount.nanos() + 1), ..request };
                let expected = LedgerError::IdReused { hold: dearer.id };
                assert_eq!(ledger.authorize(dearer).await.map(|_| ()), Err(expected.into()), "{context}");
            }
            Command::Extend { request, amount, repeat } => self.extend(request, amount, repeat, context).await,
            Command::Checkpoint { request, price } => {
                let id = self.requests[request].id;
                let done = ledger.checkpoint(id, settlement(id, price));
                assert_eq!(done, self.model.open(id).map(|_| ()), "{context}");
            }
            Command::Settle { request, price } => self.settle(self.requests[request].id, price, context),
            Command::Release { request } => {
                let id = self.requests[request].id;
                let released = ledger.release(id, ReleaseReason::Abandoned).map(|_| ());
                assert_eq!(released, self.model.end(id, |_| 0).map(|_| ()), "{context}");
            }
            Command::Grant { amount, repeat } => self.grant(amount, repeat).await,
            Command::Tick { hours } => {
                if !self.subject.past_money_can_be_claimed() {
                    self.model.open_ids().into_iter().for_each(|id| self.settle(id, self.model.amount_of(id), context));
                }
                self.subject.clock().advance(Duration::from_secs(hours * 3_600));
            }
        }
    }

    async fn answers(&self, request: HoldRequest, expected: Answer, context: &str) {
        let answer = self.subject.ledger().authorize(request).await;
        match (answer, expected) {
            (Ok(hold), Answer::Held { amount }) => assert_eq!(hold.amount, nanos(amount), "{context}"),
            (Err(AuthorizeError::Denied(denial)), Answer::Denied { room, tightest }) => {
                assert_eq!(denial.available, nanos(room.max(0)), "{context}");
                let named = self.budgets.iter().position(|budget| *budget == denial.budget);
                assert!(
                    named.is_some_and(|named| tightest.contains(&named)),
                    "{context}: named {named:?} of {tightest:?}"
                );
            }
            (Err(AuthorizeError::Ledger(error)), Answer::Refused(expected)) => assert_eq!(error, expected, "{context}"),
            (answer, expected) => panic!("{context}: expected {expected:?}, got {answer:?}"),
        }
    }

    async fn extend(&mut self, request: usize, amount: i64, repeat: bool, context: &str) {
        let id = self.requests[request].id;
        let steps = self.raises.entry(id).or_default();
        let step = if repeat && *steps > 0 { *steps } else { *steps + 1 };
        let raised = self.subject.ledger().extend(id, step, nanos(amount)).await;
        let expected = if step == *steps { self.model.open(id).map(|_| true) } else { self.model.extend(id, amount) };
        match (raised, expected) {
            (Ok(_), Ok(true)) => *steps = step,
            (Err(AuthorizeError::Denied(_)), Ok(false)) => {}
            (Err(AuthorizeError::Ledger(error)), Err(expected)) => assert_eq!(error, expected, "{context}"),
            (raised, expected) => panic!("{context}: expected {expected:?}, got {raised:?}"),
        }
    }

    fn settle(&mut self, id: HoldId, price: i64, context: &str) {
        let settled = self.subject.ledger().settle(id, settlement(id, price));
        let free = self.model.free_of(id);
        let ended = self.model.end(id, |hold| price.min(hold.amount.saturating_add(free)));
        match (settled, ended) {
            (Ok(settled), Ok((hold, charged))) => {
                assert_eq!(settled.charged, nanos(charged), "{context}");
                assert_eq!(settled.overrun, nanos(price - charged), "{context}");
                self.charges.push(charge_view(id, &hold, free, price, charged));
            }
            (settled, ended) => assert_eq!(settled.map(|_| ()), ended.map(|_| ()), "{context}"),
        }
    }

    async fn grant(&mut self, amount: i64, repeat: bool) {
        // A repeated key changes nothing only if it was used: the ledger is not asked to repeat what never happened.
        if repeat && self.grants > 0 {
            let amount = self.model.grants[self.grants as usize - 1];
            return self.grant_as(self.grants, amount).await;
        }
        self.grants += 1;
        self.model.grants.push(amount);
        self.model.account(GRANTED, self.today()).granted += i128::from(amount);
        self.grant_as(self.grants, amount).await;
    }

    async fn grant_as(&self, number: u32, amount: i64) {
        let budget = self.budgets[GRANTED];
        self.subject.grant(budget, nanos(amount), &format!("{budget}-{number}")).await;
    }

    /// Every balance is the model's, and the invariants hold.
    async fn agrees(&mut self, context: &str) {
        for position in 0..BUDGETS.len() {
            let found = figures(self.subject, self.budgets[position]).await;
            let expected = *self.model.account(position, self.today());
            let found = Sums { granted: found.granted.into(), settled: found.settled.into(), held: found.held.into() };
            assert_eq!(found, expected, "{context}: budget {position}");
            let balance = self.subject.ledger().balance(self.budgets[position]).await.expect("the budget exists");
            let account = view(&balance.budget, balance.account, position, expected, balance.period);
            self.check(position, &account).unwrap_or_else(|violation| panic!("{context}: {violation}"));
        }
    }

    fn check(&self, position: usize, account: &AccountView) -> Result<(), Violation> {
        let open = self.model.open_on(position, self.today(), account.account);
        invariants::within_grant(account)?;
        invariants::holds_add_up(account, &open)?;
        self.charges.last().map_or(Ok(()), |charge| {
            invariants::charge_fits(charge)?;
            invariants::charged_alike(charge)
        })
    }

    /// Ends what is open. Then nothing is held, and every price was either charged or overrun.
    async fn end(&mut self, context: &str) {
        for id in self.model.open_ids() {
            self.settle(id, 10, context);
        }
        self.agrees(context).await;
        for (position, &budget) in self.budgets.iter().enumerate() {
            assert_eq!(figures(self.subject, budget).await.held, 0, "{context}: budget {position}");
        }
        let ended: Vec<_> = self.charges.iter().map(|charge| charge.hold).collect();
        invariants::nothing_vanishes(&self.charges)
            .and_then(|()| invariants::ends_once(&ended, &self.charges, &ended))
            .unwrap_or_else(|violation| panic!("{context}: {violation}"));
    }

    fn today(&self) -> i64 {
        self.subject.clock().now().as_second().div_euclid(DAY_SECONDS)
    }
}

// --- Views ---------------------------------------------------------------------------------------------------------

fn view(budget: &BudgetId, account: AccountId, position: usize, sums: Sums, period: PeriodWindow) -> AccountView {
    AccountView {
        account,
        budget: *budget,
        tenant: None,
        policy: BUDGETS[position].1,
        period,
        granted: sums.granted,
        settled: sums.settled,
        leased: sums.held,
        overcommit: 0,
    }
}

fn charge_view(id: HoldId, hold: &ModelHold, free: i64, price: i64, charged: i64) -> ChargeView {
    let parts = charge(price);
    ChargeView {
        hold: id,
        held: hold.amount.into(),
        free: free.into(),
        cost: parts.cost.nanos().into(),
        margin: parts.margin.nanos().into(),
        price: price.into(),
        charged: charged.into(),
        overrun: i128::from(price) - i128::from(charged),
        entries: Vec::new(),
    }
}

/// A different number for each position of each seed.
fn unique(seed: u64, position: usize) -> u128 {
    u128::from(seed) << 64 | position as u128
}

fn until_midnight(now: Timestamp) -> Duration {
    let today = now.as_second().rem_euclid(DAY_SECONDS);
    Duration::from_secs((DAY_SECONDS - today).unsigned_abs())
}
