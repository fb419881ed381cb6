//! Rare situations: a run of many seeds that never met one of them has tested less than it says.

use std::collections::BTreeMap;

macro_rules! situations {
    ($($name:ident = $id:literal;)*) => {
        /// Something that does not happen every day.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub(crate) enum Sight { $($name,)* }

        impl Sight {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }
        }
    };
}

situations! {
    TornCut = "a torn group was cut off";
    CleanStart = "a journal was closed in good order and opened again";
    MidwayCrash = "the machine stopped in the middle of an operation";
    PowerLoss = "the power failed";
    SyncFailed = "a sync failed and the process ended";
    SyncLied = "a sync lied";
    SyncSlow = "a sync took seconds";
    ShortWrite = "a write stopped half-way";
    DiskFull = "the journal had no room";
    RoomAgain = "the journal went on after it had no room";
    StuckOnFull = "a shard waited for a full disk";
    Rotated = "a segment was sealed";
    Replayed = "a start applied records that the rows lacked";
    RowsLost = "rows were gone and rebuilt";
    CallsLost = "the newest calls to the rows were lost";
    RowsFailed = "rows could not be written";
    AnswerLost = "rows were written and the answer was lost";
    RowReadFailed = "a row could not be read";
    ShardCrashed = "a shard crashed and was filled again";
    Passivated = "actors were dropped from memory";
    Activated = "an actor was read back";
    LateFromFacts = "a late count was computed from the facts";
    Gap = "frames were asked for again";
    Known = "a frame was known";
    Superseded = "a newer session ended an older one";
    Refused = "an event was refused";
    Conflict = "an event id stood for two contents";
    SameId = "an event came again under its id";
    Renewed = "a device took a new epoch";
    CarriedOver = "events were carried into a new epoch";
    Compared = "a device asked which of its events are here";
    Restored = "a device was restored from an image";
    DeviceCrash = "a device crashed";
    DeviceForgot = "a device forgot what it had not synced";
    DeviceLost = "a device was lost for good";
    Offline = "a device was offline for long";
    Partition = "the network was parted";
    Cut = "a connection was cut with bytes on the way";
    FrameLost = "a frame was lost";
    Stalled = "what a device or an engine sent took seconds";
    FrameTwice = "a frame came twice";
    Overtaken = "a frame overtook another";
    NoPermit = "a frame waited for a permit";
    ClockLeap = "the engine's clock leapt";
    ClockSuspect = "a device's clock was found too far off";
    Retained = "segments left behind a base";
    BasedStart = "a start began from a base";
    RotFound = "a flipped bit was found";
    CutFound = "a truncated segment was found";
    LostEnd = "a journal had lost its end";
    StartUnread = "a start could not read something, and the next one could";
    RunUnread = "a running engine could not read its journal";
    Blind = "a file of an engine could not be read for a while";
    StrayFound = "a write that had landed elsewhere was found";
    StrayLost = "a write that had landed elsewhere was the last one, and lost";
    Quarantined = "a movement had no place in its level and was quarantined";
    Retried = "what was quarantined was decided again and took effect";
    StillQuarantined = "what was quarantined was decided again and stayed there";
    RetriedShared = "what was quarantined was decided again by one of several engines and committed";
    RetryTakenIn = "what another engine had decided again was taken in";
    RetryLost = "a process ended before what was decided again was durable";
    Copied = "two devices went on from one outbox";
    CountedPerCopy = "an event counted once for each of two copies of its outbox";
    RoundShared = "a round was committed into a shared store";
    RoundReread = "a round was committed whose records could not be read back at first";
    TakenOver = "a slot was taken from an engine that was counted as dead";
    Fenced = "a conditional write found that another was there before it";
    CommitFenced = "a commit was lost to the next owner of its slot";
    UnknownMade = "a conditional write whose outcome was unknown had been made";
    UnknownRefused = "a conditional write whose outcome was unknown came too late";
    LateAfterNext = "a write of an earlier owner arrived after the next one began";
    ShareAnswerLost = "a change of the shared store was made and its answer lost";
    RowsInPart = "some rows of a commit were written and others not";
    HandedOff = "records without a commit were handed off";
    TakenIn = "records of another journal were taken in";
    Stranded = "records that were handed off had no place to the end";
    Doubled = "an event without an id counted in two epochs, as its device went on from an image or a copy";
    HandshakeRefused = "an engine accepted nobody, as it was not sure of its slot";
    Redirected = "a device was sent to another engine";
    MovedAway = "a device was told in mid-session that its store had left";
    StoreSlow = "the shared store took long to answer";
    CutOff = "an engine did not reach the shared store";
    Frozen = "an engine's process stood still";
    DiskGone = "an engine was lost with its disk";
    Cordoned = "an engine gave its slots up and stopped";
    EndedAtCommit = "a process ended between a commit and its rows";
    DeliveredTogether = "a shard heard several messages together";
    DeliveredDamaged = "rows that several messages together asked for made no sense";
    PricesMade = "a sale had discounts and taxes of lines and of the whole";
    LineStruck = "a line was struck out of a sale";
    PaidInParts = "a sale was paid by two tenders";
    Cancelled = "a sale was cancelled";
    SetFree = "reserved goods were set free";
    Trained = "a sale was rung up in training";
    Practised = "a movement was made in training";
    CameBack = "goods came back";
    Exchanged = "goods came back for others";
    Unfit = "goods came back that cannot be sold again";
    SensorRead = "a sensor read something";
    DeviceTold = "a device told how it is";
    BeforeChange = "something happened before the clocks of its store were changed";
    AfterChange = "something happened after the clocks of its store were changed";
    Released = "an operator released a record that had no place";
    ReleasedCounts = "what was released took effect";
    Ahead = "a store's clocks were not whole hours ahead";
    CommittedDropped = "segments that the shared store holds were dropped";
}

/// How often each was met.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage(BTreeMap<Sight, u64>);

impl Coverage {
    pub(crate) fn saw(&mut self, sight: Sight) {
        self.saw_times(sight, 1);
    }

    pub(crate) fn saw_times(&mut self, sight: Sight, times: u64) {
        if times > 0 {
            *self.0.entry(sight).or_default() += times;
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (sight, times) in &other.0 {
            self.saw_times(*sight, *times);
        }
    }

    pub(crate) fn times(&self, sight: Sight) -> u64 {
        self.0.get(&sight).copied().unwrap_or(0)
    }

    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let all = Sight::ALL.iter();
        let missing = all.filter(|sight| self.times(**sight) == 0);
        missing.map(|sight| sight.name()).collect()
    }
}
