use std::sync::Arc;

use bytes::Bytes;

use super::{Action, Answer, Command, End, Flush, NotNow, SlotWriter};
use crate::cluster::{Change, Commit, FlushLog, FoundLog, LogError, NodeId, Seal, SlotRow};
use crate::testing::conformance::sample;

const ME: NodeId = NodeId::from_bytes([1; 16]);
const OTHER: NodeId = NodeId::from_bytes([2; 16]);

fn row(epoch: u64, owner: Option<NodeId>, flush: u64) -> SlotRow {
    SlotRow {
        slot: 3,
        epoch,
        owner,
        flush,
        ..SlotRow::default()
    }
}

fn commands(writer: &mut SlotWriter) -> Vec<Command> {
    writer.drain().collect()
}

/// The one command that waits for an answer, and the others.
fn asked(writer: &mut SlotWriter) -> (u64, Action) {
    let all = commands(writer);
    let asking: Vec<_> = all
        .into_iter()
        .filter(|command| command.request > 0)
        .collect();
    let [command] = &asking[..] else {
        panic!("{asking:?}");
    };
    (command.request, command.action.clone())
}

fn answer(writer: &mut SlotWriter, answer: Answer) -> Action {
    let request = writer.request;
    writer.answer(request, answer);
    asked(writer).1
}

/// What a writer asks for and tells when an answer has come.
fn all_after(writer: &mut SlotWriter, answer: Answer) -> Vec<Command> {
    let request = writer.request;
    writer.answer(request, answer);
    commands(writer)
}

fn log_of(number: u64, epoch: u64) -> (Seal, FoundLog) {
    let commit = Commit {
        epoch,
        ..flush(number)
    };
    let log = commit.to_log().unwrap();
    (log.seal, log.into())
}

fn flush_log(number: u64, epoch: u64) -> FlushLog {
    let (seal, log) = log_of(number, epoch);
    FlushLog {
        flush: number,
        seal,
        log,
    }
}

fn owner() -> SlotWriter {
    let mut writer = SlotWriter::take_over(&row(4, None, 0), ME, "here");
    let (request, action) = asked(&mut writer);
    let Action::Swap(swap) = action else {
        panic!("{action:?}");
    };
    assert!(matches!(swap.change, Change::Acquire { .. }));
    writer.answer(request, Answer::Applied);
    let (request, _) = asked(&mut writer);
    writer.answer(request, Answer::Row(row(5, Some(ME), 0)));
    let served = Action::Serve { flush: 0, epoch: 5 };
    assert_eq!(commands(&mut writer)[0].action, served);
    assert!(writer.is_open());
    writer
}

fn flush(number: u64) -> Commit {
    Commit {
        slot: 3,
        flush: number,
        epoch: 5,
        records: Vec::new(),
        rows: sample(1).unwrap(),
    }
}

fn deciding() -> (SlotWriter, SlotRow) {
    let mut writer = owner();
    writer.commit(flush(1)).unwrap();
    let log = flush(1).to_log().unwrap();
    let seal = log.seal;
    let action = asked(&mut writer).1;
    let expected = Action::WriteLog {
        flush: 1,
        log: Arc::new(log),
        before: None,
    };
    assert_eq!(action, expected);
    let Action::Swap(swap) = answer(&mut writer, Answer::Done) else {
        panic!("no commit");
    };
    let row = swap.applied_to(&row(5, Some(ME), 0)).unwrap();
    assert_eq!((row.flush, row.applied, row.seal), (1, 0, seal));
    (writer, row)
}

#[test]
fn a_flush_that_was_made_for_another_epoch_or_number_is_given_back() {
    let mut writer = owner();
    for (number, epoch) in [(1, 4), (2, 5)] {
        let commit = Commit {
            epoch,
            ..flush(number)
        };
        let made = Flush::new(commit.clone()).unwrap();
        let back = writer.commit_made(made).unwrap_err();
        assert_eq!(back.into_commit(), commit.settled());
        assert!(writer.is_idle() && commands(&mut writer).is_empty());
    }
    let made = Flush::new(flush(1)).unwrap();
    writer.commit_made(made.clone()).unwrap();
    assert!(matches!(
        asked(&mut writer).1,
        Action::WriteLog { flush: 1, .. }
    ));
    // Another is on its way.
    assert!(writer.commit_made(made).is_err());
}

#[test]
fn an_unknown_commit_is_read_and_found() {
    let (mut writer, row) = deciding();
    assert_eq!(answer(&mut writer, Answer::Unknown), Action::ReadSlot);
    assert_eq!(answer(&mut writer, Answer::Failed), Action::ReadSlot);
    let all = all_after(&mut writer, Answer::Row(row));
    assert_eq!(all[0].action, Action::NotifyCommitted { flush: 1 });
    assert!(matches!(all[1].action, Action::Project(_)));
    assert_eq!((writer.next_flush(), writer.applied()), (2, 0));
    // The next one does not wait for the rows.
    assert!(writer.is_idle());
    writer.answer(all[1].request, Answer::Done);
    let applied = Action::Applied { flush: 1 };
    assert_eq!(commands(&mut writer)[0].action, applied);
    assert_eq!(writer.applied(), 1);
}

// Commits flush `number` of a writer that is idle; what it asks for and tells then.
fn committed(writer: &mut SlotWriter, number: u64) -> Vec<Command> {
    writer.commit(flush(number)).unwrap();
    let Action::WriteLog { before, .. } = asked(writer).1 else {
        panic!("no log");
    };
    let seal = |number| log_of(number, 5).0;
    assert_eq!(before, (number > 1).then(|| seal(number - 1)));
    assert!(matches!(answer(writer, Answer::Done), Action::Swap(_)));
    all_after(writer, Answer::Applied)
}

fn projected(command: &Command) -> Vec<u64> {
    let Action::Project(commits) = &command.action else {
        panic!("{command:?}");
    };
    commits.iter().map(|commit| commit.flush).collect()
}

#[test]
fn rows_follow_commits_together_and_only_so_many_may_wait() {
    let mut writer = owner();
    let first = committed(&mut writer, 1).pop().unwrap();
    assert_eq!(projected(&first), [1]);
    for number in 2..=8 {
        let all = committed(&mut writer, number);
        assert_eq!(all.len(), 1, "one is on its way: {all:?}");
    }
    assert_eq!(writer.commit(flush(9)), Err(NotNow::Busy { slot: 3 }));
    // What was not written is written again, as it was.
    writer.answer(first.request, Answer::Failed);
    let again = commands(&mut writer).pop().unwrap();
    assert_eq!((projected(&again), again.attempt), (vec![1], 1));
    // The first answer is too late.
    writer.answer(first.request, Answer::Done);
    assert_eq!(commands(&mut writer), []);
    writer.answer(again.request, Answer::Done);
    let all = commands(&mut writer);
    assert_eq!(all[0].action, Action::Applied { flush: 1 });
    assert_eq!(projected(&all[1]), [2, 3, 4, 5, 6, 7, 8]);
    writer.answer(all[1].request, Answer::Done);
    let applied = Action::Applied { flush: 8 };
    assert_eq!(commands(&mut writer)[0].action, applied);
    writer.commit(flush(9)).unwrap();
    answer_log(&mut writer);
    let Action::Swap(swap) = answer(&mut writer, Answer::Done) else {
        panic!("no commit");
    };
    let change = swap.change;
    assert!(
        matches!(change, Change::Commit { applied: 8, .. }),
        "{change:?}"
    );
}

fn answer_log(writer: &mut SlotWriter) {
    assert!(matches!(asked(writer).1, Action::WriteLog { .. }));
}

#[test]
fn an_unknown_commit_that_did_not_happen_is_sent_again_as_it_was() {
    let (mut writer, committed) = deciding();
    answer(&mut writer, Answer::Unknown);
    let Action::Swap(again) = answer(&mut writer, Answer::Row(row(5, Some(ME), 0))) else {
        panic!("not sent again");
    };
    assert_eq!(again.applied_to(&row(5, Some(ME), 0)), Some(committed));
}

#[test]
fn a_commit_that_happened_before_the_slot_was_taken_is_told() {
    let (mut writer, mut row) = deciding();
    row.epoch = 6;
    row.owner = Some(OTHER);
    let request = writer.request;
    writer.answer(request, Answer::NotApplied(row.clone()));
    let all = commands(&mut writer);
    assert_eq!(all[0].action, Action::NotifyCommitted { flush: 1 });
    assert_eq!(all[1].action, Action::Stop(End::Fenced(row)));
    assert!(writer.has_ended());
}

#[test]
fn a_foreign_epoch_ends_the_writer_for_good() {
    let (mut writer, _) = deciding();
    let request = writer.request;
    let taken = row(6, Some(OTHER), 1);
    writer.answer(request, Answer::NotApplied(taken.clone()));
    assert_eq!(
        commands(&mut writer)[0].action,
        Action::Stop(End::Fenced(taken))
    );
    writer.answer(request, Answer::Applied);
    writer.release();
    writer.resume();
    assert_eq!(commands(&mut writer), []);
    let mut writer = owner();
    writer.observe(&row(5, Some(ME), 0));
    assert!(writer.is_open());
    writer.observe(&row(7, None, 0));
    assert!(writer.has_ended());
}

#[test]
fn late_answers_are_not_taken_for_others() {
    let (mut writer, _) = deciding();
    let late = writer.request;
    answer(&mut writer, Answer::Unknown);
    writer.answer(late, Answer::Applied);
    assert_eq!(commands(&mut writer), []);
    assert!(!writer.is_idle());
}

// Takes a slot whose last owner has left flush 1 applied and two more committed.
fn taking() -> (SlotWriter, SlotRow) {
    let seen = row(4, Some(OTHER), 3);
    let mut writer = SlotWriter::take_over(&seen, ME, "here");
    commands(&mut writer);
    answer(&mut writer, Answer::Applied);
    let mut taken = row(5, Some(ME), 3);
    (taken.applied, taken.seal) = (1, log_of(3, 2).0);
    let all = all_after(&mut writer, Answer::Row(taken.clone()));
    assert_eq!(all[0].action, Action::ForgetRows { first: 1, last: 1 });
    let read = Action::ReadLogs(Box::new(taken.clone()));
    assert_eq!(all[1].action, read);
    (writer, taken)
}

#[test]
fn an_owner_writes_the_rows_that_the_last_one_has_left_before_it_serves() {
    let (mut writer, _) = taking();
    // An older owner has committed the one before; its seal says so.
    let logs = vec![flush_log(3, 2), flush_log(2, 1)];
    let all = all_after(&mut writer, Answer::Logs(logs));
    assert_eq!(projected(&all[0]), [2, 3]);
    assert!(!writer.is_open());
    writer.answer(all[0].request, Answer::Done);
    let all = commands(&mut writer);
    assert_eq!(all[0].action, Action::Applied { flush: 3 });
    assert_eq!(all[1].action, Action::Serve { flush: 3, epoch: 5 });
    assert!(writer.is_open());
}

#[test]
fn logs_that_the_next_owner_has_no_more_need_of_are_no_damage() {
    let (mut writer, _) = taking();
    let all = all_after(&mut writer, Answer::Logs(Vec::new()));
    assert_eq!(all[0].action, Action::ReadSlot);
    let gone = row(6, Some(OTHER), 4);
    let all = all_after(&mut writer, Answer::Row(gone.clone()));
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].action, Action::Stop(End::Fenced(gone)));
}

#[test]
fn a_log_that_cannot_be_read_is_told_and_tried_again() {
    let (mut writer, taken) = taking();
    let mut damaged = flush_log(2, 1);
    damaged.log.rows[0].1 = Bytes::from_static(b"x");
    let found = vec![damaged, flush_log(3, 2)];
    // Whose the slot is now is asked first.
    let all = all_after(&mut writer, Answer::Logs(found));
    assert_eq!((&all[0].action, all[0].attempt), (&Action::ReadSlot, 1));
    let all = all_after(&mut writer, Answer::Row(taken.clone()));
    let report = Action::Report(LogError::Damaged { part: 0 });
    assert_eq!(all[1].action, report);
    let read = Action::ReadLogs(Box::new(taken.clone()));
    assert_eq!((&all[2].action, all[2].attempt), (&read, 2));
    let all = all_after(&mut writer, Answer::Logs(vec![flush_log(3, 2)]));
    assert_eq!(all[0].action, Action::ReadSlot);
    let all = all_after(&mut writer, Answer::Row(taken));
    let report = Action::Report(LogError::Unsealed { flush: 2 });
    assert_eq!(all[1].action, report);
    let whole = vec![flush_log(2, 1), flush_log(3, 2)];
    let all = all_after(&mut writer, Answer::Logs(whole));
    assert_eq!(projected(&all[0]), [2, 3]);
}

#[test]
fn an_owner_that_finds_a_rebuild_in_its_place_deletes_no_rows() {
    let mut writer = owner();
    writer.release();
    let all = commands(&mut writer);
    assert!(matches!(all[0].action, Action::Swap(_)), "{all:?}");
    answer(&mut writer, Answer::Unknown);
    let unmade = SlotRow {
        applied: SlotRow::UNMADE,
        ..row(9, None, 3)
    };
    let all = all_after(&mut writer, Answer::Row(unmade));
    let [only] = all.as_slice() else {
        panic!("{all:?}");
    };
    assert_eq!(only.action, Action::Stop(End::Released));
}

#[test]
fn a_slot_whose_rebuild_has_not_ended_is_not_served_until_it_has() {
    let mut writer = SlotWriter::take_over(&row(4, Some(OTHER), 9), ME, "here");
    commands(&mut writer);
    answer(&mut writer, Answer::Applied);
    let unmade = SlotRow {
        applied: SlotRow::UNMADE,
        ..row(5, Some(ME), 9)
    };
    for attempt in 1..3 {
        let all = all_after(&mut writer, Answer::Row(unmade.clone()));
        assert_eq!(all[0].action, Action::Report(LogError::Unmade));
        assert_eq!(
            (&all[1].action, all[1].attempt),
            (&Action::ReadSlot, attempt)
        );
    }
    // Its end fences this owner, who takes it again.
    let ended = row(6, None, 9);
    let all = all_after(&mut writer, Answer::Row(ended.clone()));
    assert_eq!(all[0].action, Action::Stop(End::Fenced(ended)));
}

#[test]
fn a_suspended_slot_opens_under_a_new_epoch() {
    let (mut writer, _) = deciding();
    writer.suspend();
    assert!(!writer.is_open());
    writer.resume();
    // It does not wait for rows.
    let all = all_after(&mut writer, Answer::Applied);
    let [
        _,
        Command {
            action: Action::Project(_),
            ..
        },
        renewal,
    ] = &all[..]
    else {
        panic!("{all:?}");
    };
    let Action::Swap(renewal) = &renewal.action else {
        panic!("not renewed");
    };
    assert_eq!(renewal.epoch, 5);
    // Suspended again meanwhile: this renewal may have been too early.
    writer.suspend();
    writer.resume();
    let Action::Swap(renewal) = answer(&mut writer, Answer::Applied) else {
        panic!("not renewed again");
    };
    assert_eq!((renewal.epoch, writer.is_open()), (6, false));
    let request = writer.request;
    writer.answer(request, Answer::Applied);
    let served = Action::Serve { flush: 1, epoch: 7 };
    assert_eq!(commands(&mut writer)[0].action, served);
    assert!(writer.is_open());
}

#[test]
fn a_release_waits_for_the_flush_and_its_rows_and_survives_an_unknown_outcome() {
    let (mut writer, _) = deciding();
    writer.release();
    assert!(!writer.is_open());
    let all = all_after(&mut writer, Answer::Applied);
    assert_eq!(all.len(), 2, "{all:?}");
    writer.answer(all[1].request, Answer::Done);
    let Action::Swap(release) = asked(&mut writer).1 else {
        panic!("not released");
    };
    assert_eq!(release.change, Change::Release { applied: 1 });
    assert_eq!(answer(&mut writer, Answer::Unknown), Action::ReadSlot);
    let request = writer.request;
    writer.answer(request, Answer::Row(row(6, None, 1)));
    assert_eq!(commands(&mut writer)[0].action, Action::Stop(End::Released));
}
