//! Second factors that are typed: codes of an app (RFC 6238) and recovery codes. Each works once.

use cfr_billing::people::{Credentials, SecretHash};
use cfr_core::secret::Secret;
use cfr_core::time::Timestamp;
use subtle::ConstantTimeEq as _;
use totp_rs::{Algorithm, Builder, Totp};
use zeroize::Zeroizing;

use super::secret;

/// Bytes of a seed: what RFC 4226 recommends for SHA-1.
const SEED_BYTES: usize = 20;
/// Digits of a code: what every app can.
const DIGITS: u8 = 6;
/// Seconds of a step.
const STEP_SECONDS: u64 = 30;
/// Steps by which a clock may be wrong, either way.
const STEPS_ASIDE: u16 = 1;
/// Recovery codes that are made at once.
pub const RECOVERY_CODES: usize = 10;
/// Random bytes of a recovery code.
const RECOVERY_BYTES: usize = 16;
/// Letters between two dashes of a recovery code.
const RECOVERY_GROUP: usize = 8;

/// How a code was right, in the words of RFC 8176; ours where it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// A code of the app.
    App,
    /// A recovery code, which is gone now.
    Recovery,
}

impl Spent {
    /// The method of the session.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::App => "otp",
            Self::Recovery => "recovery",
        }
    }
}

/// A seed that was opened, and how it is kept: it counts only as long as it is kept so.
#[derive(Debug)]
pub struct Seed {
    /// As it is kept.
    pub sealed: std::sync::Arc<str>,
    /// The bytes.
    pub plain: Zeroizing<Vec<u8>>,
}

/// New random bytes for an app.
#[must_use]
pub fn new_seed() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(rand::random::<[u8; SEED_BYTES]>().to_vec())
}

/// What an app reads as a picture or a link (`otpauth:`), and what people type when it cannot: the seed in base 32.
#[must_use]
pub fn enrolment(seed: &[u8], issuer: &str, account: &str) -> Option<(Secret, Secret)> {
    let plain = |text: &str| text.replace(':', " "); // a colon separates the two in the link
    let totp = builder(seed).with_issuer(Some(plain(issuer))).with_account_name(plain(account)).build().ok()?;
    Some((Secret::new(totp.to_url().ok()?), Secret::new(totp.secret().to_base32())))
}

fn builder(seed: &[u8]) -> Builder {
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(DIGITS)
        .with_step_duration(STEP_SECONDS)
        .with_skew(STEPS_ASIDE)
        .with_secret(seed.to_vec())
}

/// The step whose code this is, if it is near `now` and after `last`.
#[must_use]
pub fn step_of(seed: &[u8], code: &str, now: Timestamp, last: i64) -> Option<i64> {
    let totp: Totp = builder(seed).build().ok()?;
    let step = totp.check(code, u64::try_from(now.as_second()).ok()?)?;
    i64::try_from(step).ok().filter(|step| *step > last)
}

/// Takes a code, of the app or for recovery, as used. What was used before is wrong.
pub fn spend(credentials: &mut Credentials, seed: Option<&Seed>, code: &str, now: Timestamp) -> Option<Spent> {
    let code: String = code.chars().filter(|letter| !letter.is_whitespace() && *letter != '-').collect();
    if code.len() == usize::from(DIGITS) {
        spend_app(credentials, seed?, &code, now)
    } else {
        spend_recovery(credentials, &code)
    }
}

fn spend_app(credentials: &mut Credentials, seed: &Seed, code: &str, now: Timestamp) -> Option<Spent> {
    let totp = credentials.totp.as_mut().filter(|totp| totp.confirmed_at.is_some() && totp.secret == seed.sealed)?;
    totp.last_step = step_of(&seed.plain, code, now, totp.last_step)?;
    Some(Spent::App)
}

fn spend_recovery(credentials: &mut Credentials, code: &str) -> Option<Spent> {
    let hash = secret::hash(&code.to_ascii_lowercase());
    let place = credentials.recovery.iter().position(|kept| kept.0.ct_eq(&hash.0).into())?;
    credentials.recovery.remove(place);
    Some(Spent::Recovery)
}

/// New recovery codes to show once, and what is kept of them.
#[must_use]
pub fn new_recovery_codes() -> (Vec<Secret>, Vec<SecretHash>) {
    (0..RECOVERY_CODES).map(|_| recovery_code()).unzip()
}

fn recovery_code() -> (Secret, SecretHash) {
    let hex: String = rand::random::<[u8; RECOVERY_BYTES]>().iter().map(|byte| format!("{byte:02x}")).collect();
    let groups: Vec<&str> =
        (0..hex.len()).step_by(RECOVERY_GROUP).filter_map(|at| hex.get(at..at + RECOVERY_GROUP)).collect();
    (Secret::new(groups.join("-")), secret::hash(&hex))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cfr_billing::people::Totp as KeptTotp;
    use cfr_core::id::UserId;

    use super::*;

    /// The seed of RFC 6238, appendix B.
    const SEED: &[u8] = b"12345678901234567890";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn enrolled() -> (Credentials, Seed) {
        let mut credentials = Credentials::none(UserId::from_u128(1));
        let sealed: Arc<str> = "sealed".into();
        credentials.totp = Some(KeptTotp { secret: Arc::clone(&sealed), confirmed_at: Some(at(0)), last_step: 0 });
        (credentials, Seed { sealed, plain: Zeroizing::new(SEED.to_vec()) })
    }

    #[track_caller]
    fn check_step(second: i64, code: &str, expected: Option<i64>) {
        assert_eq!(step_of(SEED, code, at(second), 0), expected, "{code} at {second}");
    }

    #[test]
    fn codes_are_those_of_the_standard_one_step_around() {
        check_step(59, "287082", Some(1)); // the last six of its eight digits
        check_step(1_111_111_109, "081804", Some(37_037_036));
        check_step(89, "287082", Some(1));
        check_step(90, "287082", None);
        check_step(1_111_111_109, "81804", None);
        check_step(1_111_111_109, "+81804", None);
    }

    #[test]
    fn a_step_counts_once_and_earlier_ones_no_more() {
        let (mut credentials, seed) = enrolled();
        assert_eq!(spend(&mut credentials, Some(&seed), "287 082", at(59)), Some(Spent::App));
        assert_eq!(spend(&mut credentials, Some(&seed), "287082", at(59)), None);
        let before = builder(SEED).build().expect("a seed").generate(0).to_string();
        assert_eq!(spend(&mut credentials, Some(&seed), &before, at(59)), None);
    }

    #[test]
    fn a_seed_protects_only_when_it_was_confirmed_and_is_the_one_that_is_kept() {
        let (mut credentials, seed) = enrolled();
        credentials.totp.as_mut().expect("kept").confirmed_at = None;
        assert_eq!(spend(&mut credentials, Some(&seed), "287082", at(59)), None);
        let (mut credentials, seed) = enrolled();
        credentials.totp.as_mut().expect("kept").secret = "another".into();
        assert_eq!(spend(&mut credentials, Some(&seed), "287082", at(59)), None);
    }

    #[test]
    fn a_recovery_code_works_once_however_it_is_typed() {
        let (codes, hashes) = new_recovery_codes();
        let mut credentials = Credentials { recovery: hashes, ..Credentials::none(UserId::from_u128(1)) };
        assert_eq!(codes.len(), RECOVERY_CODES);
        let typed = codes[3].expose().to_ascii_uppercase().replace('-', " ");
        assert_eq!(spend(&mut credentials, None, &typed, at(0)), Some(Spent::Recovery));
        assert_eq!(spend(&mut credentials, None, &typed, at(0)), None);
        assert_eq!(spend(&mut credentials, None, "", at(0)), None);
        assert_eq!(credentials.recovery.len(), RECOVERY_CODES - 1);
    }

    #[test]
    fn an_app_is_told_who_and_where() {
        let (url, typed) = enrolment(SEED, "CloudFreedom Router", "ada@example.org").expect("a seed");
        assert!(
            url.expose().starts_with("otpauth://totp/CloudFreedom%20Router:ada%40example.org?"),
            "{}",
            url.expose()
        );
        assert!(url.expose().contains("secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"), "{}", url.expose());
        assert_eq!(typed.expose(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    }
}
