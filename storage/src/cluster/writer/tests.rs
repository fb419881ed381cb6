use bytes::Bytes;

use super::{Action, Answer, Command, End, Flush, NotNow, SlotWriter};
use crate::cluster::{Change, Commit, NodeId, SlotRow};
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
        records: Vec::new(),
        rows: sample(1).unwrap(),
    }
}

fn deciding() -> (SlotWriter, SlotRow) {
    let mut writer = owner();
    writer.commit(flush(1)).unwrap();
    let log = flush(1).to_parts(5).unwrap();
    let Action::WriteLog { parts, .. } = asked(&mut writer).1 else {
        panic!("no log");
    };
    assert_eq!(parts, log.parts);
    let Action::Swap(swap) = answer(&mut writer, Answer::Done) else {
        panic!("no commit");
    };
    let row = swap.applied_to(&row(5, Some(ME), 0)).unwrap();
    assert_eq!((row.flush, row.digest), (1, log.digest));
    (writer, row)
}

#[test]
fn a_flush_that_was_made_for_another_epoch_or_number_is_given_back() {
    let mut writer = owner();
    for (number, epoch) in [(1, 4), (2, 5)] {
        let made = Flush::new(flush(number), epoch).unwrap();
        let back = writer.commit_made(made).unwrap_err();
        assert_eq!(back.into_commit(), flush(number).settled());
        assert!(writer.is_idle() && commands(&mut writer).is_empty());
    }
    let made = Flush::new(flush(1), 5).unwrap();
    writer.commit_made(made.clone()).unwrap();
    let Action::WriteLog { parts, .. } = asked(&mut writer).1 else {
        panic!("no log");
    };
    assert_eq!(parts, flush(1).to_parts(5).unwrap().parts);
    // Another is on its way.
    assert!(writer.commit_made(made).is_err());
}

#[test]
fn an_unknown_commit_is_read_and_found() {
    let (mut writer, row) = deciding();
    assert_eq!(answer(&mut writer, Answer::Unknown), Action::ReadSlot);
    assert_eq!(answer(&mut writer, Answer::Failed), Action::ReadSlot);
    let request = writer.request;
    writer.answer(request, Answer::Row(row));
    let all = commands(&mut writer);
    assert_eq!(all[0].action, Action::NotifyCommitted { flush: 1 });
    assert!(matches!(all[1].action, Action::Materialise(_)));
    assert_eq!(writer.commit(flush(2)), Err(NotNow::Busy { slot: 3 }));
    let request = writer.request;
    writer.answer(request, Answer::Done);
    assert!(writer.is_idle());
    assert_eq!(writer.next_flush(), 2);
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

#[test]
fn a_log_that_the_next_owner_has_deleted_is_no_damage() {
    let mut writer = SlotWriter::take_over(&row(4, Some(OTHER), 1), ME, "here");
    commands(&mut writer);
    answer(&mut writer, Answer::Applied);
    let read = answer(&mut writer, Answer::Row(row(5, Some(ME), 1)));
    assert!(matches!(read, Action::ReadLog(_)));
    assert_eq!(
        answer(&mut writer, Answer::Log(Vec::new())),
        Action::ReadSlot
    );
    let gone = row(6, Some(OTHER), 2);
    let request = writer.request;
    writer.answer(request, Answer::Row(gone.clone()));
    let all = commands(&mut writer);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].action, Action::Stop(End::Fenced(gone)));
}

#[test]
fn a_log_that_cannot_be_read_is_told_and_tried_again() {
    let mut writer = SlotWriter::take_over(&row(4, Some(OTHER), 0), ME, "here");
    commands(&mut writer);
    answer(&mut writer, Answer::Applied);
    let log = flush(1).to_parts(2).unwrap();
    let mut taken = row(5, Some(ME), 1);
    (taken.flush_epoch, taken.parts, taken.digest) = (2, 1, log.digest);
    let read = answer(&mut writer, Answer::Row(taken.clone()));
    assert!(matches!(read, Action::ReadLog(_)));
    let request = writer.request;
    writer.answer(request, Answer::Log(vec![(0, Bytes::from_static(b"x"))]));
    // Whose the slot is now is asked first.
    let all = commands(&mut writer);
    assert_eq!((&all[0].action, all[0].attempt), (&Action::ReadSlot, 1));
    let request = writer.request;
    writer.answer(request, Answer::Row(taken));
    let all = commands(&mut writer);
    assert!(matches!(all[0].action, Action::Report(_)));
    assert_eq!((&all[1].action, all[1].attempt), (&read, 2));
    let Action::Materialise(commit) =
        answer(&mut writer, Answer::Log(vec![(0, log.parts[0].clone())]))
    else {
        panic!("not restored");
    };
    assert_eq!(*commit, flush(1).settled());
    assert!(!writer.is_open());
    let request = writer.request;
    writer.answer(request, Answer::Done);
    assert!(writer.is_open());
}

#[test]
fn a_suspended_slot_opens_under_a_new_epoch() {
    let (mut writer, _) = deciding();
    writer.suspend();
    assert!(!writer.is_open());
    writer.resume();
    assert!(matches!(
        answer(&mut writer, Answer::Applied),
        Action::Materialise(_)
    ));
    let Action::Swap(renewal) = answer(&mut writer, Answer::Done) else {
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
fn a_release_waits_for_the_flush_and_survives_an_unknown_outcome() {
    let (mut writer, _) = deciding();
    writer.release();
    assert!(!writer.is_open());
    answer(&mut writer, Answer::Applied);
    assert!(matches!(answer(&mut writer, Answer::Done), Action::Swap(_)));
    assert_eq!(answer(&mut writer, Answer::Unknown), Action::ReadSlot);
    let request = writer.request;
    writer.answer(request, Answer::Row(row(6, None, 1)));
    assert_eq!(commands(&mut writer)[0].action, Action::Stop(End::Released));
}
