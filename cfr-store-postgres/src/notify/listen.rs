//! The direct connection: Postgres tells of every word, and knows that this process lives.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{PgPool, Row};
use tokio::sync::mpsc;

use super::poll::RETENTION_MICROS;
use super::{NameHolder, Order, Shared};
use crate::error::Fault;
use crate::row::query;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before connecting again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);
/// How often the connection is asked whether it is still there.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How long it may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The server ends the session of a machine that is gone within half a minute, and frees the name.
const KEEPALIVE: [(&str, &str); 3] =
    [("tcp_keepalives_idle", "10"), ("tcp_keepalives_interval", "5"), ("tcp_keepalives_count", "3")];

/// Deletes what everybody has read or never will. It is also the heartbeat.
const FORGET: &str = "DELETE FROM notices WHERE seq IN (SELECT seq FROM notices \
     WHERE at < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $1 \
     ORDER BY seq LIMIT 1000 FOR UPDATE SKIP LOCKED)";

/// The names that this process got, and takes again when its session breaks.
type Names = BTreeSet<Arc<str>>;

/// Listens until nobody can ask any more.
pub(super) async fn run(options: PgConnectOptions, shared: Arc<Shared>, mut orders: mpsc::Receiver<Order>) {
    let options = options.options(KEEPALIVE);
    let mut names = Names::new();
    loop {
        // A pool for each connection: one that does not answer must not keep the next one waiting.
        let pool = pool_of_one(options.clone());
        match listen(&pool, &shared, &mut orders, &mut names).await {
            Ok(()) => return pool.close().await,
            Err(fault) => shared.disconnected(fault),
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

fn pool_of_one(options: PgConnectOptions) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_TIMEOUT);
    pool.max_lifetime(None).idle_timeout(None).connect_lazy_with(options)
}

/// One connection, until it breaks, or until nobody can ask any more.
async fn listen(
    pool: &PgPool,
    shared: &Shared,
    orders: &mut mpsc::Receiver<Order>,
    names: &mut Names,
) -> Result<(), Fault> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    let channel = query("SELECT notices_channel()").fetch_one(&mut listener).await?;
    listener.listen(channel.try_get(0)?).await?;
    take_names(&mut listener, names, shared).await?;
    shared.connected();
    loop {
        tokio::select! {
            word = listener.try_recv() => match word? {
                Some(word) => shared.hear(word.payload()),
                None => return Err(broken()),
            },
            order = orders.recv() => match order {
                Some(order) => answer(&mut listener, order, names, shared).await?,
                None => return Ok(()),
            },
            () = tokio::time::sleep(HEARTBEAT) => in_time(heartbeat(&mut listener, names, shared)).await?,
        }
    }
}

async fn heartbeat(listener: &mut PgListener, names: &Names, shared: &Shared) -> Result<(), Fault> {
    query(FORGET).bind(RETENTION_MICROS).execute(&mut *listener).await?;
    take_names(listener, names, shared).await
}

/// An earlier session of this process may hold a name until the server notices that it is gone.
async fn take_names(listener: &mut PgListener, names: &Names, shared: &Shared) -> Result<(), Fault> {
    for node in names {
        take_name(listener, node, shared).await?;
    }
    Ok(())
}

async fn answer(
    listener: &mut PgListener,
    Order { node, answer }: Order,
    names: &mut Names,
    shared: &Shared,
) -> Result<(), Fault> {
    if answer.is_closed() {
        return Ok(()); // asked long ago, before the connection came back
    }
    let held = in_time(take_name(listener, &node, shared)).await?;
    if held {
        names.insert(node);
    }
    // Nobody may wait any more: the name is ours all the same.
    let _ = answer.send(if held { NameHolder::Us } else { NameHolder::Other });
    Ok(())
}

/// The lock lasts as long as the session.
async fn take_name(listener: &mut PgListener, node: &Arc<str>, shared: &Shared) -> Result<bool, Fault> {
    if shared.names().contains(node) {
        return Ok(true);
    }
    let sql = "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || ' ' || $1, 0))";
    let taken = query(sql).bind(&**node).fetch_one(listener).await?.try_get(0)?;
    if taken {
        shared.names().insert(Arc::clone(node));
    }
    Ok(taken)
}

/// A connection that does not answer is as good as broken.
async fn in_time<T>(answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| broken())?
}

fn broken() -> Fault {
    sqlx::Error::Io(std::io::ErrorKind::ConnectionAborted.into()).into()
}
