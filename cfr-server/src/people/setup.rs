//! How the first administrator comes to be: on the command line, or with a token that the server prints once. There are no
//! default credentials.

use std::sync::Arc;
use std::time::Duration;

use cfr_billing::audit_log::Act;
use cfr_billing::identity::{
    NewTenant, NewUser, Role, Tenant, TenantKind, TenantSettings, User, UserFilter, UserStatus,
};
use cfr_billing::people::{Admission, OneTimeToken, SecretHash, TokenKind};
use cfr_billing::store::{PAGE_ROWS_MAX, PageRequest, StoreError};
use cfr_core::id::TokenId;
use cfr_core::money::Currency;
use cfr_core::secret::Secret;
use cfr_core::time::TimeZone;

use super::password::{self, Whose};
use super::{People, Refusal, Visitor, secret};

/// How long the token works that makes the first administrator.
pub const SETUP_LASTS: Duration = Duration::from_hours(24);
/// The slug of the operator's own tenant, where there is none yet.
const OPERATORS_TENANT: &str = "operator";

/// An administrator of the platform to make.
#[derive(Debug)]
pub struct NewAdmin {
    /// Their address.
    pub email: Arc<str>,
    /// Their name.
    pub name: Arc<str>,
    /// Their password.
    pub password: Secret,
}

impl People {
    /// A token that makes the first administrator, to be shown once; none when there is an administrator.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn offer_setup(&self) -> Result<Option<Secret>, Refusal> {
        if self.has_admin().await? {
            return Ok(None);
        }
        let now = self.now();
        let (text, hash) = secret::generate();
        let token = OneTimeToken {
            id: TokenId::generate(now),
            hash,
            kind: TokenKind::Setup,
            tenant: None,
            user: None,
            epoch: 0,
            email: None,
            offer: None,
            challenge: None,
            created_at: now,
            expires_at: now + SETUP_LASTS,
        };
        self.store.issue_token(&token, None, &Act::of_system(now)).await?;
        Ok(Some(text))
    }

    /// Makes the first administrator by such a token.
    ///
    /// # Errors
    /// [`Refusal::DeadToken`]; [`Refusal::SetUpAlready`]; [`Refusal::Unfit`], after which the token still works.
    pub async fn set_up(&self, visitor: &Visitor, token: &str, new: &NewAdmin) -> Result<User, Refusal> {
        self.attempts.admit(visitor.address).await?;
        let hash = secret::hash_of(token).ok_or(Refusal::DeadToken)?;
        let now = self.now();
        self.store.token(TokenKind::Setup, &hash, now).await?.ok_or(Refusal::DeadToken)?;
        if self.has_admin().await? {
            return Err(Refusal::SetUpAlready);
        }
        self.admit_admin(new, Some(hash), &visitor.act(None, now)).await
    }

    /// Makes an administrator of the platform in the operator's tenant, which is made when it is missing.
    ///
    /// # Errors
    /// [`Refusal::Unfit`]; a conflict when the address is taken.
    pub async fn create_admin(&self, new: &NewAdmin, act: &Act) -> Result<User, Refusal> {
        self.admit_admin(new, None, act).await
    }

    async fn admit_admin(&self, new: &NewAdmin, token: Option<SecretHash>, act: &Act) -> Result<User, Refusal> {
        let prepared = password::prepare(&new.password);
        password::judge(&prepared, &Whose::named(&new.email, &new.name), false)?;
        let hash = self.hash_password(&new.password).await?;
        let tenant = self.operators_tenant(act).await?;
        let user = NewUser {
            tenant: tenant.id,
            email: Arc::clone(&new.email),
            name: Arc::clone(&new.name),
            role: Role::Admin,
            product_version: None,
            locale: None,
        };
        let admission = Admission {
            token,
            user,
            status: UserStatus::Active,
            email_verified: false,
            password: Some(hash),
            identity: None,
        };
        match self.store.admit(&admission, act).await {
            Err(StoreError::NotFound { what: "token" }) => Err(Refusal::DeadToken),
            admitted => Ok(admitted?),
        }
    }

    async fn operators_tenant(&self, act: &Act) -> Result<Tenant, Refusal> {
        let mut page = PageRequest { after: None, limit: PAGE_ROWS_MAX };
        loop {
            let tenants = self.store.tenants(page).await?;
            if let Some(found) = tenants.items.into_iter().find(|tenant| tenant.kind == TenantKind::Internal) {
                return Ok(found);
            }
            let Some(next) = tenants.next else { break };
            page.after = Some(next);
        }
        let new = NewTenant {
            slug: OPERATORS_TENANT.into(),
            name: "Operator".into(),
            domain: None,
            kind: TenantKind::Internal,
            users_max: None,
            zone: TimeZone::UTC,
            currency: Currency::EUR,
            settings: TenantSettings::default(),
        };
        Ok(self.store.create_tenant(&new, act).await?)
    }

    /// Whether somebody runs the platform. Administrators come early, so few pages are read where there is one.
    async fn has_admin(&self) -> Result<bool, Refusal> {
        let filter = UserFilter { status: Some(UserStatus::Active), ..UserFilter::default() };
        let mut page = PageRequest { after: None, limit: PAGE_ROWS_MAX };
        loop {
            let users = self.store.users(&filter, page).await?;
            if users.items.iter().any(|user| user.role == Role::Admin) {
                return Ok(true);
            }
            match users.next {
                None => return Ok(false),
                next => page.after = next,
            }
        }
    }
}
