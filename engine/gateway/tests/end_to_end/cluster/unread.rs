//! A journal that cannot be read back for a while: commits wait for it, say why, and go on by themselves.

use std::io::{self, IoSlice};
use std::sync::{Mutex, PoisonError};

use till_storage::disk::{Disk, DiskFile, SimDisk};

use super::*;

/// What the disk says of bytes that it does not give.
const GAVE_NONE: &str = "the disk gave no bytes";

/// What readers of segments meet.
#[derive(Clone, Copy, Debug, Default)]
enum Ails {
    #[default]
    Nothing,
    /// No bytes can be read.
    Read,
    /// Bytes from this offset on are others than those that were written.
    Bytes(u64),
}

/// A disk of which segments cannot be read at times; writing them goes on.
#[derive(Clone, Debug)]
struct AilingDisk {
    disk: SimDisk,
    ails: Arc<Mutex<Ails>>,
}

#[derive(Debug)]
struct AilingFile {
    file: Box<dyn DiskFile>,
    is_segment: bool,
    ails: Arc<Mutex<Ails>>,
}

impl AilingDisk {
    fn new() -> Self {
        Self {
            disk: SimDisk::new(11),
            ails: Arc::default(),
        }
    }

    fn ails(&self, what: Ails) {
        *self.ails.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    fn file(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(AilingFile {
            file,
            is_segment: path.extension().is_some_and(|kind| kind == "till"),
            ails: Arc::clone(&self.ails),
        })
    }
}

impl Disk for AilingDisk {
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

impl DiskFile for AilingFile {
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.file.write_at(slices, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(buffer, offset)?;
        match *self.ails.lock().unwrap_or_else(PoisonError::into_inner) {
            Ails::Read if self.is_segment => Err(io::Error::other(GAVE_NONE)),
            Ails::Bytes(from) if self.is_segment => {
                let sound = usize::try_from(from.saturating_sub(offset)).unwrap();
                buffer[..read]
                    .iter_mut()
                    .skip(sound)
                    .for_each(|byte| *byte ^= 1);
                Ok(read)
            }
            _ => Ok(read),
        }
    }

    fn sync(&self) -> io::Result<()> {
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

/// The only engine on a store.
async fn alone(dir: &Path, disk: &AilingDisk, store: &Arc<MemoryCluster>) -> [Arc<Handle>; 1] {
    let mut config = Config::dev(dir);
    config.shards = 2;
    config.reserve_bytes = 0;
    config.drain_timeout = Duration::from_millis(100);
    config.shared = Some(SharedConfig {
        lease: LEASE,
        ..SharedConfig::default()
    });
    let shared: Arc<dyn till_storage::cluster::SharedStore> = Arc::<MemoryCluster>::clone(store);
    let parts = Parts {
        disk: Arc::new(disk.clone()),
        shared: Some(shared),
        ..Parts::default()
    };
    let engine = [Arc::new(
        till_gateway::start_with(config, parts).await.unwrap(),
    )];
    share(&engine).await;
    engine
}

/// What the engine says of reads: whether they work, why not, and what to do.
fn reads(engine: &Handle) -> (bool, String, &'static str) {
    let health = engine.health();
    let check = health.checks.iter().find(|one| one.name == "journal_reads");
    let check = check.unwrap();
    assert!(check.ok || !health.is_ready());
    (check.ok, check.reason.clone(), check.hint)
}

/// The device hears that its events are journalled, and of no commit behind `committed`.
async fn journalled(device: &mut Device, upto: u64, committed: u64) {
    loop {
        match device.next().await {
            Some(Message::Ack(ack)) => {
                assert!(ack.committed.is_none_or(|seq| seq.get() <= committed));
                if ack.journalled == Some(seq(upto)) {
                    return;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Events of a store that are facts, however often.
async fn facts(store: &Arc<MemoryCluster>, of: u32) -> u64 {
    let facts = till_storage::cluster::SharedStore::facts(store.as_ref());
    let counted = tokio::task::spawn_blocking(move || {
        let mut events = 0;
        let id = StoreId::new(of).unwrap();
        let visited = facts.of_hours(id, i64::MIN, i64::MAX, &mut |fact| {
            events += u64::from(fact.record.head.count);
            Ok(())
        });
        visited.unwrap();
        events
    });
    counted.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_wait_for_a_journal_that_cannot_be_read_and_go_on_by_themselves() {
    const EVENTS: u64 = 10;
    let (dir, disk) = (folder(), AilingDisk::new());
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let engine = alone(dir.path(), &disk, &store).await;
    let (mut device, _, _connection) = at_home(&engine, 3, 0).await;
    let (mut other, _, _other_connection) = at_home(&engine, 4, 0).await;
    assert!(reads(&engine[0]).0);
    let mut sent = 0;
    for _ in 0..2 {
        disk.ails(Ails::Read);
        device.send(teas(sent + 1, EVENTS)).await;
        other.send(teas(sent + 1, EVENTS)).await;
        journalled(&mut device, sent + EVENTS, sent).await;
        journalled(&mut other, sent + EVENTS, sent).await;
        let failed = engine[0].metrics().journal.reads_failed;
        until("it is read again and again, and said why", || {
            let (ok, reason, hint) = reads(&engine[0]);
            let metrics = engine[0].metrics();
            let tried = metrics.journal.reads_failed >= failed + 3;
            let waits = metrics.flush.state == FlushState::Unread;
            tried && waits && !ok && reason.contains(GAVE_NONE) && hint.contains("by itself")
        })
        .await;
        assert_eq!(facts(&store, 3).await, sent);
        disk.ails(Ails::Nothing);
        sent += EVENTS;
        assert!(device.acked(sent).await.is_empty());
        assert!(other.acked(sent).await.is_empty());
        until("ready again", || engine[0].health().is_ready()).await;
        for number in [3, 4] {
            // Rows and facts are written once it has answered.
            assert_eq!(level(&engine[0], number).await, sent.to_string());
            assert_eq!(facts(&store, number).await, sent, "store {number}");
        }
    }
    engine[0].drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_past_a_damaged_record_and_the_place_is_named() {
    let (dir, disk) = (folder(), AilingDisk::new());
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let [engine] = alone(dir.path(), &disk, &store).await;
    let engines = [Arc::clone(&engine)];
    let (mut device, welcome, connection) = established(&engines, 3, 0).await;
    device.send(teas(1, 10)).await;
    assert!(device.acked(10).await.is_empty());
    written(&engines).await;
    let end = engine.metrics().journal.durable;
    disk.ails(Ails::Bytes(end));
    device.send(teas(11, 10)).await;
    journalled(&mut device, 20, 10).await;
    until("the damage is read again and again", || {
        let metrics = engine.metrics();
        metrics.journal.reads_failed >= 4 && metrics.flush.state == FlushState::Unread
    })
    .await;
    let (ok, reason, hint) = reads(&engine);
    let place = format!("damaged at position {end} (offset {end} of 00000000000000000000.till)");
    assert!(!ok && reason.contains(&place), "{reason}");
    assert!(hint.contains("doctor"), "{hint}");
    let problems = engine.metrics().problems;
    let told = problems.iter().filter(|one| one.text.contains(&place));
    assert_eq!(told.count(), 1, "{problems:?}");
    assert_eq!(facts(&store, 3).await, 10);
    // It ends all the same, and says that it has not done everything.
    assert!(engine.drain().await.is_err());
    drop((device, connection, engines, engine));
    assert_eq!(facts(&store, 3).await, 10);
    // As it is once the disk was repaired.
    disk.ails(Ails::Nothing);
    let engines = alone(dir.path(), &disk, &store).await;
    until("what was left is handed off and committed", || {
        engines[0].metrics().events.applied >= 10
    })
    .await;
    send(&engines, 3, welcome.epoch.get(), 25).await;
    assert_eq!(level(&engines[0], 3).await, "25");
    assert_eq!(facts(&store, 3).await, 25);
    assert!(reads(&engines[0]).0);
    engines[0].drain().await.unwrap();
}
