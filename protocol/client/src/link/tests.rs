//! Devices and an engine over real QUIC on one machine.

mod engine;
mod nodes;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::{
    Backoff, DeadLetter, DeadLetterError, DeadLetters, DiskConfig, DiskOutbox, Happening, Link,
    LinkConfig, MemoryConfig, MemoryOutbox, NoDeadLetters, Notice, Observer, SendError, Sync,
    Terminal, TerminalConfig, Tuning,
};
use bytes::Bytes;
use till_protocol::builder::{BuildError, sku_code};
use till_protocol::code::Reason;
use till_protocol::family::stock::v1::{Move, kind};
use till_protocol::id::{SkuId, StoreId, TerminalId, TillId};
use till_protocol::reply::Message;

use self::engine::{Engine, Memory, Pki};
use crate::testing::FullDisk;

fn id(till: u32) -> TerminalId {
    TerminalId::new(StoreId::new(7).unwrap(), TillId::new(till).unwrap())
}

fn delivery(at: i64) -> Move {
    Move {
        at,
        sku: SkuId::of_code("milk").get(),
        quantity: 100_000,
        kind: kind::RECEIVED,
        unit: 1,
        ..Move::default()
    }
}

fn config(pki: &Pki, addresses: &[&Engine]) -> LinkConfig {
    let addresses = addresses.iter().map(|engine| engine.address.to_string());
    LinkConfig {
        addresses: addresses.collect(),
        backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(20)),
        connect_timeout: Duration::from_millis(500),
        tuning: Tuning {
            silence: Duration::from_millis(200),
            ..Tuning::default()
        },
        ..LinkConfig::new("", pki.identity.clone())
    }
}

fn memory_terminal(link: &Link, till: u32) -> Terminal {
    link.terminal(
        TerminalConfig::new(id(till)),
        Box::new(MemoryOutbox::new(MemoryConfig::default())),
        Box::new(NoDeadLetters),
    )
}

async fn send(terminal: &Terminal, times: std::ops::Range<i64>) {
    for at in times {
        terminal.stock(delivery(at), &[], &[]).await.unwrap();
    }
}

/// Every event of every terminal took effect once.
fn assert_applied(memory: &Memory, terminals: u32, events: usize) {
    let journal = memory.lock().unwrap();
    let distinct: BTreeSet<_> = journal.applied.iter().collect();
    assert_eq!(distinct.len(), journal.applied.len(), "doubled");
    assert_eq!(distinct.len(), events * usize::try_from(terminals).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_terminals_share_one_connection_and_lose_nothing_to_cut_streams_and_echoes() {
    let (pki, memory) = (Pki::new(), Memory::default());
    memory.lock().unwrap().cut_every = 7;
    memory.lock().unwrap().echo = true;
    let engine = Engine::start(&pki, &memory, 0).await;
    let link = Link::open(config(&pki, &[&engine])).unwrap();
    let terminals: Vec<_> = (1..=8).map(|till| memory_terminal(&link, till)).collect();
    let sending = terminals.iter().cloned().map(|terminal| {
        tokio::spawn(async move {
            send(&terminal, 0..500).await;
            terminal.flush().await.unwrap();
        })
    });
    for task in sending.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_applied(&memory, 8, 500);
    link.close().await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_dies_and_comes_back_costs_only_time() {
    let (pki, memory) = (Pki::new(), Memory::default());
    let mut engine = Engine::start(&pki, &memory, 0).await;
    let port = engine.address.port();
    let link = Link::open(config(&pki, &[&engine])).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let outbox = DiskOutbox::open(dir.path(), id(1), DiskConfig::default()).unwrap();
    let terminal = link.terminal(
        TerminalConfig::new(id(1)),
        Box::new(outbox),
        Box::new(NoDeadLetters),
    );
    for round in 0..5 {
        send(&terminal, round * 100..round * 100 + 50).await;
        terminal.flush().await.unwrap();
        send(&terminal, round * 100 + 50..round * 100 + 75).await;
        engine.stop().await;
        send(&terminal, round * 100 + 75..round * 100 + 100).await;
        engine = Engine::start(&pki, &memory, port).await;
    }
    terminal.flush().await.unwrap();
    assert_applied(&memory, 1, 500);
    link.close().await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_offline_sends_everything_after_its_restart() {
    let (pki, memory) = (Pki::new(), Memory::default());
    let engine = Engine::start(&pki, &memory, 0).await;
    let dir = tempfile::tempdir().unwrap();
    let each = DiskConfig {
        sync: Sync::Each,
        ..DiskConfig::default()
    };
    let put_on = |link: &Link| {
        let outbox = DiskOutbox::open(dir.path(), id(1), each).unwrap();
        link.terminal(
            TerminalConfig::new(id(1)),
            Box::new(outbox),
            Box::new(NoDeadLetters),
        )
    };
    // Nobody listens at this address.
    let mut nowhere = config(&pki, &[&engine]);
    nowhere.addresses = vec!["127.0.0.1:9".to_owned()];
    let link = Link::open(nowhere).unwrap();
    let terminal = put_on(&link);
    send(&terminal, 0..20).await;
    assert_eq!(terminal.standing().durable, 20);
    terminal.close().await;
    drop(terminal);
    link.close().await;
    drop(link);

    let link = Link::open(config(&pki, &[&engine])).unwrap();
    // The first link's task lets go of the outbox a moment after it has ended.
    let terminal = put_on(&link);
    send(&terminal, 20..30).await;
    terminal.flush().await.unwrap();
    assert_applied(&memory, 1, 30);
    link.close().await;
    engine.stop().await;
}

#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<DeadLetter>>>);

impl DeadLetters for Kept {
    fn put(&mut self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        self.0.lock().unwrap().push(letter.clone());
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Watching(Mutex<Vec<Seen>>);

/// Journalled, committed, refused.
type Seen = (u64, u64, Vec<(u64, Reason)>);

impl Observer for Watching {
    fn happened(&self, _terminal: TerminalId, _at: Instant, what: &Happening<'_>) {
        if let Happening::Notice(
            Notice::Acked {
                journalled,
                committed,
                refusals,
                ..
            },
            _,
        ) = what
        {
            let seen = (*journalled, *committed, refusals.clone());
            self.0.lock().unwrap().push(seen);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_event_becomes_a_dead_letter_that_can_be_sent_again() {
    let (pki, memory) = (Pki::new(), Memory::default());
    memory.lock().unwrap().refuses.insert(3);
    let engine = Engine::start(&pki, &memory, 0).await;
    let link = Link::open(config(&pki, &[&engine])).unwrap();
    let (kept, watching) = (Kept::default(), Arc::new(Watching::default()));
    let terminal = link.terminal(
        TerminalConfig {
            observer: Some(Arc::<Watching>::clone(&watching)),
            ..TerminalConfig::new(id(1))
        },
        Box::new(MemoryOutbox::new(MemoryConfig::default())),
        Box::new(kept.clone()),
    );
    send(&terminal, 0..5).await;
    terminal.flush().await.unwrap();
    assert_applied(&memory, 1, 4);
    let letters = kept.0.lock().unwrap().clone();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].epoch, letters[0].seq), (1, 3));
    let seen = watching.0.lock().unwrap().clone();
    assert!(
        seen.iter()
            .any(|(_, _, refusals)| *refusals == [(3, Reason::BadTime)])
    );
    assert_eq!(seen.last().map(|(_, committed, _)| *committed), Some(5));

    terminal.send_frame(letters[0].frame.clone()).await.unwrap();
    terminal.flush().await.unwrap();
    assert_applied(&memory, 1, 5);
    link.close().await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_goes_where_it_is_sent_and_to_the_address_that_answers() {
    let pki = Pki::new();
    let (first, second) = (Memory::default(), Memory::default());
    let (here, there) = (
        Engine::start(&pki, &first, 0).await,
        Engine::start(&pki, &second, 0).await,
    );
    first.lock().unwrap().redirect = Some(there.address.to_string());
    let mut config = config(&pki, &[&here]);
    config.addresses.insert(0, "127.0.0.1:9".to_owned());
    let link = Link::open(config).unwrap();
    let terminal = memory_terminal(&link, 1);
    send(&terminal, 0..3).await;
    terminal.flush().await.unwrap();
    assert_applied(&second, 1, 3);
    link.close().await;
    here.stop().await;
    there.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_bound_of_the_outbox_the_sender_waits_and_nothing_is_dropped() {
    let (pki, memory) = (Pki::new(), Memory::default());
    let engine = Engine::start(&pki, &memory, 0).await;
    let port = engine.address.port();
    let link = Link::open(config(&pki, &[&engine])).unwrap();
    let small = MemoryConfig {
        frames_max: 4,
        bytes_max: 4_096,
    };
    let terminal = link.terminal(
        TerminalConfig {
            frame_events: 4,
            ..TerminalConfig::new(id(1))
        },
        Box::new(MemoryOutbox::new(small)),
        Box::new(NoDeadLetters),
    );
    engine.stop().await;
    let sender = terminal.clone();
    let sending = tokio::spawn(async move { send(&sender, 0..1_000).await });
    let mut progress = terminal.committed();
    while terminal.standing().pending_bytes < 600 {
        tokio::task::yield_now().await;
    }
    assert!(!sending.is_finished());
    let engine = Engine::start(&pki, &memory, port).await;
    sending.await.unwrap();
    terminal.flush().await.unwrap();
    progress
        .wait_for(|progress| progress.totals.committed == 1_000)
        .await
        .unwrap();
    assert_applied(&memory, 1, 1_000);
    link.close().await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_stream_says_what_it_likes_and_the_others_go_on() {
    let (pki, memory) = (Pki::new(), Memory::default());
    let engine = Engine::start(&pki, &memory, 0).await;
    let link = Link::open(config(&pki, &[&engine])).unwrap();
    let terminal = memory_terminal(&link, 1);
    let mut raw = link.raw().await.unwrap();
    raw.write(Bytes::from_static(
        b"GET / HTTP/1.1\r\nHost: tillstream\r\n\r\n",
    ))
    .await
    .unwrap();
    let reply = raw.read().await.unwrap().unwrap();
    let Ok(Message::Bye(bye)) = Message::decode(&reply) else {
        panic!("{reply:?}");
    };
    assert_eq!(bye.reason, Reason::BadMagic);
    send(&terminal, 0..3).await;
    terminal.flush().await.unwrap();
    assert_applied(&memory, 1, 3);
    link.close().await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_wire_forbids_is_the_senders_error_and_harms_no_other() {
    let (pki, memory) = (Pki::new(), Memory::default());
    let engine = Engine::start(&pki, &memory, 0).await;
    let link = Link::open(config(&pki, &[&engine])).unwrap();
    let terminal = memory_terminal(&link, 1);
    send(&terminal, 0..1).await;
    let bad = terminal.stock(Move::default(), &[], &[]).await;
    assert!(matches!(bad, Err(SendError::Event(BuildError::Refused(_)))));
    terminal
        .stock(delivery(1), &[], &[sku_code(0xffff, "milk")])
        .await
        .unwrap();
    terminal.flush().await.unwrap();
    assert_applied(&memory, 1, 2);
    terminal.close().await;
    let late = terminal.stock(delivery(2), &[], &[]).await;
    assert!(matches!(late, Err(SendError::Closed)));
    link.close().await;
    engine.stop().await;
}

#[tokio::test]
async fn on_a_full_disk_who_waits_is_told_and_waits_no_longer() {
    let (pki, memory) = (Pki::new(), Memory::default());
    let engine = Engine::start(&pki, &memory, 0).await;
    // Nobody listens at this address.
    let mut nowhere = config(&pki, &[&engine]);
    nowhere.addresses = vec!["127.0.0.1:9".to_owned()];
    let link = Link::open(nowhere).unwrap();
    let full = |sync| {
        let disk = FullDisk {
            sync,
            ..FullDisk::default()
        };
        disk.is_full.store(true, Ordering::Relaxed);
        let dead = Box::new(NoDeadLetters);
        link.terminal(TerminalConfig::new(id(1)), Box::new(disk), dead)
    };
    let each = full(Sync::Each);
    let sent = each.stock(delivery(1), &[], &[]).await;
    assert!(matches!(sent, Err(SendError::Failed(_))), "{sent:?}");

    let group = full(Sync::Group);
    group.stock(delivery(1), &[], &[]).await.unwrap();
    let synced = group.synced().await;
    assert!(matches!(synced, Err(SendError::Failed(_))), "{synced:?}");
    let flushed = group.flush().await;
    assert!(matches!(flushed, Err(SendError::Failed(_))), "{flushed:?}");
    link.close().await;
    engine.stop().await;
}
