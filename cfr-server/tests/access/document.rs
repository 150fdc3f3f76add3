//! The documentation says what the table says.

use cfr_server::auth::access::{Holder, Permission};

const ACCESS: &str = include_str!("../../../docs/access.md");

/// The row of a permission in the documentation.
fn row(permission: Permission) -> String {
    let has = |holder| if permission.holders().contains(&holder) { "✓" } else { "–" };
    let cells: Vec<_> = Holder::ALL.into_iter().map(has).collect();
    format!("| `{permission}` | {} | {} |", permission.about(), cells.join(" | "))
}

#[test]
fn every_permission_is_documented_with_its_holders() {
    let missing: Vec<_> =
        Permission::ALL.iter().map(|permission| row(*permission)).filter(|row| !ACCESS.contains(row)).collect();
    assert!(missing.is_empty(), "docs/access.md lacks:\n{}", missing.join("\n"));
}
