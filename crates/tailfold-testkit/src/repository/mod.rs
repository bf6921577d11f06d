//! What a repository promises over any backend, one function each: the requirements that tailfold grew from, the ways in
//! which snapshots have lied elsewhere, commands, snapshot stores that misbehave, and chains of them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a case fails by panicking")]

pub mod commands;
pub mod decisions;
mod edited;
pub mod faults;
pub mod folds;
pub mod forgeries;
pub mod interrupted;
pub mod keys;
pub mod lies;
pub mod parked;
pub mod projections;
pub mod random;
pub mod requirements;
pub mod sales;
pub mod shredding;
pub mod subscriptions;
mod support;
pub mod tier_failures;
pub mod tiers;
pub mod truncations;

/// Makes a test of everything that a [`Repository`](tailfold::Repository) promises over a store, given an async function or
/// closure that returns a [`Fixture`](crate::Fixture) with a store of events and snapshots. Use it once in a module.
#[macro_export]
macro_rules! repository_conformance {
    ($fixture:expr) => {
        $crate::__conformance_tests! { repository, $fixture;
            requirements {
                capture_of_state_by_replay_over_a_range_of_versions,
                snapshots_at_configured_intervals,
                snapshots_at_configured_versions,
                hybrid_snapshots_with_bounds,
                one_store_with_events_and_snapshots_latest_and_save,
                catch_up_from_900_and_from_50_with_a_snapshot_at_1000,
                malformed_events_are_reported_with_their_positions_while_the_rest_is_read,
                long_lived_actors_of_1_000_and_100_000_events,
                configuration_from_code_and_from_a_deserialisable_config,
                metrics_of_snapshot_count_and_average_replay_size,
                a_serializer_chosen_per_projection_and_a_default_otherwise,
                a_serial_by_hand_and_a_serial_from_the_type,
                only_snapshots_of_the_same_serial_are_used,
                the_last_version_only_deleted_after_90_days_of_being_unused,
                a_snapshot_store_of_ones_own_is_plugged_in,
            }
            lies {
                a_thousand_commands_through_the_snapshot_path_are_right,
                commits_of_seven_across_a_policy_of_a_hundred_are_right,
                truncated_emptied_and_foreign_snapshots_are_rejected_and_replaced,
                a_snapshot_with_any_bit_flipped_is_rejected,
                a_renamed_field_makes_another_serial,
                a_renamed_field_with_a_default_makes_another_serial,
                two_swapped_fields_make_another_serial,
                two_folds_with_one_name_label_and_shape_do_not_live_side_by_side,
                a_snapshot_ahead_of_a_restored_stream_is_replaced_and_commands_go_on,
                a_snapshot_of_another_history_is_diverged,
                a_snapshot_of_an_erased_life_never_serves_the_next,
                a_rejected_snapshot_makes_room_for_a_lower_one,
                the_next_older_candidate_serves_where_the_newest_is_broken,
                a_snapshot_before_a_truncation_is_not_used,
                a_callers_later_changes_never_reach_a_snapshot,
                a_load_that_folds_nothing_writes_nothing,
                an_erased_actor_leaves_no_snapshot_anywhere,
                a_snapshot_on_its_way_in_another_repository_is_not_kept_of_an_erased_actor,
            }
            commands {
                an_append_to_an_old_state_is_a_conflict_with_the_actual_head,
                a_refused_command_returns_the_users_error_and_writes_nothing,
                sixty_four_racing_commands_all_count_once,
                a_command_gives_up_after_its_last_retry,
                an_idempotency_key_makes_a_command_happen_once,
                metadata_and_recorded_at_are_stored,
                a_state_at_a_version_and_as_of_a_time,
                a_transfer_between_two_actors_is_all_or_nothing,
                inline_snapshots_stand_with_their_events_and_never_stop_them,
                a_cancelled_command_is_all_or_nothing,
                everyone_reads_their_own_writes,
            }
            faults {
                no_fault_of_a_snapshot_store_changes_an_answer,
                failures_are_told_apart_from_absence,
                a_hanging_snapshot_store_costs_a_command_the_read_timeout_at_most,
                the_queue_of_the_writer_is_bounded_and_coalesces,
                close_drains_what_waits,
                a_flush_ends_beside_commands,
                an_interrupted_replay_resumes_from_a_checkpoint,
                a_state_above_the_size_limit_keeps_the_snapshot_before_it,
                a_snapshot_above_the_read_limit_is_refused,
            }
            tiers {
                the_nearest_tier_serves,
                a_poisoned_tier_does_not_hide_the_next,
                a_snapshot_of_another_history_makes_room_in_every_tier,
                nearer_tiers_are_filled_with_what_a_farther_one_served,
                many_loads_at_once_fill_a_tier_once,
                a_stale_tier_serves_until_the_next_snapshot,
                use_is_marked_in_all_tiers,
                inline_snapshots_reach_the_other_tiers,
                two_serials_side_by_side_over_tiers,
                older_snapshots_are_looked_for_in_every_tier,
            }
            tier_failures {
                a_failing_or_hanging_tier_is_a_counted_miss,
                a_slow_tier_costs_its_timeout_however_many_candidates_it_has,
                a_breaker_opens_skips_probes_and_recovers,
                saves_reach_all_tiers_although_one_hangs,
                no_fault_of_a_tier_changes_an_answer,
                erasing_forgets_in_all_tiers,
                a_tier_that_removes_nothing_holds_no_load_up,
                a_snapshot_by_hand_is_answered_by_the_farthest_tier,
            }
            projections {
                a_query_over_many_streams_is_folded_in_order,
                a_load_replays_what_is_new_and_nothing_else,
                a_quiet_projection_neither_rescans_the_log_nor_rewrites_its_state,
                a_cursor_leaves_out_no_event_that_no_snapshot_holds,
                a_cursor_of_another_store_is_not_believed,
                a_wrong_cursor_changes_no_answer,
                a_snapshot_of_another_store_never_serves,
                a_damaged_snapshot_of_a_projection_is_rejected,
                other_event_types_make_another_serial,
                another_query_rejects_the_snapshot_of_this_one,
                an_erased_stream_leaves_every_projection,
                a_projection_at_a_position,
                a_malformed_event_fails_a_projection_with_its_position,
                a_prewarmed_projection_is_there_and_an_interrupted_one_goes_on,
                no_fault_of_a_snapshot_store_changes_a_projection,
            }
            decisions {
                a_decision_on_what_has_changed_meanwhile_is_taken_again,
                a_username_is_unique_among_64_racing_tasks,
                a_course_is_never_overbooked_under_64_racing_tasks,
                a_decision_that_waited_sees_what_is_left,
                unrelated_events_never_conflict,
                a_decision_writes_all_of_its_facts_or_nothing,
                a_query_without_a_tag_is_no_boundary,
            }
            subscriptions {
                everything_is_handled_once_and_in_order,
                a_restarted_subscription_goes_on_where_it_was,
                an_event_that_cannot_be_handled_is_parked_and_the_rest_goes_on,
                an_erased_stream_is_told_to_a_read_model,
                what_was_parked_of_an_erased_stream_goes,
                shares_split_the_streams_among_them,
                a_read_model_of_another_log_is_refused,
                a_slow_handler_is_waited_for,
            }
            parked {
                an_event_that_fails_for_a_while_is_not_parked,
                a_parked_event_is_tried_again_or_dropped,
                who_waits_is_told_of_what_a_stream_lacks,
                many_that_are_tried_again_hold_nothing_up,
                a_parked_event_of_an_erased_stream_is_gone_when_it_is_tried_again,
                a_handler_that_panics_costs_its_event_and_nothing_else,
            }
            shredding {
                a_forgotten_person_is_in_no_state_and_in_no_snapshot_of_any_tier,
                a_key_that_cannot_be_had_is_unavailable_and_never_forgotten,
                a_state_that_waits_while_a_key_is_forgotten_is_never_kept,
                keys_finer_than_the_stream_leave_no_trace_in_an_aggregate,
                a_key_that_is_forgotten_during_a_load_never_halves_a_person,
                a_snapshot_that_knows_of_more_forgotten_keys_is_left_alone,
                snapshots_that_nobody_loads_are_removed_by_hand,
                a_subscription_passes_over_what_was_forgotten_and_waits_for_keys,
            }
            forgeries {
                an_event_that_was_edited_in_the_store_is_refused,
                an_event_that_was_edited_in_the_store_is_refused_by_projections,
                a_forged_snapshot_is_rejected_where_checksums_have_a_key,
                keys_of_checksums_are_introduced_and_rotated,
            }
            truncations {
                a_truncated_stream_changes_every_projection_alike,
                a_projection_at_a_position_before_a_removal_is_what_is_left,
                a_load_of_what_was_cut_off_is_refused,
                a_truncation_that_would_change_the_state_is_refused,
                keys_of_commands_that_were_cut_off_are_remembered,
                a_command_that_two_truncations_cut_is_remembered_whole,
                a_read_model_hears_of_truncations_if_it_wants_to,
            }
            interrupted {
                a_command_beside_an_erase_is_answered_of_one_life,
                a_command_beside_a_truncation_happens_once,
                a_load_beside_a_removal_is_of_before_or_of_after,
                a_projection_beside_a_removal_keeps_nothing_that_went,
            }
            random {
                every_outcome_of_random_histories_equals_the_plain_replay,
            }
        }
    };
}

#[cfg(test)]
mod tests {
    /// A case that is written but not listed would never run.
    #[test]
    fn every_case_is_listed() {
        let list = include_str!("mod.rs");
        let sources = [
            include_str!("requirements.rs"),
            include_str!("lies.rs"),
            include_str!("commands.rs"),
            include_str!("faults.rs"),
            include_str!("tiers.rs"),
            include_str!("tier_failures.rs"),
            include_str!("random.rs"),
            include_str!("projections.rs"),
            include_str!("decisions.rs"),
            include_str!("subscriptions.rs"),
            include_str!("parked.rs"),
            include_str!("shredding.rs"),
            include_str!("forgeries.rs"),
            include_str!("truncations.rs"),
            include_str!("interrupted.rs"),
        ];
        assert!(crate::conformance::listed_cases(list, &sources) > 60);
    }
}
