//! `/invitations`: who may become a user of a tenant. An invitation is for one address, works once and ends by itself.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::Path;
use cfr_billing::audit_log::Act;
use cfr_billing::identity::{Language, Role, Tenant};
use cfr_billing::people::{Mail, Offer, OneTimeToken, SecretHash, TokenKind};
use cfr_billing::store::{NO_PLATFORM_ADMIN, Store};
use cfr_core::id::{ProductVersionId, TenantId, TokenId};
use cfr_core::secret::Secret;
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::desk::Desk;
use super::guard::Acting;
use super::idempotency::ShownOnce;
use super::input::{Checks, Json, Params};
use super::lookup::{self, Memo};
use super::page::{Listing, page_request};
use super::problem::{Problem, Problems};
use super::schema;
use super::users::product_version;
use crate::mail::Template;
use crate::people::secret;

/// How long an invitation works (money.md §5.2).
const INVITATION_LASTS: Duration = Duration::from_hours(7 * 24);
/// The fields of an answer that are shown once.
const SECRETS: &[&str] = &["link"];

/// An invitation that works.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Invitation {
    /// Its id.
    #[schema(value_type = schema::InvitationId)]
    pub(crate) id: TokenId,
    /// The tenant whose user they become.
    #[schema(value_type = schema::TenantId)]
    pub(crate) tenant: TenantId,
    /// Who is invited.
    #[schema(value_type = String, example = "anna@acme.example")]
    pub(crate) email: Arc<str>,
    /// What they may do.
    #[schema(value_type = schema::Role)]
    pub(crate) role: Role,
    /// The code of the product that they get.
    #[schema(value_type = Option<String>, example = "starter")]
    pub(crate) product: Option<Arc<str>>,
    /// The version of it.
    #[schema(value_type = Option<schema::ProductVersionId>)]
    pub(crate) product_version: Option<ProductVersionId>,
    /// Who invited them: the id of a user or a key, or `operator`.
    #[schema(value_type = Option<String>)]
    pub(crate) invited_by: Option<Arc<str>>,
    /// When it was made, or sent again.
    #[schema(value_type = schema::Time)]
    pub(crate) created_at: Timestamp,
    /// When it ends.
    #[schema(value_type = schema::Time)]
    pub(crate) expires_at: Timestamp,
}

/// An invitation that was just made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewInvitation {
    /// The invitation.
    #[serde(flatten)]
    pub(crate) invitation: Invitation,
    /// Whether a letter brings it.
    pub(crate) sent: bool,
    /// Where it is accepted, when no letter brings it: hand it over yourself. It is shown this once.
    pub(crate) link: Option<String>,
}

/// Somebody to invite.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateInvitation {
    /// The tenant's id or slug.
    #[schema(example = "acme")]
    pub(crate) tenant: String,
    /// Who is invited. An earlier invitation of this address to this tenant is void.
    #[schema(example = "anna@acme.example", format = Email, max_length = 254)]
    pub(crate) email: String,
    /// `user` when absent.
    #[schema(value_type = Option<schema::Role>)]
    pub(crate) role: Option<Role>,
    /// The id or code of a product, whose newest version they get.
    #[schema(example = "starter")]
    pub(crate) product: Option<String>,
    /// The language of the letter; the tenant's when absent.
    #[schema(value_type = Option<schema::Language>)]
    pub(crate) locale: Option<Language>,
}

/// Which invitations.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct InvitationQuery {
    /// Only those of this tenant, by id or slug.
    pub(crate) tenant: Option<String>,
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$")]
    pub(crate) cursor: Option<String>,
    /// Rows on the page, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
}

/// List invitations that were not accepted, revoked or over, in the order in which they were made.
#[utoipa::path(get, path = "/invitations", operation_id = "list_invitations", tag = "invitations", params(InvitationQuery),
    responses((status = 200, description = "A page of invitations", body = Listing<Invitation>), Problems))]
pub(crate) async fn list(
    desk: Desk,
    Params(query): Params<InvitationQuery>,
) -> Result<Answer<Listing<Invitation>>, Problem> {
    let page = page_request(query.cursor.as_deref(), query.limit)?;
    let asked = lookup::tenant_filter(&*desk.store, query.tenant.as_deref()).await?;
    let tenant = asked.or(desk.access.reach.tenant());
    let rows = desk.within(tenant)?.tokens(TokenKind::Invitation, tenant, desk.now(), page).await?;
    let mut memo = Memo::new(&*desk.store);
    let mut items = Vec::with_capacity(rows.items.len());
    for token in rows.items {
        items.push(present(token, &mut memo).await?);
    }
    Ok(Answer(Listing::page(items, rows.next)))
}

/// Invite somebody. A letter brings the invitation; where no mail is set up, the answer has the link, this once.
#[utoipa::path(post, path = "/invitations", operation_id = "create_invitation", tag = "invitations",
    request_body = CreateInvitation,
    responses((status = 201, description = "The invitation", body = NewInvitation), Problems))]
pub(crate) async fn create(
    desk: Desk,
    Acting(act): Acting,
    Json(body): Json<CreateInvitation>,
) -> Result<ShownOnce<NewInvitation>, Problem> {
    let email = body.email.trim();
    let mut checks = Checks::default();
    checks.email("email", email);
    checks.finish()?;
    let tenant = lookup::named("tenant", lookup::tenant(&*desk.store, &body.tenant).await)?;
    let role = body.role.unwrap_or(Role::User);
    let terms = product_version(&desk, body.product.as_deref(), tenant.currency).await?;
    check_offer(&desk, &tenant, role, terms).await?;
    let store = desk.within(Some(tenant.id))?;
    if store.user_by_email(email).await?.is_some_and(|user| user.tenant == tenant.id) {
        return Err(Problem::conflict("somebody of this tenant has the address already"));
    }
    let offer = Offer { role, product_version: terms, invited_by: Some(act.by.label()) };
    let language = body.locale.unwrap_or(tenant.settings.locale);
    issue(&desk, store, &tenant, email, offer, language, &act).await
}

/// Send an invitation again. The link that was sent before is void, and the seven days begin anew.
#[utoipa::path(post, path = "/invitations/{invitation}/resend", operation_id = "resend_invitation", tag = "invitations",
    params(("invitation" = schema::InvitationId, Path, description = "Id")),
    responses((status = 201, description = "The invitation, under a new id", body = NewInvitation), Problems))]
pub(crate) async fn resend(
    desk: Desk,
    Acting(act): Acting,
    Path(invitation): Path<String>,
) -> Result<ShownOnce<NewInvitation>, Problem> {
    let token = find(&desk, &invitation).await?;
    let (Some(tenant), Some(email), Some(offer)) = (token.tenant, token.email, token.offer) else {
        return Err(Problem::not_found("invitation"));
    };
    let tenant = desk.store.tenant(tenant).await?;
    check_offer(&desk, &tenant, offer.role, offer.product_version).await?;
    let language = tenant.settings.locale;
    issue(&desk, desk.within(Some(tenant.id))?, &tenant, &email, offer, language, &act).await
}

/// Revoke an invitation. Its link does not work any more.
#[utoipa::path(post, path = "/invitations/{invitation}/revoke", operation_id = "revoke_invitation", tag = "invitations",
    params(("invitation" = schema::InvitationId, Path, description = "Id")),
    responses((status = 200, description = "The invitation that was revoked", body = Invitation), Problems))]
pub(crate) async fn revoke(
    desk: Desk,
    Acting(act): Acting,
    Path(invitation): Path<String>,
) -> Result<Answer<Invitation>, Problem> {
    let token = find(&desk, &invitation).await?;
    desk.within(token.tenant)?.revoke_token(token.id, &act).await?;
    Ok(Answer(present(token, &mut Memo::new(&*desk.store)).await?))
}

/// Who makes an administrator proved of late who they are.
async fn check_offer(desk: &Desk, tenant: &Tenant, role: Role, terms: Option<ProductVersionId>) -> Result<(), Problem> {
    if !tenant.settings.signup.takes_invitations() {
        return Err(Problem::conflict("the tenant is closed: nobody is invited until its `signup` is another one"));
    }
    if role == Role::Admin {
        return Err(Problem::invalid_field("role", NO_PLATFORM_ADMIN));
    }
    if role == Role::TenantAdmin {
        desk.require_recent_proof()?;
    }
    Ok(desk.view.check_admission(tenant.id, role, terms).await?)
}

async fn issue(
    desk: &Desk,
    store: &Arc<dyn Store>,
    tenant: &Tenant,
    email: &str,
    offer: Offer,
    language: Language,
    act: &Act,
) -> Result<ShownOnce<NewInvitation>, Problem> {
    let (text, hash) = secret::generate();
    let token = token_for(tenant.id, email, offer, hash, desk.now());
    let letter = letter(desk, tenant, email, language, &text).await?;
    store.issue_token(&token, letter.as_ref(), act).await?;
    let sent = letter.is_some();
    let link = (!sent).then(|| desk.letters().link(Template::Invitation, text.expose()));
    let invitation = present(token, &mut Memo::new(&*desk.store)).await?;
    Ok(ShownOnce { body: NewInvitation { invitation, sent, link }, secrets: SECRETS })
}

async fn letter(
    desk: &Desk,
    tenant: &Tenant,
    email: &str,
    language: Language,
    text: &Secret,
) -> Result<Option<Mail>, Problem> {
    let letters = desk.letters();
    if !letters.are_sent() {
        return Ok(None);
    }
    let values = json!({ "tenant": tenant.name, "token": text.expose() });
    let letter = letters.write(email, language, Template::Invitation, &values, desk.now()).await;
    letter.map(Some).map_err(Problem::internal)
}

fn token_for(tenant: TenantId, email: &str, offer: Offer, hash: SecretHash, now: Timestamp) -> OneTimeToken {
    OneTimeToken {
        id: TokenId::generate(now),
        hash,
        kind: TokenKind::Invitation,
        tenant: Some(tenant),
        user: None,
        epoch: 0,
        email: Some(email.into()),
        offer: Some(offer),
        challenge: None,
        created_at: now,
        expires_at: now + INVITATION_LASTS,
    }
}

/// The invitation with this id, within reach.
async fn find(desk: &Desk, id: &str) -> Result<OneTimeToken, Problem> {
    let id: TokenId = lookup::id(id, "invitation")?;
    let own = desk.access.reach.tenant();
    let found = desk.within(own)?.token_by_id(TokenKind::Invitation, id, desk.now()).await?;
    let found = found.filter(|token| own.is_none() || token.tenant == own);
    found.ok_or_else(|| Problem::not_found("invitation"))
}

async fn present(token: OneTimeToken, memo: &mut Memo<'_>) -> Result<Invitation, Problem> {
    let (Some(tenant), Some(email), Some(offer)) = (token.tenant, token.email, token.offer) else {
        return Err(Problem::internal("an invitation offers nothing"));
    };
    let product = match offer.product_version {
        Some(id) => Some(Arc::clone(&memo.version(id).await?.code)),
        None => None,
    };
    Ok(Invitation {
        id: token.id,
        tenant,
        email,
        role: offer.role,
        product,
        product_version: offer.product_version,
        invited_by: offer.invited_by,
        created_at: token.created_at,
        expires_at: token.expires_at,
    })
}
