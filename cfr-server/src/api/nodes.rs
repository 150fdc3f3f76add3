//! `/nodes`: the processes that share the database, and the declaration that one of them is dead.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::Path;
use cfr_billing::store::{NodeState, lives_once};
use cfr_core::money::NANOS_PER_UNIT;
use cfr_core::time::Timestamp;
use rust_decimal::Decimal;
use serde::Serialize;
use utoipa::ToSchema;

use super::desk::Desk;
use super::guard::Acting;
use super::page::Listing;
use super::problem::{Problem, Problems};
use super::schema;

/// A process among those that share the database.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Node {
    /// Its name: `ledger.node` of its configuration.
    #[schema(value_type = String, example = "gateway-1")]
    pub(crate) node: Arc<str>,
    /// The number of its lives.
    pub(crate) epoch: i64,
    /// Whether its last life is taken for alive.
    pub(crate) alive: bool,
    /// When the database last heard of it.
    #[schema(value_type = schema::Time)]
    pub(crate) seen_at: Timestamp,
    /// Budgets on which it, or a life before, has leased money.
    pub(crate) leases: u64,
    /// What these leases have left: whole units of all their currencies together, as a decimal number in text.
    #[schema(example = "12.34")]
    pub(crate) leased: String,
    /// Calls whose money it, or a life before, holds.
    pub(crate) open_holds: u64,
}

impl From<NodeState> for Node {
    fn from(state: NodeState) -> Self {
        let leased = Decimal::from(state.leased) / Decimal::from(NANOS_PER_UNIT);
        Self {
            node: state.node,
            epoch: state.epoch,
            alive: state.alive,
            seen_at: state.seen_at,
            leases: state.leases,
            leased: leased.normalize().to_string(),
            open_holds: state.open_holds,
        }
    }
}

/// List every server that ever used the database under a name, by name. A command is listed only when it was killed and
/// left something behind.
#[utoipa::path(get, path = "/nodes", operation_id = "list_nodes", tag = "nodes",
    responses((status = 200, description = "All nodes", body = Listing<Node>), Problems))]
pub(crate) async fn list(desk: Desk) -> Result<Answer<Listing<Node>>, Problem> {
    let nodes = desk.within(None)?.nodes(desk.now()).await?;
    Ok(Answer(Listing::complete(nodes.into_iter().filter(is_of_interest).map(Node::from).collect())))
}

/// Commands come and go.
fn is_of_interest(node: &NodeState) -> bool {
    !lives_once(&node.node) || node.leases > 0 || node.open_holds > 0
}

/// Declare a node's current life dead: what it leased can be taken back at once. A process that lives comes back by itself
/// with a new epoch.
#[utoipa::path(post, path = "/nodes/{node}/fence", operation_id = "fence_node", tag = "nodes",
    params(("node" = String, Path, description = "Its name")),
    responses((status = 200, description = "The node as it is now", body = Node), Problems))]
pub(crate) async fn fence(desk: Desk, Acting(act): Acting, Path(name): Path<String>) -> Result<Answer<Node>, Problem> {
    let store = desk.within(None)?;
    if store.exclusive() {
        return Err(Problem::conflict("this database has one process only, and no other that could be dead"));
    }
    store.fence(&name, &act).await?;
    let node = store.nodes(act.at).await?.into_iter().find(|node| *node.node == *name);
    node.map(|node| Answer(node.into())).ok_or_else(|| Problem::not_found("node"))
}
