//! Secrets at rest: what must be read again (keys of providers, seeds of second factors, keys that sign) is in the database
//! only as XChaCha20-Poly1305 seals it.
//!
//! Three layers. The [master key](MasterKey) is in no database: it comes from the environment or from a file. It wraps
//! data keys, of which each tenant has its own and the platform another. A data key seals secrets, each for the one
//! [`Place`] where it is kept: moved to another row, it does not open. [`Vault`] is all that others need.

mod error;
pub(crate) mod master;
mod sealed;
mod vault;

pub use error::VaultError;
pub use master::{MasterKey, MasterKeySource};
pub use sealed::{PLAIN_BYTES_MAX, Place};
pub use vault::{Rotation, Vault};
