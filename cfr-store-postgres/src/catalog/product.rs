//! Products and their immutable versions.

use cfr_billing::audit_log::{Act, Action};
use cfr_billing::plan::{NewProduct, Product, ProductVersion};
use cfr_billing::store::{Page, PageRequest, StoreError};
use cfr_core::id::{ProductId, ProductVersionId};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::audit_log;
use crate::error::Fault;
use crate::page::{page_of, rows_wanted};
use crate::row::{Fields, json, query, uuid};
use crate::writer::Tx;

const VERSION: &str =
    "SELECT v.*, p.code FROM product_versions v JOIN products p ON p.id = v.product_id WHERE v.id = $1";

/// A product is shown with its newest version.
const NEWEST: &str = "SELECT v.*, p.code, p.active FROM products p JOIN product_versions v ON v.product_id = p.id \
     AND v.version = (SELECT max(version) FROM product_versions WHERE product_id = p.id)";

/// Writes a product with its first version, or the next version of a known code. Its row is locked from the first
/// statement on: two versions never get the same number.
pub(super) async fn publish(tx: &mut Tx<'_>, new: &NewProduct, act: &Act) -> Result<ProductVersion, Fault> {
    let product = id_of(tx, &new.code).await?;
    let id = ProductVersionId::generate(tx.now);
    let sql = "INSERT INTO product_versions (id, product_id, version, terms, created_at) VALUES ($1, $2, \
         (SELECT coalesce(max(version), 0) + 1 FROM product_versions WHERE product_id = $2), $3::jsonb, $4)";
    let (terms, at) = (json(&new.terms)?, tx.micros());
    let insert = query(sql).bind(uuid(id.to_bytes())).bind(uuid(product.to_bytes())).bind(terms).bind(at);
    insert.execute(tx.connection()).await?;
    let published = version(tx.connection(), id).await?;
    audit_log::created(tx, act, Action::ProductPublished, published).await
}

async fn id_of(tx: &mut Tx<'_>, code: &str) -> Result<ProductId, Fault> {
    let sql = "INSERT INTO products (id, code) VALUES ($1, $2) ON CONFLICT (code) DO UPDATE SET code = excluded.code RETURNING id";
    let fresh = ProductId::generate(tx.now);
    let row = query(sql).bind(uuid(fresh.to_bytes())).bind(code).fetch_one(tx.connection()).await?;
    row.id("id", ProductId::from_bytes)
}

/// Opens or closes a product for new customers.
pub(super) async fn set_active(tx: &mut Tx<'_>, id: ProductId, active: bool, act: &Act) -> Result<Product, Fault> {
    let before = by_id(tx.connection(), id).await?;
    let sql = "UPDATE products SET active = $1 WHERE id = $2";
    query(sql).bind(active).bind(uuid(id.to_bytes())).execute(tx.connection()).await?;
    let changed = by_id(tx.connection(), id).await?;
    audit_log::changed(tx, act, Action::ProductChanged, &before, changed).await
}

pub(super) async fn by_id(connection: &mut PgConnection, id: ProductId) -> Result<Product, Fault> {
    let mut sql = QueryBuilder::<Postgres>::new(NEWEST);
    sql.push(" WHERE p.id = ").push_bind(uuid(id.to_bytes()));
    let row = sql.build().persistent(false).fetch_optional(connection).await?;
    product_from_row(&row.ok_or(StoreError::NotFound { what: "product" })?)
}

pub(super) async fn by_code(connection: &mut PgConnection, code: &str) -> Result<Option<Product>, Fault> {
    let mut sql = QueryBuilder::<Postgres>::new(NEWEST);
    sql.push(" WHERE p.code = ").push_bind(code.to_owned());
    sql.build().persistent(false).fetch_optional(connection).await?.as_ref().map(product_from_row).transpose()
}

pub(super) async fn list(connection: &mut PgConnection, page: PageRequest) -> Result<Page<Product>, Fault> {
    let mut sql = QueryBuilder::<Postgres>::new(NEWEST);
    if let Some(after) = page.after {
        sql.push(" WHERE p.id > ").push_bind(Uuid::from_u128(after.0));
    }
    sql.push(" ORDER BY p.id LIMIT ").push_bind(rows_wanted(page));
    page_of(sql.build().persistent(false).fetch_all(connection).await?, page, product_from_row, |product| {
        product.id.as_u128()
    })
}

/// One version by its id.
pub(crate) async fn version(connection: &mut PgConnection, id: ProductVersionId) -> Result<ProductVersion, Fault> {
    let row = query(VERSION).bind(uuid(id.to_bytes())).fetch_optional(connection).await?;
    version_from_row(&row.ok_or(StoreError::NotFound { what: "product version" })?)
}

/// Every version of a product, the newest first.
pub(super) async fn versions(connection: &mut PgConnection, id: ProductId) -> Result<Vec<ProductVersion>, Fault> {
    let sql = "SELECT v.*, p.code FROM product_versions v JOIN products p ON p.id = v.product_id \
         WHERE v.product_id = $1 ORDER BY v.version DESC";
    let rows = query(sql).bind(uuid(id.to_bytes())).fetch_all(connection).await?;
    if rows.is_empty() {
        return Err(StoreError::NotFound { what: "product" }.into());
    }
    rows.iter().map(version_from_row).collect()
}

pub(crate) fn version_from_row(row: &PgRow) -> Result<ProductVersion, Fault> {
    Ok(ProductVersion {
        id: row.id("id", ProductVersionId::from_bytes)?,
        product: row.id("product_id", ProductId::from_bytes)?,
        code: row.text("code")?,
        version: row.int("version")?,
        terms: row.json("terms")?,
        created_at: row.time("created_at")?,
    })
}

fn product_from_row(row: &PgRow) -> Result<Product, Fault> {
    let current = version_from_row(row)?;
    Ok(Product { id: current.product, code: current.code.clone(), active: row.flag("active")?, current })
}
