//! The rules of the CloudFreedom Router: a gateway for LLM calls that cannot overspend, without any I/O of its own.

pub mod batch;
pub mod broadcast;
pub mod cache;
pub mod chat;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod gateway;
pub mod hook;
pub mod id;
pub mod ledger;
pub mod limit;
pub mod money;
pub mod price;
pub mod route;
pub mod secret;
pub mod time;
pub mod upstream;

pub use gateway::{Answer, Caller, Gateway};
pub use ledger::BudgetLedger;
pub use money::Money;
pub use time::{Clock, SystemClock};
pub use upstream::Upstream;
