-- What lists and reports about one user, one model and users in one state are found by, however large their tenant is.
CREATE INDEX usage_daily_of_user ON usage_daily (user_id, day);
CREATE INDEX usage_totals_of_model ON usage_totals (model_served, day);
CREATE INDEX users_of_tenant_in_state ON users (tenant_id, status, id);
