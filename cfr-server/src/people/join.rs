//! How people become users: by an invitation, or by signing up where a tenant lets them.
//!
//! Signing up asks for nothing but an address. Name and password are chosen with the letter in hand, by whoever reads the
//! address: nobody can prepare an account for somebody else. What the answer is, and what the server does for it, is the same
//! whoever has the address.

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::audit_log::Act;
use cfr_billing::identity::{Language, NewUser, Role, SignupMode, Tenant, TenantStatus, User, UserFilter, UserStatus};
use cfr_billing::people::{Activation, Admission, OneTimeToken, SecretHash, TokenKind};
use cfr_billing::store::{PAGE_ROWS_MAX, PageRequest, StoreError};
use cfr_core::id::{ProductVersionId, TokenId};
use cfr_core::secret::Secret;
use cfr_core::time::Timestamp;
use serde_json::json;

use super::attempts::What;
use super::password::{self, Whose};
use super::{People, Refusal, Visitor, secret};
use crate::api::input::NAME_CHARS_MAX;
use crate::mail::Template;
use crate::turns::Quota;

/// How long somebody who signed up may take to prove the address.
const VERIFY_LASTS: Duration = Duration::from_hours(24);
/// Sign-ups of one network: each costs a letter, and the attention of an administrator.
const SIGN_UPS: Quota = Quota { what: "sign-ups of a network", most: 20, window: Duration::from_hours(24), step: 1 };
/// Administrators of a tenant who are told that somebody waits.
const ADMINS_TOLD_MAX: usize = 20;

/// What somebody chooses who becomes a user.
#[derive(Debug)]
pub struct Newcomer {
    /// Their name.
    pub name: Arc<str>,
    /// Their password.
    pub password: Secret,
    /// Their language; none for the tenant's.
    pub locale: Option<Language>,
}

impl People {
    /// Makes a user by an invitation: with the role and on the terms that it offers, active at once.
    ///
    /// # Errors
    /// [`Refusal::DeadToken`]; [`Refusal::Unfit`], after which the invitation still works; a conflict when the tenant is full
    /// or the address taken.
    pub async fn accept_invitation(&self, visitor: &Visitor, token: &str, new: &Newcomer) -> Result<User, Refusal> {
        let (token, tenant) = self.joining(visitor, TokenKind::Invitation, token).await?;
        if !tenant.settings.signup.takes_invitations() {
            return Err(Refusal::DeadToken);
        }
        let offer = token.offer.as_ref().ok_or(Refusal::DeadToken)?;
        let admission = self.admission(&token, &tenant, new, offer.role, offer.product_version).await?;
        self.let_in(&admission, &visitor.act(None, self.now())).await
    }

    /// Sends a letter to an address with which somebody wants to join a tenant: a link to go on, or word that there is an
    /// account already.
    ///
    /// # Errors
    /// [`Refusal::SignUpClosed`] and what is wrong with the address, by what the tenant wants and never by who has it;
    /// [`Refusal::Throttled`] for a network.
    pub async fn sign_up(
        &self,
        visitor: &Visitor,
        tenant: &str,
        email: &str,
        locale: Option<Language>,
    ) -> Result<(), Refusal> {
        self.attempts.admit(visitor.address).await?;
        let tenant = self.store.tenant_by_slug(tenant).await?.filter(|tenant| self.takes_sign_ups(tenant));
        let tenant = tenant.ok_or(Refusal::SignUpClosed)?;
        if !is_welcome(&tenant, email) {
            return Err(Refusal::invalid("email", "addresses of this domain cannot sign up here"));
        }
        self.attempts.take(&SIGN_UPS, visitor.address).await?;
        if self.attempts.begin(What::Letter, email).is_err() {
            return Ok(()); // there is a letter on its way
        }
        let known = self.store.user_by_email(email).await?.is_some();
        let template = if known { Template::SignUpKnown } else { Template::VerifyEmail };
        let (text, hash) = secret::generate();
        // Who has an account gets a token that nobody is told: the same work either way.
        let told = if known { "" } else { text.expose() };
        let now = self.now();
        let values = json!({ "tenant": tenant.name, "token": told });
        let language = locale.unwrap_or(tenant.settings.locale);
        let letter = self.letters.write(email, language, template, &values, now).await?;
        let token = verification(&tenant, email, hash, now);
        Ok(self.store.issue_token(&token, Some(&letter), &visitor.act(None, now)).await?)
    }

    /// Makes a user of who proved the address that signed up: a pending one, or an active one where the tenant wants no
    /// administrator to look first and has a place.
    ///
    /// # Errors
    /// As [`People::accept_invitation`].
    pub async fn verify_sign_up(&self, visitor: &Visitor, token: &str, new: &Newcomer) -> Result<User, Refusal> {
        let (token, tenant) = self.joining(visitor, TokenKind::VerifyEmail, token).await?;
        if !self.takes_sign_ups(&tenant) {
            return Err(Refusal::SignUpClosed);
        }
        let terms = self.signup_terms(&tenant).await?;
        let admission = self.admission(&token, &tenant, new, Role::User, terms).await?;
        let act = visitor.act(None, self.now());
        let user = self.let_in(&Admission { status: UserStatus::Pending, ..admission }, &act).await?;
        let settings = &tenant.settings;
        if settings.signup == SignupMode::Open
            && settings.signup_activates
            && let Some(active) = self.admit_at_once(&user).await?
        {
            return Ok(active);
        }
        self.tell_admins(&user, &tenant).await?;
        Ok(user)
    }

    /// A token that lets somebody join, and the tenant, which is not locked out.
    async fn joining(
        &self,
        visitor: &Visitor,
        kind: TokenKind,
        token: &str,
    ) -> Result<(OneTimeToken, Tenant), Refusal> {
        self.attempts.admit(visitor.address).await?;
        let hash = secret::hash_of(token).ok_or(Refusal::DeadToken)?;
        let token = self.store.token(kind, &hash, self.now()).await?.ok_or(Refusal::DeadToken)?;
        let tenant = self.store.tenant(token.tenant.ok_or(Refusal::DeadToken)?).await?;
        match tenant.status {
            TenantStatus::Active | TenantStatus::Pending => Ok((token, tenant)),
            _ => Err(Refusal::TenantNotActive),
        }
    }

    async fn admission(
        &self,
        token: &OneTimeToken,
        tenant: &Tenant,
        new: &Newcomer,
        role: Role,
        product_version: Option<ProductVersionId>,
    ) -> Result<Admission, Refusal> {
        let email = token.email.clone().ok_or(Refusal::DeadToken)?;
        if new.name.trim().is_empty()
            || new.name.chars().count() > NAME_CHARS_MAX
            || new.name.contains(char::is_control)
        {
            return Err(Refusal::invalid("name", "1 to 200 characters on one line"));
        }
        let whose = Whose::named(&email, &new.name);
        password::judge(&password::prepare(&new.password), &whose, false)?;
        let password = self.hash_password(&new.password).await?;
        let (name, locale) = (Arc::clone(&new.name), new.locale);
        Ok(Admission {
            token: Some(token.hash),
            user: NewUser { tenant: tenant.id, email, name, role, product_version, locale },
            status: UserStatus::Active,
            email_verified: true,
            password: Some(password),
            identity: None,
        })
    }

    async fn let_in(&self, admission: &Admission, act: &Act) -> Result<User, Refusal> {
        match self.store.admit(admission, act).await {
            Err(StoreError::NotFound { what: "token" }) => Err(Refusal::DeadToken),
            admitted => Ok(admitted?),
        }
    }

    fn takes_sign_ups(&self, tenant: &Tenant) -> bool {
        tenant.settings.signup.takes_sign_ups() && tenant.status == TenantStatus::Active && self.letters.are_sent()
    }

    /// The newest version of the product of who signs up, if it is still for new customers and in the tenant's currency.
    async fn signup_terms(&self, tenant: &Tenant) -> Result<Option<ProductVersionId>, Refusal> {
        let Some(product) = tenant.settings.signup_product else { return Ok(None) };
        let product = self.store.product(product).await?;
        let fits = product.active && product.current.terms.currency == tenant.currency;
        Ok(fits.then_some(product.current.id))
    }

    /// None where the tenant or the product is full, or there are no terms to be on: then an administrator decides.
    async fn admit_at_once(&self, user: &User) -> Result<Option<User>, Refusal> {
        if user.product_version.is_none() {
            return Ok(None);
        }
        let new = Activation { user: user.id, version: user.version, terms: None, first_key: None, letter: None };
        match self.store.activate(&new, &Act::of_system(self.now())).await {
            Ok((active, _)) => Ok(Some(active)),
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn tell_admins(&self, user: &User, tenant: &Tenant) -> Result<(), Refusal> {
        let filter = UserFilter { status: Some(UserStatus::Active), ..UserFilter::of_tenant(tenant.id) };
        let first = PageRequest { after: None, limit: PAGE_ROWS_MAX };
        let members = self.store.users(&filter, first).await?.items;
        let values = json!({ "tenant": tenant.name, "email": user.email });
        for admin in members.iter().filter(|member| member.role == Role::TenantAdmin).take(ADMINS_TOLD_MAX) {
            let language = admin.locale.unwrap_or(tenant.settings.locale);
            let letter =
                self.letters.write(&admin.email, language, Template::AccountWaiting, &values, self.now()).await?;
            self.store.queue_mail(&letter).await?;
        }
        Ok(())
    }
}

/// Whether an address may sign up: of any domain where none is named.
fn is_welcome(tenant: &Tenant, email: &str) -> bool {
    let domains = &tenant.settings.signup_domains;
    let domain = email.rsplit_once('@').map(|(_, domain)| domain.to_lowercase()).unwrap_or_default();
    match tenant.settings.signup {
        SignupMode::Open => domains.iter().any(|known| **known == *domain),
        _ => domains.is_empty() || domains.iter().any(|known| **known == *domain),
    }
}

fn verification(tenant: &Tenant, email: &str, hash: SecretHash, now: Timestamp) -> OneTimeToken {
    OneTimeToken {
        id: TokenId::generate(now),
        hash,
        kind: TokenKind::VerifyEmail,
        tenant: Some(tenant.id),
        user: None,
        epoch: 0,
        email: Some(email.into()),
        offer: None,
        challenge: None,
        created_at: now,
        expires_at: now + VERIFY_LASTS,
    }
}
