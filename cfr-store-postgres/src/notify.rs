//! Word between the processes that share the books: what changed, whose rights are wanted, and what was given back.
//!
//! A word is a row of the table `notices`. A process with a direct connection is told of it by Postgres, one behind a
//! pooler reads the table several times a second. The direct connection also holds the advisory lock on the node's name:
//! the lock ends with the process, however it ends.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cfr_billing::store::{Boot, Incarnation, StoreError};
use cfr_core::broadcast::{Broadcast, BroadcastError, NOTICES_MAX, Notice};
use cfr_core::id::{AccountId, BudgetId};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::error::Fault;
use crate::open::{Login, PostgresStore};
use crate::row::{json, query, uuid};
use crate::writer::{Pool, Tx};

mod listen;
mod poll;

/// Requests for rights that are remembered for whoever did not ask for them yet. Older ones are asked again.
const RECALLS_MAX: usize = 256;
/// Accounts that one word names, so that it fits into a notification.
const ACCOUNTS_PER_WORD: usize = 256;
/// Budgets that one word names.
const BUDGETS_PER_WORD: usize = 128;
/// How long registering waits for the direct connection to say who holds the node's name.
const NAME_TIMEOUT: Duration = Duration::from_secs(2);
/// How long closing waits for the direct connection to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests to the direct connection that wait for it.
const ORDERS_MAX: usize = 16;

/// What one process tells the others.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    /// Something that others may remember was changed.
    Changed {
        /// The handle that told its own subscribers already.
        from: Uuid,
        notice: Notice,
    },
    /// A node needs rights on these budgets.
    Wanted { by: Arc<str>, budgets: Vec<BudgetId> },
    /// There may be room again on these accounts.
    Returned { accounts: Vec<AccountId> },
}

/// Who holds the name of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameHolder {
    /// This process, and so no other one that has a direct connection.
    Us,
    /// Another process, which is alive.
    Other,
    /// Nobody can say: there is no direct connection.
    Unknown,
}

/// What the store knows of other processes. Its connection begins when somebody needs it.
#[derive(Debug)]
pub(crate) struct Notices {
    shared: Arc<Shared>,
    pool: Pool,
    login: Login,
    line: OnceLock<Line>,
}

/// The task that hears the others.
#[derive(Debug)]
struct Line {
    orders: mpsc::Sender<Order>,
    task: JoinSet<()>,
}

/// A question to the direct connection: who holds this name?
#[derive(Debug)]
struct Order {
    node: Arc<str>,
    answer: oneshot::Sender<NameHolder>,
}

impl Notices {
    pub(crate) fn new(login: Login, pool: Pool) -> Self {
        Self { shared: Arc::new(Shared::new()), pool, login, line: OnceLock::new() }
    }

    fn line(&self) -> &Line {
        self.line.get_or_init(|| {
            let (orders, received) = mpsc::channel(ORDERS_MAX);
            let mut task = JoinSet::new();
            if self.pool.is_pooled() {
                task.spawn(poll::run(self.pool.clone(), Arc::clone(&self.shared), received));
            } else {
                task.spawn(listen::run((*self.login).clone(), Arc::clone(&self.shared), received));
            }
            Line { orders, task }
        })
    }

    /// Takes the name of a node for a process, unless another one has it: in tests processes may share a handle.
    pub(crate) async fn take_name(&self, node: &str, boot: Boot) -> NameHolder {
        match self.lock_name(node).await {
            NameHolder::Us if *self.shared.owners().entry(node.into()).or_insert(boot) != boot => NameHolder::Other,
            holder => holder,
        }
    }

    /// Notes that a process has the name now, whoever had it before.
    pub(crate) fn name_taken(&self, node: &str, boot: Boot) {
        self.shared.owners().insert(node.into(), boot);
    }

    async fn lock_name(&self, node: &str) -> NameHolder {
        let (answer, answered) = oneshot::channel();
        let order = Order { node: node.into(), answer };
        let holder = async {
            self.line().orders.send(order).await.ok()?;
            answered.await.ok()
        };
        tokio::time::timeout(NAME_TIMEOUT, holder).await.ok().flatten().unwrap_or(NameHolder::Unknown)
    }

    /// Whether this process holds the name now. From memory.
    pub(crate) fn holds_name(&self, node: &str) -> bool {
        self.shared.names().contains(node)
    }

    /// Asks for rights on these budgets and waits until some were given back. At once when nobody else has any.
    pub(crate) async fn recall(
        &self,
        by: &Incarnation,
        budgets: &[BudgetId],
        patience: Duration,
    ) -> Result<(), StoreError> {
        self.line();
        let _hurry = Hurry::new(&self.shared);
        let mut returned = self.shared.returned.subscribe();
        let wait = async {
            let lent = self.ask(by, budgets).await?;
            if !lent.is_empty() {
                one_of(&lent, &mut returned).await;
            }
            Ok(())
        };
        tokio::time::timeout(patience, wait).await.unwrap_or(Ok(()))
    }

    /// Writes the request when others have rights on the budgets, and returns the accounts on which they do.
    async fn ask(&self, by: &Incarnation, budgets: &[BudgetId]) -> Result<Vec<AccountId>, StoreError> {
        let mut lent = Vec::new();
        for budgets in budgets.chunks(BUDGETS_PER_WORD) {
            lent.extend(self.ask_for(by, budgets).await?);
        }
        Ok(lent)
    }

    async fn ask_for(&self, by: &Incarnation, budgets: &[BudgetId]) -> Result<Vec<AccountId>, Fault> {
        let word = json(&Word::Wanted { by: Arc::clone(&by.node), budgets: budgets.into() })?;
        let ids: Vec<Uuid> = budgets.iter().map(|budget| uuid(budget.to_bytes())).collect();
        let sql = "WITH lent AS (SELECT DISTINCT l.account_id FROM leases l JOIN accounts a ON a.id = l.account_id \
             WHERE a.budget_id = ANY ($1) AND l.node <> $2 AND l.granted > l.consumed), \
             told AS (INSERT INTO notices (word) SELECT $3 WHERE EXISTS (SELECT 1 FROM lent)) SELECT account_id FROM lent";
        let mut transaction = self.pool.transaction().await?;
        let rows = query(sql).bind(ids).bind(&*by.node).bind(word).fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        rows.iter().map(|row| Ok(AccountId(row.try_get(0)?))).collect()
    }

    /// The next budgets that another node wants rights on.
    pub(crate) async fn recalled(&self, by: &Incarnation) -> Vec<BudgetId> {
        self.line();
        loop {
            let asked = self.shared.asked.notified();
            let budgets = self.shared.recalls().take(&by.node);
            if !budgets.is_empty() {
                return budgets;
            }
            asked.await;
        }
    }

    async fn publish(&self, notice: Notice) -> Result<(), Fault> {
        let _ = self.shared.notices.send(notice); // nobody listening is fine
        let word = json(&Word::Changed { from: self.shared.id, notice })?;
        let mut transaction = self.pool.transaction().await?;
        tell(&mut transaction, &[word]).await?;
        Ok(transaction.commit().await?)
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        let receiver = self.shared.notices.subscribe();
        self.line();
        receiver
    }

    /// Ends the direct connection, and with it the hold on the node's name.
    pub(crate) async fn close(self) {
        let Some(Line { orders, mut task }) = self.line.into_inner() else { return };
        drop(orders); // the task ends when nobody can ask it any more
        if tokio::time::timeout(CLOSE_TIMEOUT, task.join_next()).await.is_err() {
            task.shutdown().await;
        }
    }
}

#[async_trait]
impl Broadcast for PostgresStore {
    async fn publish(&self, notice: Notice) -> Result<(), BroadcastError> {
        let published = self.notices().publish(notice).await;
        published.map_err(|fault| BroadcastError { reason: StoreError::from(fault).to_string() })
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices().subscribe()
    }

    fn is_connected(&self) -> bool {
        self.notices().shared.is_connected()
    }
}

/// Tells whoever waits for rights on these accounts that there may be some, when the transaction commits.
pub(crate) async fn returned(tx: &mut Tx<'_>, accounts: &[AccountId]) -> Result<(), Fault> {
    let words = accounts.chunks(ACCOUNTS_PER_WORD).map(|accounts| json(&Word::Returned { accounts: accounts.into() }));
    let words = words.collect::<Result<Vec<String>, Fault>>()?;
    if words.is_empty() { Ok(()) } else { tell(tx.connection(), &words).await }
}

async fn tell(connection: &mut PgConnection, words: &[String]) -> Result<(), Fault> {
    let sql = "INSERT INTO notices (word) SELECT * FROM unnest($1::text[])";
    query(sql).bind(words).execute(connection).await?;
    Ok(())
}

/// Waits until one of the accounts is named, or too many others were to tell.
async fn one_of(accounts: &[AccountId], returned: &mut broadcast::Receiver<Arc<[AccountId]>>) {
    loop {
        match returned.recv().await {
            Ok(some) if !some.iter().any(|account| accounts.contains(account)) => {}
            Ok(_) | Err(RecvError::Lagged(_) | RecvError::Closed) => return,
        }
    }
}

/// What the task hears, for those who wait for it.
#[derive(Debug)]
struct Shared {
    /// Tells handles of the store apart.
    id: Uuid,
    connected: AtomicBool,
    /// The names that this process holds.
    names: Mutex<BTreeSet<Arc<str>>>,
    /// For which of its lives this process wants them.
    owners: Mutex<HashMap<Arc<str>, Boot>>,
    notices: broadcast::Sender<Notice>,
    returned: broadcast::Sender<Arc<[AccountId]>>,
    recalls: Mutex<Recalls>,
    asked: Notify,
    /// Recalls that wait for an answer.
    waiting: AtomicU32,
    /// Somebody began to wait.
    hurried: Notify,
}

impl Shared {
    fn new() -> Self {
        Self {
            id: Uuid::now_v7(),
            connected: AtomicBool::new(false),
            names: Mutex::default(),
            owners: Mutex::default(),
            notices: broadcast::Sender::new(NOTICES_MAX),
            returned: broadcast::Sender::new(NOTICES_MAX),
            recalls: Mutex::default(),
            asked: Notify::new(),
            waiting: AtomicU32::new(0),
            hurried: Notify::new(),
        }
    }

    fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// From now on every word arrives; any may have been missed before.
    fn connected(&self) {
        self.connected.store(true, Ordering::Release);
        self.missed_some();
    }

    fn disconnected(&self, fault: Fault) {
        self.names().clear();
        let reason = StoreError::from(fault);
        if self.connected.swap(false, Ordering::AcqRel) {
            tracing::warn!(%reason, "other replicas are not heard any more; trying again");
        } else {
            tracing::debug!(%reason, "other replicas are still not heard");
        }
    }

    fn missed_some(&self) {
        for &notice in Notice::ALL {
            let _ = self.notices.send(notice); // nobody listening is fine
        }
    }

    fn hear(&self, text: &str) {
        match serde_json::from_str(text) {
            Ok(Word::Changed { from, .. }) if from == self.id => {}
            Ok(Word::Changed { notice, .. }) => drop(self.notices.send(notice)),
            Ok(Word::Wanted { by, budgets }) => {
                self.recalls().add(by, budgets);
                self.asked.notify_waiters();
            }
            Ok(Word::Returned { accounts }) => drop(self.returned.send(accounts.into())),
            Err(_) => self.missed_some(), // a newer version says something that this one does not know
        }
    }

    fn names(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<Arc<str>, Boot>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recalls(&self) -> MutexGuard<'_, Recalls> {
        self.recalls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that somebody waits, for as long as it lives.
struct Hurry<'a>(&'a Shared);

impl<'a> Hurry<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        shared.hurried.notify_one();
        Self(shared)
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The latest requests for rights, and how far each node of this process has read them.
#[derive(Debug, Default)]
struct Recalls {
    latest: VecDeque<Wanted>,
    /// Requests that were ever added.
    count: u64,
    read: HashMap<Arc<str>, u64>,
}

#[derive(Debug)]
struct Wanted {
    number: u64,
    by: Arc<str>,
    budgets: Vec<BudgetId>,
}

impl Recalls {
    fn add(&mut self, by: Arc<str>, budgets: Vec<BudgetId>) {
        if self.latest.len() == RECALLS_MAX {
            self.latest.pop_front();
        }
        self.count += 1;
        self.latest.push_back(Wanted { number: self.count, by, budgets });
    }

    /// What others asked for since the node was last here.
    fn take(&mut self, node: &Arc<str>) -> Vec<BudgetId> {
        let read = self.read.insert(Arc::clone(node), self.count).unwrap_or_default();
        let new = self.latest.iter().filter(|wanted| wanted.number > read && wanted.by != *node);
        let mut budgets: Vec<BudgetId> = new.flat_map(|wanted| &wanted.budgets).copied().collect();
        budgets.sort_unstable();
        budgets.dedup();
        budgets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(number: u128) -> BudgetId {
        BudgetId::from_u128(number)
    }

    #[test]
    fn every_node_hears_what_the_others_want_once() {
        let mut recalls = Recalls::default();
        let [a, b, c]: [Arc<str>; 3] = ["a", "b", "c"].map(Arc::from);
        recalls.add(Arc::clone(&a), vec![budget(1), budget(2)]);
        recalls.add(Arc::clone(&b), vec![budget(2)]);
        assert_eq!(recalls.take(&a), [budget(2)]);
        assert_eq!(recalls.take(&b), [budget(1), budget(2)]);
        assert_eq!(recalls.take(&c), [budget(1), budget(2)]);
        assert_eq!(recalls.take(&c), []);
        recalls.add(a, vec![budget(3)]);
        assert_eq!(recalls.take(&c), [budget(3)]);
    }

    #[test]
    fn requests_that_nobody_reads_are_forgotten() {
        let mut recalls = Recalls::default();
        for number in 1..=2 * RECALLS_MAX {
            recalls.add("a".into(), vec![budget(number as u128)]);
        }
        assert_eq!(recalls.take(&"b".into()).len(), RECALLS_MAX);
    }

    #[test]
    fn the_longest_words_fit_into_a_notification() {
        let wanted = Word::Wanted { by: "n".repeat(255).into(), budgets: vec![budget(u128::MAX); BUDGETS_PER_WORD] };
        let returned = Word::Returned { accounts: vec![AccountId(i64::MIN); ACCOUNTS_PER_WORD] };
        for word in [wanted, returned] {
            assert!(serde_json::to_string(&word).unwrap().len() < 8_000);
        }
    }
}
