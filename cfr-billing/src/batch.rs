//! Files and batches that callers have at providers: whose they are, where they are, and what is set aside for them.
//!
//! What is in a file stays with the provider; only ids are kept here. The money of a batch waits as the rights of a life of
//! its own in the ledger ([`Escrow::set_aside`](crate::escrow::Escrow::set_aside)), for as long as the batch takes, whoever
//! starts and ends meanwhile.

use std::sync::Arc;

use cfr_core::batch::BatchModel;
use cfr_core::chat::Operation;
use cfr_core::id::{AccountId, BatchId, BudgetId, FileId, TenantId, UserId};
use cfr_core::ledger::CallerIds;
use cfr_core::money::Currency;
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::store::Incarnation;

/// How the names of lives begin whose rights are set aside for a batch. Each has one epoch.
pub const LIFE_PREFIX: &str = "batch:";
/// The only epoch of such a life.
const EPOCH: i64 = 1;

/// Whose something is: a user's, by whichever key; without a user, that of all service keys of the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The tenant.
    pub tenant: TenantId,
    /// The user; none for service keys.
    pub user: Option<UserId>,
}

impl Owner {
    /// Whose is what this caller makes.
    #[must_use]
    pub const fn of(caller: &CallerIds) -> Self {
        Self { tenant: caller.tenant, user: caller.user }
    }
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FilePurpose {
    /// It has the requests of a batch.
    Batch,
    /// It has what became of them.
    BatchOutput,
}

impl FilePurpose {
    /// OpenAI's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::BatchOutput => "batch_output",
        }
    }
}

/// A file that a provider keeps for somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// Its id here.
    pub id: FileId,
    /// Whose it is.
    pub owner: Owner,
    /// The account at the provider, by the upstream's configured name.
    pub upstream: Arc<str>,
    /// The provider's id.
    pub upstream_id: Arc<str>,
    /// What it is for.
    pub purpose: FilePurpose,
    /// The caller's name for it.
    pub name: Arc<str>,
    /// How long it is; unknown for what a provider made.
    pub bytes: Option<u64>,
    /// The models of its lines.
    pub models: Vec<BatchModel>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// How far a batch has come. Only forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BatchState {
    /// Written down. Rights may be set aside for it; nothing was sent.
    Begun,
    /// Rights are set aside. The provider may have it.
    Reserved,
    /// The provider has it.
    Running,
    /// It is over, charged, and its rights were given back.
    Settled,
    /// The provider never had it, and its rights were given back.
    Void,
}

impl BatchState {
    /// The word that stores keep.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Reserved => "reserved",
            Self::Running => "running",
            Self::Settled => "settled",
            Self::Void => "void",
        }
    }

    /// Whether nothing is left to be done.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Settled | Self::Void)
    }
}

/// A batch with everything that its settlement needs, whoever makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Its id here, and its mark at the provider.
    pub id: BatchId,
    /// Whose it is.
    pub owner: Owner,
    /// How far it has come.
    pub state: BatchState,
    /// When somebody has to look after it next.
    pub due_at: Timestamp,
    /// Who made it; every record of its lines names them.
    pub caller: CallerIds,
    /// The account at the provider, by the upstream's configured name.
    pub upstream: Arc<str>,
    /// The provider's id, once it is known.
    pub upstream_id: Option<Arc<str>>,
    /// The file of requests.
    pub input_file: FileId,
    /// What the lines ask for.
    pub operation: Operation,
    /// How many there are.
    pub lines: u64,
    /// The models of the lines.
    pub models: Vec<BatchModel>,
    /// The budgets that it is charged to.
    pub path: Vec<BudgetId>,
    /// Where rights are set aside: the accounts of the budgets at the time of its making.
    pub accounts: Vec<AccountId>,
    /// What is set aside on each, in nano-units: no less than its lines can cost.
    pub amount_nanos: i64,
    /// What the dearest line can cost, in nano-units: charged for a line that was answered without saying what it used.
    pub line_max_nanos: i64,
    /// The currency of the budgets.
    pub currency: Currency,
    /// The exchange rate, frozen: millionths of a dollar per unit.
    pub fx_e6: i64,
    /// The margin, frozen: basis points.
    pub margin_bps: u32,
    /// When it was made: which prices hold, and in which period it is charged.
    pub created_at: Timestamp,
    /// The caller's notes.
    pub metadata: Map<String, Value>,
    /// The last that the provider said: OpenAI's object, with the provider's ids.
    pub object: Map<String, Value>,
    /// The file of answers, once it is settled.
    pub output_file: Option<FileId>,
    /// The file of lines that failed, once it is settled.
    pub error_file: Option<FileId>,
}

impl Batch {
    /// The life in the ledger whose rights are those of the batch.
    #[must_use]
    pub fn life(&self) -> Incarnation {
        life(self.id)
    }
}

/// The life in the ledger whose rights are those of a batch.
#[must_use]
pub fn life(batch: BatchId) -> Incarnation {
    Incarnation { node: format!("{LIFE_PREFIX}{batch}").into(), epoch: EPOCH }
}
