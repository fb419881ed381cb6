//! What a journal has lost is said by whoever looks at it, in the same words, and nothing that rows still know is thrown away.

use std::path::{Path, PathBuf};

use till_gateway::StartError;
use till_protocol::code::Reason;
use till_protocol::id::StoreId;
use till_runtime::{
    Config, Examined, Look, Offline, OfflineError, Query, RecoveryError, Reply, examine,
};
use till_storage::disk::{Disk as _, StdDisk};
use till_storage::journal::{Journal, JournalConfig, Lost, OpenError};
use till_storage::query::StockQuery;

use crate::device::{Device, connect, hello, teas, terminal};
use crate::{engine, folder, level};

fn segment(dir: &Path) -> PathBuf {
    dir.join("journal").join(format!("{:020}.till", 0))
}

// Sixty of store 7 in three groups, all of them in the rows; then a crash. Gives what the journal had after the second.
async fn crashed(dir: &Path) -> Vec<u8> {
    let engine = engine(dir).await;
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    let mut second = Vec::new();
    for round in 0..3_u64 {
        device.send(teas(round * 20 + 1, 20)).await;
        device.acked(round * 20 + 20).await;
        if round == 1 {
            second = std::fs::read(segment(dir)).unwrap();
        }
    }
    assert_eq!(level(&engine, 7).await, "60");
    // As kill -9 leaves it: without the mark that the end of the process writes.
    let third = std::fs::read(segment(dir)).unwrap();
    engine.kill().await.unwrap();
    std::fs::write(segment(dir), third).unwrap();
    second
}

fn change(dir: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path = segment(dir);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
}

fn written(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).unwrap()
}

// One byte of the last group, and of the record that registers store 7.
fn flip_last(dir: &Path) {
    change(dir, |bytes| {
        let last = written(bytes);
        bytes[last - 100] ^= 1;
    });
}

fn flip_registration(dir: &Path) {
    change(dir, |bytes| bytes[130] ^= 1);
}

// The journal's files and what is in them.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let dir = dir.join("journal");
    let mut names = StdDisk.list(&dir).unwrap();
    names.sort();
    let bytes = |name: String| {
        let bytes = std::fs::read(dir.join(&name)).unwrap();
        (name, bytes)
    };
    names.into_iter().map(bytes).collect()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn examined(dir: &Path, salvages: bool) -> Examined {
    let dir = dir.to_path_buf();
    blocking(move || examine(&dir, salvages).unwrap()).await
}

// Gives the rebuilt folder and what was accepted as lost.
fn rebuild(dir: &Path) -> (Result<Offline, OfflineError>, Vec<Lost>) {
    let mut lost = Vec::new();
    let rebuilt = Offline::rebuild(dir, &mut |_, _| {}, &mut |end| lost.clone_from(&end.lost));
    (rebuilt, lost)
}

fn stock(offline: &Offline) -> String {
    let query = StockQuery {
        store: StoreId::new(7).unwrap(),
        sku: None,
    };
    match offline.query(&Query::Stock(query)).unwrap() {
        Reply::Stock(answer) => answer
            .rows
            .first()
            .map_or_else(|| "none".to_owned(), |row| row.quantity.clone()),
        other => panic!("{other:?}"),
    }
}

async fn refused(dir: &Path) -> StartError {
    till_gateway::start(Config::dev(dir)).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_refuses_a_last_group_that_the_rows_prove_was_durable() {
    let dir = folder();
    crashed(dir.path()).await;
    flip_last(dir.path());
    let before = files(dir.path());
    let told = refused(dir.path()).await.to_string();
    let path = dir.path().to_path_buf();
    let refusals = blocking(move || {
        // Again and again: the rows stay where they are, and prove it the next time, too.
        (0..3)
            .map(|_| rebuild(&path).0.unwrap_err())
            .collect::<Vec<_>>()
    });
    for refusal in refusals.await {
        let OfflineError::Recovery(RecoveryError::Journal(OpenError::Damaged(_))) = &refusal else {
            panic!("{refusal}");
        };
        assert_eq!(refusal.to_string(), told);
        assert!(told.contains("terminal 7-1 epoch 1 seq 41 to 60"), "{told}");
    }
    assert_eq!(files(dir.path()), before);
    assert!(dir.path().join("rows").is_dir() && !dir.path().join("rows.aside").exists());
    // Salvage keeps a copy of what was damaged, and then the rest is taken.
    let salvaged = examined(dir.path(), true).await;
    assert_eq!(salvaged.report.moved.len(), 1);
    let path = dir.path().to_path_buf();
    let level = blocking(move || stock(&rebuild(&path).0.unwrap())).await;
    assert_eq!(level, "40");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_inside_a_group_is_told_with_what_the_rows_know_of_it() {
    let dir = folder();
    crashed(dir.path()).await;
    change(dir.path(), |bytes| {
        // Only the header and the front of the last group are left: nothing in it says whose it was.
        let last = written(bytes);
        let header = bytes[..last].windows(4).rposition(|four| four == b"TGRP");
        bytes[header.unwrap() + 60..].fill(0);
    });
    let told = refused(dir.path()).await.to_string();
    assert!(
        told.contains("lost: terminal 7-1 epoch 1 seq 41 to 60"),
        "{told}"
    );
    let found = examined(dir.path(), false).await;
    let lost: Vec<String> = found.report.lost.iter().map(ToString::to_string).collect();
    assert_eq!(lost, ["terminal 7-1 epoch 1 seq 41 to 60"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_refuses_a_lost_end_with_the_words_of_a_start_and_salvage_leaves_it() {
    // At the border of two groups, and without any segment.
    for is_cut in [true, false] {
        let dir = folder();
        let second = crashed(dir.path()).await;
        if is_cut {
            std::fs::write(segment(dir.path()), second).unwrap();
        } else {
            std::fs::remove_file(segment(dir.path())).unwrap();
        }
        let before = files(dir.path());
        let refusal = refused(dir.path()).await;
        let StartError::Engine(till_runtime::StartError::Recovery(RecoveryError::LostEnd(lost))) =
            &refusal
        else {
            panic!("{refusal}");
        };
        let first = if is_cut { 41 } else { 1 };
        let told = format!("terminal 7-1 epoch 1 seq {first} to 60");
        assert!(lost.to_string().contains(&told), "{lost}");
        for salvages in [false, true] {
            let found = examined(dir.path(), salvages).await;
            assert!(found.report.is_sound() && !found.is_sound() && !found.starts());
            assert_eq!(found.lost_end.as_ref(), Some(lost.as_ref()));
        }
        assert_eq!(files(dir.path()), before);
        // A rebuild takes it as it is, after it has said what is lost.
        let path = dir.path().to_path_buf();
        let accepted = blocking(move || {
            let (rebuilt, lost) = rebuild(&path);
            (stock(&rebuilt.unwrap()), lost)
        });
        let (level, accepted) = accepted.await;
        assert_eq!(level, if is_cut { "40" } else { "none" });
        assert_eq!(accepted, lost.lost);
        assert!(examined(dir.path(), false).await.is_sound());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_fails_leaves_the_rows_where_they_are() {
    let dir = folder();
    crashed(dir.path()).await;
    flip_registration(dir.path());
    let path = dir.path().to_path_buf();
    blocking(move || {
        for _ in 0..2 {
            assert!(rebuild(&path).0.is_err());
        }
    })
    .await;
    assert!(!dir.path().join("rows.aside").exists());
    let found = examined(dir.path(), true).await;
    assert_eq!(found.unregistered.len(), 1);
    assert!(found.unregistered[0].in_rows);
    let path = dir.path().to_path_buf();
    let level = blocking(move || stock(&rebuild(&path).0.unwrap())).await;
    assert_eq!(level, "60", "the rows still knew the registration");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_only_a_copy_of_the_rows_knows_comes_back() {
    let dir = folder();
    crashed(dir.path()).await;
    flip_registration(dir.path());
    let rows = dir.path().join("rows");
    std::fs::rename(&rows, rows.with_extension("aside")).unwrap();
    let found = examined(dir.path(), true).await;
    assert!(found.unregistered[0].in_rows);
    assert!(!rows.exists(), "the doctor makes no rows");
    let again = engine(dir.path()).await;
    assert_eq!(level(&again, 7).await, "60");
    again.drain().await.unwrap();
    drop(again);
    assert!(examined(dir.path(), false).await.is_sound());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_states_a_lost_registration_again_while_its_rows_know_it() {
    let dir = folder();
    crashed(dir.path()).await;
    flip_registration(dir.path());
    let found = examined(dir.path(), true).await;
    assert!(found.unregistered[0].in_rows && found.starts() && !found.is_sound());
    engine(dir.path()).await.drain().await.unwrap();
    std::fs::remove_dir_all(dir.path().join("rows")).unwrap();
    let again = engine(dir.path()).await;
    assert_eq!(level(&again, 7).await, "60");
    again.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_records_wait_is_not_accepted_as_a_new_one() {
    let dir = folder();
    crashed(dir.path()).await;
    flip_registration(dir.path());
    std::fs::remove_dir_all(dir.path().join("rows")).unwrap();
    let found = examined(dir.path(), true).await;
    let told = found.unregistered[0];
    assert_eq!(
        (told.store.get(), told.records, told.in_rows),
        (7, 3, false)
    );
    // Whoever opens the folder says so, also when the rows have gone past the records.
    let path = dir.path().to_path_buf();
    blocking(move || {
        for _ in 0..2 {
            let left_out = Offline::open(&path).unwrap().report().left_out.clone();
            assert_eq!(left_out, [(StoreId::new(7).unwrap(), 3)]);
        }
    })
    .await;

    let first = engine(dir.path()).await;
    let is_told = |engine: &till_runtime::Handle| {
        let health = engine.health();
        let check = health.checks.iter().find(|check| check.name == "stores");
        let told = check.is_some_and(|check| !check.ok && check.reason.contains("store 7"));
        assert_eq!(told, !health.is_ready(), "{health:?}");
        told
    };
    assert!(is_told(&first));
    let connection = connect(&first).await;
    for _ in 0..2 {
        let mut device = Device::raw(&connection).await;
        device.send(hello(terminal(7, 1), 0).encode()).await;
        let bye = device.bye().await;
        assert_eq!(bye.reason, Reason::TerminalParked);
        assert!(bye.text.contains("registration of store 7"), "{}", bye.text);
    }
    // Others go on, and what they send moves the rows past the registration.
    let (mut other, _) = Device::open(&connection, 8, 1, 0).await;
    other.send(teas(1, 5)).await;
    other.acked(5).await;
    assert_eq!(level(&first, 8).await, "5");
    assert!(first.retain_before(i64::MAX).is_err(), "what waits stays");
    first.drain().await.unwrap();
    // An engine that is looked at still has its rows open.
    drop(first);

    let second = engine(dir.path()).await;
    assert!(!is_told(&second));
    assert_eq!(level(&second, 7).await, "60");
    assert_eq!(level(&second, 8).await, "5");
    let connection = connect(&second).await;
    let (mut device, welcome) = Device::open(&connection, 7, 1, 1).await;
    assert_eq!((welcome.epoch.get(), welcome.next_seq.get()), (1, 61));
    device.send(teas(61, 5)).await;
    device.acked(65).await;
    assert_eq!(level(&second, 7).await, "65");
    second.drain().await.unwrap();
    drop(second);
    let path = dir.path().to_path_buf();
    let level = blocking(move || {
        let rebuilt = rebuild(&path).0.unwrap();
        assert!(rebuilt.report().unapplied.is_empty() && rebuilt.report().left_out.is_empty());
        stock(&rebuilt)
    });
    assert_eq!(level.await, "65");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_names_the_records_that_fit_nowhere() {
    let dir = folder();
    crashed(dir.path()).await;
    let path = dir.path().to_path_buf();
    let unapplied = blocking(move || {
        // As an engine would leave it that had accepted a store as new whose records were in the journal.
        let opened = Journal::open(
            std::sync::Arc::new(StdDisk),
            &path.join("journal"),
            JournalConfig {
                reserve_bytes: 0,
                ..JournalConfig::default()
            },
        );
        let mut opened = opened.unwrap();
        let records: Vec<_> = opened.journal.records(opened.journal.start()).collect();
        let batches = records.into_iter().map(|record| record.unwrap().1);
        let batches: Vec<_> = batches.filter(|one| one.head.count == 20).collect();
        assert_eq!(batches.len(), 3);
        opened.writer.state(&batches[..2]).unwrap();
        drop(opened);
        let rebuilt = rebuild(&path).0.unwrap();
        assert_eq!(stock(&rebuilt), "60");
        rebuilt.report().unapplied.clone()
    });
    let unapplied = unapplied.await;
    assert_eq!(unapplied.len(), 1, "{unapplied:?}");
    assert_eq!(unapplied[0].records, 2);
    let told = unapplied[0].to_string();
    assert!(told.contains("terminal 7-1 epoch 1 seq 1 to 40"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_the_journal_changes_nothing_after_a_crash() {
    let dir = folder();
    crashed(dir.path()).await;
    let before = files(dir.path());
    let look = |dir: &Path| {
        let dir = dir.to_path_buf();
        blocking(move || {
            let look = Look::open(&dir).unwrap();
            let records = look.journal().records(look.journal().start()).count();
            (records, look.torn().is_some())
        })
    };
    let (records, torn) = look(dir.path()).await;
    assert!(records >= 4 && !torn);
    assert_eq!(files(dir.path()), before);
    flip_last(dir.path());
    let before = files(dir.path());
    assert_eq!(look(dir.path()).await, (records - 1, true));
    assert_eq!(files(dir.path()), before);
}
