//! Addresses that lead nowhere, databases that are not ours, and connections that break at any moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::Ipv4Addr;

use cfr_billing::approval::Consent;
use cfr_billing::audit_log::Act;
use cfr_billing::budget::{Budget, GrantKind};
use cfr_billing::identity::{NewTenant, Tenant, TenantKind};
use cfr_billing::store::{
    AcquireError, Boot, CatalogStore, Incarnation, LeaseAsk, LedgerStore, NewGrant, OrphanPolicy, PageRequest,
    StoreError,
};
use cfr_core::id::AccountId;
use cfr_core::money::Currency;
use cfr_core::time::TimeZone;
use cfr_store_postgres::{OpenError, PostgresStore};
use cfr_testbed::{NEEDS_PASSWORD, Postgres, Proxy};
use sqlx::{Connection, PgConnection};
use support::*;

async fn refused(url: &str) -> OpenError {
    PostgresStore::open(url, callers_clock()).await.expect_err("the store does not open")
}

/// One line, with the next step in it, and without the password.
#[track_caller]
fn says(error: &OpenError, step: &str) {
    let message = error.to_string();
    assert!(message.contains(step), "{message}");
    assert!(!message.contains('\n') && !message.contains("secret"), "{message}");
}

#[tokio::test]
async fn what_is_wrong_with_an_address_is_told_in_one_line() {
    let server = Postgres::shared().await;
    let url = server.url("postgres");
    says(&refused("mysql://host/db").await, "write postgres://");
    says(&refused("postgres://ada:secret@host:port/db").await, "write postgres://");
    says(&refused("postgres://ada:sec/ret@secret@host/db").await, "%2F for /");
    says(&refused("postgres://ada:12?secret@host/db").await, "%3F for ?");
    says(&refused("postgres://ada:secret@host/db?sslmod=verify-full").await, "no parameter `sslmod`");
    says(&refused("postgres://ada@host/db?pasword=secret").await, "no parameter `pasword`");
    says(&refused("postgres://ada:secret@127.0.0.1:1/db").await, "check that it runs");
    says(&refused(&url.replace("/postgres", "/nowhere").replace("//nowhere", "//postgres")).await, "createdb");
    let roles =
        format!("CREATE ROLE {NEEDS_PASSWORD}; CREATE ROLE ada LOGIN PASSWORD 'right' IN ROLE {NEEDS_PASSWORD}");
    server.execute(&url, &roles).await;
    says(&refused(&url.replace("postgres@", "ada:secret@")).await, "check user and password");
    says(&refused(&url.replace("postgres@", "nobody_we_know@")).await, "check user and password");
}

#[tokio::test]
async fn a_password_is_never_shown() {
    let home = Home::new().await;
    let url = home.url.replace("postgres@", "postgres:secret@");
    let store = PostgresStore::open(&url, callers_clock()).await.unwrap();
    assert!(!format!("{store:?}").contains("secret"));
}

#[tokio::test]
async fn other_programs_newer_versions_and_edited_migrations_are_refused() {
    let home = Home::new().await;
    raw(&home.url, "CREATE TABLE things (id int)").await.unwrap();
    says(&refused(&home.url).await, "name an empty database");

    let home = Home::new().await;
    let older = PostgresStore::open_read_only(&home.url, callers_clock()).await.expect_err("nothing was made yet");
    says(&older, "start the server once");
    home.open().await.close().await.unwrap();
    raw(&home.url, "INSERT INTO cfr_migrations VALUES (99, 'later', now(), true, '', 0)").await.unwrap();
    says(&refused(&home.url).await, "install the version that wrote it");
    raw(&home.url, "DELETE FROM cfr_migrations WHERE version = 99").await.unwrap();
    raw(&home.url, "UPDATE cfr_migrations SET checksum = '' WHERE version = 1").await.unwrap();
    says(&refused(&home.url).await, "is not ours");
}

#[tokio::test]
async fn a_name_is_taken_while_its_process_lives_and_free_when_it_is_gone() {
    let home = Home::new().await;
    let (first, second) = (home.open().await, home.open().await);
    let ttl = std::time::Duration::from_secs(3_600);
    let node = first.register("node", Boot(1), at(0)).await.unwrap();
    first.renew(&node, ttl, at(0)).await.unwrap();
    let refused = second.register("node", Boot(2), at(1)).await.unwrap_err();
    assert!(matches!(&refused, StoreError::NodeInUse { node, .. } if &**node == "node"), "{refused}");
    second.register("other", Boot(2), at(1)).await.expect("another name is free");
    first.close().await.unwrap();
    assert_eq!(second.register("node", Boot(2), at(2)).await.expect("its process is gone").epoch, 2);
}

#[tokio::test]
async fn a_life_that_lost_the_lock_on_its_name_is_alive_until_its_time_is_over() {
    let home = Home::new().await;
    let (first, second) = (home.open().await, home.open().await);
    let ttl = std::time::Duration::from_secs(3_600);
    let node = first.register("node", Boot(1), at(0)).await.unwrap();
    let mut thief = PgConnection::connect(&home.url).await.unwrap();
    take_the_lock_from_everybody(&mut thief, "node").await;
    let noted = async {
        while raw(&home.url, "SELECT locked::text FROM nodes").await.unwrap() == "true" {
            first.renew(&node, ttl, at(0)).await.expect("it lives");
        }
    };
    tokio::time::timeout(LOSS_NOTED, noted).await.expect("a renewal notes that the name is not ours");
    thief.close().await.unwrap();
    let refused = second.register("node", Boot(2), at(3_599)).await.unwrap_err();
    assert!(matches!(&refused, StoreError::NodeInUse { .. }), "{refused}");
    assert_eq!(second.register("node", Boot(2), at(3_600)).await.expect("its time is over").epoch, 2);
}

/// The longest that a process needs to notice that its connection is gone.
const LOSS_NOTED: std::time::Duration = std::time::Duration::from_secs(10);

/// As after a lost connection, with somebody else who was faster.
async fn take_the_lock_from_everybody(thief: &mut PgConnection, node: &str) {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid() \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert!(!sqlx::query(end).fetch_all(&mut *thief).await.unwrap().is_empty(), "somebody held the lock");
    let take = "SELECT pg_advisory_lock(hashtextextended(current_schema() || ' ' || $1, 0))";
    sqlx::query(take).bind(node).execute(thief).await.unwrap();
}

/// A store behind a network, and what the operations below need.
struct World {
    proxy: Proxy,
    store: PostgresStore,
    home: Home,
    acme: Tenant,
    budget: Budget,
    node: Incarnation,
    account: AccountId,
}

/// Granted by the budget's terms.
const INCLUDED: i64 = 1_000_000;
/// Bytes between two places where a connection breaks.
const STEP: usize = 41;
/// How often an operation is repeated: a connection that broke may be found out by the next operation.
const ATTEMPTS_MAX: usize = 10;

impl World {
    async fn new() -> Self {
        let home = Home::new().await;
        let port = Postgres::shared().await.port();
        let proxy = Proxy::start((Ipv4Addr::LOCALHOST, port).into()).await;
        let mut options = callers_clock();
        options.connections_max = 1;
        let url = home.url.replace(&port.to_string(), &proxy.port().to_string());
        let store = PostgresStore::open(&url, options).await.unwrap();
        let acme = tenant(&store).await;
        let budget = budget(&store, &acme, INCLUDED).await;
        let node = store.register("node", Boot(1), at(0)).await.unwrap();
        let account = acquire(&store, &node, &budget, INCLUDED / 2).await.account;
        Self { proxy, store, home, acme, budget, node, account }
    }

    /// Breaks the connection after ever more bytes of an operation, until it gets through as a whole, and then loses the
    /// answer to what makes it durable. Each time the operation is repeated. Returns how many operations there were.
    async fn break_everywhere(&self, operation: impl AsyncFn(u128) -> Result<(), StoreError>) -> u128 {
        self.break_everywhere_until(b"COMMIT", operation).await
    }

    /// The same for an operation that becomes durable by the message that these bytes are in.
    async fn break_everywhere_until(
        &self,
        durable: &'static [u8],
        operation: impl AsyncFn(u128) -> Result<(), StoreError>,
    ) -> u128 {
        let mut number = 0;
        loop {
            number += 1;
            self.proxy.cut_after(1 + usize::try_from(number).unwrap() * STEP);
            let whole = self.repeat(number, &operation).await;
            self.proxy.heal();
            if whole {
                break;
            }
        }
        assert!(number > 3, "the connection was broken in the middle");
        number += 1;
        self.proxy.lose_answer_to(durable);
        assert!(!self.repeat(number, &operation).await, "the answer to the commit was lost");
        number
    }

    /// Whether the first attempt succeeded with the trap still set.
    async fn repeat(&self, number: u128, operation: &impl AsyncFn(u128) -> Result<(), StoreError>) -> bool {
        let mut last = None;
        for attempt in 0..ATTEMPTS_MAX {
            match operation(number).await {
                Ok(()) => return attempt == 0 && self.proxy.is_armed(),
                Err(error @ StoreError::Unavailable { .. }) => last = Some(error),
                Err(other) => panic!("a broken connection is not {other:?}"),
            }
        }
        panic!("operation {number} does not succeed any more: {last:?}");
    }

    /// What is granted, settled and leased, after everything was found in order.
    async fn sums(&self) -> [i64; 3] {
        assert_clean(&self.store.audit().await.unwrap());
        let account = self.store.account(self.budget.spec.id, at(9)).await.unwrap();
        [account.granted, account.settled, account.leased]
    }
}

fn nanos(number: u128) -> i64 {
    i64::try_from(number).unwrap()
}

fn top_up(world: &World, key: &str) -> NewGrant {
    NewGrant {
        budget: world.budget.spec.id,
        kind: GrantKind::TopUp,
        amount: 10,
        idempotency_key: key.into(),
        reason: "".into(),
        actor: Act::of_system(at(0)).by,
        overcommit: false,
        consent: Consent::NotNeeded,
    }
}

#[tokio::test]
async fn a_grant_is_booked_once_wherever_the_connection_breaks() {
    let world = World::new().await;
    let grants = world.break_everywhere(async |number| {
        world.store.grant(&top_up(&world, &format!("key {number}")), at(2)).await.map(drop)
    });
    let grants = nanos(grants.await);
    assert_eq!(world.sums().await, [INCLUDED + 10 * grants, 0, INCLUDED / 2]);
}

#[tokio::test]
async fn a_charge_is_booked_once_wherever_the_connection_breaks() {
    let world = World::new().await;
    let batch = b"gpt-4o-mini"; // its one statement carries the model of the usage record
    let charges = world.break_everywhere_until(batch, async |number| {
        let ops = [
            open(&world.node, hold_id(number), world.account, 9, world.acme.id),
            settle(&world.node, hold_id(number), world.account, 7, world.acme.id),
        ];
        world.store.commit(&world.node, &ops, at(3)).await
    });
    let charged = 7 * nanos(charges.await);
    assert_eq!(world.sums().await, [INCLUDED, charged, INCLUDED / 2 - charged]);
}

#[tokio::test]
async fn a_batch_is_written_however_often_connecting_failed_before() {
    let world = World::new().await;
    let batch = |number| [settle(&world.node, hold_id(number), world.account, 7, world.acme.id)];
    world.store.commit(&world.node, &batch(1), at(3)).await.unwrap();
    world.proxy.cut();
    for _ in 0..3 {
        let lost = world.store.grant(&top_up(&world, "lost"), at(3)).await;
        assert!(matches!(lost, Err(StoreError::Unavailable { .. })), "{lost:?}");
    }
    world.proxy.heal();
    world.store.commit(&world.node, &batch(2), at(3)).await.expect("the network is back");
    assert_eq!(world.sums().await, [INCLUDED, 14, INCLUDED / 2 - 14]);
}

#[tokio::test]
async fn rights_are_never_given_twice_and_found_again_wherever_the_connection_breaks() {
    let world = World::new().await;
    let asks = [LeaseAsk { budget: world.budget.spec.id, min: 1, want: 1_000 }];
    let acquire = world.break_everywhere(async |_| match world.store.acquire(&world.node, &asks, TTL, at(4)).await {
        Ok(granted) => {
            assert_eq!(granted[0].granted, 1_000);
            Ok(())
        }
        Err(AcquireError::Store(error)) => Err(error),
        Err(other) => panic!("there is room: {other:?}"),
    });
    let asked = nanos(acquire.await) * 1_000;
    let [granted, settled, leased] = world.sums().await;
    assert_eq!((granted, settled), (INCLUDED, 0));
    assert!(leased >= INCLUDED / 2 + asked, "every answer that arrived was meant");
    // What was granted and never heard of comes back with the node's next life.
    let node = world.store.register("node", Boot(1), at(5)).await.unwrap();
    world.store.reclaim(at(5), OrphanPolicy::Evidence, at(5)).await.unwrap();
    assert_eq!(world.sums().await, [INCLUDED, 0, 0]);
    assert_eq!(acquire_all(&world, &node).await, INCLUDED);
}

async fn acquire_all(world: &World, by: &Incarnation) -> i64 {
    let ask = LeaseAsk { budget: world.budget.spec.id, min: 1, want: i64::MAX };
    world.store.acquire(by, &[ask], TTL, at(6)).await.expect("there is room")[0].granted
}

#[tokio::test]
async fn giving_back_renewing_and_registering_can_be_repeated_wherever_the_connection_breaks() {
    let world = World::new().await;
    let given = world.break_everywhere(async |_| world.store.give_back(&world.node, &[(world.account, 10)]).await);
    let given = 10 * nanos(given.await);
    let [_, _, leased] = world.sums().await;
    assert!(leased <= INCLUDED / 2 - given, "{leased}");
    world.break_everywhere(async |_| world.store.renew(&world.node, TTL, at(4)).await.map(drop)).await;
    let lives = world.break_everywhere(async |_| world.store.register("node", Boot(1), at(5)).await.map(drop)).await;
    let nodes = world.store.nodes(at(5)).await.unwrap();
    assert!(nodes[0].epoch > nanos(lives), "every life has its own epoch");
}

#[tokio::test]
async fn a_tenant_is_made_once_wherever_the_connection_breaks() {
    let world = World::new().await;
    let made = world.break_everywhere(async |number| {
        let new = NewTenant {
            slug: format!("tenant-{number}").into(),
            name: "Tenant".into(),
            domain: None,
            kind: TenantKind::Customer,
            users_max: None,
            zone: TimeZone::UTC,
            currency: Currency::EUR,
            settings: Default::default(),
        };
        match world.store.create_tenant(&new, &Act::of_system(at(1))).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()), // it was made, and the answer lost
            Err(error) => Err(error),
        }
    });
    let made = usize::try_from(made.await).unwrap();
    let tenants = world.store.tenants(PageRequest { after: None, limit: 1_000 }).await.unwrap().items.len();
    assert_eq!(tenants, made + 1);
    assert_eq!(raw(&world.home.url, "SELECT count(DISTINCT slug) FROM tenants").await.unwrap(), tenants.to_string());
}

#[tokio::test]
async fn while_nobody_answers_everything_is_refused_and_then_goes_on_by_itself() {
    let world = World::new().await;
    world.proxy.cut();
    let refused = world.store.tenant(world.acme.id).await.expect_err("nobody answers");
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
    let charge = [settle(&world.node, hold_id(1), world.account, 7, world.acme.id)];
    let refused = world.store.commit(&world.node, &charge, at(3)).await.expect_err("nobody answers");
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
    world.proxy.heal();
    world.store.commit(&world.node, &charge, at(3)).await.expect("the next attempt connects again");
    assert_eq!(world.sums().await, [INCLUDED, 7, INCLUDED / 2 - 7]);
}
