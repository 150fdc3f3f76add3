"""Manages a server through the client that a generator made of its OpenAPI document."""

import os

from cfr_client import AuthenticatedClient
from cfr_client.api.budgets import create_grant, list_budgets
from cfr_client.api.keys import create_key, get_own_key, revoke_key
from cfr_client.api.products import create_product
from cfr_client.api.tenants import create_tenant, get_tenant, list_tenants, update_tenant
from cfr_client.api.usage import report_usage
from cfr_client.api.users import create_user, list_users
from cfr_client.models import (
    ApiKey, Budget, ChangeTenant, CreateGrant, CreateKey, CreateProduct, CreateTenant, CreateUser, GrantKind, KeyStatus,
    ListingTenant, Money, NewKey, PeriodCalendarMonth, PeriodCalendarMonthKind, Problem, Role, Scope, Tenant, Terms, User,
)

base, key = os.environ["CFR_BASE_URL"], os.environ["CFR_ADMIN_KEY"]
admin = AuthenticatedClient(base_url=base, token=key)


def made(thing, kind):
    assert isinstance(thing, kind), thing
    return thing


tenant = made(create_tenant.sync(client=admin, body=CreateTenant(slug="globex", name="Globex")), Tenant)
terms = Terms(
    name="Small",
    price=Money(amount="5", currency="EUR"),
    budget=Money(amount="2.5", currency="EUR"),
    period=PeriodCalendarMonth(kind=PeriodCalendarMonthKind.CALENDAR_MONTH),
    models=["*"],
)
created = create_product.sync_detailed(client=admin, body=CreateProduct(code="small", terms=terms))
assert created.status_code == 201, created.content
user = made(
    create_user.sync(client=admin, body=CreateUser(tenant="globex", email="homer@globex.example", product="small")), User
)
assert user.tenant == tenant.id and user.role is Role.USER and user.email_verified_at is None
assert user.created_at.year >= 2024, "a moment, not a text"

new_key = made(create_key.sync(client=admin, body=CreateKey(name="laptop", user="homer@globex.example")), NewKey)
assert made(get_own_key.sync(client=AuthenticatedClient(base_url=base, token=new_key.secret)), ApiKey).id == new_key.id
assert made(revoke_key.sync(new_key.id, client=admin), ApiKey).status is KeyStatus.REVOKED

# Two pages are as much as one, and their rows are tenants as any other.
seen, cursor = [], None
while True:
    more = {} if cursor is None else {"cursor": cursor}
    page = made(list_tenants.sync(client=admin, limit=2, **more), ListingTenant)
    assert 1 <= len(page.items) <= 2
    seen += [made(row, Tenant).slug for row in page.items]
    if not page.next_cursor:
        break
    cursor = page.next_cursor
assert "globex" in seen and len(seen) == len(set(seen)) and len(seen) >= 4, seen

# A change on condition that nobody was faster, and a field that is taken away.
shown = get_tenant.sync_detailed("globex", client=admin)
change = ChangeTenant(users_max=7)
changed = made(update_tenant.sync("globex", client=admin, body=change, if_match=shown.headers["etag"]), Tenant)
assert changed.users_max == 7 and changed.name == "Globex"
stale = made(update_tenant.sync("globex", client=admin, body=change, if_match=shown.headers["etag"]), Problem)
assert stale.code == "stale" and stale.status == 412, stale
assert made(update_tenant.sync("globex", client=admin, body=ChangeTenant(users_max=None)), Tenant).users_max is None

# A problem says what is wrong, and with which field.
taken = made(create_tenant.sync(client=admin, body=CreateTenant(slug="globex")), Problem)
assert (taken.status, taken.code) == (409, "conflict"), taken
wrong = made(create_user.sync(client=admin, body=CreateUser(tenant="globex", email="nobody")), Problem)
assert wrong.status == 422 and [error.field for error in wrong.errors] == ["email"], wrong
nobody = AuthenticatedClient(base_url=base, token="cfr_adm_wrong")
assert made(list_users.sync(client=nobody), Problem).status == 401

budget = made(list_budgets.sync(client=admin, scope=Scope.USER, subject=user.id).items[0], Budget)
gift = CreateGrant(kind=GrantKind.PROMO, amount=Money(amount="1", currency="EUR"), reason="welcome")
granted = create_grant.sync_detailed(budget.id, client=admin, body=gift, idempotency_key="welcome-homer")
assert granted.status_code == 201, granted.content
report = report_usage.sync(client=admin, tenant="acme", by="model")
assert report.items[0].requests == 1 and report.items[0].charged.currency == "EUR", report
print("all good")
