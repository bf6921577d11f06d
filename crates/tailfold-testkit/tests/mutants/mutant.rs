//! A store that gets one thing wrong.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tailfold::*;

/// What a [`Mutant`] gets wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Nothing,
    // Appends
    ForgetsExpectations,
    ComparesVersionsOnly,
    KnowsNoRepeats,
    RecognisesWholeCommitsOnly,
    TakesAnythingForARepeat,
    SplitsCommits,
    ShowsHalfCommits,
    SwallowsUnchanged,
    ConflictsWithWhatWasErased,
    SwallowsInlineSnapshots,
    KeepsInlineSnapshotsForEver,
    KeepsSnapshotsOfRepeats,
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
    BeginsWhenItIsMade,
    ReadsOnInTheNextLife,
    EndsShortBesideARemoval,
    ReadsBackwardInOneBatch,
    GivesTailsInOneBatch,
    HeadLagsBehind,
    ReadsTheLogInclusive,
    ReadsTheLogInOneBatch,
    VisitsNothing,
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
    ErasesByPrefix,
    KeepsErasedEventsInTheLog,
    FindsErasedEventsByTag,
    KeepsTruncatedEventsInTheLog,
    TruncatesAnywhere,
    ForgetsToForget,
    ForgetsAfterTheErase,
    TruncatesOneFold,
    // Opened again
    RenewsItsIdWhenOpened,
    WritesNothingDown,
    CachesHeads,
    ExpectsWithoutOthers,
    DecidesWithoutOthers,
    FollowsItselfAlone,
    UsesPositionsAgain,
    CachesSnapshots,
    // Snapshots
    OlderWins,
    EqualStays,
    EqualKeepsTheDay,
    KeepsOne,
    KeepsAll,
    PrunesWhenSuperseded,
    SavesInTwoSteps,
    AnswersManyInReverse,
    ExcludesTheBound,
    IgnoresTheBound,
    MixesSerials,
    MixesFolds,
    AnswersTheCallBefore,
    RemovesBlindly,
    RemovesWhateverTheHistory,
    RemovesNewerOnes,
    NeverRemoves,
    NotesNoUse,
    NotesOneSlot,
    SweepsTheDayItself,
    SweepsEverything,
    SweepsWhatLasts,
    ForgetsByPrefix,
    CutsPayloads,
    ListsEverything,
    TailExcludesTheBase,
    TailIgnoresTheBound,
}

/// The reference store, but for one thing that is wrong.
#[derive(Clone, Debug)]
pub(crate) struct Mutant {
    pub(crate) inner: MemoryStore,
    pub(crate) wrong: Wrong,
    /// What the processes that have the place open have in common.
    pub(crate) place: Arc<Place>,
    /// What this process alone knows.
    pub(crate) process: Arc<Process>,
}

#[derive(Debug, Default)]
pub(crate) struct Place {
    opened: AtomicU64,
    /// Events that were removed and are there all the same.
    pub(crate) ghosts: Mutex<Vec<RecordedEvent>>,
    /// Identities of what each write recorded.
    pub(crate) recorded: Mutex<Vec<Vec<EventId>>>,
    /// From which position on all are told as lower ones, and by how much.
    pub(crate) lowered: Mutex<Option<(u64, u64)>>,
    /// Answers that nobody has fetched yet.
    pub(crate) answers: Mutex<VecDeque<Option<StoredSnapshot>>>,
    /// One at a time, where a mutant takes several steps that nobody is to see but whom the case is about.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
pub(crate) struct Process {
    number: u64,
    id: StoreId,
    pub(crate) heads: Mutex<HashMap<StreamId, Option<Head>>>,
    pub(crate) snapshots: Mutex<HashMap<Slot, Option<StoredSnapshot>>>,
}

impl Mutant {
    pub(crate) fn new(wrong: Wrong) -> Self {
        Self::open(MemoryStore::new(), wrong, Arc::default())
    }

    /// The same place, as another process opens it.
    pub(crate) fn opened_again(&self) -> Self {
        let inner = if self.is(Wrong::WritesNothingDown) { MemoryStore::new() } else { self.inner.clone() };
        Self::open(inner, self.wrong, self.place.clone())
    }

    fn open(inner: MemoryStore, wrong: Wrong, place: Arc<Place>) -> Self {
        let number = place.opened.fetch_add(1, Ordering::Relaxed);
        let process =
            Process { number, id: StoreId::fresh(), heads: Mutex::default(), snapshots: Mutex::default() };
        Self { inner, wrong, place, process: Arc::new(process) }
    }

    pub(crate) fn is(&self, wrong: Wrong) -> bool {
        self.wrong == wrong
    }

    /// Whether it gets that wrong, where another process has the place open too.
    pub(crate) fn is_beside_others(&self, wrong: Wrong) -> bool {
        self.is(wrong) && self.place.opened.load(Ordering::Relaxed) > 1
    }

    /// Whether it gets that wrong, in any process but the first.
    pub(crate) fn is_later(&self, wrong: Wrong) -> bool {
        self.is(wrong) && self.process.number > 0
    }

    pub(crate) fn process_id(&self) -> StoreId {
        self.process.id
    }
}
