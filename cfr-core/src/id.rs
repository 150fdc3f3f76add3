//! Identifiers: UUIDv7 newtypes that show their kind, so that a `UserId` cannot be passed as a `TenantId`.
//!
//! An id prints as `prefix_` and 26 digits of Crockford base 32, for example `key_01jd6w4f7zg2p8c3m5x9v0r1ab`:
//! sortable by creation time, greppable, and safe in URLs.

use std::fmt::{self, Display};
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Digits of Crockford base 32, lower case: no `i`, `l`, `o`, `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 128 bits in base 32.
const DIGITS: usize = 26;

/// A string that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an id like `{expected}_…` with 26 digits")]
pub struct IdError {
    /// The prefix that the id should have.
    pub expected: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// What stands before the underscore when the id is shown.
            pub const PREFIX: &'static str = $prefix;

            /// A new id that sorts by `now` and is unique by 74 random bits.
            #[must_use]
            pub fn generate(now: Timestamp) -> Self {
                Self(uuid_v7(now))
            }

            /// The id with this value, as a store keeps it.
            #[must_use]
            pub const fn from_u128(value: u128) -> Self {
                Self(value)
            }

            /// The value, as a store keeps it.
            #[must_use]
            pub const fn as_u128(self) -> u128 {
                self.0
            }

            /// The value as 16 bytes, big endian: byte order is creation order.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// The id with these 16 bytes, big endian.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }
        }

        impl Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_id(f, Self::PREFIX, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_id(f, Self::PREFIX, self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_id(Self::PREFIX, text).map(Self).ok_or(IdError { expected: Self::PREFIX })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(/** A customer organisation: owns users, keys and budgets. */ TenantId, "ten");
id!(/** A person inside a tenant. */ UserId, "usr");
id!(/** An API key. */ KeyId, "key");
id!(/** A product that is sold; its terms are in immutable versions. */ ProductId, "prd");
id!(/** One immutable version of a product's terms. */ ProductVersionId, "prv");
id!(/** A budget: a limit per period for one scope. */ BudgetId, "bud");
id!(/** Money added to a budget. */ GrantId, "grt");
id!(/** One request of a caller. It also names the hold and is its idempotency key. */ RequestId, "req");

id!(/** A file that a provider keeps for a caller. */ FileId, "file");
id!(/** Requests that a provider answers within a day. */ BatchId, "batch");

id!(/** A browser that is signed in. */ SessionId, "ses");
id!(/** A secret that works once: an invitation, a password reset. */ TokenId, "tok");
id!(/** A letter that waits to be sent. */ MailId, "mail");
id!(/** A program that people sign in to with their account here (OpenID Connect client). */ ClientId, "app");
id!(/** What one sign-in at one client has become: a code, then tokens that follow each other. */ ClientSessionId, "cse");
id!(/** An account at a provider: where calls go, and what signs them. */ ProviderAccountId, "pac");
id!(/** A key that seals secrets in the database, itself wrapped by the master key. */ DataKeyId, "dek");
id!(/** Terms that somebody is on for as long as they pay. */ SubscriptionId, "sub");
id!(/** Money that is granted or taken when a second person agrees. */ ProposalId, "pro");
id!(/** Somebody who asked to be told more. */ LeadId, "lea");

/// The hold of a request has the request's id: one request, one hold, one charge.
pub type HoldId = RequestId;

/// One period of one budget, the unit that money is booked on. Numbered by the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(pub i64);

impl Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "acc_{}", self.0)
    }
}

fn uuid_v7(now: Timestamp) -> u128 {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    let random = rand::random::<[u8; 10]>();
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().as_u128()
}

fn write_id(f: &mut fmt::Formatter<'_>, prefix: &str, value: u128) -> fmt::Result {
    let mut digits = [0_u8; DIGITS];
    let mut rest = value;
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest & 31) as usize];
        rest >>= 5;
    }
    write!(f, "{prefix}_{}", std::str::from_utf8(&digits).unwrap_or_default())
}

/// Also takes the plain UUID form, which other systems export.
fn parse_id(prefix: &str, text: &str) -> Option<u128> {
    let Some(digits) = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')) else {
        return Uuid::try_parse(text).ok().map(|uuid| uuid.as_u128());
    };
    if digits.len() != DIGITS {
        return None;
    }
    digits.bytes().try_fold(0_u128, |value, byte| {
        let digit = ALPHABET.iter().position(|&letter| letter == byte.to_ascii_lowercase())?;
        value.checked_mul(32)?.checked_add(digit as u128)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_print_and_parse() {
        let id = UserId::generate(Timestamp::UNIX_EPOCH);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(UserId::from_bytes(id.to_bytes()), id);
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let user = UserId::generate(Timestamp::UNIX_EPOCH).to_string();
        assert_eq!(user.parse::<TenantId>(), Err(IdError { expected: "ten" }));
        assert!("usr_".parse::<UserId>().is_err());
        assert!("usr_zzzzzzzzzzzzzzzzzzzzzzzzzz".parse::<UserId>().is_err(), "more than 128 bits");
    }

    #[test]
    fn ids_sort_by_time() {
        let early = KeyId::generate(Timestamp::from_second(1_000).expect("valid"));
        let late = KeyId::generate(Timestamp::from_second(2_000).expect("valid"));
        assert!(early < late && early.to_string() < late.to_string());
    }
}
