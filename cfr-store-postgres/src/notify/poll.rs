//! Behind a pooler no session lasts, so nobody can be told: the table is read instead.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Row};
use tokio::sync::mpsc;

use super::{NameHolder, Order, Shared};
use crate::error::Fault;
use crate::writer::Pool;

/// How often the table is read.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How often it is read while somebody waits for rights.
const HURRIED_INTERVAL: Duration = Duration::from_millis(25);
/// Rows may become visible out of their order: those of the last seconds are read again. In microseconds.
const SETTLING_MICROS: i64 = 5_000_000;
/// Rows are deleted when they are this old, in microseconds.
pub(super) const RETENTION_MICROS: i64 = 60_000_000;

/// Reads until nobody can ask any more.
pub(super) async fn run(pool: Pool, shared: Arc<Shared>, mut orders: mpsc::Receiver<Order>) {
    loop {
        tokio::select! {
            Err(fault) = follow(&pool, &shared) => shared.disconnected(fault),
            () = refuse(&mut orders) => return,
        }
        tokio::select! {
            () = tokio::time::sleep(POLL_INTERVAL) => {}
            () = refuse(&mut orders) => return,
        }
    }
}

/// Without a session nobody can hold a name.
async fn refuse(orders: &mut mpsc::Receiver<Order>) {
    while let Some(order) = orders.recv().await {
        let _ = order.answer.send(NameHolder::Unknown); // who does not wait any more knows as much
    }
}

async fn follow(pool: &Pool, shared: &Shared) -> Result<std::convert::Infallible, Fault> {
    let mut reader = TableReader::default();
    reader.read(pool).await?;
    shared.connected();
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause(shared)) => {}
            () = shared.hurried.notified() => {}
        }
        let words = reader.read(pool).await?;
        if words.missed {
            shared.missed_some();
        }
        words.new.iter().for_each(|word| shared.hear(word));
    }
}

fn pause(shared: &Shared) -> Duration {
    if shared.waiting.load(Ordering::Relaxed) > 0 { HURRIED_INTERVAL } else { POLL_INTERVAL }
}

/// How far the table was read.
#[derive(Debug, Default)]
struct TableReader {
    /// Everything up to here was read.
    low: i64,
    /// What was read beyond.
    seen: BTreeSet<i64>,
    /// When it was last read, by the clock of the database.
    at: Option<i64>,
}

struct Words {
    new: Vec<String>,
    /// Some may have been deleted unread.
    missed: bool,
}

impl TableReader {
    /// What is new. A simple statement: it needs no transaction behind a pooler.
    async fn read(&mut self, pool: &Pool) -> Result<Words, Fault> {
        let sql = format!(
            "DELETE FROM notices WHERE at < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - {RETENTION_MICROS}; \
             SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now, seq, at, word \
             FROM (SELECT) one LEFT JOIN notices ON seq > {} ORDER BY seq",
            self.low
        );
        let mut connection = pool.connection().await?;
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *connection).await?;
        let now: i64 = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get("now")?;
        let mut new = Vec::new();
        for row in &rows {
            let Some(seq) = row.try_get::<Option<i64>, _>("seq")? else { break };
            let (at, word): (i64, String) = (row.try_get("at")?, row.try_get("word")?);
            if self.seen.insert(seq) {
                new.push(word);
            }
            if at < now - SETTLING_MICROS {
                self.low = seq;
            }
        }
        self.seen = self.seen.split_off(&(self.low + 1));
        let missed = self.at.replace(now).is_some_and(|before| now - before > RETENTION_MICROS);
        Ok(Words { new, missed })
    }
}
