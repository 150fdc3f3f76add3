//! Accounts at providers: what a section says of one, and what the environment knows.

use cfr_core::secret::Secret;
use cfr_providers::registry::{Account, Kind};
use cfr_providers::sign::aws::{AwsKeys, AwsSource};
use cfr_providers::sign::entra::{Entra, Identity, Proof};
use http::HeaderValue;
use toml::Spanned;

use super::super::file::{self, Auth};
use super::Reader;

/// Holds a token of OAuth's in place of a key; Anthropic's own clients read it.
const ANTHROPIC_TOKEN: &str = "ANTHROPIC_AUTH_TOKEN";
/// The variables of the environment that name an application of Entra.
const ENTRA_VARIABLES: &str = "AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE";

/// A key of a section, whether it is there, and the kinds that have a use for it.
type Member = (&'static str, fn(&file::Upstream) -> bool, &'static [&'static str]);

const MEMBERS: [Member; 11] = [
    ("region", |section| section.region.is_some(), &["bedrock", "vertex"]),
    ("project", |section| section.project.is_some(), &["openai", "vertex"]),
    ("organization", |section| section.organization.is_some(), &["openai"]),
    ("api_version", |section| section.api_version.is_some(), &["azure"]),
    ("entra", |section| section.entra.is_some(), &["azure", "azure_anthropic"]),
    ("auth", |section| section.auth.is_some(), &["anthropic"]),
    ("anthropic_beta", |section| section.anthropic_beta.is_some(), &["anthropic", "azure_anthropic", "vertex"]),
    ("service_account_file", |section| section.service_account_file.is_some(), &["vertex"]),
    ("access_key_id", |section| section.access_key_id.is_some(), &["bedrock"]),
    ("secret_access_key", |section| section.secret_access_key.is_some(), &["bedrock"]),
    ("session_token", |section| section.session_token.is_some(), &["bedrock"]),
];

impl Reader<'_> {
    /// The account of a kind whose key, or address, is in the environment.
    pub(super) fn account_of_environment(&mut self, kind: Kind) -> Option<Account> {
        let account = self.with_environment(kind, Account { base_url: self.address(kind), ..Account::default() });
        let is_reached = !kind.needs_address() || account.base_url.is_some();
        // Other keys of AWS and other identities are there for many purposes; these are there for this one.
        (account.key.is_some() && is_reached).then_some(account)
    }

    /// What a section says of an account comes before what the environment knows.
    pub(super) fn account(&mut self, line: Option<usize>, section: &file::Upstream, kind: Kind) -> Account {
        self.check_members(line, section, kind);
        let said = Account {
            base_url: section.base_url.clone().or_else(|| self.address(kind)),
            key: self.said_key(section),
            region: section.region.clone(),
            project: section.project.clone(),
            organization: section.organization.clone(),
            api_version: section.api_version.clone(),
            betas: self.betas(line, section),
            bearer: section.auth == Some(Auth::Bearer),
            service_account: self.file_of(section.service_account_file.as_ref(), "upstream.service_account_file"),
            aws: self.said_aws_keys(line, section),
            entra: self.said_entra(section),
        };
        let (key, identity) = (said.key.is_some(), said.aws.is_some() || said.entra.is_some());
        if key && identity {
            self.problem(
                line,
                "upstream",
                format!("`{}` has two accounts: a key, and what takes its place", section.name),
            );
        }
        let names_key = key || section.api_key_env.is_some() || section.api_key_file.is_some();
        let account = if names_key || identity { said } else { self.with_environment(kind, said) };
        self.check_proof(line, section, kind, &account);
        self.with_usual_places(kind, account)
    }

    /// Keys that a kind has no use for are mistakes: what they were to do does not happen.
    fn check_members(&mut self, line: Option<usize>, section: &file::Upstream, kind: Kind) {
        for (name, is_said, kinds) in MEMBERS {
            if is_said(section) && !kinds.contains(&kind.name()) {
                let what = format!("`{}` has no use for it: it is for {}", section.kind.get_ref(), kinds.join(", "));
                self.problem(line, format!("upstream.{name}"), what);
            }
        }
    }

    /// The key that a section names.
    fn said_key(&mut self, section: &file::Upstream) -> Option<Secret> {
        let (env, file) = (section.api_key_env.as_ref(), section.api_key_file.as_ref());
        self.secret(section.api_key.as_ref(), (env, "upstream.api_key_env"), (file, "upstream.api_key_file"))
    }

    /// A secret that stands in the file, in a variable, or in a file of its own.
    fn secret(
        &mut self,
        text: Option<&Secret>,
        (env, env_key): (Option<&Spanned<String>>, &str),
        (file, file_key): (Option<&Spanned<String>>, &str),
    ) -> Option<Secret> {
        if let Some(text) = text {
            return Some(text.clone());
        }
        let Some(name) = env else { return self.file_of(file, file_key) };
        let value = self.variable(name.get_ref());
        if value.is_none() {
            self.missing_key(self.line(name), env_key, format!("{} is not set", name.get_ref()));
        }
        value.map(|value| Secret::new(value.trim()))
    }

    fn file_of(&mut self, path: Option<&Spanned<String>>, key: &str) -> Option<Secret> {
        let path = path?;
        match std::fs::read_to_string(path.get_ref()) {
            Ok(text) => Some(Secret::new(text.trim())),
            Err(error) => {
                self.missing_key(self.line(path), key, format!("{}: {error}", path.get_ref()));
                None
            }
        }
    }

    fn said_aws_keys(&mut self, line: Option<usize>, section: &file::Upstream) -> Option<AwsSource> {
        let (id, secret) = (section.access_key_id.as_deref(), section.secret_access_key.clone());
        if id.is_some() != secret.is_some() {
            self.problem(line, "upstream.access_key_id", "access_key_id and secret_access_key belong together");
        }
        let session_token = section.session_token.clone();
        Some(AwsSource::Keys(AwsKeys { access_key_id: id?.trim().into(), secret_access_key: secret?, session_token }))
    }

    fn said_entra(&mut self, section: &file::Upstream) -> Option<Entra> {
        let place = section.entra.as_ref()?;
        let (line, said) = (self.line(place), place.get_ref());
        let identity = if said.managed_identity { self.machine(line, said) } else { self.application(line, said) };
        let (scope, authority) = (said.scope.as_deref().map(Into::into), said.authority.as_deref().map(Into::into));
        Some(Entra { scope, authority, ..Entra::new(identity?) })
    }

    fn machine(&mut self, line: Option<usize>, said: &file::Entra) -> Option<Identity> {
        if said.tenant_id.is_some() || said.has_proof() {
            self.problem(line, "upstream.entra", "a managed identity has no tenant and no secret of its own");
        }
        Some(Identity::Machine { client_id: said.client_id.as_deref().map(Into::into) })
    }

    fn application(&mut self, line: Option<usize>, said: &file::Entra) -> Option<Identity> {
        let (env, file) = (said.client_secret_env.as_ref(), said.client_secret_file.as_ref());
        let places = ((env, "upstream.entra.client_secret_env"), (file, "upstream.entra.client_secret_file"));
        let secret = self.secret(said.client_secret.as_ref(), places.0, places.1).map(Proof::Secret);
        let proof = secret.or_else(|| said.token_file.as_ref().map(|file| Proof::File(file.into())));
        let (Some(tenant), Some(client_id)) = (said.tenant_id.as_deref(), said.client_id.as_deref()) else {
            let what = "tenant_id and client_id are needed, or managed_identity = true";
            self.problem(line, "upstream.entra", what);
            return None;
        };
        if !said.has_proof() {
            let what = "client_secret, client_secret_env, client_secret_file or token_file is needed";
            self.problem(line, "upstream.entra", what);
        }
        Some(Identity::Application { tenant: tenant.into(), client_id: client_id.into(), proof: proof? })
    }

    fn betas(&mut self, line: Option<usize>, section: &file::Upstream) -> Option<HeaderValue> {
        let betas = HeaderValue::from_str(section.anthropic_beta.as_deref()?);
        if betas.is_err() {
            self.problem(
                line,
                "upstream.anthropic_beta",
                "names with commas between, as in \"a-2026-01-01,b-2026-02-02\"",
            );
        }
        betas.ok()
    }

    /// The account with what proves who we are, where only the environment says it: a key before what takes its place.
    fn with_environment(&mut self, kind: Kind, account: Account) -> Account {
        let read = |name: &str| self.variable(name).map(|value| value.trim().to_owned());
        let key = kind.key_variable().and_then(read).map(Secret::new);
        if key.is_some() {
            return Account { key, ..account };
        }
        match kind {
            Kind::Bedrock => Account { aws: AwsSource::of_environment(&read), ..account },
            Kind::Anthropic => {
                let token = read(ANTHROPIC_TOKEN).map(Secret::new);
                Account { bearer: token.is_some() || account.bearer, key: token, ..account }
            }
            kind if kind.is_azure() => Account { entra: Entra::of_environment(&read), ..account },
            _ => account,
        }
    }

    /// Where a provider is, for kinds whose address is each customer's own and has a usual variable.
    fn address(&self, kind: Kind) -> Option<String> {
        self.variable(kind.address_variable()?)
    }

    /// Who pays and where, by the variables that the providers' own clients read.
    fn with_usual_places(&mut self, kind: Kind, account: Account) -> Account {
        let first = |names: &[&str]| names.iter().find_map(|name| self.variable(name));
        let (region, project) = match kind {
            Kind::Bedrock => (first(&["AWS_REGION", "AWS_DEFAULT_REGION"]), None),
            Kind::Vertex => (first(&["GOOGLE_CLOUD_LOCATION"]), first(&["GOOGLE_CLOUD_PROJECT"])),
            _ => (None, None),
        };
        let file = || first(&["GOOGLE_APPLICATION_CREDENTIALS"]);
        let path = if kind == Kind::Vertex && account.service_account.is_none() { file() } else { None };
        let found = path.and_then(|path| self.credentials(&path));
        Account {
            region: account.region.or(region),
            project: account.project.or(project),
            service_account: account.service_account.or(found),
            ..account
        }
    }

    fn credentials(&mut self, path: &str) -> Option<Secret> {
        let text = std::fs::read_to_string(path);
        if let Err(error) = &text {
            self.missing_key(None, "GOOGLE_APPLICATION_CREDENTIALS", format!("{path}: {error}"));
        }
        text.ok().map(Secret::new)
    }

    /// Whether there is something that proves who we are, where the provider's own address wants it.
    fn check_proof(&mut self, line: Option<usize>, section: &file::Upstream, kind: Kind, account: &Account) {
        let names_key = section.api_key_env.is_some() || section.api_key_file.is_some() || section.entra.is_some();
        let has_own_address = section.base_url.is_some() && !kind.is_azure();
        let Some(usual) = kind.key_variable() else { return };
        if account.proof().is_some() || names_key || has_own_address {
            return self.check_profile(line, section, account);
        }
        let what = match kind.is_azure() {
            true => format!("`{}` needs a key or an identity: set {usual}, or {ENTRA_VARIABLES}", section.name),
            false => format!("`{}` needs a key, and {usual} is not set", section.name),
        };
        self.missing_key(line, "upstream.api_key_env", what);
    }

    /// Who names a profile does not expect the machine's keys.
    fn check_profile(&mut self, line: Option<usize>, section: &file::Upstream, account: &Account) {
        let is_last = matches!(account.aws, Some(AwsSource::Machine { .. } | AwsSource::Container { .. }));
        if let (true, Some(profile)) = (is_last, self.variable("AWS_PROFILE")) {
            let name = &section.name;
            let what = format!(
                "`{name}`: profiles of AWS are not read, and AWS_PROFILE is `{profile}`: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            );
            self.missing_key(line, "upstream.access_key_id", what);
        }
    }
}
