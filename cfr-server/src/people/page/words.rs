//! What the pages say, in the languages that we have.

use cfr_billing::identity::Language;

use super::super::Refusal;

/// Everything that the pages say in one language.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) language: &'static str,
    pub(super) sign_in: &'static str,
    pub(super) signed_in: &'static str,
    pub(super) email: &'static str,
    pub(super) password: &'static str,
    pub(super) second_factor: &'static str,
    pub(super) code: &'static str,
    pub(super) go_on: &'static str,
    pub(super) add_factor: &'static str,
    pub(super) why_factor: &'static str,
    pub(super) how_app: &'static str,
    pub(super) seed: &'static str,
    pub(super) open_app: &'static str,
    pub(super) keep_codes: &'static str,
    pub(super) recovery_codes: &'static str,
    pub(super) forgot: &'static str,
    pub(super) how_letter: &'static str,
    pub(super) letter_sent: &'static str,
    pub(super) new_password: &'static str,
    pub(super) how_password: &'static str,
    pub(super) confirm_email: &'static str,
    pub(super) confirm: &'static str,
    pub(super) done: &'static str,
    pub(super) join: &'static str,
    pub(super) name: &'static str,
    pub(super) waits: &'static str,
    pub(super) failed: &'static str,
    pub(super) with_passkey: &'static str,
    pub(super) use_passkey: &'static str,
    pub(super) add_passkey: &'static str,
    pub(super) passkey_name: &'static str,
    pub(super) passkey_failed: &'static str,
    pub(super) or_passkey: &'static str,
    pub(super) account: &'static str,
    pub(super) passkeys: &'static str,
    pub(super) rename: &'static str,
    pub(super) remove: &'static str,
    pub(super) prove: &'static str,
    pub(super) why_prove: &'static str,
    pub(super) other_accounts: &'static str,
    /// With a gap for the provider's name, as the next one.
    sign_in_at: &'static str,
    link_with: &'static str,
    wrong_credentials: &'static str,
    wrong_code: &'static str,
    password_again: &'static str,
    too_many: &'static str,
    not_active: &'static str,
    dead_link: &'static str,
    unfit: &'static str,
}

const ENGLISH: Words = Words {
    language: "en",
    sign_in: "Sign in",
    signed_in: "You are signed in",
    email: "E-mail address",
    password: "Password",
    second_factor: "Your second factor",
    code: "Code of your app, or a recovery code",
    go_on: "Continue",
    add_factor: "Add a second factor",
    why_factor: "Your account needs a second factor: an app that shows codes. Have one at hand and continue.",
    how_app: "Add this account to your app, then enter the code that it shows.",
    seed: "If the link does not work, type this into your app:",
    open_app: "Open the app",
    keep_codes: "Keep your recovery codes",
    recovery_codes: "Each works once when you do not have your app. They are not shown again.",
    failed: "That did not work. Please try again.",
    with_passkey: "Sign in with a passkey",
    use_passkey: "Use a passkey",
    add_passkey: "Add a passkey",
    passkey_name: "Name of the passkey",
    passkey_failed: "The passkey did not work. Please try again.",
    or_passkey: "A passkey of your device is a second factor, too.",
    account: "How you sign in",
    passkeys: "Passkeys",
    rename: "Rename",
    remove: "Remove",
    prove: "Prove who you are",
    why_prove: "Before you change how you sign in, please prove again who you are.",
    other_accounts: "Accounts elsewhere",
    sign_in_at: "Sign in with {}",
    link_with: "Link your account at {}",
    wrong_credentials: "The address or the password is wrong. After many attempts wait a quarter of an hour, or set a new password.",
    wrong_code: "The code is wrong or was used already.",
    password_again: "Please enter your password again.",
    too_many: "Too many attempts. Please wait a little.",
    not_active: "Your account is not active. Please ask your administrator.",
    forgot: "Forgot your password?",
    how_letter: "We send an e-mail with a link that sets a new one.",
    letter_sent: "If somebody has this address, an e-mail is on its way. Its link works for half an hour.",
    new_password: "New password",
    how_password: "At least 15 characters, or 8 if you have a second factor. Nothing that others would try first.",
    confirm_email: "Your new e-mail address",
    confirm: "Confirm",
    done: "That is done",
    join: "Choose a name and a password",
    name: "Your name",
    waits: "Your account waits until an administrator activates it. We tell you by e-mail.",
    dead_link: "The link was used already or has ended. Please ask for a new one.",
    unfit: "This password is too short or too easy to guess. Please choose another one.",
};

const GERMAN: Words = Words {
    language: "de",
    sign_in: "Anmelden",
    signed_in: "Sie sind angemeldet",
    email: "E-Mail-Adresse",
    password: "Passwort",
    second_factor: "Ihr zweiter Faktor",
    code: "Code Ihrer App oder ein Wiederherstellungscode",
    go_on: "Weiter",
    add_factor: "Zweiten Faktor einrichten",
    why_factor: "Ihr Konto braucht einen zweiten Faktor: eine App, die Codes anzeigt. Halten Sie sie bereit und gehen Sie weiter.",
    how_app: "Fügen Sie dieses Konto Ihrer App hinzu und geben Sie den Code ein, den sie anzeigt.",
    seed: "Falls der Link nicht geht, tippen Sie dies in Ihre App:",
    open_app: "App öffnen",
    keep_codes: "Bewahren Sie Ihre Wiederherstellungscodes auf",
    recovery_codes: "Jeder gilt einmal, wenn Sie Ihre App nicht haben. Sie werden nicht wieder angezeigt.",
    failed: "Das ging nicht. Bitte versuchen Sie es noch einmal.",
    with_passkey: "Mit einem Passkey anmelden",
    use_passkey: "Passkey benutzen",
    add_passkey: "Passkey hinzufügen",
    passkey_name: "Name des Passkeys",
    passkey_failed: "Der Passkey ging nicht. Bitte versuchen Sie es noch einmal.",
    or_passkey: "Auch ein Passkey Ihres Geräts ist ein zweiter Faktor.",
    account: "Wie Sie sich anmelden",
    passkeys: "Passkeys",
    rename: "Umbenennen",
    remove: "Entfernen",
    prove: "Zeigen Sie, wer Sie sind",
    why_prove: "Bevor Sie ändern, wie Sie sich anmelden, zeigen Sie bitte noch einmal, wer Sie sind.",
    other_accounts: "Konten bei anderen",
    sign_in_at: "Mit {} anmelden",
    link_with: "Ihr Konto bei {} verknüpfen",
    wrong_credentials: "Die Adresse oder das Passwort ist falsch. Warten Sie nach vielen Versuchen eine Viertelstunde, oder setzen Sie ein neues Passwort.",
    wrong_code: "Der Code ist falsch oder wurde schon benutzt.",
    password_again: "Bitte geben Sie Ihr Passwort noch einmal ein.",
    too_many: "Zu viele Versuche. Bitte warten Sie etwas.",
    not_active: "Ihr Konto ist nicht aktiv. Bitte fragen Sie Ihre Administration.",
    forgot: "Passwort vergessen?",
    how_letter: "Wir senden eine E-Mail mit einem Link, der ein neues setzt.",
    letter_sent: "Falls jemand diese Adresse hat, ist eine E-Mail unterwegs. Ihr Link gilt eine halbe Stunde.",
    new_password: "Neues Passwort",
    how_password: "Mindestens 15 Zeichen, oder 8, wenn Sie einen zweiten Faktor haben. Nichts, was andere zuerst versuchen.",
    confirm_email: "Ihre neue E-Mail-Adresse",
    confirm: "Bestätigen",
    done: "Das ist erledigt",
    join: "Name und Passwort wählen",
    name: "Ihr Name",
    waits: "Ihr Konto wartet, bis Ihre Administration es aktiviert. Wir sagen Ihnen per E-Mail Bescheid.",
    dead_link: "Der Link wurde schon benutzt oder ist abgelaufen. Bitte fordern Sie einen neuen an.",
    unfit: "Dieses Passwort ist zu kurz oder zu leicht zu erraten. Bitte wählen Sie ein anderes.",
};

impl Words {
    /// In this language.
    pub(super) const fn of(language: Language) -> &'static Self {
        match language {
            Language::De => &GERMAN,
            _ => &ENGLISH,
        }
    }

    /// What a button says that leads to a provider with this name.
    pub(super) fn sign_in_at(&self, provider: &str) -> String {
        self.sign_in_at.replace("{}", provider)
    }

    /// What a button says that links an account at a provider with this name.
    pub(super) fn link_with(&self, provider: &str) -> String {
        self.link_with.replace("{}", provider)
    }

    /// What is said of a refusal that a form can lead to; none for what is nobody's fault who fills in forms.
    pub(super) const fn about(&self, refusal: &Refusal) -> Option<&'static str> {
        Some(match refusal {
            Refusal::WrongCredentials => self.wrong_credentials,
            Refusal::WrongCode => self.wrong_code,
            Refusal::NotHalfSignedIn | Refusal::NotSignedIn | Refusal::StepUpRequired => self.password_again,
            Refusal::Throttled { .. } => self.too_many,
            Refusal::DeadToken => self.dead_link,
            Refusal::Unfit(_) => self.unfit,
            Refusal::NotActive { .. } | Refusal::TenantNotActive => self.not_active,
            _ => return None,
        })
    }
}
