//! After a crash: what the dead lives of nodes left behind.

use cfr_billing::store::{Incarnation, OrphanPolicy, Reclaimed, SettledHold};
use cfr_core::chat::UsageSource;
use cfr_core::id::{AccountId, HoldId};
use cfr_core::ledger::UsageRecord;
use fail::fail_point;

use super::hold::{self, JournaledHold};
use super::{booking, lease, node};
use crate::error::Fault;
use crate::row::Fields;
use crate::writer::Tx;

/// How long a released hold is remembered: seven days.
const RELEASED_KEPT_MICROS: i64 = 7 * 24 * 3_600 * 1_000_000;

/// Ends open holds of dead lives by `policy` and takes their leases back, but what suspended holds keep counted.
pub(super) async fn reclaim(tx: &mut Tx<'_>, policy: OrphanPolicy) -> Result<Reclaimed, Fault> {
    forget_ended(tx).await?;
    node::forget_killed(tx).await?;
    fail_point!("reclaim.ended_forgotten");
    let mut found = Reclaimed::default();
    for orphan in hold::orphans(tx).await? {
        end(tx, orphan, policy, &mut found).await?;
        fail_point!("reclaim.orphan_ended");
    }
    let suspended = hold::suspended(tx).await?;
    tx.note_suspended(!suspended.is_empty());
    for (by, account, left) in dead_leases(tx).await? {
        let kept: i64 = suspended.iter().filter(|hold| lies_on(hold, &by, account)).map(|hold| hold.amount).sum();
        if left > kept || kept == 0 {
            lease::give_back(tx, &by, account, left - kept).await?;
            fail_point!("reclaim.lease_taken");
            found.leases += 1;
        }
    }
    Ok(found)
}

/// Rows of holds that have ended: charged ones that a late `Open` wrote again, and released ones of long ago.
async fn forget_ended(tx: &mut Tx<'_>) -> Result<(), Fault> {
    let sql = "DELETE FROM holds WHERE (state = 2 AND at < ?) \
         OR (state = 0 AND EXISTS (SELECT 1 FROM usage_records u WHERE u.id = holds.id))";
    let long_ago = tx.micros().saturating_sub(RELEASED_KEPT_MICROS);
    sqlx::query(sql).bind(long_ago).execute(tx.connection()).await?;
    Ok(())
}

fn lies_on(hold: &JournaledHold, by: &Incarnation, account: AccountId) -> bool {
    hold.by == *by && hold.accounts.contains(&account)
}

async fn end(tx: &mut Tx<'_>, orphan: JournaledHold, policy: OrphanPolicy, found: &mut Reclaimed) -> Result<(), Fault> {
    match (policy, orphan.evidence) {
        (OrphanPolicy::Suspend, _) => {
            set_state(tx, orphan.id, "UPDATE holds SET state = 1 WHERE id = ?").await?;
            found.suspended += 1;
        }
        (OrphanPolicy::Evidence, Some((charged, record))) => {
            let (id, epoch) = (orphan.id, orphan.by.epoch);
            let accounts = orphan.accounts.into_iter().collect();
            let settled = SettledHold { id, epoch, accounts, charged: charged.max(0), record: partial(record) };
            booking::settle_orphans(tx, &orphan.by, &[settled]).await?;
            fail_point!("reclaim.orphan_charged");
            set_state(tx, id, "DELETE FROM holds WHERE id = ?").await?;
            found.charged += 1;
        }
        _ => {
            set_state(tx, orphan.id, "UPDATE holds SET state = 2 WHERE id = ?").await?;
            found.released += 1;
        }
    }
    Ok(())
}

async fn set_state(tx: &mut Tx<'_>, hold: HoldId, sql: &'static str) -> Result<(), Fault> {
    sqlx::query(sql).bind(hold.to_bytes().to_vec()).execute(tx.connection()).await?;
    Ok(())
}

/// The checkpointed record says what was delivered, not how the request ended.
fn partial(mut record: Box<UsageRecord>) -> Box<UsageRecord> {
    record.source = UsageSource::Partial;
    record
}

/// Leases of lives that are over, with what they have left.
async fn dead_leases(tx: &mut Tx<'_>) -> Result<Vec<(Incarnation, AccountId, i64)>, Fault> {
    let sql = "SELECT l.node, l.epoch, l.account_id, l.granted - l.consumed AS remainder FROM leases l \
         LEFT JOIN nodes n ON n.name = l.node WHERE l.epoch < coalesce(n.epoch + n.fenced, 9223372036854775807)";
    let rows = sqlx::query(sql).fetch_all(tx.connection()).await?;
    let lease = |row| -> Result<_, Fault> {
        let row: &sqlx::sqlite::SqliteRow = row;
        let by = Incarnation { node: row.text("node")?, epoch: row.int("epoch")? };
        Ok((by, AccountId(row.int("account_id")?), row.int("remainder")?))
    };
    rows.iter().map(lease).collect()
}
