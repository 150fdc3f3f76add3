//! After a crash: what the dead lives of nodes left behind.

use std::collections::BTreeMap;

use cfr_billing::store::{Incarnation, OrphanPolicy, Reclaimed, SettledHold};
use cfr_core::chat::UsageSource;
use cfr_core::id::{AccountId, HoldId};
use cfr_core::ledger::UsageRecord;
use cfr_core::time::Timestamp;
use fail::fail_point;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::hold::{self, JournaledHold};
use super::lease::Return;
use super::{booking, lease, node};
use crate::error::Fault;
use crate::lock::AdvisoryLock;
use crate::row::{Fields, query, uuid};
use crate::writer::Tx;

/// How long a released hold is remembered: seven days.
const RELEASED_KEPT_MICROS: i64 = 7 * 24 * 3_600 * 1_000_000;

/// Holds or leases that one transaction ends, at most: as long as it lasts nobody else books on their accounts.
const PIECE_MAX: i64 = 500;

/// How far reclaiming has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) found: Reclaimed,
    /// The last lease that was looked at.
    after: Option<DeadLease>,
    pub(super) over: bool,
}

/// Declares lives dead whose leases expired, ends open holds of dead lives by `policy`, and takes their leases back, but
/// what suspended holds keep counted. One piece of that, after those before; what is left when the process ends is found
/// by the next one. All holds end before a lease is taken.
pub(super) async fn reclaim(
    tx: &mut Tx<'_>,
    expired_before: Timestamp,
    policy: OrphanPolicy,
    before: &Progress,
) -> Result<Progress, Fault> {
    AdvisoryLock::Reclaim.take(tx.connection()).await?;
    let mut progress = Progress { found: before.found.clone(), after: before.after.clone(), over: false };
    if before.found == Reclaimed::default() && before.after.is_none() {
        forget_ended(tx).await?;
        node::forget_killed(tx).await?;
        fail_point!("reclaim.ended_forgotten");
        node::fence_expired(tx, expired_before.as_microsecond()).await?;
    }
    let orphans = hold::orphans(tx, PIECE_MAX).await?;
    if orphans.is_empty() {
        take_leases(tx, &mut progress).await?;
    } else {
        end(tx, orphans, policy, &mut progress.found).await?;
        fail_point!("reclaim.orphan_ended");
    }
    Ok(progress)
}

/// Takes the next dead leases back.
async fn take_leases(tx: &mut Tx<'_>, progress: &mut Progress) -> Result<(), Fault> {
    let leases = dead_leases(tx, progress.after.as_ref()).await?;
    let suspended = hold::suspended(tx).await?;
    let mut returns = Vec::new();
    for DeadLease { by, account, left } in &leases {
        let kept: i64 = suspended.iter().filter(|hold| lies_on(hold, by, *account)).map(|hold| hold.amount).sum();
        if *left > kept || kept == 0 {
            returns.push(Return { by: by.clone(), account: *account, amount: left - kept });
        }
    }
    progress.found.leases += returns.len() as u64;
    progress.over = leases.is_empty();
    progress.after = leases.into_iter().next_back();
    if !returns.is_empty() {
        lease::give_back(tx, &returns).await?;
        fail_point!("reclaim.lease_taken");
    }
    Ok(())
}

/// Rows of holds that have ended: charged ones that a late `Open` wrote again, and released ones of long ago.
async fn forget_ended(tx: &mut Tx<'_>) -> Result<(), Fault> {
    let sql = "DELETE FROM holds WHERE state = 0 AND EXISTS (SELECT FROM charge_keys k WHERE k.id = holds.id)";
    query(sql).execute(tx.connection()).await?;
    let long_ago = tx.micros().saturating_sub(RELEASED_KEPT_MICROS);
    query("DELETE FROM holds WHERE state = 2 AND at < $1").bind(long_ago).execute(tx.connection()).await?;
    Ok(())
}

fn lies_on(hold: &JournaledHold, by: &Incarnation, account: AccountId) -> bool {
    hold.by == *by && hold.accounts.contains(&account)
}

/// Ends orphans: all of one kind at once, and charges by the node that held.
async fn end(
    tx: &mut Tx<'_>,
    orphans: Vec<JournaledHold>,
    policy: OrphanPolicy,
    found: &mut Reclaimed,
) -> Result<(), Fault> {
    let (mut suspended, mut released) = (Vec::new(), Vec::new());
    let mut charged = BTreeMap::<_, Vec<SettledHold>>::new();
    for orphan in orphans {
        match (policy, orphan.evidence) {
            (OrphanPolicy::Suspend, _) => suspended.push(orphan.id),
            (OrphanPolicy::Evidence, Some((amount, record))) => {
                let (id, epoch) = (orphan.id, orphan.by.epoch);
                let accounts = orphan.accounts.into_iter().collect();
                let settled = SettledHold { id, epoch, accounts, charged: amount.max(0), record: partial(record) };
                charged.entry(orphan.by.node).or_default().push(settled);
            }
            _ => released.push(orphan.id),
        }
    }
    found.suspended += suspended.len() as u64;
    found.released += released.len() as u64;
    set_state(tx, &suspended, "UPDATE holds SET state = 1 WHERE id = ANY($1)").await?;
    set_state(tx, &released, "UPDATE holds SET state = 2 WHERE id = ANY($1)").await?;
    for (node, settled) in charged {
        let epoch = settled.iter().map(|hold| hold.epoch).max().unwrap_or_default();
        booking::settle_orphans(tx, &Incarnation { node, epoch }, &settled).await?;
        fail_point!("reclaim.orphan_charged");
        let ids: Vec<HoldId> = settled.iter().map(|hold| hold.id).collect();
        set_state(tx, &ids, "DELETE FROM holds WHERE id = ANY($1)").await?;
        found.charged += ids.len() as u64;
    }
    Ok(())
}

async fn set_state(tx: &mut Tx<'_>, holds: &[HoldId], sql: &'static str) -> Result<(), Fault> {
    if holds.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = holds.iter().map(|hold| uuid(hold.to_bytes())).collect();
    query(sql).bind(ids).execute(tx.connection()).await?;
    Ok(())
}

/// The checkpointed record says what was delivered, not how the request ended.
fn partial(mut record: Box<UsageRecord>) -> Box<UsageRecord> {
    record.source = UsageSource::Partial;
    record
}

/// A lease of a life that is over.
#[derive(Debug, Clone)]
struct DeadLease {
    by: Incarnation,
    account: AccountId,
    left: i64,
}

/// The next leases of lives that are over, in the order of their accounts.
async fn dead_leases(tx: &mut Tx<'_>, after: Option<&DeadLease>) -> Result<Vec<DeadLease>, Fault> {
    let sql = "SELECT l.node, l.epoch, l.account_id, l.granted - l.consumed AS remainder FROM leases l \
         LEFT JOIN nodes n ON n.name = l.node WHERE (n.name IS NULL OR l.epoch < n.epoch + n.fenced::int) \
         AND (l.account_id, l.node, l.epoch) > ($1, $2, $3) ORDER BY l.account_id, l.node, l.epoch LIMIT $4";
    let (account, node, epoch) = after.map_or((i64::MIN, "", 0), |l| (l.account.0, &*l.by.node, l.by.epoch));
    let rows = query(sql).bind(account).bind(node).bind(epoch).bind(PIECE_MAX).fetch_all(tx.connection()).await?;
    let lease = |row: &PgRow| -> Result<_, Fault> {
        let by = Incarnation { node: row.text("node")?, epoch: row.int("epoch")? };
        Ok(DeadLease { by, account: AccountId(row.int("account_id")?), left: row.int("remainder")? })
    };
    rows.iter().map(lease).collect()
}
