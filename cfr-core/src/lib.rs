//! The rules of the CloudFreedom Router: a gateway for LLM calls that cannot overspend, without any I/O of its own.

pub mod chat;
pub mod id;
pub mod ledger;
pub mod money;
pub mod price;
pub mod secret;
pub mod time;
pub mod upstream;
