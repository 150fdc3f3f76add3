//! Corrections: a sum that an audit found wrong is set to what its parts add up to, and the books say so.

use cfr_billing::audit_log::{Act, Event};
use cfr_billing::store::{Correction, StoreError, Sum};

use crate::audit_log;
use crate::bulk::Rows;
use crate::chain;
use crate::error::Fault;
use crate::writer::Tx;

/// Sets the sum right and seals that it was done: a batch of its own.
pub(super) async fn correct(tx: &mut Tx<'_>, correction: &Correction, reason: &str, act: &Act) -> Result<(), Fault> {
    let Correction { account, sum, from, to, .. } = *correction;
    if set_sum(tx, correction).await? == 0 {
        return Err(refusal(tx, correction).await?.into());
    }
    let mut row = Rows::default();
    chain::push_correction(&mut row, (account.0, sum.name()), (from, to), (reason, &act.by.label()));
    chain::append_correction(tx, row).await?;
    audit_log::record(tx, act, &Event::ledger_corrected(correction, reason)).await
}

/// How many accounts were changed: one, unless the sum is not what it was. Where the right sums are beyond the limit,
/// what is used stays allowed, and nothing more until it has drained.
async fn set_sum(tx: &mut Tx<'_>, correction: &Correction) -> Result<u64, Fault> {
    let sql = match correction.sum {
        Sum::Granted => {
            "UPDATE accounts SET granted = ?3, overcommit = max(overcommit, settled + leased - ?3) WHERE id = ?1 AND granted = ?2"
        }
        Sum::Settled => {
            "UPDATE accounts SET settled = ?3, overcommit = max(overcommit, ?3 + leased - granted) WHERE id = ?1 AND settled = ?2"
        }
        Sum::Leased => {
            "UPDATE accounts SET leased = ?3, overcommit = max(overcommit, settled + ?3 - granted) WHERE id = ?1 AND leased = ?2"
        }
        Sum::Overrun => "UPDATE accounts SET overrun = ?3 WHERE id = ?1 AND overrun = ?2",
        _ => return Err(StoreError::invalid("this store has no such sum").into()),
    };
    let update = sqlx::query(sql).bind(correction.account.0).bind(correction.from).bind(correction.to);
    let changed = update.execute(tx.connection()).await;
    Ok(changed
        .map_err(Fault::from)
        .map_err(|fault| fault.or_conflict("the corrected sum would break a limit"))?
        .rows_affected())
}

async fn refusal(tx: &mut Tx<'_>, correction: &Correction) -> Result<StoreError, Fault> {
    let account = sqlx::query("SELECT id FROM accounts WHERE id = ?").bind(correction.account.0);
    if account.fetch_optional(tx.connection()).await?.is_none() {
        return Ok(StoreError::NotFound { what: "account" });
    }
    Ok(StoreError::conflict(format_args!(
        "{}: {} is no longer {}; look at the books again",
        correction.account,
        correction.sum.name(),
        correction.from
    )))
}
