//! A disk that is full. Run it on a file system of its own, about 100 MiB large:
//! `mount -t tmpfs -o size=100m none DIR && TILL_SMALL_DISK=DIR cargo test -p till-tests --features small-disk --test small_disk`.

use std::path::PathBuf;
use std::{env, fs};

use till_core::{Rows as _, Space};
use till_embedded::{EmbeddedConfig, EmbeddedViews};
use till_storage::testing::conformance::sample;
use till_storage::views::{StoreError, Views as _, WriteViews as _};

#[test]
fn a_full_disk_is_said_and_room_brings_everything_back() {
    let small = PathBuf::from(env::var("TILL_SMALL_DISK").unwrap());
    let ballast = small.join("ballast");
    fs::write(&ballast, vec![1_u8; 60 << 20]).unwrap();
    let mut config = EmbeddedConfig::new(small.join("views"));
    config.memtable_bytes = 2 << 20;
    let views = EmbeddedViews::open(config.clone()).unwrap();
    let mut written = 0;
    let full = loop {
        let mut flush = sample(written + 1).unwrap();
        flush.names[0].2 = format!("{written} ").repeat(20_000);
        match views.write(&flush) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::Full { .. }), "{full:?}");
    let again = views.write(&sample(written + 1).unwrap());
    assert!(matches!(again, Err(StoreError::Full { .. })), "{again:?}");
    fs::remove_file(&ballast).unwrap();
    views.reopen().unwrap();
    let check = |views: &EmbeddedViews| {
        for n in 1..=written {
            let expected = sample(n).unwrap();
            let name = views.name(Space::Sku, u64::from(n)).unwrap();
            assert_eq!(
                name,
                Some(format!("{} ", n - 1).repeat(20_000)),
                "flush {n}"
            );
            let (store, row) = &expected.stores[0];
            let found = views.store(*store).unwrap();
            assert_eq!(found.as_ref(), Some(row), "flush {n}");
        }
    };
    check(&views);
    views.write(&sample(written + 1).unwrap()).unwrap();
    drop(views);
    check(&EmbeddedViews::open(config).unwrap());
}
