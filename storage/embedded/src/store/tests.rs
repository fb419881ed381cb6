mod rebuild;

use std::fs;

use till_storage::testing::conformance::{self, Fixture, filled, sample};
use till_storage::testing::suite::{self, Listed};
use till_storage::views::{FlushBatch, StoreError, Views, WriteViews as _};

use super::EmbeddedViews;
use crate::tables::Open;
use crate::{EmbeddedConfig, OpenError};

struct Embedded {
    dir: tempfile::TempDir,
    views: Option<EmbeddedViews>,
}

impl Embedded {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let views = EmbeddedViews::open(config(&dir)).unwrap();
        Self {
            dir,
            views: Some(views),
        }
    }
}

fn config(dir: &tempfile::TempDir) -> EmbeddedConfig {
    EmbeddedConfig::new(dir.path().join("views"))
}

impl Fixture for Embedded {
    fn views(&self) -> &dyn Views {
        self.views.as_ref().unwrap()
    }

    fn write(&self, flush: &FlushBatch) -> Result<(), StoreError> {
        self.views.as_ref().unwrap().write(flush)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.views.as_ref().unwrap().sync()
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.views.as_ref().unwrap().reopen()
    }

    fn restart(&mut self) {
        drop(self.views.take());
        self.views = Some(EmbeddedViews::open(config(&self.dir)).unwrap());
    }
}

// Writes past the store's back.
fn behind(views: &EmbeddedViews, work: impl FnOnce(&Open) -> Result<(), fjall::Error>) {
    work(views.read().as_ref().unwrap()).unwrap();
}

#[test]
fn fjall_passes_the_suite() {
    conformance::run(Embedded::new).unwrap();
}

#[test]
fn every_query_is_answered_as_in_the_model() {
    let mut folders = Vec::new();
    suite::run(|| {
        let dir = tempfile::tempdir().unwrap();
        let views = EmbeddedViews::open(config(&dir)).unwrap();
        folders.push(dir);
        Listed::new(views)
    })
    .unwrap();
}

#[test]
fn a_second_handle_on_the_same_folder_is_refused() {
    let embedded = Embedded::new();
    let second = EmbeddedViews::open(config(&embedded.dir));
    assert!(
        matches!(second, Err(OpenError::Locked { .. })),
        "{second:?}"
    );
}

#[test]
fn a_flipped_byte_in_a_synced_flush_is_reported_and_not_skipped() {
    let mut embedded = Embedded::new();
    for n in 1..200 {
        embedded.write(&sample(n).unwrap()).unwrap();
    }
    embedded.sync().unwrap();
    drop(embedded.views.take());
    let journal = fs::read_dir(config(&embedded.dir).dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "jnl"))
        .unwrap();
    let mut bytes = fs::read(&journal).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[used / 2] ^= 0x40;
    fs::write(&journal, bytes).unwrap();
    match EmbeddedViews::open(config(&embedded.dir)) {
        Err(OpenError::Damaged { .. }) => {}
        // A flip in a length may read as the torn end of the journal: a prefix of whole flushes, which says so itself.
        Ok(views) => {
            let rows = filled(&views).unwrap().rows;
            let last = rows.checkpoint.unwrap() / 100;
            assert_eq!(rows.stores.len(), usize::try_from(last).unwrap());
        }
        Err(other) => panic!("{other}"),
    }
}

/// A loss of power keeps some sectors of what fjall had not synced: it may then find a length without its bytes, or panic.
#[test]
fn no_length_in_fjalls_journal_that_is_gone_makes_opening_panic() {
    let mut embedded = Embedded::new();
    embedded.write(&sample(1).unwrap()).unwrap();
    drop(embedded.views.take());
    let dir = config(&embedded.dir).dir;
    let journal = dir.join("0.jnl");
    let mut bytes = fs::read(&journal).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    // Without the room that fjall reserves.
    bytes.truncate(used + 1);
    fs::write(&journal, &bytes).unwrap();
    let copy = tempfile::tempdir().unwrap();
    // The lengths of the first row: they lie behind the head of the batch and what the row's table is.
    for at in 24..34 {
        let torn = copy.path().join(at.to_string());
        copy_folder(&dir, &torn);
        let mut lost = bytes.clone();
        lost[at] = 0;
        fs::write(torn.join("0.jnl"), lost).unwrap();
        let opened = EmbeddedViews::open(EmbeddedConfig {
            dir: torn,
            ..config(&embedded.dir)
        });
        assert!(
            matches!(opened, Ok(_) | Err(OpenError::Damaged { .. })),
            "byte {at}: {opened:?}"
        );
        drop(opened);
        fs::remove_dir_all(copy.path().join(at.to_string())).unwrap();
    }
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry
            .map(|entry| (entry.path(), entry.file_name()))
            .unwrap();
        if path.is_dir() {
            copy_folder(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

#[test]
fn rows_of_another_format_are_damage() {
    let mut embedded = Embedded::new();
    let views = embedded.views.take().unwrap();
    behind(&views, |open| {
        open.digests.insert(crate::tables::FORMAT, [9])
    });
    drop(views);
    let opened = EmbeddedViews::open(config(&embedded.dir));
    assert!(
        matches!(opened, Err(OpenError::Damaged { .. })),
        "{opened:?}"
    );
}

/// fjall takes a table without this file for one that was never finished, drops it and says nothing.
#[test]
fn a_table_that_has_lost_its_first_file_is_damage() {
    for number in 1..=8 {
        let mut embedded = Embedded::new();
        embedded.write(&sample(1).unwrap()).unwrap();
        drop(embedded.views.take());
        let rows = config(&embedded.dir).dir;
        let first = rows.join(format!("keyspaces/{number}/current"));
        fs::remove_file(first).unwrap();
        for attempt in 1..=2 {
            let opened = EmbeddedViews::open(config(&embedded.dir));
            assert!(
                matches!(opened, Err(OpenError::Damaged { .. })),
                "{number}, attempt {attempt}: {opened:?}"
            );
        }
    }
}

/// fjall drops all tables then, and makes them again when asked; the rows of the old ones lie in its journal and come back.
#[test]
fn tables_that_are_all_gone_are_damage_and_their_rows_do_not_come_back_in_others() {
    let mut embedded = Embedded::new();
    embedded.write(&sample(1).unwrap()).unwrap();
    drop(embedded.views.take());
    let rows = config(&embedded.dir).dir;
    for number in 1..=8 {
        fs::remove_dir_all(rows.join(format!("keyspaces/{number}"))).unwrap();
    }
    for attempt in 1..=3 {
        let opened = EmbeddedViews::open(config(&embedded.dir));
        assert!(
            matches!(opened, Err(OpenError::Damaged { .. })),
            "attempt {attempt}: {opened:?}"
        );
    }
}

/// Whoever died over the making of a folder may have left some tables, or all of them and no format.
#[test]
fn a_folder_that_was_never_finished_is_damage() {
    let mut embedded = Embedded::new();
    let views = embedded.views.take().unwrap();
    behind(&views, |open| open.digests.remove(crate::tables::FORMAT));
    drop(views);
    let opened = EmbeddedViews::open(config(&embedded.dir));
    assert!(
        matches!(opened, Err(OpenError::Damaged { .. })),
        "{opened:?}"
    );
}

#[test]
fn a_row_of_a_newer_schema_is_damage_and_never_guessed() {
    let embedded = Embedded::new();
    embedded.write(&sample(1).unwrap()).unwrap();
    let views = embedded.views.as_ref().unwrap();
    behind(views, |open| {
        let table = open.table(till_storage::pack::Table::Stores);
        table.insert([0, 0, 0, 1], [2, 1, 1])
    });
    let found = views.stores(&mut |_, _| std::ops::ControlFlow::Continue(()));
    assert!(
        matches!(found, Err(StoreError::Damaged { .. })),
        "{found:?}"
    );
}

#[test]
fn what_was_written_is_there_after_many_memtables_and_reopenings() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    config.memtable_bytes = 64 << 10;
    let views = EmbeddedViews::open(config).unwrap();
    let mut all = FlushBatch::default();
    for n in 1..=400 {
        let flush = sample(n).unwrap();
        views.write(&flush).unwrap();
        all.append(flush);
        if n % 100 == 0 {
            views.reopen().unwrap();
        }
    }
    assert_eq!(filled(&views).unwrap().rows, all);
}
