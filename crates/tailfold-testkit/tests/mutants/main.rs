//! Stores that break one promise each: the case that is about it must fail. Without this, a case that never
//! fails would look like a promise that is kept.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken store may panic")]

mod appends;
mod events;
mod mutant;
mod reads;
mod removals;
mod snapshots;

use std::future::ready;
use std::sync::Arc;

use tailfold_testkit::Fixture;
use tailfold_testkit::conformance::*;

use self::mutant::{Mutant, Wrong};

/// Whether a case holds for a store that gets that wrong.
async fn holds<C: Future<Output = ()> + Send + 'static>(
    case: impl FnOnce(Arc<Mutant>) -> C,
    wrong: Wrong,
) -> bool {
    ends_well(case(Arc::new(Mutant::new(wrong)))).await
}

/// Whether a case holds for a place that gets that wrong, which it opens more than once.
async fn holds_reopening<C: Future<Output = ()> + Send + 'static>(
    case: impl FnOnce(Fixture<Mutant>) -> C,
    wrong: Wrong,
) -> bool {
    let mutant = Mutant::new(wrong);
    let fixture = Fixture::new(mutant.clone()).reopening(move || ready(mutant.opened_again()));
    ends_well(case(fixture)).await
}

async fn ends_well(case: impl Future<Output = ()> + Send + 'static) -> bool {
    match tokio::spawn(case).await {
        Ok(()) => true,
        Err(error) if error.is_panic() => false,
        Err(error) => panic!("{error}"),
    }
}

macro_rules! mutants {
    ($holds:ident $of:ty; $($wrong:ident: $($part:ident::$case:ident),+;)+) => {$(
        #[allow(non_snake_case, reason = "named after the mutant")]
        #[tokio::test(flavor = "multi_thread")]
        async fn $wrong() {
            $(
                let case = |of: $of| $part::$case(of);
                assert!($holds(case, Wrong::Nothing).await, "{} fails for a right store", stringify!($case));
                assert!(!$holds(case, Wrong::$wrong).await, "{} does not notice", stringify!($case));
            )+
        }
    )+};
}

mutants! {
    holds Arc<Mutant>;
    ForgetsExpectations: append::expectations_against_an_empty_stream, append::expectations_against_a_stream_with_events,
        append::of_64_racing_creators_exactly_one_wins, several_streams::one_conflict_writes_nothing;
    ComparesVersionsOnly: append::head_of_another_history_conflicts, repeat::the_same_events_after_another_history_conflict,
        erase::the_next_life_is_another_history;
    KnowsNoRepeats: repeat::the_same_commit_again_returns_the_original_receipt,
        repeat::racing_copies_of_one_commit_are_recorded_once, unchanged::a_repeated_commit_returns_its_receipt,
        several_streams::a_commit_is_recognised_by_the_writes_that_expect_something;
    RecognisesWholeCommitsOnly: repeat::a_part_of_a_larger_commit_is_recognised;
    TakesAnythingForARepeat: repeat::a_partly_recorded_commit_conflicts, repeat::the_same_ids_with_other_contents_conflict,
        repeat::other_ids_or_another_order_conflict;
    SplitsCommits: several_streams::one_conflict_writes_nothing, several_streams::a_repeated_commit_counts_in_all_streams;
    ShowsHalfCommits: log::a_read_to_the_end_holds_whole_commits;
    SwallowsUnchanged: unchanged::a_matching_event_refuses_the_commit, unchanged::of_racing_decisions_exactly_one_is_recorded,
        erase::a_tombstone_changes_a_boundary, truncate::a_marker_changes_a_boundary;
    ConflictsWithWhatWasErased: erase::a_tombstone_changes_a_boundary;
    SwallowsInlineSnapshots: together::a_snapshot_travels_with_its_commit;
    KeepsInlineSnapshotsForEver: together::a_snapshot_travels_with_its_commit;
    KeepsSnapshotsOfRepeats: together::a_repeated_commit_keeps_no_snapshot;
    ChecksNothing: append::a_commit_without_events_is_invalid, append::a_commit_has_at_most_4096_events,
        several_streams::a_stream_that_occurs_twice_is_invalid;
    DropsMetadata: append::awkward_events_come_back_exactly;
    SortsTags: append::awkward_events_come_back_exactly;
    RenewsItsId: append::the_store_id_is_stable;
    StartsTailsLate: read::a_range_includes_both_ends, read::reads_are_complete_around_page_limits;
    ExcludesTheEnd: read::a_range_includes_both_ends;
    ReadsForwardOnly: read::a_range_includes_both_ends, read::backward_is_forward_in_reverse;
    StopsAfter1000: read::a_tail_of_70_000_events_is_read_whole, read::reads_are_complete_around_page_limits;
    LosesAnEventAtThePage: read::reads_are_complete_around_page_limits, read::backward_is_forward_in_reverse;
    BeginsWhenItIsMade: read::a_read_begins_when_it_is_first_polled;
    ReadsOnInTheNextLife: erase::a_read_beside_an_erase_is_whole_or_fails;
    EndsShortBesideARemoval: erase::a_read_beside_an_erase_is_whole_or_fails,
        truncate::a_read_beside_a_truncation_is_whole_or_fails;
    ReadsBackwardInOneBatch: read::a_tail_of_70_000_events_is_read_whole;
    GivesTailsInOneBatch: together::a_long_tail_comes_in_small_batches;
    HeadLagsBehind: append::an_acknowledged_append_is_seen_by_everybody, append::awkward_events_come_back_exactly;
    ReadsTheLogInclusive: log::a_read_begins_after_its_position;
    ReadsTheLogInOneBatch: log::a_read_resumes_after_any_batch;
    VisitsNothing: log::a_read_resumes_after_any_batch;
    MatchesAnyTag: log::filters_find_what_their_definition_says;
    HidesTombstones: erase::a_tombstone_says_what_was_erased, erase::an_erased_stream_is_empty,
        truncate::a_truncation_hides_no_erase_before_it;
    HidesMarkers: truncate::a_marker_stands_in_the_log_alone, truncate::markers_remember_commands_until_the_stream_is_erased,
        truncate::truncating_beside_appends_and_readers_stays_consistent;
    ChecksTooFar: log::a_read_resumes_after_any_batch;
    RepeatsWhereLiveBegins: live::a_live_read_catches_up_then_follows;
    SkipsWhereLiveBegins: live::live_readers_miss_and_repeat_nothing;
    EndsLiveReads: live::a_live_read_catches_up_then_follows, live::a_live_read_waits_for_the_next_event;
    ListsInReverse: streams::streams_are_listed_in_the_order_of_their_bytes;
    ListsAfterInclusive: streams::a_list_goes_on_after_any_name;
    ListsByEvents: streams::a_list_is_filtered_by_category_and_stream;
    ErasesNothing: erase::an_erased_stream_is_empty, erase::positions_are_never_used_again;
    ErasesByPrefix: erase::an_erased_stream_is_empty;
    KeepsErasedEventsInTheLog: erase::an_erased_stream_is_empty;
    FindsErasedEventsByTag: erase::an_erased_stream_is_empty;
    KeepsTruncatedEventsInTheLog: truncate::what_is_left_stays_as_it_was;
    TruncatesAnywhere: truncate::only_an_origin_allows_it;
    ForgetsToForget: together::erasing_a_stream_forgets_its_snapshots, together::truncating_a_stream_removes_the_snapshots_below;
    ForgetsAfterTheErase: together::an_erase_that_was_dropped_is_finished_by_the_next;
    TruncatesOneFold: together::truncating_a_stream_removes_the_snapshots_below;
    OlderWins: snapshot_save::an_older_snapshot_never_replaces_a_newer_one, snapshot_save::of_64_racing_saves_the_newest_stays;
    EqualStays: snapshot_save::an_equal_version_replaces;
    EqualKeepsTheDay: snapshot_save::an_equal_version_replaces;
    KeepsOne: snapshot_save::the_last_n_are_kept_by_version, snapshot_save::all_are_kept_if_asked;
    KeepsAll: snapshot_save::the_last_n_are_kept_by_version, snapshot_save::only_a_save_that_is_kept_prunes;
    PrunesWhenSuperseded: snapshot_save::only_a_save_that_is_kept_prunes;
    SavesInTwoSteps: snapshot_save::a_reader_beside_saves_always_finds_the_newest;
    AnswersManyInReverse: snapshot_save::saves_of_many_slots_are_each_as_one;
    ExcludesTheBound: snapshot_save::a_bound_includes_its_version;
    IgnoresTheBound: snapshot_save::a_bound_includes_its_version;
    MixesSerials: snapshot_save::slots_are_apart_by_fold_serial_and_key;
    MixesFolds: snapshot_save::slots_are_apart_by_fold_serial_and_key;
    AnswersTheCallBefore: snapshot_save::a_dropped_call_leaves_no_answer_behind;
    RemovesBlindly: snapshot_remove::what_somebody_has_replaced_stays;
    RemovesWhateverTheHistory: snapshot_remove::what_somebody_has_replaced_stays;
    RemovesNewerOnes: snapshot_remove::what_was_read_is_removed_once;
    NeverRemoves: snapshot_remove::what_was_read_is_removed_once;
    NotesNoUse: snapshot_remove::use_is_noted_by_day, snapshot_remove::a_sweep_keeps_what_was_used_on_the_day;
    NotesOneSlot: snapshot_remove::use_is_noted_by_day;
    SweepsTheDayItself: snapshot_remove::a_sweep_keeps_what_was_used_on_the_day;
    SweepsEverything: snapshot_remove::a_sweep_keeps_what_its_filter_does_not_name;
    SweepsWhatLasts: snapshot_remove::what_is_no_snapshot_is_never_swept;
    ForgetsByPrefix: snapshot_remove::a_key_is_forgotten_whole;
    CutsPayloads: snapshot_save::payloads_up_to_8_mib_are_exact;
    ListsEverything: snapshot_list::a_list_is_ordered_by_slot_and_version;
    TailExcludesTheBase: together::snapshot_and_tail_come_together;
    TailIgnoresTheBound: together::snapshot_and_tail_come_together;
}

mutants! {
    holds_reopening Fixture<Mutant>;
    RenewsItsIdWhenOpened: reopen::the_store_id_outlives_the_process;
    WritesNothingDown: reopen::what_was_acknowledged_is_there_when_opened_again,
        snapshot_reopen::what_was_saved_is_there_when_opened_again;
    CachesHeads: reopen::every_process_sees_an_acknowledged_append_at_once;
    ExpectsWithoutOthers: reopen::expectations_hold_between_processes;
    DecidesWithoutOthers: reopen::boundaries_hold_between_processes;
    FollowsItselfAlone: reopen::a_live_read_follows_other_processes;
    UsesPositionsAgain: reopen::positions_are_never_used_again_by_any_process;
    CachesSnapshots: snapshot_reopen::what_one_process_removes_no_other_serves;
}
