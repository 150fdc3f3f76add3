//! `[[sign_in.oidc]]`.

use std::sync::Arc;

use cfr_core::secret::Secret;
use toml::Spanned;
use url::Url;

use super::Reader;
use crate::config::file::SignInOidc;
use crate::federation::{FederationConfig, Unknown};
use crate::oidc::is_safe;

/// Letters of an id.
const ID_LETTERS_MAX: usize = 32;

impl Reader<'_> {
    pub(super) fn sign_in(&mut self, sections: Vec<Spanned<SignInOidc>>) -> Vec<FederationConfig> {
        let mut providers: Vec<FederationConfig> = Vec::new();
        for section in sections {
            let line = self.line(&section);
            let provider = self.sign_in_provider(line, section.into_inner());
            if providers.iter().any(|known| known.id == provider.id) {
                self.problem(line, "sign_in.oidc.id", format!("`{}` is there twice", provider.id));
            }
            providers.push(provider);
        }
        providers
    }

    fn sign_in_provider(&mut self, line: Option<usize>, section: SignInOidc) -> FederationConfig {
        let letter = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
        if !(1..=ID_LETTERS_MAX).contains(&section.id.len()) || !section.id.bytes().all(letter) {
            self.problem(line, "sign_in.oidc.id", "1 to 32 lower case letters, digits and `-`");
        }
        if !Url::parse(&section.issuer).is_ok_and(|url| is_safe(&url)) {
            self.problem(
                line,
                "sign_in.oidc.issuer",
                "an address with https, as in https://login.example.com/realms/acme",
            );
        }
        if section.unknown == Unknown::Create && section.domains.is_empty() {
            let what = "needed with `unknown = \"create\"`: else everybody whom the provider knows becomes a user";
            self.problem(line, "sign_in.oidc.domains", what);
        }
        let client_secret = section.client_secret_variable.and_then(|name| {
            let secret = self.variable(&name).map(|text| Secret::new(text.trim()));
            if secret.is_none() {
                self.problem(line, "sign_in.oidc.client_secret_variable", format!("the variable {name} is not set"));
            }
            secret
        });
        FederationConfig {
            name: section.name.unwrap_or_else(|| section.id.clone()).into(),
            id: section.id.into(),
            issuer: section.issuer.into(),
            client_id: section.client_id.into(),
            client_secret,
            tenant: section.tenant.into(),
            domains: section.domains.iter().map(|domain| Arc::from(domain.trim().to_lowercase())).collect(),
            trusts_addresses: section.trusts_addresses,
            unknown: section.unknown,
        }
    }
}
