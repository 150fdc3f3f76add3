//! What replicas share through a real Redis, and what happens when it is killed, frozen, emptied and started again.
#![cfg(feature = "redis")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails")]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cfr_core::broadcast::{Broadcast, Notice};
use cfr_core::cache::{CacheKey, CachedAnswer, ResponseCache};
use cfr_core::chat::Usage;
use cfr_core::id::TenantId;
use cfr_core::ledger::Scope;
use cfr_core::limit::{Limit, LimitExceeded, PARALLEL_REQUESTS_MAX, Permit, REQUESTS_PER_MINUTE, RateLimiter};
use cfr_core::money::PicoUsd;
use cfr_core::secret::Secret;
use cfr_core::time::{Clock, SystemClock};
use cfr_server::observe::RedisMetrics;
use cfr_server::redis::{Redis, RedisOptions};
use http::HeaderValue;
use tokio::task::JoinSet;

/// More than a busy machine needs, where Redis is there; where it is not, a request waits so long at the most.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long anything that must happen may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// Replicas, as each of them is told.
const REPLICAS: u32 = 2;

struct Replica {
    redis: Redis,
    metrics: RedisMetrics,
}

impl Replica {
    async fn of(server: &cfr_testbed::Redis) -> Self {
        Self::with(options(server)).await
    }

    async fn with(options: RedisOptions) -> Self {
        let (metrics, clock) = (RedisMetrics::default(), Arc::new(SystemClock::new()));
        let replicas = Arc::new(|| REPLICAS);
        let redis = Redis::start(options, replicas, clock, metrics.clone()).await.expect("a good address");
        Self { redis, metrics }
    }

    async fn admit(&self, limits: &[Limit]) -> Result<Permit, LimitExceeded> {
        self.redis.limiter.admit(limits).await
    }

    /// Waits for a place under a limit of parallel requests.
    async fn place(&self, limit: Limit) -> Permit {
        eventually(async || self.admit(&[limit]).await.ok()).await
    }
}

fn options(server: &cfr_testbed::Redis) -> RedisOptions {
    RedisOptions { answer_timeout: PATIENCE, ..RedisOptions::new(Secret::new(server.url())) }
}

fn limit(per_minute: u32, parallel: u32) -> Limit {
    Limit {
        scope: Scope::Key,
        subject: 7,
        requests_per_minute: NonZeroU32::new(per_minute),
        parallel_requests_max: NonZeroU32::new(parallel),
    }
}

/// What comes of asking again and again, where no event says that it is time.
async fn eventually<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.expect("it happens in time")
}

#[tokio::test]
async fn two_replicas_share_one_limit_per_minute() {
    let server = cfr_testbed::Redis::start().await;
    let (one, two) = (Replica::of(&server).await, Replica::of(&server).await);
    let limits = [limit(4, 0)];
    for (replica, remaining) in [(&one, 3), (&two, 2), (&two, 1), (&one, 0)] {
        let rate = replica.admit(&limits).await.expect("within the limit").rate.expect("limited");
        assert_eq!((rate.limit, rate.remaining), (4, remaining));
    }
    let refused = one.admit(&limits).await.expect_err("the fifth");
    assert_eq!((refused.what, refused.limit), (REQUESTS_PER_MINUTE, 4));
    assert!(refused.retry_after > Duration::from_secs(5) && refused.retry_after <= Duration::from_secs(15));
    assert_eq!(one.metrics.local_limits.get() + two.metrics.local_limits.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_at_once_on_four_replicas_get_no_more_than_the_limit() {
    let server = cfr_testbed::Redis::start().await;
    let mut replicas = Vec::new();
    for _ in 0..4 {
        replicas.push(Arc::new(Replica::of(&server).await));
    }
    let (per_minute, clock) = (20, SystemClock::new());
    let mut requests = JoinSet::new();
    for number in 0..400 {
        let replica = Arc::clone(&replicas[number % replicas.len()]);
        requests.spawn(async move { replica.admit(&[limit(per_minute, 0)]).await.is_ok() });
    }
    let admitted = requests.join_all().await.into_iter().filter(|admitted| *admitted).count();
    let came_free = usize::try_from(clock.uptime().as_secs()).expect("short") / 3; // one every three seconds
    assert!((20..=20 + came_free).contains(&admitted), "{admitted} in {:?}", clock.uptime());
    assert_eq!(replicas.iter().map(|replica| replica.metrics.local_limits.get()).sum::<u64>(), 0);
}

#[tokio::test]
async fn a_refusal_by_one_limit_takes_nothing_of_the_others() {
    let server = cfr_testbed::Redis::start().await;
    let replica = Replica::of(&server).await;
    let (wide, narrow) = (Limit { scope: Scope::Tenant, ..limit(10, 5) }, limit(1, 0));
    drop(replica.admit(&[wide, narrow]).await.expect("first"));
    for _ in 0..5 {
        assert_eq!(replica.admit(&[wide, narrow]).await.expect_err("narrow").scope, Scope::Key);
    }
    let rate = replica.admit(&[wide]).await.expect("wide").rate.expect("limited");
    assert_eq!((rate.limit, rate.remaining), (10, 8));
}

#[tokio::test]
async fn parallel_places_are_shared_and_come_back_when_their_requests_end() {
    let server = cfr_testbed::Redis::start().await;
    let (one, two) = (Replica::of(&server).await, Replica::of(&server).await);
    let limit = limit(0, 2);
    let first = one.place(limit).await;
    let _second = two.place(limit).await;
    for replica in [&one, &two] {
        assert_eq!(replica.admit(&[limit]).await.expect_err("third").what, PARALLEL_REQUESTS_MAX);
    }
    drop(first);
    let _third = two.place(limit).await;
    assert!(one.admit(&[limit]).await.is_err());
}

#[tokio::test]
async fn the_places_of_a_dead_replica_come_back_and_those_of_a_living_one_stay() {
    let server = cfr_testbed::Redis::start().await;
    let options = RedisOptions { place_kept: Duration::from_millis(900), ..options(&server) };
    let (dead, alive) = (Replica::with(options.clone()).await, Replica::with(options.clone()).await);
    let limit = limit(0, 2);
    let _lost = dead.place(limit).await;
    let _kept = alive.place(limit).await;
    dead.redis.close().await; // nobody renews its place any longer, as after a kill
    assert!(alive.admit(&[limit]).await.is_err());
    let _third = alive.place(limit).await;
    tokio::time::sleep(2 * options.place_kept).await; // what is tested is that time changes nothing
    assert!(alive.admit(&[limit]).await.is_err(), "both places are renewed");
}

#[tokio::test]
async fn a_killed_redis_makes_limits_local_and_stricter_and_comes_back_by_itself() {
    let server = cfr_testbed::Redis::start().await;
    let replica = Replica::of(&server).await;
    let limits = [limit(10, 10)];
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(replica.admit(&limits).await.expect("shared"));
    }
    server.stop().await;
    for remaining in [1, 0] {
        let permit = replica.admit(&limits).await.expect("half of ten, less three");
        let rate = permit.rate.expect("limited");
        assert_eq!((rate.limit, rate.remaining), (5, remaining));
        running.push(permit);
    }
    assert_eq!(replica.admit(&limits).await.expect_err("beyond the share").limit, 5);
    assert_eq!((replica.metrics.local_limits.get(), replica.metrics.up.get()), (3, 0));
    server.start_again().await;
    replica.redis.connected().await;
    let rate = replica.admit(&limits).await.expect("shared again, and fresh").rate.expect("limited");
    assert_eq!((rate.limit, rate.remaining), (10, 9));
    assert_eq!(replica.metrics.up.get(), 1);
}

#[tokio::test]
async fn the_running_requests_are_known_to_a_redis_that_was_emptied() {
    let server = cfr_testbed::Redis::start().await;
    let options = RedisOptions { place_kept: Duration::from_millis(900), ..options(&server) };
    let replica = Replica::with(options).await;
    let limit = limit(0, 1);
    let running = replica.place(limit).await;
    server.command(&["FLUSHALL"]).await;
    eventually(async || {
        (server.command(&["EXISTS", "cfr:run:key:00000000000000000000000000000007"]).await == "1").then_some(())
    })
    .await;
    assert!(replica.admit(&[limit]).await.is_err(), "its place was renewed");
    drop(running);
    drop(replica.place(limit).await);
}

#[tokio::test]
async fn flushall_makes_limits_fresh_and_nothing_else() {
    let server = cfr_testbed::Redis::start().await;
    let replica = Replica::of(&server).await;
    drop(replica.admit(&[limit(1, 0)]).await.expect("first"));
    assert!(replica.admit(&[limit(1, 0)]).await.is_err());
    server.command(&["FLUSHALL"]).await;
    server.command(&["SCRIPT", "FLUSH"]).await;
    assert!(replica.admit(&[limit(1, 0)]).await.is_ok());
    assert!(replica.admit(&[limit(1, 0)]).await.is_err());
    assert_eq!((replica.metrics.local_limits.get(), replica.metrics.up.get()), (0, 1));
}

#[tokio::test]
async fn a_frozen_redis_costs_one_timeout_not_one_for_each_request() {
    let server = cfr_testbed::Redis::start().await;
    let timeout = Duration::from_millis(300);
    let replica = Replica::with(RedisOptions { answer_timeout: timeout, ..options(&server) }).await;
    replica.redis.connected().await;
    drop(replica.admit(&[limit(100_000, 0)]).await.expect("shared"));
    server.signal("STOP").await;
    let clock = SystemClock::new();
    for _ in 0..1_000 {
        drop(replica.admit(&[limit(100_000, 0)]).await.expect("local"));
    }
    assert!(clock.uptime() < 10 * timeout, "1000 requests took {:?}", clock.uptime());
    assert_eq!(replica.metrics.local_limits.get(), 1_000);
    server.signal("CONT").await;
    replica.redis.connected().await;
    let rate = replica.admit(&[limit(100_000, 0)]).await.expect("shared").rate.expect("limited");
    assert_eq!(rate.limit, 100_000);
}

#[tokio::test]
async fn a_redis_that_is_not_there_at_the_start_is_found_later() {
    let server = cfr_testbed::Redis::start().await;
    server.stop().await;
    let replica = Replica::of(&server).await;
    let rate = replica.admit(&[limit(10, 0)]).await.expect("local").rate.expect("limited");
    assert_eq!((rate.limit, replica.metrics.up.get()), (5, 0));
    server.start_again().await;
    replica.redis.connected().await;
    let rate = replica.admit(&[limit(10, 0)]).await.expect("shared").rate.expect("limited");
    assert_eq!((rate.limit, replica.metrics.up.get()), (10, 1));
}

#[tokio::test]
async fn a_redis_that_refuses_to_write_counts_as_away() {
    let server = cfr_testbed::Redis::start().await;
    let replica = Replica::of(&server).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let rate = replica.admit(&[limit(10, 0)]).await.expect("local").rate.expect("limited");
    assert_eq!((rate.limit, replica.metrics.up.get()), (5, 0));
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    replica.redis.connected().await;
    assert_eq!(replica.admit(&[limit(10, 0)]).await.expect("shared").rate.expect("limited").limit, 10);
}

fn key(tenant: u128) -> CacheKey {
    CacheKey { tenant: TenantId::from_u128(tenant), digest: [9; 32] }
}

fn answer() -> CachedAnswer {
    CachedAnswer {
        content_type: HeaderValue::from_static("application/json"),
        body: Bytes::from_static(b"{\"an\":\"answer\"}"),
        provider: "openai".into(),
        model: "m".into(),
        usage: Usage::text(9, 12),
        cost: PicoUsd(12_345),
        finish: None,
    }
}

#[tokio::test]
async fn replicas_share_answers_until_their_time_is_over() {
    let server = cfr_testbed::Redis::start().await;
    let (one, two) = (Replica::of(&server).await, Replica::of(&server).await);
    assert_eq!(two.redis.cache.get(&key(1)).await, None);
    one.redis.cache.put(key(1), answer(), DEADLINE);
    assert_eq!(eventually(async || two.redis.cache.get(&key(1)).await).await, answer());
    assert_eq!(two.redis.cache.get(&key(2)).await, None, "of another tenant");
    one.redis.cache.put(key(1), answer(), Duration::from_millis(50));
    eventually(async || two.redis.cache.get(&key(1)).await.is_none().then_some(())).await;
}

#[tokio::test]
async fn without_redis_no_answer_is_found() {
    let server = cfr_testbed::Redis::start().await;
    let replica = Replica::of(&server).await;
    replica.redis.cache.put(key(1), answer(), DEADLINE);
    eventually(async || replica.redis.cache.get(&key(1)).await).await;
    server.stop().await;
    assert_eq!(replica.redis.cache.get(&key(1)).await, None);
    replica.redis.cache.put(key(1), answer(), DEADLINE);
    server.start_again().await;
    replica.redis.connected().await;
    assert_eq!(replica.redis.cache.get(&key(1)).await, None);
}

#[tokio::test]
async fn what_is_no_answer_of_ours_is_a_miss() {
    let server = cfr_testbed::Redis::start().await;
    let replica = Replica::of(&server).await;
    server.command(&["SET", &format!("cfr:answer:{}", key(1)), "damaged"]).await;
    assert_eq!(replica.redis.cache.get(&key(1)).await, None);
    assert_eq!(replica.metrics.up.get(), 1);
}

/// The next notices; all kinds count as one, in any order.
async fn hear(notices: &mut tokio::sync::broadcast::Receiver<Notice>) -> Notice {
    tokio::time::timeout(DEADLINE, notices.recv()).await.expect("in time").expect("somebody tells")
}

/// Waits until the channel is open: then every kind of notice was given.
async fn opened(replica: &Replica) -> tokio::sync::broadcast::Receiver<Notice> {
    let mut notices = replica.redis.broadcast.subscribe();
    while !replica.redis.broadcast.is_connected() {
        hear(&mut notices).await;
    }
    eventually(async || replica.redis.broadcast.is_connected().then_some(())).await;
    replica.redis.broadcast.subscribe()
}

#[tokio::test]
async fn a_notice_reaches_every_replica_once() {
    let server = cfr_testbed::Redis::start().await;
    let (one, two) = (Replica::of(&server).await, Replica::of(&server).await);
    let (mut here, mut there) = (opened(&one).await, opened(&two).await);
    one.redis.broadcast.publish(Notice::Access).await.expect("told");
    assert_eq!((hear(&mut here).await, hear(&mut there).await), (Notice::Access, Notice::Access));
    two.redis.broadcast.publish(Notice::Prices).await.expect("told");
    assert_eq!((hear(&mut here).await, hear(&mut there).await), (Notice::Prices, Notice::Prices));
}

#[tokio::test]
async fn after_a_gap_every_kind_of_notice_is_given_once() {
    let server = cfr_testbed::Redis::start().await;
    let replica = Replica::of(&server).await;
    let mut notices = opened(&replica).await;
    server.stop().await;
    eventually(async || (!replica.redis.broadcast.is_connected()).then_some(())).await;
    assert!(replica.redis.broadcast.publish(Notice::Prices).await.is_err(), "nobody else hears it");
    assert_eq!(hear(&mut notices).await, Notice::Prices, "but we do");
    server.start_again().await;
    for &notice in Notice::ALL {
        assert_eq!(hear(&mut notices).await, notice);
    }
    assert!(notices.is_empty() && replica.redis.broadcast.is_connected());
}

#[tokio::test]
async fn a_notice_of_an_unknown_kind_stands_for_all() {
    let server = cfr_testbed::Redis::start().await;
    let replica = Replica::of(&server).await;
    let mut notices = opened(&replica).await;
    server.command(&["PUBLISH", "cfr:notices", r#"{"from":1,"notice":"of a newer version"}"#]).await;
    assert_eq!((hear(&mut notices).await, hear(&mut notices).await), (Notice::Access, Notice::Prices));
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_without_being_quoted() {
    let start = |url: &str| {
        let (metrics, clock) = (RedisMetrics::default(), Arc::new(SystemClock::new()));
        Redis::start(RedisOptions::new(Secret::new(url)), Arc::new(|| REPLICAS), clock, metrics)
    };
    let text = start("postgres://user:sesame@host/").await.expect_err("no address").to_string();
    assert!(text.contains("redis://") && !text.contains("sesame") && !text.contains('\n'), "{text}");
    start("rediss://:secret@127.0.0.1:1/1").await.expect("TLS is built in, and the server may come later");
}
