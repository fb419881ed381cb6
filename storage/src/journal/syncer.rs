//! Group commit: one thread writes what has gathered while the sync before it ran.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use thiserror::Error;

use super::group::{Attempt, GroupSync, Item};
use super::{Lsn, Prepared, SyncStats, Writer};

/// Proof that every record that begins before an LSN survives a loss of power. Only the syncer makes it.
#[derive(Debug)]
#[must_use]
pub struct Durable {
    through: Lsn,
}

impl Durable {
    pub(super) const fn upto(through: Lsn) -> Self {
        Self { through }
    }

    /// Every record that begins before this LSN is durable.
    pub const fn through(&self) -> Lsn {
        self.through
    }
}

/// Who is told what has become durable. Called on the sync thread, which writes nothing meanwhile: hand on, do not
/// work.
pub trait Sink<T>: Send {
    /// The group is durable: each record's LSN with its companion, in the order of the queue. Markers have the durable
    /// end as their LSN. What is left in `group` is dropped.
    fn durable(&mut self, durable: &Durable, group: &mut Vec<(Lsn, T)>);

    /// A write or sync failed, and what is on the disk is in doubt: end the process without another ack.
    fn poisoned(&mut self, error: &SyncError);
}

/// Settings of a syncer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SyncConfig {
    /// Records and markers that may wait; a sender waits beyond it.
    pub queue_max: usize,
    /// Records of one group.
    pub group_records_max: usize,
    /// Bytes after which a group takes no further record.
    pub group_bytes_max: usize,
    /// Time from the beginning of a group that had several records to that of the next, in us. 0: a group begins when the one before
    /// it is durable.
    pub linger_us: u32,
    /// Time between two looks for room on a full disk, in ms.
    pub full_retry_ms: u32,
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            queue_max: 16_384,
            group_records_max: 4_096,
            group_bytes_max: 4 << 20,
            linger_us: 0,
            full_retry_ms: 250,
        }
    }
}

/// Why a journal takes nothing more.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum SyncError {
    /// A write or sync failed.
    #[error(
        "journal is poisoned since position {since}: {cause}; end the process and start it again"
    )]
    Poisoned {
        /// The first LSN that is in doubt.
        since: Lsn,
        /// What failed.
        cause: String,
    },
    /// The disk was full when the journal was closed: the records that waited were never acknowledged.
    #[error("disk is full: {waiting} records were not written; their senders still have them")]
    Full {
        /// Records that waited.
        waiting: usize,
    },
    /// The thread could not be started, or it panicked.
    #[error("thread of the journal failed: {0}")]
    Thread(String),
}

/// What could not be queued, given back.
#[derive(Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum QueueError<T> {
    /// As much waits as may wait.
    #[error("journal's queue is full")]
    Busy(T),
    /// The syncer was closed or is poisoned.
    #[error("journal takes nothing more")]
    Closed(T),
}

/// Puts records into the queue of a syncer. Clones share the queue.
#[derive(Debug)]
pub struct Appender<T> {
    pub(super) queue: Sender<Item<T>>,
}

impl<T> Clone for Appender<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
        }
    }
}

impl<T> Appender<T> {
    /// Queues a record; waits while the queue is full.
    ///
    /// # Errors
    /// [`QueueError::Closed`] gives the companion back.
    pub fn append(&self, entry: Prepared, companion: T) -> Result<(), QueueError<T>> {
        self.send(Some(entry), companion)
    }

    /// Queues something without a record: it is handed on when everything queued before it is durable.
    ///
    /// # Errors
    /// [`QueueError::Closed`] gives the companion back.
    pub fn marker(&self, companion: T) -> Result<(), QueueError<T>> {
        self.send(None, companion)
    }

    /// Queues a record if there is room in the queue.
    ///
    /// # Errors
    /// [`QueueError::Busy`] and [`QueueError::Closed`] give the companion back.
    pub fn try_append(&self, entry: Prepared, companion: T) -> Result<(), QueueError<T>> {
        self.try_send(Some(entry), companion)
    }

    /// Queues a marker if there is room in the queue.
    ///
    /// # Errors
    /// [`QueueError::Busy`] and [`QueueError::Closed`] give the companion back.
    pub fn try_marker(&self, companion: T) -> Result<(), QueueError<T>> {
        self.try_send(None, companion)
    }

    /// Records and markers that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn send(&self, entry: Option<Prepared>, companion: T) -> Result<(), QueueError<T>> {
        self.queue
            .send(Item { entry, companion })
            .map_err(|error| QueueError::Closed(error.0.companion))
    }

    fn try_send(&self, entry: Option<Prepared>, companion: T) -> Result<(), QueueError<T>> {
        self.queue
            .try_send(Item { entry, companion })
            .map_err(|error| match error {
                TrySendError::Full(item) => QueueError::Busy(item.companion),
                TrySendError::Disconnected(item) => QueueError::Closed(item.companion),
            })
    }
}

/// The thread that makes records durable, and the way to it.
#[derive(Debug)]
pub struct Syncer<T> {
    appender: Appender<T>,
    stats: Arc<SyncStats>,
    stop: Sender<()>,
    thread: JoinHandle<Result<(), SyncError>>,
}

impl<T: Send + 'static> Syncer<T> {
    /// Starts the thread. `writer` comes from [`Opened`](super::Opened).
    ///
    /// # Errors
    /// [`SyncError::Thread`] when the system gives no thread.
    pub fn start(
        writer: Writer,
        config: SyncConfig,
        sink: impl Sink<T> + 'static,
    ) -> Result<Self, SyncError> {
        Self::drive(GroupSync::new(writer, config, sink))
    }

    /// Starts the thread for a queue that is there.
    ///
    /// # Errors
    /// [`SyncError::Thread`] when the system gives no thread.
    pub fn drive(group: GroupSync<T, impl Sink<T> + 'static>) -> Result<Self, SyncError> {
        let (stop, stopped) = bounded(1);
        let (appender, stats) = (group.appender(), group.stats());
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || run(group, &stopped))
            .map_err(|error| SyncError::Thread(error.to_string()))?;
        Ok(Self {
            appender,
            stats,
            stop,
            thread,
        })
    }

    /// A way to queue records from another thread.
    pub fn appender(&self) -> Appender<T> {
        self.appender.clone()
    }

    /// The counters and the state.
    pub fn stats(&self) -> Arc<SyncStats> {
        Arc::clone(&self.stats)
    }

    /// Makes everything queued so far durable, writes the closing mark, and ends the thread. What is queued later is
    /// dropped: stop the senders first.
    ///
    /// # Errors
    /// [`SyncError::Full`] when there was no room, [`SyncError::Poisoned`] when the journal had failed.
    pub fn close(self) -> Result<(), SyncError> {
        let Self {
            appender,
            stop,
            thread,
            ..
        } = self;
        drop(appender);
        // The thread may have ended by itself; its result tells.
        let _ended = stop.send(());
        // Gone, it stops the thread a second time where the thread waits for room.
        drop(stop);
        thread
            .join()
            .map_err(|_panic| SyncError::Thread("it panicked".to_owned()))?
    }
}

fn run<T, S: Sink<T>>(mut group: GroupSync<T, S>, stopped: &Receiver<()>) -> Result<(), SyncError> {
    let mut linger = Linger {
        time: Duration::from_micros(u64::from(group.config.linger_us)),
        not_before: None,
    };
    let mut stops = !wait_for_first(&mut group, &linger, stopped);
    loop {
        linger.begin(group.waiting());
        let attempt = group.turn()?;
        stops = match attempt {
            Attempt::Full { .. } if stops => {
                let waiting = group.waiting();
                return Err(SyncError::Full { waiting });
            }
            Attempt::Full { .. } => !wait_for_room(&group, stopped),
            Attempt::Done if stops && !group.has_waiting() => return group.close(),
            Attempt::Done => stops || !wait_for_first(&mut group, &linger, stopped),
        };
    }
}

// When groups begin. Each wakes this thread, the disk, and those who are acknowledged. Where records come together anyway, they are
// let gather; behind a group of one nothing is held up.
struct Linger {
    time: Duration,
    not_before: Option<Instant>,
}

impl Linger {
    fn begin(&mut self, records: usize) {
        self.not_before = (records > 1).then(|| Instant::now() + self.time);
    }

    fn rest(&self) -> Duration {
        let rest = self
            .not_before
            .map(|at| at.saturating_duration_since(Instant::now()));
        rest.unwrap_or_default()
    }
}

// Waits for the first item of a group, and until it may begin. False when it is time to stop.
fn wait_for_first<T, S: Sink<T>>(
    group: &mut GroupSync<T, S>,
    linger: &Linger,
    stopped: &Receiver<()>,
) -> bool {
    crossbeam::channel::select! {
        recv(group.queue) -> item => match item {
            Ok(item) => group.add(item),
            Err(_) => return false,
        },
        recv(stopped) -> _ => return false,
    }
    let rest = linger.rest();
    // It sleeps, and is not woken by each that comes.
    let may_wait = !rest.is_zero() && group.has_room() && !group.queue.is_full();
    !may_wait || stopped.recv_timeout(rest) == Err(RecvTimeoutError::Timeout)
}

// Waits until another look for room is worth it. False when it is time to stop.
fn wait_for_room<T, S>(group: &GroupSync<T, S>, stopped: &Receiver<()>) -> bool {
    let pause = Duration::from_millis(u64::from(group.config.full_retry_ms.max(1)));
    stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout)
}
