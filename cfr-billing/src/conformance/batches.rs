//! Rules of files and batches.

use std::time::Duration;

use cfr_core::batch::BatchModel;
use cfr_core::chat::Operation;
use cfr_core::id::{BatchId, BudgetId, FileId, TenantId, UserId};
use cfr_core::money::Currency;
use cfr_core::time::Timestamp;
use serde_json::Map;

use super::fixture::{BOOT, DAY, Node, TTL, ask, caller};
use crate::batch::{Batch, BatchState, FilePurpose, KeptFile, Owner, life};
use crate::store::{Cursor, OrphanPolicy, PageRequest, Store, StoreError};

const MOMENT: Duration = Duration::from_secs(1);

/// What is set aside for a batch waits for it, whatever becomes of the nodes meanwhile.
pub async fn rights_of_a_batch_outlast_the_nodes(store: &dyn Store) {
    let node = Node::start(store).await;
    let budget = node.hard(100).await;
    let batch = Node { by: life(BatchId::generate(node.now)), ..node.clone() };
    assert_eq!(store.register(&batch.by.node, BOOT, node.now).await.expect("the name is new"), batch.by);
    let granted = store.acquire(&batch.by, &[ask(budget, 60, 60)], DAY * 30, node.now).await.expect("there is room");
    let account = granted.first().expect("one grant per ask").account;

    let next = node.restarted().await.later(DAY);
    let before = next.now.checked_sub(TTL).expect("inside the calendar");
    store.reclaim(before, OrphanPolicy::Evidence, next.now).await.expect("the store works");
    assert_eq!(node.sums(budget).await, (100, 0, 60), "nobody took them");
    let charge = [batch.settle(node.hold(), &[account], 25)];
    store.commit(&batch.by, &charge, next.now).await.expect("its life goes on");
    store.commit(&batch.by, &charge, next.now).await.expect("a second time changes nothing");
    assert_eq!(node.sums(budget).await, (100, 25, 35));
    store.give_back(&batch.by, &[(account, i64::MAX)]).await.expect("the store works");
    store.retire(&batch.by, next.now).await.expect("the store works");
    assert_eq!(node.sums(budget).await, (100, 25, 0));
    let nodes = store.nodes(next.now).await.expect("the store works");
    assert!(nodes.iter().all(|known| known.node != batch.by.node), "a life that is over is no node");
    node.assert_books_agree().await;
}

/// Nobody finds, lists or forgets what is somebody else's.
pub async fn a_file_is_its_owners_alone(store: &dyn Store) {
    let (now, owner) = (noon(), owner(1, Some(1)));
    let file = file(owner, now);
    store.add_file(&file).await.expect("the id is new");
    assert!(matches!(store.add_file(&file).await, Err(StoreError::Conflict { .. })));
    assert_eq!(store.file(owner, file.id).await.expect("it is there"), file);
    for other in [self::owner(1, Some(2)), self::owner(1, None), self::owner(2, Some(1))] {
        assert!(matches!(store.file(other, file.id).await, Err(StoreError::NotFound { .. })));
        assert!(matches!(store.forget_file(other, file.id).await, Err(StoreError::NotFound { .. })));
        assert_eq!(store.files(other, None, PageRequest::default()).await.expect("readable").items, []);
    }
    store.forget_file(owner, file.id).await.expect("it is there");
    assert!(matches!(store.file(owner, file.id).await, Err(StoreError::NotFound { .. })));
}

/// Those of service keys, which have no user, too.
pub async fn files_are_listed_newest_first(store: &dyn Store) {
    let owner = owner(1, None);
    let mut files = Vec::new();
    for seconds in 0..3 {
        let at = noon().checked_add(MOMENT * seconds).expect("inside the calendar");
        let purpose = if seconds == 1 { FilePurpose::BatchOutput } else { FilePurpose::Batch };
        let file = KeptFile { purpose, ..file(owner, at) };
        store.add_file(&file).await.expect("the id is new");
        files.insert(0, file);
    }
    let page = PageRequest { after: None, limit: 2 };
    let first = store.files(owner, None, page).await.expect("readable");
    assert_eq!((&first.items[..], first.next), (&files[..2], Some(Cursor(files[1].id.as_u128()))));
    let second = store.files(owner, None, PageRequest { after: first.next, ..page }).await.expect("readable");
    assert_eq!((&second.items[..], second.next), (&files[2..], None));
    let made = store.files(owner, Some(FilePurpose::BatchOutput), page).await.expect("readable");
    assert_eq!(made.items, [files[1].clone()]);
}

/// Two who bring it further at the same time do not undo each other's work; the files of the one who came late are not kept.
pub async fn a_batch_goes_forward_once(store: &dyn Store) {
    let owner = owner(1, Some(1));
    let begun = batch(owner, noon());
    store.add_batch(&begun).await.expect("the id is new");
    assert!(matches!(store.add_batch(&begun).await, Err(StoreError::Conflict { .. })));
    let running = Batch { state: BatchState::Running, upstream_id: Some("remote".into()), ..begun.clone() };
    store.update_batch(BatchState::Begun, &running, &[]).await.expect("it is still begun");
    let (file, void) = (file(owner, noon()), Batch { state: BatchState::Void, ..begun });
    let late = store.update_batch(BatchState::Begun, &void, std::slice::from_ref(&file)).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    assert_eq!(store.batch(owner, running.id).await.expect("it is there"), running);
    assert!(store.file(owner, file.id).await.is_err());
    let settled = Batch { state: BatchState::Settled, output_file: Some(file.id), ..running };
    store.update_batch(BatchState::Running, &settled, std::slice::from_ref(&file)).await.expect("it is still running");
    assert_eq!(store.batch(owner, settled.id).await.expect("it is there"), settled);
    assert_eq!(store.file(owner, file.id).await.expect("it came with it"), file);
}

/// And listed, and found, by their owner alone.
pub async fn batches_are_listed_newest_first(store: &dyn Store) {
    let owner = owner(1, Some(1));
    let later = noon().checked_add(MOMENT).expect("inside the calendar");
    let (old, new) = (batch(owner, noon()), batch(owner, later));
    for batch in [&old, &new] {
        store.add_batch(batch).await.expect("the id is new");
    }
    store.add_batch(&batch(self::owner(2, Some(1)), noon())).await.expect("the id is new");
    let void = Batch { state: BatchState::Void, ..batch(owner, noon()) };
    store.add_batch(&void).await.expect("the id is new");
    let page = PageRequest { after: None, limit: 1 };
    let first = store.batches(owner, page).await.expect("readable");
    assert_eq!(first.items, [new]);
    let second = store.batches(owner, PageRequest { after: first.next, ..page }).await.expect("readable");
    assert_eq!((second.items, second.next), (vec![old.clone()], None));
    assert!(matches!(store.batch(self::owner(2, Some(1)), old.id).await, Err(StoreError::NotFound { .. })));
}

/// Of many processes one looks after a batch that is due, and another one when it does not in time.
pub async fn a_batch_that_is_due_is_claimed_by_one(store: &dyn Store) {
    let owner = owner(1, Some(1));
    let (now, until) = (noon(), noon().checked_add(MOMENT).expect("inside the calendar"));
    let over = Batch { state: BatchState::Settled, ..batch(owner, now) };
    let later = Batch { due_at: until.checked_add(MOMENT).expect("inside the calendar"), ..batch(owner, now) };
    let due = batch(owner, now);
    for batch in [&over, &later, &due] {
        store.add_batch(batch).await.expect("the id is new");
    }
    let claimed = store.claim_batches(now, until, 10).await.expect("the store works");
    assert_eq!(claimed.iter().map(|batch| batch.id).collect::<Vec<_>>(), [due.id]);
    assert_eq!(store.claim_batches(now, until, 10).await.expect("the store works"), []);
    let again = store.claim_batches(until, until.checked_add(MOMENT).expect("inside"), 10).await.expect("it works");
    assert_eq!(again.iter().map(|batch| batch.id).collect::<Vec<_>>(), [due.id]);
}

fn noon() -> Timestamp {
    super::fixture::noon()
}

fn owner(tenant: u128, user: Option<u128>) -> Owner {
    Owner { tenant: TenantId::from_u128(tenant), user: user.map(UserId::from_u128) }
}

fn model() -> BatchModel {
    BatchModel {
        public: "fast".into(),
        provider: "openai".into(),
        model: "gpt-4o".into(),
        region: None,
        price: cfr_core::price::PricedAs::default(),
    }
}

fn file(owner: Owner, now: Timestamp) -> KeptFile {
    KeptFile {
        id: FileId::generate(now),
        owner,
        upstream: "openai".into(),
        upstream_id: "file-1".into(),
        purpose: FilePurpose::Batch,
        name: "b\u{e4}tch.jsonl".into(),
        bytes: Some(12),
        models: vec![model()],
        created_at: now,
    }
}

pub(super) fn batch(owner: Owner, now: Timestamp) -> Batch {
    Batch {
        id: BatchId::generate(now),
        owner,
        state: BatchState::Begun,
        due_at: now,
        caller: caller(owner.tenant),
        upstream: "openai".into(),
        upstream_id: None,
        input_file: FileId::generate(now),
        operation: Operation::ChatCompletions,
        lines: 3,
        models: vec![model()],
        path: vec![BudgetId::from_u128(5)],
        accounts: Vec::new(),
        amount_nanos: 60,
        line_max_nanos: 20,
        currency: Currency::EUR,
        fx_e6: 1_160_000,
        margin_bps: 2_000,
        created_at: now,
        metadata: Map::from_iter([("note".to_owned(), "n".into())]),
        object: Map::from_iter([("status".to_owned(), "validating".into())]),
        output_file: None,
        error_file: None,
    }
}
