//! The texts of letters, in every language: a subject, an empty line, and paragraphs. The page for mail programs that show
//! more than text is made of the same paragraphs.

use std::collections::BTreeMap;

use cfr_billing::identity::Language;
use minijinja::value::Value as Gaps;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde_json::Value;

/// Characters of one gap: a longer name is cut, so that a letter stays ours and not its reader's.
const VALUE_CHARS_MAX: usize = 200;
/// The page around the paragraphs.
const LAYOUT: &str = include_str!("letters/layout.html");

macro_rules! templates {
    ($($(#[$doc:meta])* $variant:ident => $name:literal $(, link $path:literal)?;)*) => {
        /// Which letter.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Template { $($(#[$doc])* $variant,)* }

        impl Template {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name under which a letter is kept.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The path of the page where its token is used; none where there is nothing to do.
            const fn path(self) -> Option<&'static str> {
                match self { $(Self::$variant => { let path: &[&str] = &[$($path)?]; match path { [path] => Some(*path), _ => None } })* }
            }

            /// Its text.
            const fn text(self, language: Language) -> &'static str {
                match (self, language) {
                    $(
                        (Self::$variant, Language::De) => include_str!(concat!("letters/", $name, ".de.txt")),
                        (Self::$variant, _) => include_str!(concat!("letters/", $name, ".en.txt")),
                    )*
                }
            }
        }
    };
}

templates! {
    /// An invitation, to who is none of us yet. Gaps: `tenant`, `token`.
    Invitation => "invitation", link "/auth/invitation";
    /// A link that proves the address of who signed up. Gaps: `tenant`, `token`.
    VerifyEmail => "verify_email", link "/auth/verify-email";
    /// That somebody signed up with an address that has an account. Gaps: `tenant`.
    SignUpKnown => "sign_up_known", link "/auth/sign-in";
    /// A link that proves a new address; it goes there. Gaps: `name`, `token`.
    ChangeEmail => "change_email", link "/auth/confirm-email";
    /// That somebody wants another address; it goes to the one so far. Gaps: `name`.
    EmailChanging => "email_changing";
    /// A link to set a new password. Gaps: `name`, `token`.
    ResetPassword => "reset_password", link "/auth/reset-password";
    /// That something changed that somebody signs in with. Gaps: `name`, `change` (the word of a [`Change`]).
    SignInChanged => "sign_in_changed";
    /// That somebody waits to be activated; it goes to the administrators of the tenant. Gaps: `tenant`, `email`.
    AccountWaiting => "account_waiting", link "/auth/sign-in";
    /// That somebody asked to be told more; it goes to who sells. Gaps: `name`, `email`.
    LeadReceived => "lead_received";
    /// That the account works now. Gaps: `name`, `tenant`.
    Activated => "activated", link "/auth/sign-in";
}

/// What changed that somebody signs in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The password.
    Password,
    /// An app with codes was added.
    AppAdded,
    /// The app was removed.
    AppRemoved,
    /// A passkey was added.
    PasskeyAdded,
    /// A passkey was removed.
    PasskeyRemoved,
    /// There are new recovery codes.
    RecoveryCodesMade,
    /// An identity at another provider was linked.
    IdentityLinked,
    /// Every second factor was removed.
    FactorsRemoved,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Password,
        Self::AppAdded,
        Self::AppRemoved,
        Self::PasskeyAdded,
        Self::PasskeyRemoved,
        Self::RecoveryCodesMade,
        Self::IdentityLinked,
        Self::FactorsRemoved,
    ];

    /// The word by which the letter's text knows it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::AppAdded => "app_added",
            Self::AppRemoved => "app_removed",
            Self::PasskeyAdded => "passkey_added",
            Self::PasskeyRemoved => "passkey_removed",
            Self::RecoveryCodesMade => "recovery_codes_made",
            Self::IdentityLinked => "identity_linked",
            Self::FactorsRemoved => "factors_removed",
        }
    }
}

/// A letter as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What it is about.
    pub subject: String,
    /// For mail programs that show text.
    pub text: String,
    /// For those that show pages.
    pub html: String,
}

impl Template {
    /// The letter that is kept under this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|template| template.name() == name)
    }

    /// The path and query where somebody goes with this token.
    pub(super) fn link(self, token: &str) -> Option<String> {
        let path = self.path()?;
        Some(if token.is_empty() { path.to_owned() } else { format!("{path}?token={token}") })
    }

    /// Fills the gaps. `origin` is where browsers find this server.
    ///
    /// # Errors
    /// When a gap is not filled.
    pub fn write(self, language: Language, values: &Value, origin: &str) -> Result<Written, minijinja::Error> {
        let mut values = readable(values);
        let token = values.get("token").map_or("", String::as_str);
        let link = self.link(token).map(|path| format!("{origin}{path}")).unwrap_or_default();
        values.insert("link".into(), link.clone());
        let environment = environment();
        let filled = environment.render_named_str("letter.txt", self.text(language), Gaps::from_pairs(values))?;
        let (subject, text) = filled.split_once("\n\n").unwrap_or((&filled, ""));
        let paragraphs: Vec<Gaps> = text.trim().split("\n\n").map(|text| paragraph(text, &link)).collect();
        let page = minijinja::context! { language => language.code(), subject, paragraphs };
        let html = environment.render_named_str("letter.html", LAYOUT, page)?;
        Ok(Written { subject: subject.trim().to_owned(), text: format!("{}\n", text.trim()), html })
    }
}

fn paragraph(text: &str, link: &str) -> Gaps {
    minijinja::context! { text, is_link => !link.is_empty() && text == link }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|name| match name.ends_with(".html") {
        true => AutoEscape::Html,
        false => AutoEscape::None,
    });
    environment
}

/// Values on one line each, and none of them long: people choose their names.
fn readable(values: &Value) -> BTreeMap<String, String> {
    let on_one_line = |text: &str| -> String {
        text.chars().take(VALUE_CHARS_MAX).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
    };
    let fields = values.as_object().into_iter().flatten();
    fields.filter_map(|(name, value)| Some((name.clone(), on_one_line(value.as_str()?)))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn values() -> Value {
        json!({ "name": "Ada <b>", "tenant": "Grün & Söhne", "email": "ada@example.org", "token": "abc-1", "change": "password" })
    }

    #[test]
    fn every_letter_is_written_in_every_language() {
        for &template in Template::ALL {
            let [english, german] = [Language::En, Language::De].map(|language| {
                template.write(language, &values(), "https://ai.example.org").expect("every gap is filled")
            });
            assert_ne!(english, german, "{}", template.name());
            for letter in [english, german] {
                assert!(!letter.subject.is_empty() && letter.subject.lines().count() == 1, "{letter:?}");
                assert!(letter.text.len() > 60 && !letter.text.contains("{{"), "{letter:?}");
                assert_eq!(
                    letter.text.contains("https://ai.example.org/auth/"),
                    template.path().is_some(),
                    "{letter:?}"
                );
                assert_eq!(
                    letter.html.contains("<a href=\"https:&#x2f;&#x2f;ai.example.org"),
                    template.path().is_some()
                );
            }
        }
    }

    #[test]
    fn every_change_is_told_in_words_of_its_own() {
        for language in [Language::En, Language::De] {
            let told = Change::ALL.map(|change| {
                let values = json!({ "name": "Ada", "change": change.word() });
                let letter = Template::SignInChanged.write(language, &values, "https://ai.example.org");
                letter.expect("every gap is filled").text
            });
            let different: std::collections::BTreeSet<&String> = told.iter().collect();
            assert_eq!(different.len(), told.len(), "{told:?}");
        }
    }

    #[test]
    fn what_people_call_themselves_stays_text_on_one_line() {
        let values = json!({ "name": "Ada\r\nBcc: all@example.org <script>", "tenant": "T" });
        let letter = Template::Activated.write(Language::En, &values, "https://ai.example.org").expect("filled");
        assert!(!letter.html.contains("<script>") && letter.html.contains("&lt;script&gt;"), "{}", letter.html);
        assert!(letter.text.contains("Ada  Bcc: all@example.org"), "{}", letter.text);
    }

    #[test]
    fn a_gap_that_nobody_filled_is_an_error_and_no_hole() {
        assert!(Template::Activated.write(Language::En, &json!({}), "https://ai.example.org").is_err());
    }

    #[test]
    fn a_letter_is_found_by_the_name_under_which_it_is_kept() {
        assert!(Template::ALL.iter().all(|template| Template::named(template.name()) == Some(*template)));
        assert_eq!(Template::named("chain_letter"), None);
    }
}
