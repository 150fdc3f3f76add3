//! The plain reference implementation.

/// PLACEHOLDER
#[derive(Debug)]
pub struct MemoryLedger;
