//! The gateway over a scripted upstream and a ledger whose commits the test decides.

mod durability;
mod scripted;
mod streamed;
mod whole;
