//! The promises of the contracts, one function each. The macros make a test of each; a mutation test can call one alone.
//!
//! Every case works in names of its own, so that cases can run side by side on one server, and compares bytes, versions
//! and positions. What a store says it cannot do is checked to be refused, not skipped. To add a case, write the function
//! and add its name to the list in this file: every backend has it then.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a case fails by panicking")]

pub mod append;
pub mod erase;
pub mod live;
pub mod log;
pub mod read;
pub mod reopen;
pub mod repeat;
pub mod several_streams;
pub mod snapshot_list;
pub mod snapshot_remove;
pub mod snapshot_reopen;
pub mod snapshot_save;
pub mod streams;
mod support;
pub mod together;
pub mod truncate;
pub mod unchanged;

use std::sync::Arc;
use std::time::Duration;

use crate::Fixture;

/// Longest time that a case may take: a backend that hangs fails.
const PATIENCE: Duration = Duration::from_secs(300);

/// Makes a test of every promise of [`EventStore`](tailfold::EventStore), given an async function or closure that returns a
/// [`Fixture`] with an event store. Use it once in a module; [`store_conformance!`](crate::store_conformance) for a store
/// that keeps both.
#[macro_export]
macro_rules! event_store_conformance {
    ($fixture:expr) => {
        $crate::__conformance_tests! { conformance, $fixture;
            append {
                expectations_against_an_empty_stream,
                expectations_against_a_stream_with_events,
                head_of_another_history_conflicts,
                of_64_racing_creators_exactly_one_wins,
                racing_appenders_lose_and_repeat_nothing,
                racing_appenders_that_expect_anything_all_succeed,
                a_receipt_names_versions_head_and_position,
                an_acknowledged_append_is_seen_by_everybody,
                a_commit_without_events_is_invalid,
                a_commit_has_at_most_4096_events,
                awkward_events_come_back_exactly,
                the_largest_payload_is_exact_or_invalid,
                streams_with_similar_names_do_not_mix,
                a_dropped_append_happened_whole_or_not_at_all,
                the_store_id_is_stable,
                chains_are_what_anybody_recomputes,
            }
            repeat {
                the_same_commit_again_returns_the_original_receipt,
                the_receipt_stays_the_same_after_later_events,
                a_partly_recorded_commit_conflicts,
                the_same_ids_with_other_contents_conflict,
                other_ids_or_another_order_conflict,
                the_same_events_after_another_history_conflict,
                a_part_of_a_larger_commit_is_recognised,
                a_commit_that_expects_anything_is_recorded_each_time,
                racing_copies_of_one_commit_are_recorded_once,
            }
            several_streams {
                all_streams_of_a_commit_are_written,
                one_conflict_writes_nothing,
                a_stream_that_occurs_twice_is_invalid,
                a_repeated_commit_counts_in_all_streams,
                a_commit_is_recognised_by_the_writes_that_expect_something,
                racing_commits_to_the_same_streams_neither_hang_nor_tear,
            }
            unchanged {
                what_a_store_cannot_check_is_unsupported_and_writes_nothing,
                a_boundary_of_the_written_stream_is_exact,
                of_64_racing_tasks_none_overbooks_a_category,
                a_matching_event_refuses_the_commit,
                other_events_let_the_commit_pass,
                expectations_hold_beside_the_boundary,
                a_repeated_commit_returns_its_receipt,
                of_racing_decisions_exactly_one_is_recorded,
            }
            read {
                an_empty_stream_reads_as_nothing,
                a_range_includes_both_ends,
                backward_is_forward_in_reverse,
                a_read_begins_when_it_is_first_polled,
                reads_are_complete_around_page_limits,
                a_tail_of_70_000_events_is_read_whole,
                a_reader_beside_writers_sees_a_gapless_prefix,
                an_unfinished_read_is_in_nobodys_way,
            }
            log {
                a_read_begins_after_its_position,
                the_log_agrees_with_the_streams,
                filters_find_what_their_definition_says,
                a_stream_is_found_after_any_position,
                a_read_resumes_after_any_batch,
                a_returning_reader_misses_nothing,
                a_read_to_the_end_ends_beside_writers,
                a_read_to_the_end_holds_whole_commits,
                reads_of_the_log_are_complete_around_page_limits,
            }
            live {
                a_live_read_catches_up_then_follows,
                live_readers_miss_and_repeat_nothing,
                a_slow_consumer_misses_nothing,
                a_live_read_filters,
                a_live_read_waits_for_the_next_event,
                a_live_read_resumes_after_what_it_has_checked,
            }
            erase {
                an_erased_stream_is_empty,
                a_tombstone_says_what_was_erased,
                every_filter_of_the_category_sees_the_tombstone,
                the_next_life_is_another_history,
                erasing_an_empty_stream_does_nothing,
                positions_are_never_used_again,
                erasing_beside_appends_stays_consistent,
                a_read_beside_an_erase_is_whole_or_fails,
                a_tombstone_changes_a_boundary,
            }
            truncate {
                only_an_origin_allows_it,
                what_is_left_stays_as_it_was,
                appends_go_on_after_it,
                everything_before_the_last_event_may_go,
                a_truncated_stream_can_be_erased,
                a_truncation_hides_no_erase_before_it,
                a_marker_stands_in_the_log_alone,
                every_filter_of_the_category_sees_the_marker,
                markers_remember_commands_until_the_stream_is_erased,
                a_marker_changes_a_boundary,
                truncating_beside_appends_and_readers_stays_consistent,
                a_read_beside_a_truncation_is_whole_or_fails,
            }
            streams {
                streams_are_listed_in_the_order_of_their_bytes,
                a_list_goes_on_after_any_name,
                a_list_is_filtered_by_category_and_stream,
            }
        }
        $crate::__conformance_tests! { reopening conformance, $fixture;
            reopen {
                the_store_id_outlives_the_process,
                what_was_acknowledged_is_there_when_opened_again,
                every_process_sees_an_acknowledged_append_at_once,
                expectations_hold_between_processes,
                boundaries_hold_between_processes,
                a_live_read_follows_other_processes,
                a_removal_counts_in_every_process,
                positions_are_never_used_again_by_any_process,
            }
        }
    };
}

/// Makes a test of every promise of [`SnapshotStore`](tailfold::SnapshotStore), given an async function or closure that
/// returns a [`Fixture`] with a snapshot store. Use it once in a module; [`store_conformance!`](crate::store_conformance)
/// for a store that keeps both.
#[macro_export]
macro_rules! snapshot_store_conformance {
    ($fixture:expr) => {
        $crate::__conformance_tests! { conformance, $fixture;
            snapshot_save {
                an_empty_slot_has_no_newest,
                a_snapshot_comes_back_as_it_was_saved,
                payloads_up_to_8_mib_are_exact,
                a_bound_includes_its_version,
                slots_are_apart_by_fold_serial_and_key,
                an_older_snapshot_never_replaces_a_newer_one,
                of_64_racing_saves_the_newest_stays,
                an_equal_version_replaces,
                the_last_n_are_kept_by_version,
                all_are_kept_if_asked,
                only_a_save_that_is_kept_prunes,
                a_reader_beside_saves_always_finds_the_newest,
                a_dropped_call_leaves_no_answer_behind,
                saves_of_many_slots_are_each_as_one,
            }
            snapshot_remove {
                what_was_read_is_removed_once,
                what_somebody_has_replaced_stays,
                use_does_not_change_what_was_read,
                use_is_noted_by_day,
                a_sweep_keeps_what_was_used_on_the_day,
                a_sweep_keeps_what_its_filter_does_not_name,
                what_is_no_snapshot_is_never_swept,
                sweeps_at_once_remove_each_snapshot_once,
                a_key_is_forgotten_whole,
            }
            snapshot_list {
                a_list_is_ordered_by_slot_and_version,
                long_lists_come_in_pages_without_loss,
            }
        }
        $crate::__conformance_tests! { reopening conformance, $fixture;
            snapshot_reopen {
                what_was_saved_is_there_when_opened_again,
                what_one_process_removes_no_other_serves,
            }
        }
    };
}

/// Makes a test of every promise of [`Store`](tailfold::Store): all of [`event_store_conformance!`], all of
/// [`snapshot_store_conformance!`], and what only a store can promise that keeps both.
///
/// [`event_store_conformance!`]: crate::event_store_conformance
/// [`snapshot_store_conformance!`]: crate::snapshot_store_conformance
#[macro_export]
macro_rules! store_conformance {
    ($fixture:expr) => {
        $crate::event_store_conformance! { $fixture }
        $crate::snapshot_store_conformance! { $fixture }
        $crate::__conformance_tests! { conformance, $fixture;
            together {
                a_snapshot_travels_with_its_commit,
                a_commit_decides_the_fate_of_its_snapshot_and_never_the_reverse,
                a_repeated_commit_keeps_no_snapshot,
                erasing_a_stream_forgets_its_snapshots,
                an_erase_that_was_dropped_is_finished_by_the_next,
                truncating_a_stream_removes_the_snapshots_below,
                snapshot_and_tail_come_together,
                a_long_tail_comes_in_small_batches,
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    (reopening $home:ident, $fixture:expr; $($part:ident { $($case:ident,)+ })+) => {$(
        mod $part {
            #[allow(unused_imports, reason = "the fixture may be named by a path")]
            use super::*;
            $(
                #[test]
                fn $case() {
                    $crate::conformance::run_reopening($fixture, |fixture| $crate::$home::$part::$case(fixture));
                }
            )+
        }
    )+};
    ($home:ident, $fixture:expr; $($part:ident { $($case:ident,)+ })+) => {$(
        mod $part {
            #[allow(unused_imports, reason = "the fixture may be named by a path")]
            use super::*;
            $(
                #[test]
                fn $case() {
                    $crate::conformance::run($fixture, |store| $crate::$home::$part::$case(store));
                }
            )+
        }
    )+};
}

/// Runs one case on several threads, with a fixture of its own.
///
/// # Panics
/// If the case fails, or takes more than five minutes.
pub fn run<S, F, C>(fixture: impl FnOnce() -> F, case: impl FnOnce(Arc<S>) -> C)
where
    S: ?Sized,
    F: Future<Output = Fixture<S>>,
    C: Future<Output = ()>,
{
    run_to_end(async {
        let fixture = fixture().await;
        within_patience(case(fixture.store())).await;
    });
}

/// As [`run`], for a case that opens the fixture's place more than once.
///
/// # Panics
/// As [`run`]; and if the fixture does not say how its place is [opened again](Fixture::reopening).
pub fn run_reopening<S, F, C>(fixture: impl FnOnce() -> F, case: impl FnOnce(Fixture<S>) -> C)
where
    S: ?Sized,
    F: Future<Output = Fixture<S>>,
    C: Future<Output = ()>,
{
    run_to_end(async { within_patience(case(fixture().await)).await });
}

fn run_to_end(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.expect("a test can start a runtime").block_on(test);
}

async fn within_patience(case: impl Future<Output = ()>) {
    if tokio::time::timeout(PATIENCE, Box::pin(case)).await.is_err() {
        panic!("the case did not end in {PATIENCE:?}");
    }
}

/// Counts the cases in `sources` and makes sure that each is in `list`.
#[cfg(test)]
pub(crate) fn listed_cases(list: &str, sources: &[&str]) -> usize {
    let lines = sources.iter().flat_map(|source| source.lines());
    let cases = lines.filter_map(|line| line.strip_prefix("pub async fn ")?.split(['(', '<']).next());
    cases
        .inspect(|case| {
            assert!(list.contains(&format!("                {case},\n")), "`{case}` is not listed")
        })
        .count()
}

#[cfg(test)]
mod tests {
    /// A case that is written but not listed would never run.
    #[test]
    fn every_case_is_listed() {
        let list = include_str!("mod.rs");
        let sources = [
            include_str!("append.rs"),
            include_str!("repeat.rs"),
            include_str!("several_streams.rs"),
            include_str!("unchanged.rs"),
            include_str!("read.rs"),
            include_str!("log.rs"),
            include_str!("live.rs"),
            include_str!("erase.rs"),
            include_str!("truncate.rs"),
            include_str!("streams.rs"),
            include_str!("reopen.rs"),
            include_str!("together.rs"),
            include_str!("snapshot_save.rs"),
            include_str!("snapshot_remove.rs"),
            include_str!("snapshot_list.rs"),
            include_str!("snapshot_reopen.rs"),
        ];
        assert!(super::listed_cases(list, &sources) > 80);
    }
}
