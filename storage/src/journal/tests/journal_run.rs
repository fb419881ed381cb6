//! The epoch of a journal, and what has to be found of it after its end.

use std::path::Path;
use std::sync::Arc;

use till_core::Record;

use super::super::testing::{SMALL, Witness, all, dir, record};
use super::super::{Attempt, GroupSync, Journal, Prepared, SyncConfig};
use super::super::{Lsn, read_base, write_base};
use crate::disk::{Disk, SimDisk};

/// Records that may wait for a group.
const QUEUE: usize = 64;

/// A journal that is written to, and all that was ever appended: the record with the sequence number n is the n-th.
#[derive(Debug)]
pub(super) struct JournalRun {
    disk: Arc<dyn Disk>,
    running: Option<Running>,
    sent: Vec<Record>,
    witness: Witness,
    acked: usize,
}

#[derive(Debug)]
struct Running {
    journal: Journal,
    group: GroupSync<u64, Witness>,
}

/// What ended an epoch.
#[derive(Debug)]
pub(super) struct Ended;

impl JournalRun {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self::resumed(disk, Vec::new())
    }

    /// The epoch of a journal in which these records were found.
    pub(super) fn resumed(disk: Arc<dyn Disk>, found: Vec<Record>) -> Self {
        Self {
            disk,
            running: None,
            acked: found.len(),
            sent: found,
            witness: Witness::default(),
        }
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.running.as_ref().unwrap().journal
    }

    pub(super) fn sent(&self) -> &[Record] {
        &self.sent
    }

    pub(super) fn open(&mut self) -> Result<(), Ended> {
        let opened = Journal::open(Arc::clone(&self.disk), &dir(), SMALL).map_err(|_| Ended)?;
        let config = SyncConfig {
            queue_max: QUEUE,
            ..SyncConfig::default()
        };
        self.running = Some(Running {
            journal: opened.journal,
            group: GroupSync::new(opened.writer, config, self.witness.clone()),
        });
        Ok(())
    }

    /// Appends one group of records of these sizes.
    pub(super) fn commit(&mut self, sizes: &[usize]) -> Result<(), Ended> {
        let running = self.running.as_mut().unwrap();
        for size in sizes {
            let seq = u64::try_from(self.sent.len()).unwrap() + 1;
            let record = record(super::T, seq, *size);
            let prepared = Prepared::new(&record).unwrap();
            running.group.appender().append(prepared, seq).unwrap();
            self.sent.push(record);
        }
        match running.group.turn() {
            Ok(Attempt::Done) => {}
            Ok(Attempt::Full { .. }) => panic!("there is room"),
            Err(_) => return Err(Ended),
        }
        self.acked = self.sent.len();
        Ok(())
    }

    /// Lets a base stand in for all but the last `kept` segments, and drops those.
    pub(super) fn retain(&mut self, kept: usize) -> Result<(), Ended> {
        let journal = self.running.as_ref().unwrap().journal.clone();
        let segments = journal.segments();
        let first = segments.len().saturating_sub(kept.max(1));
        let border = segments[first].start;
        if first == 0 {
            return Ok(());
        }
        let before = journal.records_between(journal.start(), border);
        let last = before.last().map(|record| record.map_err(|_| Ended));
        let Some((_, last)) = last.transpose()? else {
            return Ok(());
        };
        let carried = usize::try_from(last.head.first_seq).unwrap();
        let carried = self.sent[..carried].iter().cloned().map(Ok);
        let disk = self.disk.as_ref();
        write_base::<super::super::BaseError>(disk, &dir(), border, carried).map_err(|_| Ended)?;
        journal.drop_before(border).map_err(|_| Ended)?;
        assert_eq!(journal.start(), border);
        Ok(())
    }

    /// Ends the journal in good order.
    pub(super) fn close(&mut self) -> Result<(), Ended> {
        match self.running.take() {
            Some(running) => running.group.close().map_err(|_| Ended),
            None => Ok(()),
        }
    }

    /// Drops it as a crash does.
    pub(super) fn fall(&mut self) {
        self.running = None;
    }

    /// Opens what is left, and compares it with all that was appended: everything acknowledged is there, as it was and where
    /// it was; beyond that at most the group that was in flight; nothing twice, nothing else. Gives what was found.
    pub(super) fn check(&self, after: &SimDisk, told: &str) -> Vec<Record> {
        let opened = Journal::open(Arc::new(after.clone()), &dir(), SMALL);
        let opened = opened.unwrap_or_else(|error| panic!("{told}: {error}"));
        let (border, mut found) = base_of(after);
        for (lsn, record) in all(&opened.journal) {
            let index = usize::try_from(record.head.first_seq).unwrap() - 1;
            assert_eq!(record, self.sent[index], "{told}");
            if lsn >= border {
                found.push(record);
            }
        }
        assert!(found.len() >= self.acked, "{told}: acked and not there");
        assert_eq!(found, self.sent[..found.len()], "{told}");
        let reported_lsns = self.witness.told.lock().unwrap();
        for (lsn, seq) in reported_lsns.iter() {
            if *lsn >= opened.journal.start() {
                let record = opened.journal.read(*lsn).unwrap();
                assert_eq!(record.head.first_seq, *seq, "{told}");
            }
        }
        found
    }
}

fn base_of(disk: &SimDisk) -> (Lsn, Vec<Record>) {
    let base = read_base(disk, Path::new("journal")).unwrap();
    base.map_or((Lsn::ZERO, Vec::new()), |(lsn, records)| {
        (lsn, records.map(|record| record.unwrap()).collect())
    })
}
