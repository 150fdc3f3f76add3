//! What every store must do, one function per rule, for those who write one. Feature `conformance`; not under semver: a
//! new rule may be added in any release.
//!
//! [`store_conformance!`](crate::store_conformance) makes a test of each rule.
//! [`MemoryStore`](crate::store::MemoryStore) is the reference that random histories are compared with.
#![expect(clippy::panic, clippy::expect_used, reason = "a rule that is broken fails its test by panicking")]

mod approval;
mod archive;
mod audit;
mod audit_log;
mod batches;
mod catalog;
mod claims;
mod commits;
pub mod crash;
mod erasure;
mod fixture;
mod grants;
mod groups;
mod history;
mod keys;
mod lead;
mod leases;
mod lockstep;
mod nodes;
mod oidc;
mod orphans;
mod outside;
mod people;
mod periods;
mod provider_account;
mod secrets;
mod subscription;
mod usage;

pub use approval::*;
pub use archive::*;
pub use audit::*;
pub use audit_log::*;
pub use batches::*;
pub use catalog::*;
pub use claims::*;
pub use commits::*;
pub use erasure::*;
pub use grants::*;
pub use groups::*;
pub use history::random_histories_agree_with_the_reference;
pub use keys::*;
pub use lead::*;
pub use leases::*;
pub use lockstep::random_schedules_of_nodes_agree_with_the_reference;
pub use nodes::*;
pub use oidc::*;
pub use orphans::*;
pub use outside::*;
pub use people::*;
pub use periods::*;
pub use provider_account::*;
pub use secrets::*;
pub use subscription::*;
pub use usage::*;

/// Expands to one `#[tokio::test]` per rule of [`conformance`](crate::conformance). The expression is evaluated once per
/// test, may `.await`, and yields something that dereferences to a fresh, empty store.
///
/// ```ignore
/// cfr_billing::store_conformance!(std::sync::Arc::new(MyStore::fresh().await));
/// ```
///
/// `CFR_STORE_SEQUENCES` sets how many random histories are played, `CFR_SEED` repeats one that failed.
#[macro_export]
macro_rules! store_conformance {
    ($fresh:expr) => {
        $crate::store_conformance! { @rules $fresh;
            rights_are_granted_on_every_budget_or_on_none
            rights_are_granted_as_far_as_there_is_room
            a_denial_names_the_budget_with_the_least_room
            an_ask_for_nothing_opens_the_period
            an_unknown_budget_is_not_leased
            a_soft_budget_is_granted_beyond_its_limit
            rights_given_back_are_room_again
            giving_back_is_clamped_to_what_the_lease_has
            a_dead_epoch_gets_no_rights
            a_refused_group_takes_nothing_from_the_others
            groups_on_one_account_are_answered_in_their_order
            soft_budgets_are_granted_to_every_group
            groups_open_the_periods_that_they_need
            a_group_beyond_what_the_books_can_count_is_refused_alone
            groups_of_a_dead_epoch_get_no_rights
            groups_are_answered_as_if_they_came_one_after_the_other
            renewing_names_the_leases_that_are_alive
            a_settlement_moves_its_charge_from_the_lease
            a_batch_that_is_repeated_is_booked_once
            duplicates_in_any_order_are_booked_once
            a_settlement_needs_no_opening
            an_opening_after_its_end_changes_nothing
            an_end_is_the_last_word_of_its_batch
            an_opening_alone_moves_no_money
            a_release_moves_no_money
            a_settlement_posts_on_every_account_of_its_path
            a_settlement_is_posted_to_the_epoch_of_its_hold
            an_overrun_is_counted_on_every_account
            a_charge_beyond_the_lease_of_an_unlimited_budget_is_booked
            settlements_of_one_batch_share_what_is_left
            a_late_charge_takes_no_more_than_what_is_left
            an_empty_batch_changes_nothing
            a_name_belongs_to_one_process_while_it_lives
            the_same_process_may_begin_again_at_any_time
            the_name_of_a_retired_node_is_free
            a_fenced_life_is_refused_and_its_leases_are_free
            the_name_of_a_fenced_node_is_free
            nodes_are_listed_by_name_with_what_they_have
            a_node_that_lives_once_is_forgotten_when_it_has_nothing
            a_renewal_counts_the_nodes_that_are_alive
            a_grant_says_what_is_left_for_others
            a_recall_reaches_the_other_nodes
            epochs_count_the_lives_of_a_node
            only_dead_leases_are_taken_back
            expired_leases_are_taken_back
            orphans_are_released
            orphans_are_charged_by_their_evidence
            a_note_below_nothing_charges_nothing
            suspended_orphans_stay_counted_until_they_end
            suspended_orphans_that_end_together_free_what_none_was_charged
            the_end_of_a_suspended_orphan_frees_its_own_amount_alone
            a_resolved_orphan_is_resolved_once
            a_note_and_a_raise_of_a_hold_keep_each_other
            a_released_hold_is_remembered_when_its_opening_comes_late
            a_grant_is_booked_once_per_key
            a_key_with_other_terms_is_a_conflict
            money_that_is_used_cannot_be_taken
            a_limit_changes_the_open_period_by_the_difference
            a_limit_changes_no_period_that_is_over
            a_limit_lowered_below_use_admits_nothing_until_it_has_drained
            grants_are_listed_newest_first
            a_new_period_has_its_own_account
            included_money_does_not_roll_over_but_bought_money_does
            every_kind_of_bought_money_rolls_over
            bought_money_that_comes_back_late_rolls_over
            a_clock_that_goes_back_reopens_nothing
            a_hold_is_charged_in_its_own_period
            a_budget_without_an_account_opens_one
            slugs_and_domains_are_unique
            addresses_are_unique_without_regard_to_case
            product_codes_lead_to_immutable_versions
            a_change_needs_the_current_version
            a_tenant_has_no_more_users_than_it_may
            a_user_with_a_product_gets_its_budget
            new_terms_change_the_next_period
            a_key_is_found_by_its_mac_alone
            a_revoked_key_stays_revoked
            a_key_context_lists_the_path_in_order
            a_key_changes_by_its_version
            a_new_secret_leads_to_the_same_key_as_the_one_before
            a_secret_that_was_found_stops_working
            a_key_gets_a_budget_of_its_own_with_it
            keys_remember_their_last_use
            a_request_is_done_once_under_one_name
            a_name_stands_for_one_request_of_one_caller
            a_name_is_free_when_its_request_is_over_without_an_answer
            answers_are_kept_until_their_end
            a_scope_has_one_budget_of_a_kind
            lists_are_paged_completely_and_once
            what_does_not_exist_is_not_found
            price_tables_are_kept_by_hash
            rights_of_a_batch_outlast_the_nodes
            a_file_is_its_owners_alone
            files_are_listed_newest_first
            a_batch_goes_forward_once
            batches_are_listed_newest_first
            a_batch_that_is_due_is_claimed_by_one
            rights_of_an_outside_hold_outlast_the_nodes
            an_outside_hold_is_kept_until_it_is_forgotten
            an_outside_name_stands_for_one_thing
            a_client_is_registered_changed_and_revoked
            clients_are_listed_by_tenant
            signing_keys_are_numbered_once
            a_client_session_goes_forward_once
            client_sessions_end_with_what_they_hang_on
            client_sessions_end_with_the_browsers
            an_end_is_told_by_one_until_it_was_told
            a_user_context_lists_the_path_in_order
            credentials_change_once_per_version
            a_token_is_taken_once
            a_later_token_makes_earlier_ones_void
            tokens_that_work_are_listed
            an_admission_that_fails_leaves_the_token
            a_token_admits_one_user
            who_is_pending_takes_no_place
            an_activation_gives_place_terms_budget_and_key
            the_last_place_is_given_once
            nobody_who_waits_is_made_active_by_a_change
            a_new_epoch_ends_sessions_and_tokens
            a_session_is_found_by_its_secret_until_it_ends
            the_sessions_of_a_user_are_listed_and_ended
            what_is_over_is_swept
            attempts_are_counted_together_for_a_while
            a_passkey_is_one_users
            challenges_stand_beside_each_other
            a_letter_that_is_due_is_claimed_by_one
            an_identity_is_one_users
            an_address_that_was_proved_is_the_users
            settings_and_languages_are_kept
            every_change_is_told
            what_did_not_happen_is_not_told
            the_log_is_one_chain
            events_are_filtered_and_listed_newest_first
            an_owner_has_one_current_data_key
            data_keys_that_are_made_at_once_become_one
            a_data_key_is_wrapped_anew_once
            shredding_forgets_the_data_keys_of_one_tenant
            provider_accounts_are_kept_by_their_owners_name
            a_provider_account_is_changed_by_who_saw_it
            a_removed_provider_account_is_gone
            a_tenants_subscription_gives_terms_and_a_budget
            a_users_subscription_owns_their_terms
            an_incomplete_subscription_gives_nothing
            a_subscription_goes_where_its_state_leads
            seats_are_counted_against_people
            an_owner_has_one_subscription
            subscriptions_that_are_due_are_found
            subscriptions_are_listed_by_owner
            one_person_grants_so_much_within_a_day
            nobody_splits_an_amount_by_being_fast
            a_second_person_books_a_proposal_once
            a_proposal_is_approved_or_rejected
            a_proposal_waits_for_somebody_else_and_not_for_ever
            proposals_are_kept_once_and_listed
            a_lead_is_kept_changed_and_forgotten
            nothing_personal_of_a_lead_is_told
            leads_are_found_by_state_address_and_age
            usage_is_filtered_and_listed_newest_first
            usage_survives_unchanged
            days_add_up_to_the_records
            an_erased_user_leaves_an_id
            a_report_adds_up_what_its_filter_finds
            absurd_amounts_stop_no_batch
            the_sums_of_a_budget_without_a_hard_limit_end_at_the_largest_number
            an_audit_beside_writes_finds_nothing
            accounts_are_audited_in_pieces
            random_histories_agree_with_the_reference
            random_schedules_of_nodes_agree_with_the_reference
        }
    };
    (@rules $fresh:expr; $($rule:ident)*) => { $(
        #[tokio::test]
        async fn $rule() {
            let fresh = $fresh;
            $crate::conformance::$rule(&*fresh).await;
        }
    )* };
}
