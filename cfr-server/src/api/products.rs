//! `/products`: what is sold. Versions are immutable; a change is the next version, and customers keep theirs.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::Path;
use axum::http::StatusCode;
use cfr_billing::plan::{NewProduct, Product as Row, ProductVersion as VersionRow, Terms as CoreTerms};
use cfr_core::id::{ProductId, ProductVersionId};
use cfr_core::money::{BPS_PER_ONE, Margin, Money as Amount, NANOS_PER_UNIT};
use cfr_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::desk::Desk;
use super::guard::Acting;
use super::input::{Checks, Json, Params, TEXT_CHARS_MAX};
use super::money::{Money, Period};
use super::page::{Listing, page_request};
use super::problem::{Problem, Problems};
use super::{lookup, schema};

/// Prices are in cents, as on invoices.
const NANOS_PER_MINOR: i64 = NANOS_PER_UNIT / 100;

/// A product with its newest version.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Product {
    /// Its id.
    #[schema(value_type = schema::ProductId)]
    pub(crate) id: ProductId,
    /// A short unique name; it may stand wherever the id may.
    #[schema(value_type = String, example = "starter")]
    pub(crate) code: Arc<str>,
    /// Whether new customers can have it.
    pub(crate) active: bool,
    /// The newest version.
    pub(crate) current: ProductVersion,
}

impl From<Row> for Product {
    fn from(row: Row) -> Self {
        Self { id: row.id, code: row.code, active: row.active, current: row.current.into() }
    }
}

impl Product {
    /// What the platform earns is for who runs it.
    fn for_caller(mut self, desk: &Desk) -> Self {
        if !desk.view.reach().is_all() {
            self.current.worst_case_contribution = None;
            self.current.terms.margin_bps = None;
        }
        self
    }
}

/// One immutable version of a product.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProductVersion {
    /// Its id.
    #[schema(value_type = schema::ProductVersionId)]
    pub(crate) id: ProductVersionId,
    /// The product.
    #[schema(value_type = schema::ProductId)]
    pub(crate) product: ProductId,
    /// Counts the versions, from 1.
    pub(crate) version: i64,
    /// The terms.
    pub(crate) terms: Terms,
    /// What is left of the price when a customer uses the whole budget: price minus what providers charge for it.
    /// Absent for who does not run the platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) worst_case_contribution: Option<Money>,
    /// When it was published.
    #[schema(value_type = schema::Time)]
    pub(crate) created_at: Timestamp,
}

impl From<VersionRow> for ProductVersion {
    fn from(row: VersionRow) -> Self {
        Self {
            id: row.id,
            product: row.product,
            version: row.version,
            worst_case_contribution: Some(worst_case_contribution(&row.terms).into()),
            terms: Terms::from(&row.terms),
            created_at: row.created_at,
        }
    }
}

/// The terms of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Terms {
    /// The name on invoices and in the portal.
    #[schema(example = "Starter")]
    pub(crate) name: String,
    /// For people.
    #[serde(default)]
    pub(crate) description: String,
    /// The net price per interval, in whole cents.
    pub(crate) price: Money,
    /// What each user may use per period, in the price's currency.
    pub(crate) budget: Money,
    /// When budgets begin anew.
    pub(crate) period: Period,
    /// Public model names that may be used; `*` allows all, `gpt-*` all that begin so.
    pub(crate) models: Vec<String>,
    /// Flags that the portal and the API know.
    #[serde(default)]
    pub(crate) features: Vec<String>,
    /// Requests per minute of each key; no limit when absent.
    pub(crate) requests_per_minute: Option<u32>,
    /// Requests of each key at the same time; no limit when absent.
    pub(crate) parallel_requests_max: Option<u32>,
    /// Answer tokens per request when the caller names no cap; the model's own limit when absent.
    pub(crate) output_tokens_default: Option<u64>,
    /// What is added to the provider's cost, in hundredths of a percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 2000, maximum = 100_000)]
    pub(crate) margin_bps: Option<u32>,
    /// Users of a tenant on this product; no limit when absent.
    pub(crate) seats: Option<u32>,
}

impl From<&CoreTerms> for Terms {
    fn from(terms: &CoreTerms) -> Self {
        Self {
            name: terms.name.to_string(),
            description: terms.description.to_string(),
            price: price(terms).into(),
            budget: Money::nanos(terms.budget_included_nanos, terms.currency),
            period: Period::from(&terms.period),
            models: terms.models.iter().map(ToString::to_string).collect(),
            features: terms.features.iter().map(ToString::to_string).collect(),
            requests_per_minute: terms.requests_per_minute,
            parallel_requests_max: terms.parallel_requests_max,
            output_tokens_default: terms.output_tokens_default,
            margin_bps: Some(terms.margin_bps),
            seats: terms.seats,
        }
    }
}

impl Terms {
    /// The margin, or the usual one where none is named.
    fn margin_bps(&self) -> u32 {
        self.margin_bps.unwrap_or(Margin::DEFAULT.bps())
    }

    fn check(&self, checks: &mut Checks, now: Timestamp) -> Option<CoreTerms> {
        checks.name("terms.name", &self.name);
        let length = self.description.chars().count();
        checks.require(length <= TEXT_CHARS_MAX, "terms.description", "at most 2000 characters");
        checks.names("terms.models", &self.models);
        checks.require(!self.models.is_empty(), "terms.models", "name at least one model, or `*` for all");
        checks.names("terms.features", &self.features);
        checks.take("terms.margin_bps", Margin::from_bps(self.margin_bps()));
        for (field, limit) in
            [("requests_per_minute", self.requests_per_minute), ("parallel_requests_max", self.parallel_requests_max)]
        {
            checks.require(limit != Some(0), &format!("terms.{field}"), "1 or more; leave it out for no limit");
        }
        let same = self.price.currency == self.budget.currency;
        checks.require(same, "terms.budget.currency", "the same as the price's");
        let price = self.price.check_positive("terms.price", checks);
        let budget = self.budget.check_positive("terms.budget", checks);
        let (price, budget) = (price?, budget?);
        checks.require(
            price.nanos() % NANOS_PER_MINOR == 0,
            "terms.price.amount",
            "whole cents: at most two decimal places",
        );
        Some(CoreTerms {
            name: self.name.as_str().into(),
            description: self.description.as_str().into(),
            price_minor: price.nanos() / NANOS_PER_MINOR, // exact: checked above
            currency: price.currency(),
            budget_included_nanos: budget.nanos(),
            period: self.period.anchored(now),
            models: self.models.iter().map(|model| model.as_str().into()).collect(),
            features: self.features.iter().map(|feature| feature.as_str().into()).collect(),
            requests_per_minute: self.requests_per_minute,
            parallel_requests_max: self.parallel_requests_max,
            output_tokens_default: self.output_tokens_default,
            margin_bps: self.margin_bps(),
            seats: self.seats,
        })
    }
}

/// A product to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateProduct {
    /// Lower case letters, digits and `-`; unique.
    #[schema(example = "starter", pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length = 64)]
    pub(crate) code: String,
    /// The terms of its first version.
    pub(crate) terms: Terms,
    /// Publish although a customer who uses the whole budget costs more than they pay.
    #[serde(default)]
    pub(crate) confirm_loss: bool,
}

/// The next version of a product.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishVersion {
    /// The terms.
    pub(crate) terms: Terms,
    /// Publish although a customer who uses the whole budget costs more than they pay.
    #[serde(default)]
    pub(crate) confirm_loss: bool,
}

/// What to change of a product.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeProduct {
    /// Whether new customers can have it.
    pub(crate) active: bool,
}

/// Which products.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProductQuery {
    /// The `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$")]
    pub(crate) cursor: Option<String>,
    /// Rows on the page, 1 to 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    pub(crate) limit: Option<u32>,
}

/// List products in the order of their creation.
#[utoipa::path(get, path = "/products", operation_id = "list_products", tag = "products", params(ProductQuery),
    responses((status = 200, description = "A page of products", body = Listing<Product>), Problems))]
pub(crate) async fn list(desk: Desk, Params(query): Params<ProductQuery>) -> Result<Answer<Listing<Product>>, Problem> {
    let page = page_request(query.cursor.as_deref(), query.limit)?;
    Ok(Answer(Listing::of(desk.store.products(page).await?, |row| Product::from(row).for_caller(&desk))))
}

/// Publish a product.
#[utoipa::path(post, path = "/products", operation_id = "create_product", tag = "products", request_body = CreateProduct,
    responses((status = 201, description = "The new product", body = Product), Problems))]
pub(crate) async fn create(
    desk: Desk,
    Acting(act): Acting,
    Json(body): Json<CreateProduct>,
) -> Result<(StatusCode, Answer<Product>), Problem> {
    let new = check(&body.code, &body.terms, body.confirm_loss, desk.now())?;
    if desk.store.product_by_code(&body.code).await?.is_some() {
        let detail = format_args!("product `{0}` exists: publish its next version at products/{0}/versions", body.code);
        return Err(Problem::conflict(detail));
    }
    let version = desk.store.publish_product(&new, &act).await?;
    let product = desk.store.product(version.product).await?;
    Ok((StatusCode::CREATED, Answer(product.into())))
}

/// Show a product.
#[utoipa::path(get, path = "/products/{product}", operation_id = "get_product", tag = "products",
    params(("product" = String, Path, description = "Id or code")),
    responses((status = 200, description = "The product", body = Product), Problems))]
pub(crate) async fn show(desk: Desk, Path(product): Path<String>) -> Result<Answer<Product>, Problem> {
    Ok(Answer(Product::from(lookup::product(&*desk.store, &product).await?).for_caller(&desk)))
}

/// Open or close a product for new customers. Those who have it keep it.
#[utoipa::path(patch, path = "/products/{product}", operation_id = "update_product", tag = "products", request_body = ChangeProduct,
    params(("product" = String, Path, description = "Id or code")),
    responses((status = 200, description = "The product as it is now", body = Product), Problems))]
pub(crate) async fn change(
    desk: Desk,
    Acting(act): Acting,
    Path(product): Path<String>,
    Json(body): Json<ChangeProduct>,
) -> Result<Answer<Product>, Problem> {
    let row = lookup::product(&*desk.store, &product).await?;
    Ok(Answer(desk.store.set_product_active(row.id, body.active, &act).await?.into()))
}

/// List every version of a product, the newest first.
#[utoipa::path(get, path = "/products/{product}/versions", operation_id = "list_product_versions", tag = "products",
    params(("product" = String, Path, description = "Id or code")),
    responses((status = 200, description = "The versions", body = Listing<ProductVersion>), Problems))]
pub(crate) async fn versions(
    desk: Desk,
    Path(product): Path<String>,
) -> Result<Answer<Listing<ProductVersion>>, Problem> {
    let row = lookup::product(&*desk.store, &product).await?;
    let versions = desk.store.product_versions(row.id).await?;
    Ok(Answer(Listing::complete(versions.into_iter().map(ProductVersion::from).collect())))
}

/// Publish the next version of a product. Customers keep the version that they have.
#[utoipa::path(post, path = "/products/{product}/versions", operation_id = "publish_product_version", tag = "products",
    request_body = PublishVersion, params(("product" = String, Path, description = "Id or code")),
    responses((status = 201, description = "The new version", body = ProductVersion), Problems))]
pub(crate) async fn publish(
    desk: Desk,
    Acting(act): Acting,
    Path(product): Path<String>,
    Json(body): Json<PublishVersion>,
) -> Result<(StatusCode, Answer<ProductVersion>), Problem> {
    let row = lookup::product(&*desk.store, &product).await?;
    let new = check(&row.code, &body.terms, body.confirm_loss, desk.now())?;
    let version = desk.store.publish_product(&new, &act).await?;
    Ok((StatusCode::CREATED, Answer(version.into())))
}

fn check(code: &str, terms: &Terms, confirm_loss: bool, now: Timestamp) -> Result<NewProduct, Problem> {
    let mut checks = Checks::default();
    checks.word("code", code);
    let terms = terms.check(&mut checks, now);
    checks.finish()?;
    let terms = terms.ok_or_else(|| Problem::internal("terms without a fault and without a value"))?;
    let left = worst_case_contribution(&terms);
    if left.nanos() < 0 && !confirm_loss {
        let message =
            format_args!("a customer who uses the whole budget leaves {left}: set it to true if that is meant");
        return Err(Problem::invalid_field("confirm_loss", message));
    }
    Ok(NewProduct { code: code.into(), terms })
}

fn price(terms: &CoreTerms) -> Amount {
    Amount::from_nanos(terms.price_minor.saturating_mul(NANOS_PER_MINOR), terms.currency)
}

/// The price minus what providers charge for the whole budget. The cost rounds up: the figure is never too rosy.
pub(crate) fn worst_case_contribution(terms: &CoreTerms) -> Amount {
    let whole = i128::from(BPS_PER_ONE);
    let divisor = whole + i128::from(terms.margin().bps());
    let cost = (i128::from(terms.budget_included_nanos) * whole + divisor - 1).div_euclid(divisor); // up: never below cost
    let left = i128::from(price(terms).nanos()) - cost;
    let left = i64::try_from(left).unwrap_or(if left < 0 { i64::MIN } else { i64::MAX });
    Amount::from_nanos(left, terms.currency)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(price: &str, budget: &str) -> Terms {
        serde_json::from_value(serde_json::json!({
            "name": "Starter",
            "price": {"amount": price, "currency": "EUR"},
            "budget": {"amount": budget, "currency": "EUR"},
            "period": {"kind": "calendar_month"},
            "models": ["*"],
            "margin_bps": Margin::DEFAULT.bps(),
        }))
        .expect("terms")
    }

    #[track_caller]
    fn check_contribution(price: &str, budget: &str, expected: &str) {
        let mut checks = Checks::default();
        let core = terms(price, budget).check(&mut checks, Timestamp::UNIX_EPOCH).expect("valid terms");
        assert_eq!(worst_case_contribution(&core).to_string(), expected);
    }

    #[test]
    fn the_worst_case_is_the_price_minus_the_cost_of_the_whole_budget() {
        check_contribution("12.00", "12.00", "2 EUR");
        check_contribution("9.99", "25", "-10.843333334 EUR");
        check_contribution("5", "0", "5 EUR");
    }

    #[test]
    fn a_loss_must_be_confirmed() {
        let now = Timestamp::UNIX_EPOCH;
        let refused = check("starter", &terms("9.99", "25"), false, now).expect_err("a loss");
        assert_eq!((refused.status, refused.errors[0].field.as_str()), (422, "confirm_loss"));
        assert!(check("starter", &terms("9.99", "25"), true, now).is_ok());
    }

    #[test]
    fn terms_survive_the_store_and_back() {
        let shown = terms("9.99", "25");
        let core = shown.check(&mut Checks::default(), Timestamp::UNIX_EPOCH).expect("valid terms");
        assert_eq!(Terms::from(&core), shown);
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let mut bad = terms("9.999", "-1");
        bad.models.clear();
        bad.margin_bps = Some(1_000_000);
        let refused = check("Bad Code", &bad, false, Timestamp::UNIX_EPOCH).expect_err("invalid");
        let fields: Vec<_> = refused.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["code", "terms.models", "terms.margin_bps", "terms.budget.amount", "terms.price.amount"]);
    }
}
