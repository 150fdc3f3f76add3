//! Who there is: tenants, users and keys.

pub(crate) mod key;
pub(crate) mod tenant;
pub(crate) mod user;
