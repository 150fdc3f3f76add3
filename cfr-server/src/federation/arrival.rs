//! Who comes back from a provider, and which user that is here.

use std::sync::Arc;

use cfr_billing::identity::{NewUser, Role, User, UserStatus};
use cfr_billing::people::{Admission, OutsideIdentity};
use cfr_billing::store::StoreError;
use cfr_core::id::{ProductVersionId, TenantId};
use openidconnect::core::CoreIdTokenClaims;

use super::{Arrival, Federation, FederationConfig, Unknown, Unsigned};
use crate::people::Visitor;

/// Words of RFC 8176 for a second factor.
const SECOND_FACTORS: [&str; 7] = ["mfa", "otp", "hwk", "swk", "fido", "sc", "ngcmfa"];

impl Arrival {
    /// What the id token says, whose signature, issuer, audience, nonce and time were proved.
    pub(super) fn read(claims: &CoreIdTokenClaims, provider: &FederationConfig) -> Self {
        let methods = claims.auth_method_refs().into_iter().flatten();
        let second_factor = methods.into_iter().any(|method| SECOND_FACTORS.contains(&method.as_str()));
        let name = claims.name().and_then(|name| name.get(None)).map(|name| Arc::from(name.as_str()));
        Self {
            issuer: claims.issuer().as_str().into(),
            subject: claims.subject().as_str().into(),
            email: claims.email().map(|email| Arc::from(email.as_str())),
            email_verified: claims.email_verified().unwrap_or(provider.trusts_addresses),
            name,
            second_factor,
        }
    }

    pub(super) fn identity(&self) -> OutsideIdentity {
        OutsideIdentity { issuer: Arc::clone(&self.issuer), subject: Arc::clone(&self.subject) }
    }
}

impl Federation {
    /// The user with this identity; whoever is not known becomes one where the provider's entry says so.
    pub(super) async fn user_of(
        &self,
        visitor: &Visitor,
        provider: &FederationConfig,
        arrival: &Arrival,
    ) -> Result<User, Unsigned> {
        let failed = |error: StoreError| Unsigned::failed(&provider.id, error);
        if let Some(id) = self.store.user_of_identity(&arrival.identity()).await.map_err(failed)? {
            return self.store.user(id).await.map_err(failed);
        }
        let tenant = self.store.tenant_by_slug(&provider.tenant).await.map_err(failed)?;
        let tenant = tenant.ok_or_else(|| Unsigned::failed(&provider.id, "its tenant does not exist"))?;
        let status = match provider.unknown {
            Unknown::Refuse => return Err(stranger()),
            Unknown::Pending => UserStatus::Pending,
            Unknown::Create => UserStatus::Active,
        };
        let terms = match tenant.settings.signup_product {
            Some(product) => Some(self.store.product(product).await.map_err(failed)?.current.id),
            None => None,
        };
        self.admit(visitor, provider, arrival, (tenant.id, status, terms)).await
    }

    async fn admit(
        &self,
        visitor: &Visitor,
        provider: &FederationConfig,
        arrival: &Arrival,
        (tenant, status, product_version): (TenantId, UserStatus, Option<ProductVersionId>),
    ) -> Result<User, Unsigned> {
        let proved = arrival.email.as_ref().filter(|email| arrival.email_verified && provider.takes(email));
        let email = Arc::clone(proved.ok_or_else(stranger)?);
        let name = arrival.name.clone().unwrap_or_else(|| Arc::clone(&email));
        let admission = Admission {
            token: None,
            user: NewUser { tenant, email, name, role: Role::User, product_version, locale: None },
            status,
            email_verified: true,
            password: None,
            identity: Some(arrival.identity()),
        };
        match self.store.admit(&admission, &visitor.act(None, self.clock.now())).await {
            Ok(user) => Ok(user),
            Err(StoreError::Conflict { what }) => {
                tracing::info!(provider = &*provider.id, %what, "somebody was not made a user");
                Err(Unsigned::because(
                    "there is an account with your address already, or no place for another one. Sign in with your \
                     password, then link the other account in your profile; or ask your administrator.",
                ))
            }
            Err(error) => Err(Unsigned::failed(&provider.id, error)),
        }
    }
}

fn stranger() -> Unsigned {
    Unsigned::because("your account at the other provider is not known here; ask your administrator")
}
