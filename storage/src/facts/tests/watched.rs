//! What look-ups cost: how many indexes they read, and whom they wait for.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{facts, moves, some_batches};
use crate::disk::{Disk, DiskFile, SimDisk};
use crate::facts::{Facts, FactsConfig};
use crate::journal::testing::{append_each, dir, open_on};
use crate::journal::{Lsn, index_name, segment_name};

type Act = Box<dyn FnOnce() + Send>;

/// A disk that counts what is read of indexes, and in the middle of one call does something else.
#[derive(Clone)]
struct Watched {
    disk: SimDisk,
    reads: Arc<AtomicUsize>,
    /// End of the name of the file, and what is done while it is read or synced.
    during: Arc<Mutex<Option<(String, Act)>>>,
}

#[derive(Debug)]
struct WatchedFile {
    file: Box<dyn DiskFile>,
    name: String,
    disk: Watched,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.disk.fmt(f)
    }
}

impl Watched {
    fn new() -> Self {
        Self {
            disk: SimDisk::new(0),
            reads: Arc::default(),
            during: Arc::default(),
        }
    }

    fn during(&self, name: &str, act: impl FnOnce() + Send + 'static) {
        *self.during.lock().unwrap() = Some((name.to_owned(), Box::new(act)));
    }

    fn has_done(&self) -> bool {
        self.during.lock().unwrap().is_none()
    }

    fn called(&self, name: &str) {
        let act = {
            let mut during = self.during.lock().unwrap();
            during.take_if(|(end, _)| name.ends_with(end.as_str()))
        };
        if let Some((_, act)) = act {
            act();
        }
    }

    fn file(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(WatchedFile {
            file,
            name: path.to_string_lossy().into_owned(),
            disk: self.clone(),
        })
    }
}

impl Disk for Watched {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(path, self.disk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(path, self.disk.open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.make_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free_bytes(dir)
    }

    fn salt(&self) -> u64 {
        self.disk.salt()
    }
}

impl DiskFile for WatchedFile {
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.file.write_at(slices, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.name.ends_with(".idx") {
            self.disk.reads.fetch_add(1, Ordering::Relaxed);
        }
        self.disk.called(&self.name);
        self.file.read_at(buffer, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.called(&self.name);
        self.file.sync()
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        self.file.preallocate(bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}

// A journal of two tills that are always there and one that was there at the beginning, in many segments with an index each.
fn visited() -> (Watched, Facts, Vec<Lsn>) {
    let disk = Watched::new();
    let mut records = vec![moves(9 << 32 | 9, 1, &[400_000; 4])];
    records.extend((0..400_u64).flat_map(|n| {
        let hours = [400_000; 8];
        [1, 2].map(|till| moves(1 << 32 | till, 1 + 8 * n, &hours))
    }));
    append_each(open_on(&disk).unwrap(), &records).1.unwrap();
    let journal = open_on(&disk).unwrap().journal;
    let segments: Vec<Lsn> = journal.segments().iter().map(|one| one.start).collect();
    assert!(segments.len() > 30, "{}", segments.len());
    let config = FactsConfig {
        // The pages of a few indexes.
        cache_bytes: 0,
        ..FactsConfig::default()
    };
    let facts = Facts::new(journal, config);
    facts.catch_up().unwrap();
    (disk, facts, segments)
}

// Numbers of records that are found, and how often an index was read for that.
fn found(facts: &Facts, disk: &Watched, terminal: u64, run: (u64, u64)) -> (usize, usize) {
    let before = disk.reads.load(Ordering::Relaxed);
    let found = facts.by_terminal(terminal, 1, run, Lsn::ZERO).unwrap();
    let records = found.lsns().len();
    (records, disk.reads.load(Ordering::Relaxed) - before)
}

#[test]
fn a_device_that_returns_is_looked_for_in_the_indexes_that_have_it() {
    let (disk, facts, segments) = visited();
    // One that is not known at all, and one that was there once.
    assert_eq!(found(&facts, &disk, 7 << 32 | 7, (1, 9)), (0, 0));
    let (records, reads) = found(&facts, &disk, 9 << 32 | 9, (1, 9));
    assert!(
        records == 1 && reads <= 2,
        "{records} records, {reads} reads"
    );
    // One that is in each of them, and asks for what it sent last, or once.
    let (records, reads) = found(&facts, &disk, 1 << 32 | 1, (3_190, 3_200));
    assert!(
        records == 2 && reads <= 2,
        "{records} records, {reads} reads"
    );
    let (records, reads) = found(&facts, &disk, 1 << 32 | 1, (800, 800));
    assert!(
        records == 1 && reads <= 2,
        "{records} records, {reads} reads"
    );
    assert!(segments.len() > 30);
}

#[test]
fn without_room_for_terminals_a_device_is_looked_for_from_its_newest_index_on() {
    let (disk, facts, segments) = visited();
    let config = FactsConfig {
        cache_bytes: 0,
        terminal_bytes: 0,
        ..FactsConfig::default()
    };
    let facts = Facts::new(facts.journal().clone(), config);
    facts.catch_up().unwrap();
    let (records, reads) = found(&facts, &disk, 1 << 32 | 1, (3_190, 3_200));
    assert!(
        records == 2 && reads <= 4,
        "{records} records, {reads} reads"
    );
    // Of all that lies before an LSN nothing is asked.
    let before = disk.reads.load(Ordering::Relaxed);
    let since = segments[segments.len() - 3];
    facts.by_terminal(7 << 32 | 7, 1, (1, 9), since).unwrap();
    let reads = disk.reads.load(Ordering::Relaxed) - before;
    assert!(reads <= 6, "{reads} reads");
}

// Looks something up on another thread while `call` is within a read or sync of a file; whether that came through.
fn is_found_during(disk: &Watched, facts: &Arc<Facts>, name: &str, call: impl FnOnce(&Facts)) {
    let (done, is_done) = channel();
    let asked = Arc::clone(facts);
    let (came_through, has_come_through) = channel();
    disk.during(name, move || {
        std::thread::spawn(move || {
            let newest = (115, 120);
            asked
                .by_terminal(1 << 32 | 1, 1, newest, Lsn::ZERO)
                .unwrap();
            done.send(()).unwrap();
        });
        // An answer comes at once, or, where the look-up waits for this call, never.
        let answer = is_done.recv_timeout(Duration::from_secs(60));
        came_through.send(answer.is_ok()).unwrap();
    });
    call(facts);
    assert!(disk.has_done(), "nothing was done to {name}");
    assert!(
        has_come_through.recv().unwrap(),
        "a look-up waited for {name}"
    );
}

#[test]
fn a_look_up_waits_for_no_index_that_is_written() {
    let disk = Watched::new();
    append_each(open_on(&disk).unwrap(), &some_batches())
        .1
        .unwrap();
    let facts = Arc::new(facts(open_on(&disk).unwrap().journal));
    is_found_during(&disk, &facts, ".idx.new", |facts| {
        assert!(facts.catch_up().unwrap() > 1);
    });
}

#[test]
fn a_look_up_waits_for_no_index_that_is_made_again_from_the_journal() {
    let disk = Watched::new();
    append_each(open_on(&disk).unwrap(), &some_batches())
        .1
        .unwrap();
    let facts = Arc::new(facts(open_on(&disk).unwrap().journal));
    facts.catch_up().unwrap();
    let first = facts.journal().segments()[0].start;
    let index = dir().join(index_name(first));
    // All of its pages are broken.
    let mut bytes = disk.disk.bytes(&index).unwrap();
    bytes[128..].fill(0xa5);
    disk.disk.put(&index, &bytes);
    is_found_during(&disk, &facts, &segment_name(first), |facts| {
        facts.by_receipt("4").unwrap();
    });
}
