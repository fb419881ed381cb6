use std::path::{Path, PathBuf};

use till_core::{StoreRow, Totals};
use till_embedded::{EmbeddedConfig, EmbeddedViews};
use till_protocol::id::StoreId;
use till_storage::views::{FlushBatch, WriteViews as _};

use crate::lifecycle::recovery::unreadable_views::{
    Holds, copies, covers, move_unreadable, stores_known,
};

fn store(number: u32) -> StoreId {
    StoreId::new(number).unwrap()
}

// Rows up to a position, with these stores.
fn rows(dir: &Path, reach: u64, stores: &[u32]) {
    let views = EmbeddedViews::open(EmbeddedConfig::new(dir)).unwrap();
    let row = |number: &u32| {
        let row = StoreRow {
            currency: 978,
            zone: "Europe/Berlin".to_owned(),
            registered_at_us: 1,
            applied: 0,
            training: Totals::default(),
        };
        (store(*number), row)
    };
    let flush = FlushBatch {
        stores: stores.iter().map(row).collect(),
        checkpoint: Some(reach),
        ..FlushBatch::default()
    };
    views.write(&flush).unwrap();
    views.sync().unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let copies = copies(dir);
    let names = copies.iter().filter_map(|copy| copy.file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("rows");
    (folder, dir)
}

#[test]
fn a_copy_that_holds_more_is_not_replaced_by_rows_that_hold_less() {
    let (_folder, dir) = folder();
    rows(&dir, 1_000, &[7, 8]);
    move_unreadable(&dir).unwrap();
    assert_eq!(names(&dir), ["rows.aside"]);
    // A rebuild that failed half-way, twice.
    for _ in 0..2 {
        rows(&dir, 10, &[7]);
        move_unreadable(&dir).unwrap();
        assert!(!dir.exists());
        assert_eq!(names(&dir), ["rows.aside"]);
        let known = stores_known(&dir, None).unwrap();
        assert_eq!(known.into_keys().collect::<Vec<_>>(), [store(7), store(8)]);
    }
    // Rows that hold all of it, and more, take its place.
    rows(&dir, 1_001, &[7, 8, 9]);
    move_unreadable(&dir).unwrap();
    assert_eq!(names(&dir), ["rows.aside"]);
    assert_eq!(stores_known(&dir, None).unwrap().len(), 3);
}

#[test]
fn rows_that_know_a_store_which_a_copy_does_not_stand_beside_it() {
    let (_folder, dir) = folder();
    rows(&dir, 1_000, &[7]);
    move_unreadable(&dir).unwrap();
    rows(&dir, 10, &[8]);
    move_unreadable(&dir).unwrap();
    assert_eq!(names(&dir), ["rows.aside", "rows.aside-2"]);
    let known = stores_known(&dir, None).unwrap();
    assert_eq!(known.into_keys().collect::<Vec<_>>(), [store(7), store(8)]);
    rows(&dir, 2_000, &[7, 8]);
    move_unreadable(&dir).unwrap();
    assert_eq!(names(&dir), ["rows.aside"], "these hold all of both");
}

#[test]
fn rows_that_cannot_be_read_take_the_place_of_none_that_can() {
    let held = || Some(Holds::default());
    assert!(!covers(None, held().as_ref()));
    assert!(!covers(held().as_ref(), None));
    assert!(covers(None, None), "one of them is kept at most");
}
