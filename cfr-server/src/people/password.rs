//! What a password may be (NIST SP 800-63B-4, ASVS 5.0 §6.2): long, hard to guess, and otherwise whatever people like.

use cfr_billing::identity::{Tenant, User};
use cfr_core::secret::Secret;
use unicode_normalization::UnicodeNormalization as _;
use zxcvbn::{Score, zxcvbn};

/// Characters of a password that protects an account by itself.
pub const CHARS_MIN: usize = 15;
/// Characters of a password beside a second factor.
pub const CHARS_MIN_WITH_SECOND_FACTOR: usize = 8;
/// Characters of any password: more than people type, and no way to keep the server busy.
pub const CHARS_MAX: usize = 128;
/// Harder to guess than ten million tries of somebody who knows what people choose, and who they are.
const SCORE_MIN: Score = Score::Three;
/// Words that say where a password is used.
const OUR_WORDS: [&str; 3] = ["cloudfreedom", "router", "cfr"];
/// Letters of a word about the user that a password must not be made of.
const WORD_CHARS_MIN: usize = 3;

/// Why a password is not taken, in words for who chose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// Too short.
    #[error("at least {min} characters")]
    TooShort {
        /// The least number of characters.
        min: usize,
    },
    /// Too long.
    #[error("at most {CHARS_MAX} characters")]
    TooLong,
    /// Among the first that an attacker tries.
    #[error("too easy to guess: avoid common passwords, names, dates, repeated words and rows of the keyboard")]
    Guessable,
}

/// A password in the one form in which it is hashed and compared: however a keyboard composes its letters (NFC).
#[must_use]
pub fn prepare(password: &Secret) -> Secret {
    Secret::new(password.expose().nfc().collect::<String>())
}

/// Whether a password is too long to be anybody's.
#[must_use]
pub fn is_too_long(password: &Secret) -> bool {
    password.expose().chars().nth(CHARS_MAX).is_some()
}

/// Passes a password that may protect this user.
///
/// # Errors
/// Why not.
pub fn judge(password: &Secret, whose: &Whose, second_factor: bool) -> Result<(), Unfit> {
    let min = if second_factor { CHARS_MIN_WITH_SECOND_FACTOR } else { CHARS_MIN };
    if is_too_long(password) {
        return Err(Unfit::TooLong);
    }
    if password.expose().chars().count() < min {
        return Err(Unfit::TooShort { min });
    }
    let words: Vec<&str> = whose.words.iter().map(String::as_str).chain(OUR_WORDS).collect();
    if zxcvbn(password.expose(), &words).score() < SCORE_MIN {
        return Err(Unfit::Guessable);
    }
    Ok(())
}

/// Words that somebody who knows a person would try first.
#[derive(Debug, Clone, Default)]
pub struct Whose {
    words: Vec<String>,
}

impl Whose {
    /// About somebody with this address and name.
    #[must_use]
    pub fn named(email: &str, name: &str) -> Self {
        let mut whose = Self::default();
        whose.add(email);
        whose.add(name);
        whose
    }

    /// About a user of a tenant.
    #[must_use]
    pub fn of(user: &User, tenant: &Tenant) -> Self {
        let mut whose = Self::named(&user.email, &user.name);
        whose.add(&tenant.slug);
        whose.add(&tenant.name);
        whose
    }

    fn add(&mut self, text: &str) {
        let text = text.to_lowercase();
        let parts = text.split(|letter: char| !letter.is_alphanumeric());
        self.words.extend(parts.filter(|part| part.chars().count() >= WORD_CHARS_MIN).map(ToOwned::to_owned));
        self.words.push(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(password: &str, second_factor: bool, expected: Result<(), Unfit>) {
        let whose = Whose::named("ada.lovelace@example.org", "Ada Lovelace");
        assert_eq!(judge(&Secret::new(password), &whose, second_factor), expected, "{password}");
    }

    #[test]
    fn length_is_what_counts_and_less_of_it_beside_a_second_factor() {
        check("vurnaq-epsol-7kd", false, Ok(()));
        check("vurnaq-7kd", false, Err(Unfit::TooShort { min: 15 }));
        check("vurnaq-7kd", true, Ok(()));
        check("vq-7kd!", true, Err(Unfit::TooShort { min: 8 }));
        check(&"vurnaq ä".repeat(16), false, Ok(()));
        check(&"ä".repeat(129), false, Err(Unfit::TooLong));
    }

    #[test]
    fn what_is_tried_first_is_refused_however_long_it_is() {
        for guessable in [
            "passwordpassword",
            "aaaaaaaaaaaaaaaaaa",
            "123456789012345678",
            "qwertyuiopasdfghjkl",
            "lovelacelovelace",
            "cloudfreedomrouter",
        ] {
            check(guessable, false, Err(Unfit::Guessable));
        }
    }

    #[test]
    fn a_letter_is_the_same_however_it_was_composed() {
        assert_eq!(prepare(&Secret::new("u\u{308}ber")), prepare(&Secret::new("\u{fc}ber")));
    }
}
