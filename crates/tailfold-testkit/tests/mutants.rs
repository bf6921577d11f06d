//! Stores that break one promise each: the case that is about it must fail. Without this, a case that never fails would
//! look like a promise that is kept.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken store may panic")]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tailfold::*;
use tailfold_testkit::conformance::*;

/// What a [`Mutant`] gets wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    // Appends
    ForgetsExpectations,
    ComparesVersionsOnly,
    KnowsNoRepeats,
    TakesAnythingForARepeat,
    SplitsCommits,
    SwallowsUnchanged,
    SwallowsInlineSnapshots,
    ChecksNothing,
    DropsMetadata,
    SortsTags,
    RenewsItsId,
    // Reads
    StartsTailsLate,
    ExcludesTheEnd,
    ReadsForwardOnly,
    StopsAfter1000,
    LosesAnEventAtThePage,
    HeadLagsBehind,
    ReadsTheLogInclusive,
    MatchesAnyTag,
    HidesTombstones,
    HidesMarkers,
    ChecksTooFar,
    RepeatsWhereLiveBegins,
    SkipsWhereLiveBegins,
    EndsLiveReads,
    ListsInReverse,
    ListsAfterInclusive,
    ListsByEvents,
    // Removals
    ErasesNothing,
    TruncatesAnywhere,
    ForgetsToForget,
    // Snapshots
    OlderWins,
    EqualStays,
    KeepsOne,
    KeepsAll,
    PrunesWhenSuperseded,
    ExcludesTheBound,
    IgnoresTheBound,
    MixesSerials,
    MixesFolds,
    RemovesBlindly,
    NeverRemoves,
    NotesNoUse,
    SweepsTheDayItself,
    SweepsEverything,
    ForgetsByPrefix,
    CutsPayloads,
    ListsEverything,
    TailExcludesTheBase,
    TailIgnoresTheBound,
}

#[derive(Clone, Debug)]
struct Mutant {
    inner: MemoryStore,
    wrong: Wrong,
}

impl Mutant {
    fn is(&self, wrong: Wrong) -> bool {
        self.wrong == wrong
    }

    fn slot(&self, slot: &Slot) -> Slot {
        let serial = if self.is(Wrong::MixesSerials) {
            "0".repeat(16).parse().unwrap()
        } else {
            slot.serial().clone()
        };
        let fold = if self.is(Wrong::MixesFolds) { "fold" } else { slot.fold() };
        Slot::new(fold, serial, slot.key()).unwrap()
    }
}

fn rebuilt(event: &NewEvent, change: impl FnOnce(&mut EventData)) -> NewEvent {
    let mut data = event.data().clone();
    change(&mut data);
    NewEvent::new(data).unwrap()
}

#[async_trait]
impl EventStore for Mutant {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn store_id(&self) -> Result<StoreId> {
        if self.is(Wrong::RenewsItsId) { Ok(StoreId::fresh()) } else { self.inner.store_id().await }
    }

    async fn append(&self, mut commit: Commit) -> Result<Committed> {
        for write in &mut commit.writes {
            match (self.wrong, write.expected) {
                (Wrong::ForgetsExpectations, _) => write.expected = Expected::Any,
                (Wrong::ComparesVersionsOnly, Expected::Head(head)) => {
                    write.expected = Expected::Version(head.version);
                }
                _ => {}
            }
            for event in &mut write.events {
                match self.wrong {
                    Wrong::DropsMetadata => *event = rebuilt(event, |data| data.metadata = Bytes::new()),
                    Wrong::SortsTags => *event = rebuilt(event, |data| data.tags.sort()),
                    _ => {}
                }
            }
        }
        match self.wrong {
            Wrong::SwallowsUnchanged => commit.unchanged = None,
            Wrong::SwallowsInlineSnapshots => commit.snapshot = None,
            Wrong::ChecksNothing if commit.check().is_err() => {
                commit.writes.truncate(1);
                commit.writes[0].events.truncate(Commit::MAX_EVENTS);
                if commit.writes[0].events.is_empty() {
                    let head = Head { version: Version(1), chain: Chain::from_bytes([0; 16]) };
                    let written =
                        Written { stream: commit.writes[0].stream.clone(), first: Version(1), head };
                    let writes = vec![written];
                    return Ok(Committed { writes, position: Position(1), snapshot: None, repeated: false });
                }
            }
            Wrong::SplitsCommits => {
                commit.check()?;
                let mut receipt: Option<Committed> = None;
                for write in commit.writes {
                    let part =
                        self.inner.append(Commit::new(write.stream, write.expected, write.events)).await?;
                    match &mut receipt {
                        None => receipt = Some(part),
                        Some(receipt) => receipt.writes.extend(part.writes),
                    }
                }
                return Ok(receipt.unwrap());
            }
            _ => {}
        }
        let copy = commit.clone();
        let result = self.inner.append(commit).await;
        match (self.wrong, &result) {
            (Wrong::KnowsNoRepeats, Ok(committed)) if committed.repeated => {
                let stream = copy.writes[0].stream.clone();
                let actual = self.inner.head(&stream).await?;
                Err(Error::conflict(stream, copy.writes[0].expected, actual))
            }
            (Wrong::TakesAnythingForARepeat, Err(error)) if error.is_conflict() => {
                let stream = copy.writes[0].stream.clone();
                let Some(head) = self.inner.head(&stream).await? else { return result };
                let writes = vec![Written { stream, first: Version(1), head }];
                Ok(Committed { writes, position: Position(1), snapshot: None, repeated: true })
            }
            _ => result,
        }
    }

    fn read(&self, stream: &StreamId, mut range: VersionRange, mut direction: Direction) -> EventBatches {
        match self.wrong {
            Wrong::StartsTailsLate if range.from > Version::FIRST => range.from = range.from.next(),
            Wrong::ExcludesTheEnd => range.to = range.to.map(|to| Version(to.0.saturating_sub(1))),
            Wrong::ReadsForwardOnly => direction = Direction::Forward,
            Wrong::StopsAfter1000 => return self.inner.read(stream, range, direction).take(4).boxed(),
            Wrong::LosesAnEventAtThePage => {
                let batches = self.inner.read(stream, range, direction).enumerate();
                return batches
                    .map(|(index, batch)| batch.map(|mut batch| batch.split_off(usize::from(index > 0))))
                    .boxed();
            }
            _ => {}
        }
        self.inner.read(stream, range, direction)
    }

    fn read_all(&self, mut after: Position, filter: Filter, follow: Follow) -> LogBatches {
        let wrong = self.wrong;
        match wrong {
            Wrong::ReadsTheLogInclusive => after.0 = after.0.saturating_sub(1),
            Wrong::MatchesAnyTag => {
                let mut any: Option<Filter> = None;
                for clause in filter.clauses() {
                    if clause.tags.is_empty() {
                        return self.inner.read_all(after, filter, follow);
                    }
                    for tag in &clause.tags {
                        let one = Filter::tag(tag.clone());
                        any = Some(match any {
                            None => one,
                            Some(any) => any.or(one),
                        });
                    }
                }
                return self.inner.read_all(after, any.unwrap(), follow);
            }
            Wrong::HidesTombstones => {
                let batches = self.inner.read_all(after, filter, follow);
                return batches
                    .map_ok(|mut batch| {
                        batch.events.retain(|event| !event.data.event_type.is_tombstone());
                        batch
                    })
                    .boxed();
            }
            Wrong::HidesMarkers => {
                let batches = self.inner.read_all(after, filter, follow);
                return batches
                    .map_ok(|mut batch| {
                        batch.events.retain(|event| !event.data.event_type.is_truncation());
                        batch
                    })
                    .boxed();
            }
            Wrong::ChecksTooFar => {
                let batches = self.inner.read_all(after, filter, follow);
                return batches
                    .map_ok(|mut batch| {
                        batch.checked_to.0 += 1;
                        batch
                    })
                    .boxed();
            }
            Wrong::RepeatsWhereLiveBegins | Wrong::SkipsWhereLiveBegins if follow == Follow::Live => {
                let (store, catch_up) =
                    (self.inner.clone(), self.inner.read_all(after, filter.clone(), Follow::ToEnd));
                let last = std::sync::Mutex::new(after);
                let catch_up = catch_up.inspect_ok({
                    let last = Arc::new(last);
                    move |batch| *last.lock().unwrap() = batch.checked_to
                });
                let live = futures_util::stream::once(async move {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    let newest = store.read_all(Position::ZERO, Filter::all(), Follow::ToEnd);
                    let newest =
                        newest.map_ok(|batch| batch.checked_to).try_fold(after, async |_, to| Ok(to)).await;
                    let from = if wrong == Wrong::RepeatsWhereLiveBegins { after } else { newest.unwrap() };
                    store.read_all(from, filter, Follow::Live)
                });
                return catch_up.chain(live.flatten()).boxed();
            }
            Wrong::EndsLiveReads => return self.inner.read_all(after, filter, Follow::ToEnd),
            _ => {}
        }
        self.inner.read_all(after, filter, follow)
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>> {
        let head = self.inner.head(stream).await?;
        match head {
            Some(head) if self.is(Wrong::HeadLagsBehind) && head.version > Version::FIRST => {
                let before = VersionRange::ALL.up_to(Some(Version(head.version.0 - 1)));
                Ok(self.inner.read_to_vec(stream, before).await?.last().map(RecordedEvent::head))
            }
            head => Ok(head),
        }
    }

    fn streams(&self, filter: Filter, after: Option<StreamId>) -> StreamBatches {
        match self.wrong {
            Wrong::ListsInReverse => {
                let batches = self.inner.streams(filter, after);
                batches
                    .map_ok(|mut batch| {
                        batch.reverse();
                        batch
                    })
                    .boxed()
            }
            Wrong::ListsAfterInclusive => match after {
                Some(after) => {
                    let first = self.inner.streams(Filter::stream(after.clone()), None);
                    first.chain(self.inner.streams(filter, Some(after))).boxed()
                }
                None => self.inner.streams(filter, None),
            },
            Wrong::ListsByEvents if filter.restricts_events() => self.inner.streams(Filter::all(), after),
            _ => self.inner.streams(filter, after),
        }
    }

    async fn remove(&self, stream: &StreamId, removal: Removal) -> Result<Removed> {
        match (self.wrong, &removal) {
            (Wrong::ErasesNothing, Removal::Erase { .. }) => Ok(Removed::default()),
            (Wrong::TruncatesAnywhere, Removal::BeforeOrigin { .. }) => {
                Ok(self.inner.remove(stream, removal).await.unwrap_or_default())
            }
            (Wrong::ForgetsToForget, _) => {
                let kept = self.inner.list_to_vec(SlotFilter::key(stream.as_str())).await?;
                let removed = self.inner.remove(stream, removal).await?;
                for SnapshotInfo { slot, head, used, .. } in kept {
                    let save = Save { head, bytes: Bytes::new(), keep: Keep::All, day: used };
                    self.inner.save(&slot, save).await?;
                }
                Ok(removed)
            }
            _ => self.inner.remove(stream, removal).await,
        }
    }

    fn snapshot_and_tail(&self) -> Option<&dyn SnapshotAndTail> {
        Some(self)
    }
}

#[async_trait]
impl SnapshotAndTail for Mutant {
    async fn newest_with_tail(
        &self,
        slot: &Slot,
        stream: &StreamId,
        bound: Option<Version>,
    ) -> Result<(Option<StoredSnapshot>, EventBatches)> {
        let snapshot = self.inner.newest(slot, bound).await?;
        let base = snapshot.as_ref().map_or(Version::ZERO, |snapshot| snapshot.head.version);
        let from = if self.is(Wrong::TailExcludesTheBase) { base.next() } else { base };
        let to = if self.is(Wrong::TailIgnoresTheBound) { None } else { bound };
        Ok((snapshot, self.inner.read(stream, VersionRange::from(from).up_to(to), Direction::Forward)))
    }
}

#[async_trait]
impl SnapshotStore for Mutant {
    async fn newest(&self, slot: &Slot, bound: Option<Version>) -> Result<Option<StoredSnapshot>> {
        let bound = match (self.wrong, bound) {
            (Wrong::IgnoresTheBound, _) => None,
            (Wrong::ExcludesTheBound, Some(Version(bound))) => Some(Version(bound.saturating_sub(1))),
            (_, bound) => bound,
        };
        self.inner.newest(&self.slot(slot), bound).await
    }

    async fn save(&self, slot: &Slot, mut save: Save) -> Result<Saved> {
        let slot = &self.slot(slot);
        let newest = self.inner.newest(slot, None).await?;
        match (self.wrong, newest) {
            (Wrong::OlderWins, Some(newest)) if newest.head.version > save.head.version => {
                self.inner.compare_and_remove(slot, &newest).await?;
            }
            (Wrong::EqualStays, Some(newest)) if newest.head.version == save.head.version => {
                return Ok(Saved::Superseded(newest.head));
            }
            (Wrong::PrunesWhenSuperseded, Some(newest)) if newest.head.version > save.head.version => {
                let again = Save { head: newest.head, bytes: newest.bytes, ..save };
                self.inner.save(slot, again).await?;
            }
            (Wrong::KeepsOne, _) => save.keep = Keep::Newest,
            (Wrong::KeepsAll, _) => save.keep = Keep::All,
            (Wrong::CutsPayloads, _) => save.bytes.truncate(1 << 20),
            _ => {}
        }
        self.inner.save(slot, save).await
    }

    fn list(&self, filter: SlotFilter) -> SnapshotBatches {
        self.inner.list(if self.is(Wrong::ListsEverything) { SlotFilter::all() } else { filter })
    }

    async fn compare_and_remove(&self, slot: &Slot, read: &StoredSnapshot) -> Result<bool> {
        let slot = &self.slot(slot);
        match self.wrong {
            Wrong::NeverRemoves => return Ok(true),
            Wrong::RemovesBlindly => {
                if let Some(newest) = self.inner.newest(slot, None).await? {
                    return self.inner.compare_and_remove(slot, &newest).await;
                }
            }
            _ => {}
        }
        self.inner.compare_and_remove(slot, read).await
    }

    async fn mark_used(&self, used: &[(Slot, Version)], day: Day) -> Result<()> {
        if self.is(Wrong::NotesNoUse) { Ok(()) } else { self.inner.mark_used(used, day).await }
    }

    async fn sweep(&self, filter: SlotFilter, unused_since: Day) -> Result<Swept> {
        match self.wrong {
            Wrong::SweepsTheDayItself => self.inner.sweep(filter, Day(unused_since.0 + 1)).await,
            Wrong::SweepsEverything => self.inner.sweep(SlotFilter::all(), unused_since).await,
            _ => self.inner.sweep(filter, unused_since).await,
        }
    }

    async fn forget(&self, key: &str) -> Result<Swept> {
        let mut swept = self.inner.forget(key).await?;
        if self.is(Wrong::ForgetsByPrefix) {
            for info in self.inner.list_to_vec(SlotFilter::all()).await? {
                if info.slot.key().starts_with(key) {
                    swept.snapshots += self.inner.forget(info.slot.key()).await?.snapshots;
                }
            }
        }
        Ok(swept)
    }
}

/// Whether a case holds for a store that gets that wrong.
async fn holds<C: Future<Output = ()> + Send + 'static>(
    case: impl FnOnce(Arc<Mutant>) -> C,
    wrong: Wrong,
) -> bool {
    let case = case(Arc::new(Mutant { inner: MemoryStore::new(), wrong }));
    match tokio::spawn(case).await {
        Ok(()) => true,
        Err(error) if error.is_panic() => false,
        Err(error) => panic!("{error}"),
    }
}

macro_rules! mutants {
    ($($wrong:ident: $($part:ident::$case:ident),+;)+) => {$(
        #[allow(non_snake_case, reason = "named after the mutant")]
        #[tokio::test(flavor = "multi_thread")]
        async fn $wrong() {
            $(
                let case = |store: Arc<Mutant>| $part::$case(store);
                assert!(holds(case, Wrong::Nothing).await, "{} fails for a right store", stringify!($case));
                assert!(!holds(case, Wrong::$wrong).await, "{} does not notice", stringify!($case));
            )+
        }
    )+};
}

mutants! {
    ForgetsExpectations: append::expectations_against_an_empty_stream, append::expectations_against_a_stream_with_events,
        append::of_64_racing_creators_exactly_one_wins, several_streams::one_conflict_writes_nothing;
    ComparesVersionsOnly: append::head_of_another_history_conflicts, repeat::the_same_events_after_another_history_conflict,
        erase::the_next_life_is_another_history;
    KnowsNoRepeats: repeat::the_same_commit_again_returns_the_original_receipt,
        repeat::racing_copies_of_one_commit_are_recorded_once, unchanged::a_repeated_commit_returns_its_receipt;
    TakesAnythingForARepeat: repeat::a_partly_recorded_commit_conflicts, repeat::the_same_ids_with_other_contents_conflict,
        repeat::other_ids_or_another_order_conflict;
    SplitsCommits: several_streams::one_conflict_writes_nothing, several_streams::a_repeated_commit_counts_in_all_streams;
    SwallowsUnchanged: unchanged::a_matching_event_refuses_the_commit, unchanged::of_racing_decisions_exactly_one_is_recorded,
        erase::a_tombstone_changes_a_boundary, truncate::a_marker_changes_a_boundary;
    SwallowsInlineSnapshots: together::a_snapshot_travels_with_its_commit;
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
    HeadLagsBehind: append::an_acknowledged_append_is_seen_by_everybody, append::awkward_events_come_back_exactly;
    ReadsTheLogInclusive: log::a_read_begins_after_its_position;
    MatchesAnyTag: log::filters_find_what_their_definition_says;
    HidesTombstones: erase::a_tombstone_says_what_was_erased, erase::an_erased_stream_is_empty;
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
    TruncatesAnywhere: truncate::only_an_origin_allows_it;
    ForgetsToForget: together::erasing_a_stream_forgets_its_snapshots, together::truncating_a_stream_removes_the_snapshots_below;
    OlderWins: snapshot_save::an_older_snapshot_never_replaces_a_newer_one, snapshot_save::of_64_racing_saves_the_newest_stays;
    EqualStays: snapshot_save::an_equal_version_replaces;
    KeepsOne: snapshot_save::the_last_n_are_kept_by_version, snapshot_save::all_are_kept_if_asked;
    KeepsAll: snapshot_save::the_last_n_are_kept_by_version, snapshot_save::only_a_save_that_is_kept_prunes;
    PrunesWhenSuperseded: snapshot_save::only_a_save_that_is_kept_prunes;
    ExcludesTheBound: snapshot_save::a_bound_includes_its_version;
    IgnoresTheBound: snapshot_save::a_bound_includes_its_version;
    MixesSerials: snapshot_save::slots_are_apart_by_fold_serial_and_key;
    MixesFolds: snapshot_save::slots_are_apart_by_fold_serial_and_key;
    RemovesBlindly: snapshot_remove::what_somebody_has_replaced_stays;
    NeverRemoves: snapshot_remove::what_was_read_is_removed_once;
    NotesNoUse: snapshot_remove::use_is_noted_by_day, snapshot_remove::a_sweep_keeps_what_was_used_on_the_day;
    SweepsTheDayItself: snapshot_remove::a_sweep_keeps_what_was_used_on_the_day;
    SweepsEverything: snapshot_remove::a_sweep_keeps_what_its_filter_does_not_name;
    ForgetsByPrefix: snapshot_remove::a_key_is_forgotten_whole;
    CutsPayloads: snapshot_save::payloads_up_to_8_mib_are_exact;
    ListsEverything: snapshot_list::a_list_is_ordered_by_slot_and_version;
    TailExcludesTheBase: together::snapshot_and_tail_come_together;
    TailIgnoresTheBound: together::snapshot_and_tail_come_together;
}
