//! How the words and ids of the domain are described in the OpenAPI document.
//!
//! The domain crates know nothing of OpenAPI, so each of their enums has a twin here that only describes it. A test reads
//! every word back with the domain's own type.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

macro_rules! words {
    ($($(#[doc = $doc:literal])* $name:ident: $($word:literal)+;)*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug)]
            pub(crate) enum $name {}

            impl $name {
                /// Every word.
                pub(crate) const WORDS: &'static [&'static str] = &[$($word),+];
            }

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let text = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(Self::WORDS.iter().copied()));
                    text.description(Some(concat!($($doc),*).trim())).into()
                }
            }

            impl ToSchema for $name {}
        )*
    };
}

words! {
    /// What a tenant is for.
    TenantKind: "internal" "demo" "development" "customer";
    /// Where a tenant is in its life.
    TenantStatus: "pending" "active" "suspended" "deleted";
    /// What a user may do.
    Role: "admin" "tenant_admin" "user" "guest";
    /// Where a user is in their life.
    UserStatus: "pending" "active" "suspended" "rejected" "deleted" "erased";
    /// Who may become a user of a tenant: who was invited, who asks and is activated, or who proves an address at one of its
    /// domains.
    SignupMode: "closed" "invite" "request" "open";
    /// Who needs a second factor to sign in.
    MfaRequired: "nobody" "admins" "everybody";
    /// A language that people are written to in.
    Language: "en" "de";
    /// What a key opens.
    KeyKind: "live" "test" "service" "admin";
    /// Where a key is in its life.
    KeyStatus: "active" "disabled" "revoked";
    /// Who did something: somebody who opened the database itself, a person who signed in, a program with a key, the server.
    ActorKind: "operator" "user" "key" "system";
    /// Whom a budget limits.
    Scope: "key" "user" "team" "tenant" "product" "platform";
    /// What happens at the limit of a budget.
    LimitPolicy: "hard" "soft" "unlimited";
    /// Where a subscription is in its life.
    SubscriptionStatus: "incomplete" "trialing" "active" "past_due" "unpaid" "canceled";
    /// Who sees to it that a subscription is paid.
    PaymentMode: "free" "invoice" "stripe";
    /// Where a proposal is in its life.
    ProposalStatus: "waiting" "approved" "rejected" "expired";
    /// What became of a lead.
    LeadStatus: "new" "contacted" "won" "lost";
    /// Where granted money comes from.
    GrantKind: "included" "top_up" "promo" "rollover" "adjustment" "import";
    /// What a model is for.
    Mode: "chat" "embedding" "image" "stt" "tts" "rerank" "moderation" "realtime";
    /// What a request asked for.
    Operation: "chat_completions" "completions" "embeddings" "responses" "messages" "generate_content"
        "image_generations" "image_edits" "speech" "transcriptions" "translations" "moderations" "rerank" "realtime";
    /// Where the quantities of a usage record come from.
    UsageSource: "provider" "provider_cost" "estimated" "partial" "external" "none" "cache";
    /// What differs between two price tables.
    PriceChangeKind: "added" "removed" "rate" "fee" "limits" "effective_to" "terms";
    /// What a difference between two price tables means for those who pay.
    PriceChangeEffect: "new" "gone" "dearer" "cheaper" "other";
    /// How much a finding matters.
    Severity: "problem" "notice";
    /// What an audit of prices finds.
    PriceFindingKind: "unpriced" "unusable" "search_unpriced" "shuts_down" "ends" "changes" "product_at_a_loss";
}

macro_rules! texts {
    ($($(#[doc = $doc:literal])* $name:ident: $example:literal, $format:expr;)*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug)]
            pub(crate) enum $name {}

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let format: Option<KnownFormat> = $format;
                    let text = ObjectBuilder::new().schema_type(Type::String).examples([$example]);
                    let text = text.format(format.map(SchemaFormat::KnownFormat));
                    text.description(Some(concat!($($doc),*).trim())).into()
                }
            }

            impl ToSchema for $name {}
        )*
    };
}

texts! {
    /// A moment, RFC 3339.
    Time: "2026-11-21T09:30:00Z", Some(KnownFormat::DateTime);
    /// A day in UTC.
    Day: "2026-11-21", Some(KnownFormat::Date);
    /// A zone of the tz database.
    Zone: "Europe/Berlin", None;
    /// ISO 4217.
    CurrencyCode: "EUR", None;
    /// The id of a tenant.
    TenantId: "ten_01kahr4kz8fyksn1c1d5v2c9zt", None;
    /// The id of a user.
    UserId: "usr_01kahr4kz8fyksn1c1d5v2c9zt", None;
    /// The id of an invitation.
    InvitationId: "tok_01kahr4kz8fyksn1c1d5v2c9zt", None;
    /// The id of a browser that is signed in.
    SessionId: "ses_01kahr4kz8fyksn1c1d5v2c9zt", None;
    /// The id of a key.
    KeyId: "key_01kahr4kz8fyksn1c1d5v2c9zt", None;
    /// The id of a program that people sign in to.
    ClientId: "app_01kahr4kz8fyksn1c1d5v2c9zt", None;
    /// The id of a product.
    ProductId: "prd_01kahr4kz8fyksn1c1d5v2c9zt", None;
    /// The id of one version of a product.
    ProductVersionId: "prv_01kahr4kz8fyksn1c1d5v2c9zt", None;
    /// The id of an account at a provider.
    ProviderAccountId: "pac_01kahr4kz8fyksn1c1d5v2c9zt", None;
    /// The id of a budget.
    BudgetId: "bud_01kahr4kz8fyksn1c1d5v2c9zt", None;
    /// The id of a subscription.
    SubscriptionId: "sub_01kahr4kz8fyksn1c1d5v2c9zt", None;
    /// The id of a proposal.
    ProposalId: "pro_01kahr4kz8fyksn1c1d5v2c9zt", None;
    /// The id of a lead.
    LeadId: "lea_01kahr4kz8fyksn1c1d5v2c9zt", None;
    /// The id of a grant.
    GrantId: "grt_01kahr4kz8fyksn1c1d5v2c9zt", None;
    /// The id of a request.
    RequestId: "req_01kahr4kz8fyksn1c1d5v2c9zt", None;
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    #[track_caller]
    fn check<T: DeserializeOwned>(words: &[&str]) {
        for word in words {
            serde_json::from_value::<T>((*word).into()).unwrap_or_else(|error| panic!("{word}: {error}"));
        }
        let error = serde_json::from_value::<T>("no-such-word".into()).err().map(|error| error.to_string());
        let expected = error.as_deref().and_then(|text| text.split_once(", expected "));
        let known = expected.map(|(_, known)| known.matches('`').count() / 2);
        assert_eq!(known, Some(words.len()), "the domain knows other words: {error:?}");
    }

    #[test]
    fn every_described_word_is_a_word_of_the_domain_and_none_is_missing() {
        check::<cfr_billing::identity::TenantKind>(TenantKind::WORDS);
        check::<cfr_billing::identity::TenantStatus>(TenantStatus::WORDS);
        check::<cfr_billing::identity::Role>(Role::WORDS);
        check::<cfr_billing::identity::UserStatus>(UserStatus::WORDS);
        check::<cfr_billing::identity::SignupMode>(SignupMode::WORDS);
        check::<cfr_billing::identity::MfaRequired>(MfaRequired::WORDS);
        check::<cfr_billing::identity::Language>(Language::WORDS);
        check::<cfr_billing::identity::KeyKind>(KeyKind::WORDS);
        check::<cfr_billing::identity::KeyStatus>(KeyStatus::WORDS);
        check::<cfr_billing::subscription::SubscriptionStatus>(SubscriptionStatus::WORDS);
        check::<cfr_billing::subscription::PaymentMode>(PaymentMode::WORDS);
        check::<cfr_billing::approval::ProposalStatus>(ProposalStatus::WORDS);
        check::<cfr_billing::lead::LeadStatus>(LeadStatus::WORDS);
        check::<cfr_billing::audit_log::ActorKind>(ActorKind::WORDS);
        check::<cfr_core::ledger::Scope>(Scope::WORDS);
        check::<cfr_core::ledger::LimitPolicy>(LimitPolicy::WORDS);
        check::<cfr_billing::budget::GrantKind>(GrantKind::WORDS);
        check::<cfr_core::price::Mode>(Mode::WORDS);
        check::<cfr_core::chat::Operation>(Operation::WORDS);
        check::<cfr_core::chat::UsageSource>(UsageSource::WORDS);
    }
}
