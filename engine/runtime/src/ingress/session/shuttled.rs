//! A session, in whatever order its reader, its writer, its shard and the journal's thread take turns.

use shuttle::future::{JoinHandle, block_on, spawn};
use shuttle::thread;
use till_protocol::codec::FrameDecoder;
use till_protocol::id::{Epoch, StoreId, TillId};

use super::*;

/// Orders of turns that are tried.
const ORDERS: usize = 10_000;

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

fn session(commits: Commits) -> Arc<Session> {
    let terminal = TerminalId::new(StoreId::new(7).unwrap(), TillId::new(1).unwrap());
    let session = Session::new(terminal, Arc::new(Semaphore::new(64)), commits);
    session.established(Established {
        key: SessionKey {
            terminal,
            epoch: Epoch::FIRST,
            clock_suspect: false,
        },
        known: 0,
        has_refusals: false,
    });
    Arc::new(session)
}

/// Writes what there is to say until nothing more follows, or an ack has named this number.
fn writer(session: &Arc<Session>, until: u64) -> JoinHandle<Vec<Message>> {
    let session = Arc::clone(session);
    spawn(async move {
        let mut sent = Vec::new();
        loop {
            let messages = session.messages().await;
            let mut decoder = FrameDecoder::new();
            decoder.push(messages.bytes);
            while let Some(frame) = decoder.next().unwrap() {
                sent.push(Message::decode(&frame).unwrap());
            }
            let has_received = |message: &Message| match message {
                Message::Ack(ack) => ack.journalled.is_some_and(|seq| seq.get() >= until),
                _ => false,
            };
            if messages.is_last || sent.iter().any(has_received) {
                return sent;
            }
        }
    })
}

fn acks(sent: &[Message]) -> impl Iterator<Item = &Ack> {
    sent.iter().filter_map(|message| match message {
        Message::Ack(ack) => Some(ack),
        _ => None,
    })
}

// The journal's thread: one group after another, each told when it is through.
fn journal(session: &Arc<Session>, groups: &'static [&'static [u64]]) -> thread::JoinHandle<()> {
    let session = Arc::clone(session);
    thread::spawn(move || {
        for group in groups {
            let mut is_to_be_sent = false;
            for number in *group {
                let refused = [(seq(*number), Reason::BadTime)];
                let refused = if number % 2 == 0 { &refused[..] } else { &[] };
                is_to_be_sent |= session.durable(*number, *number, refused);
            }
            if is_to_be_sent {
                session.wake();
            }
        }
    })
}

#[test]
fn the_writer_hears_the_last_ack_and_no_ack_covers_a_refusal_that_is_not_told() {
    shuttle::check_random(
        || {
            let session = session(Commits::WithJournal);
            let writer = writer(&session, 4);
            let journal = journal(&session, &[&[1, 2], &[3], &[4]]);
            let shard = thread::spawn({
                let session = Arc::clone(&session);
                move || {
                    session.gap(seq(9));
                    session.slow(5);
                }
            });
            // A writer that is not woken for the last one waits for ever, which is a deadlock here.
            let sent = block_on(writer).unwrap();
            journal.join().unwrap();
            shard.join().unwrap();
            let (mut covered, mut reported) = (0, Vec::new());
            for ack in acks(&sent) {
                let journalled = ack.journalled.map_or(0, Seq::get);
                assert!(journalled >= covered, "acks never fall");
                covered = journalled;
                reported.extend(ack.refusals.iter().map(|(seq, _)| seq.get()));
                let due = (1..=covered).filter(|number| number % 2 == 0).count();
                assert!(reported.len() >= due, "{reported:?} of {due} at {covered}");
            }
            assert_eq!(reported, [2, 4]);
        },
        ORDERS,
    );
}

#[test]
fn the_last_word_is_said_once_all_that_was_sent_is_committed() {
    shuttle::check_random(
        || {
            let session = session(Commits::Apart);
            let writer = writer(&session, u64::MAX);
            journal(&session, &[&[1], &[3]]).join().unwrap();
            let commits = thread::spawn({
                let session = Arc::clone(&session);
                move || {
                    session.committed_upto(1);
                    session.committed_upto(3);
                }
            });
            session.end_committed(Farewell::Bye(Reason::Draining));
            let sent = block_on(writer).unwrap();
            commits.join().unwrap();
            assert!(matches!(sent.last(), Some(Message::Bye(_))), "{sent:?}");
            let committed = acks(&sent).filter_map(|ack| ack.committed).max();
            assert_eq!(committed, Some(seq(3)), "the last word came too early");
            assert!(session.is_over());
        },
        ORDERS,
    );
}
