//! A page as text. Everything that comes from outside is escaped on its way in.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::words::Words;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:24rem;margin:4rem auto;padding:0 1rem;color:#1d2733}\
    h1{font-size:1.4rem}label{display:block;margin:.8rem 0}\
    input{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.5rem;border:1px solid #8a97a6;border-radius:4px}\
    button,.button{font:inherit;padding:.5rem 1.2rem;border:0;border-radius:4px;background:#0b5cad;color:#fff}\
    .button{display:inline-block;text-decoration:none}\
    pre{background:#eef2f6;padding:.6rem;overflow:auto}.reason{color:#a3160c}";

/// What talks to authenticators.
const SCRIPT: &str = include_str!("passkey.js");

/// No script, nothing from elsewhere, in nobody's frame.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| policy(""));
/// The same with the one script of ours, which asks nobody but this server.
static POLICY_WITH_SCRIPT: LazyLock<HeaderValue> = LazyLock::new(|| {
    let script = STANDARD.encode(Sha256::digest(SCRIPT));
    policy(&format!("; script-src 'sha256-{script}'; connect-src 'self'"))
});

fn policy(more: &str) -> HeaderValue {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'{more}"
    );
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// One input of a form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    label: Option<&'a str>,
    attributes: &'static str,
    name: &'static str,
    value: &'a str,
}

impl<'a> Field<'a> {
    /// An address.
    pub(super) const fn email(label: &'a str) -> Self {
        let attributes = "type=\"email\" autocomplete=\"username\" required autofocus maxlength=\"254\"";
        Self { label: Some(label), attributes, name: "email", value: "" }
    }

    /// A password.
    pub(super) const fn password(label: &'a str) -> Self {
        let attributes = "type=\"password\" autocomplete=\"current-password\" required";
        Self { label: Some(label), attributes, name: "password", value: "" }
    }

    /// A password to be.
    pub(super) const fn new_password(label: &'a str) -> Self {
        let attributes = "type=\"password\" autocomplete=\"new-password\" required minlength=\"8\" maxlength=\"128\"";
        Self { label: Some(label), attributes, name: "password", value: "" }
    }

    /// How somebody is called.
    pub(super) const fn name(label: &'a str) -> Self {
        let attributes = "type=\"text\" autocomplete=\"name\" required autofocus maxlength=\"200\"";
        Self { label: Some(label), attributes, name: "name", value: "" }
    }

    /// How something is called so far.
    pub(super) const fn named(label: &'a str, value: &'a str) -> Self {
        Self { label: Some(label), attributes: "type=\"text\" required maxlength=\"200\"", name: "name", value }
    }

    /// A code of an app, or a recovery code.
    pub(super) const fn code(label: &'a str) -> Self {
        let attributes = "type=\"text\" autocomplete=\"one-time-code\" required autofocus maxlength=\"64\"";
        Self { label: Some(label), attributes, name: "code", value: "" }
    }

    /// What goes along unseen.
    pub(super) const fn hidden(name: &'static str, value: &'a str) -> Self {
        Self { label: None, attributes: "type=\"hidden\"", name, value }
    }
}

/// A button that asks an authenticator. It shows where the browser can.
#[derive(Debug)]
pub(super) struct PasskeyButton<'a> {
    /// What it says.
    pub(super) label: &'a str,
    /// Of a new passkey, how the field for its name is called.
    pub(super) name: Option<&'a str>,
    /// Where the answer goes; the challenge comes from `begin` below it.
    pub(super) path: &'static str,
    /// The token of the session; empty for who has none.
    pub(super) csrf_token: &'a str,
    /// Where somebody goes then.
    pub(super) next: &'a str,
}

/// A page that is being written.
#[derive(Debug)]
pub(super) struct Page {
    words: &'static Words,
    head: String,
    body: String,
    script: bool,
}

impl Page {
    /// With this heading.
    pub(super) fn new(words: &'static Words, title: &str) -> Self {
        let title = escape(title);
        let language = words.language;
        let head = format!(
            "<!doctype html><html lang=\"{language}\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title} · CloudFreedom Router</title>\
             <style>{STYLE}</style>"
        );
        Self { words, head, body: format!("<h1>{title}</h1>"), script: false }
    }

    /// What went wrong, if something did.
    pub(super) fn reason(self, reason: Option<&str>) -> Self {
        match reason {
            Some(reason) => self.push(format_args!("<p class=\"reason\" role=\"alert\">{}</p>", escape(reason))),
            None => self,
        }
    }

    /// A paragraph.
    pub(super) fn text(self, text: &str) -> Self {
        self.push(format_args!("<p>{}</p>", escape(text)))
    }

    /// Something to copy, as it is.
    pub(super) fn shown(self, label: &str, text: &str) -> Self {
        self.push(format_args!("<p>{}</p><pre>{}</pre>", escape(label), escape(text)))
    }

    /// A link.
    pub(super) fn link(self, label: &str, to: &str) -> Self {
        self.push(format_args!("<p><a href=\"{}\">{}</a></p>", escape(to), escape(label)))
    }

    /// A link that looks like a button.
    pub(super) fn door(self, label: &str, to: &str) -> Self {
        self.push(format_args!("<p><a class=\"button\" href=\"{}\">{}</a></p>", escape(to), escape(label)))
    }

    /// A heading within the page.
    pub(super) fn part(self, title: &str) -> Self {
        self.push(format_args!("<h2>{}</h2>", escape(title)))
    }

    /// A button that asks an authenticator.
    pub(super) fn passkey(mut self, button: &PasskeyButton<'_>) -> Self {
        self.script = true;
        let PasskeyButton { label, name, path, csrf_token, next } = button;
        let [label, next] = [*label, *next].map(escape);
        let [failed, keep, go_on] =
            [self.words.passkey_failed, self.words.recovery_codes, self.words.go_on].map(escape);
        let attributes = "maxlength=\"200\" value=\"Passkey\"";
        let input = name.map(|name| format!("<label>{}<input {attributes}></label>", escape(name)));
        self.push(format_args!(
            "<div hidden data-path=\"{path}\" data-csrf=\"{csrf_token}\" data-next=\"{next}\" data-keep=\"{keep}\" \
             data-go-on=\"{go_on}\">{}<button type=\"button\">{label}</button>\
             <p class=\"reason\" role=\"alert\" hidden>{failed}</p></div>",
            input.unwrap_or_default()
        ))
    }

    /// A form.
    pub(super) fn form(self, action: &str, button: &str, fields: &[Field<'_>]) -> Self {
        let mut inputs = String::new();
        for Field { label, attributes, name, value } in fields {
            let input = format!("<input {attributes} name=\"{name}\" value=\"{}\">", escape(value));
            inputs += &label.map_or_else(|| input.clone(), |label| format!("<label>{}{input}</label>", escape(label)));
        }
        let (action, button) = (escape(action), escape(button));
        self.push(format_args!("<form method=\"post\" action=\"{action}\">{inputs}<button>{button}</button></form>"))
    }

    /// Leads on by itself.
    pub(super) fn forward(mut self, to: &str) -> Self {
        let _ = write!(self.head, "<meta http-equiv=\"refresh\" content=\"0;url={}\">", escape(to));
        self
    }

    /// As an answer.
    pub(super) fn answer(self, status: StatusCode) -> Response {
        let (policy, script) = match self.script {
            true => (POLICY_WITH_SCRIPT.clone(), format!("<script>{SCRIPT}</script>")),
            false => (POLICY.clone(), String::new()),
        };
        let text = format!("{}</head><body><main>{}</main>{script}</body></html>", self.head, self.body);
        (status, [(CONTENT_TYPE, HTML), (CONTENT_SECURITY_POLICY, policy)], text).into_response()
    }

    fn push(mut self, part: std::fmt::Arguments<'_>) -> Self {
        let _ = self.body.write_fmt(part); // a String takes everything
        self
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use cfr_billing::identity::Language;

    use super::*;

    #[test]
    fn what_comes_from_outside_is_text_and_no_markup() {
        let nasty = "/\"><script>alert('x')</script>&";
        let page = Page::new(Words::of(Language::En), nasty).reason(Some(nasty)).text(nasty).link(nasty, nasty);
        let page = page.form("/x", nasty, &[Field::hidden("return_to", nasty)]).forward(nasty).door(nasty, nasty);
        let page = page.part(nasty).passkey(&PasskeyButton {
            label: nasty,
            name: Some(nasty),
            path: "/x",
            csrf_token: "",
            next: nasty,
        });
        let text = format!("{}{}", page.head, page.body);
        assert!(!text.contains("<script") && !text.contains("\"><s") && !text.contains("('x')"), "{text}");
    }
}
