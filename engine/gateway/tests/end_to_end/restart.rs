//! Whatever ends an engine, the next one has everything that was acknowledged, once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use till_gateway::StartError;
use till_protocol::id::StoreId;
use till_runtime::{Config, Offline, OfflineError, Query, RecoveryError, Reply};
use till_storage::disk::StdDisk;
use till_storage::doctor;
use till_storage::journal::Lsn;
use till_storage::query::StockQuery;

use crate::device::{Device, connect, teas};
use crate::{engine, folder, level};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything_and_goes_on_where_it_was() {
    let dir = folder();
    for round in 0..3_u64 {
        let engine = engine(dir.path()).await;
        let connection = connect(&engine).await;
        let epoch = u32::from(round > 0);
        let (mut device, welcome) = Device::open(&connection, 7, 1, epoch).await;
        assert_eq!(welcome.next_seq.get(), round * 100 + 1);
        device.send(teas(round * 100 + 1, 100)).await;
        device.acked(round * 100 + 100).await;
        engine.drain().await.unwrap();
    }
    let offline = tokio::task::spawn_blocking(move || {
        let offline = Offline::open(dir.path()).unwrap();
        let before = stock(&offline);
        drop(offline);
        let rebuilt = Offline::rebuild(dir.path(), &mut |_, _| {}, &mut |_| {}).unwrap();
        assert!(rebuilt.report().replayed >= 3);
        (before, stock(&rebuilt))
    });
    let (before, after) = offline.await.unwrap();
    assert_eq!(before, after);
    assert!(before.contains("\"300\""), "{before}");
}

fn stock(offline: &Offline) -> String {
    let query = StockQuery {
        store: StoreId::new(7).unwrap(),
        sku: None,
    };
    match offline.query(&Query::Stock(query)).unwrap() {
        Reply::Stock(answer) => format!("{:?}", answer.rows),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_unflushed_loses_nothing_and_doubles_nothing() {
    let dir = folder();
    let mut sent = 0;
    for round in 0..4_u64 {
        let mut config = Config::dev(dir.path());
        // Some rounds flush in the middle, some never.
        config.flush_interval =
            std::time::Duration::from_millis(if round % 2 == 0 { 60_000 } else { 10 });
        config.shards = u16::try_from(1 + round).unwrap();
        let engine = Arc::new(till_gateway::start(config).await.unwrap());
        let connection = connect(&engine).await;
        for store in 1..=5_u64 {
            let epoch = u32::from(round > 0);
            let (mut device, welcome) = Device::open(&connection, store, 1, epoch).await;
            assert_eq!(
                welcome.next_seq.get(),
                sent + 1,
                "store {store} in round {round}"
            );
            device.send(teas(sent + 1, 50)).await;
            device.send(teas(sent + 51, 50)).await;
            device.acked(sent + 100).await;
        }
        sent += 100;
        engine.kill().await.unwrap();
    }
    let engine = engine(dir.path()).await;
    for store in 1..=5 {
        assert_eq!(level(&engine, store).await, sent.to_string());
    }
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_shards_changes_no_answer() {
    let dir = folder();
    let mut answers = Vec::new();
    for shards in [1, 2, 4] {
        let mut config = Config::dev(dir.path());
        config.shards = shards;
        let engine = Arc::new(till_gateway::start(config).await.unwrap());
        if shards == 1 {
            let connection = connect(&engine).await;
            for store in 1..=6 {
                let (mut device, _) = Device::open(&connection, store, 1, 0).await;
                device.send(teas(1, store * 10)).await;
                device.acked(store * 10).await;
            }
        }
        let mut levels = Vec::new();
        for store in 1..=6 {
            levels.push(level(&engine, store).await);
        }
        answers.push(levels);
        engine.drain().await.unwrap();
    }
    assert_eq!(answers[0], ["10", "20", "30", "40", "50", "60"]);
    assert!(
        answers.iter().all(|levels| *levels == answers[0]),
        "{answers:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_open_in_one_process_alone() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let second = till_gateway::start(Config::dev(dir.path()))
        .await
        .unwrap_err();
    assert!(
        second.to_string().contains("in use by the engine"),
        "{second}"
    );
    assert!(Offline::open(dir.path()).is_err());
    assert!(till_runtime::engine_of(dir.path()).is_some());
    engine.drain().await.unwrap();
    assert!(till_runtime::engine_of(dir.path()).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_open_are_rebuilt_by_themselves() {
    let dir = folder();
    let first = engine(dir.path()).await;
    let connection = connect(&first).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    device.send(teas(1, 40)).await;
    device.acked(40).await;
    first.drain().await.unwrap();
    std::fs::remove_dir_all(dir.path().join("rows")).unwrap();
    let second = engine(dir.path()).await;
    assert_eq!(level(&second, 7).await, "40");
    assert!(second.report().replayed > 0);
    second.drain().await.unwrap();
}

// Sends forty of store 7, in two epochs of the engine. Gives the journal's only segment as it was between them.
async fn two_epochs(dir: &Path) -> (PathBuf, Vec<u8>) {
    let segment = dir.join("journal").join(format!("{:020}.till", 0));
    let mut between = Vec::new();
    for round in 0..2_u64 {
        let engine = engine(dir).await;
        let connection = connect(&engine).await;
        let (mut device, _) = Device::open(&connection, 7, 1, u32::from(round > 0)).await;
        device.send(teas(round * 20 + 1, 20)).await;
        device.acked(round * 20 + 20).await;
        engine.drain().await.unwrap();
        if round == 0 {
            between = std::fs::read(&segment).unwrap();
        }
    }
    (segment, between)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_lost_its_end_stops_the_start_until_the_rows_are_rebuilt() {
    let dir = folder();
    let (segment, between) = two_epochs(dir.path()).await;
    std::fs::write(&segment, between).unwrap();
    for _ in 0..2 {
        let refused = till_gateway::start(Config::dev(dir.path()))
            .await
            .unwrap_err();
        let StartError::Engine(till_runtime::StartError::Recovery(RecoveryError::LostEnd(lost))) =
            &refused
        else {
            panic!("{refused}");
        };
        assert!(lost.end < lost.reach);
        let told = refused.to_string();
        for part in [
            "terminal 7-1 epoch 1 seq 21 to 40",
            "tillstream rebuild",
            "\"os\"",
        ] {
            assert!(told.contains(part), "{told}");
        }
    }
    let path = dir.path().to_path_buf();
    let rebuilt = tokio::task::spawn_blocking(move || {
        let asked = Offline::open(&path);
        assert!(matches!(
            asked,
            Err(OfflineError::Recovery(RecoveryError::LostEnd(_)))
        ));
        stock(&Offline::rebuild(&path, &mut |_, _| {}, &mut |_| {}).unwrap())
    });
    assert!(rebuilt.await.unwrap().contains("\"20\""));
    let again = engine(dir.path()).await;
    assert_eq!(level(&again, 7).await, "20");
    again.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_salvage_lost_is_taken_from_the_old_rows_and_stated_again() {
    let dir = folder();
    let (segment, _) = two_epochs(dir.path()).await;
    // The first record registers the store: its payload begins behind three headers.
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[64 + 48 + 16 + 56] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let path = dir.path().to_path_buf();
    let rebuilt = tokio::task::spawn_blocking(move || {
        assert!(Offline::open(&path).is_err());
        let report = doctor::salvage(&StdDisk, &path.join("journal"), Lsn::ZERO).unwrap();
        assert_eq!(report.wounds.len(), 1);
        // The first time the old rows know it, the second time the journal does.
        for _ in 0..2 {
            let rebuilt = Offline::rebuild(&path, &mut |_, _| {}, &mut |_| {}).unwrap();
            assert!(rebuilt.report().left_out.is_empty());
            assert!(stock(&rebuilt).contains("\"40\""));
            drop(rebuilt);
            std::fs::remove_dir_all(path.join("rows")).unwrap();
        }
        stock(&Offline::open(&path).unwrap())
    });
    assert!(rebuilt.await.unwrap().contains("\"40\""));
    let again = engine(dir.path()).await;
    assert_eq!(level(&again, 7).await, "40");
    again.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_reports_the_torn_group_that_it_cuts_off() {
    let dir = folder();
    let running = engine(dir.path()).await;
    let connection = connect(&running).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    device.send(teas(1, 10)).await;
    device.acked(10).await;
    running.kill().await.unwrap();
    drop(running);
    // The front of a group that was being written.
    let path = dir.path().join("journal").join(format!("{:020}.till", 0));
    let mut bytes = std::fs::read(&path).unwrap();
    let digest = bytes.windows(4).rposition(|four| four == b"TGRP").unwrap();
    let end = digest + 48;
    bytes[end..end + 4].copy_from_slice(b"TGRP");
    bytes[end + 4..end + 100].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let again = engine(dir.path()).await;
    let cut = again.report().cut.clone().unwrap();
    let place = u64::try_from(end).unwrap();
    assert_eq!((cut.at.get(), cut.bytes), (place, 100));
    assert_eq!(level(&again, 7).await, "10");
    again.drain().await.unwrap();
}
