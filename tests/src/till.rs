//! Devices: tills and shelves with durable outboxes, on one connection.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use till_client::{
    Cause, DeadLetterFile, DiskConfig, DiskOutbox, End, Event, Happening, Identity, Link,
    LinkConfig, Observer, SessionConfig, Terminal, TerminalConfig,
};
use till_protocol::code::Reason;
use till_protocol::id::{StoreId, TerminalId, TillId};
use tokio::runtime::Runtime;

use crate::{Engine, PATIENCE};

/// A connection to an engine, for tests that are not async themselves.
#[derive(Debug)]
pub struct Wire {
    runtime: Runtime,
    link: Link,
}

/// What the engine said when it ended a stream.
#[derive(Debug, Default)]
struct Told(Mutex<Option<(Reason, String)>>);

impl Observer for Told {
    fn happened(&self, _: TerminalId, _: Instant, what: &Happening<'_>) {
        if let Happening::Ended(End::Bye { reason, text }) = what {
            let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            told.get_or_insert((*reason, text.clone()));
        }
    }
}

/// A terminal on a [`Wire`], with a durable outbox.
#[derive(Debug)]
pub struct Till<'a> {
    wire: &'a Wire,
    terminal: Terminal,
    told: Arc<Told>,
    dead: PathBuf,
}

impl Wire {
    /// A connection to an engine.
    ///
    /// # Errors
    /// When the identity is of no use.
    pub fn to(engine: &Engine) -> Result<Self> {
        Self::open(&engine.quic.to_string(), &engine.identity)
    }

    /// A connection to whatever answers at an address, now or later.
    ///
    /// # Errors
    /// When the identity is of no use.
    pub fn open(address: &str, identity: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let identity = Identity::read(identity)?;
        let link = {
            let _inside = runtime.enter();
            Link::open(LinkConfig::new(address, identity))?
        };
        Ok(Self { runtime, link })
    }

    /// Puts a terminal on the connection. Its outbox lies in `folder`, its dead letters beside it.
    ///
    /// # Errors
    /// When the outbox does not open.
    pub fn till(&self, store: u32, till: u32, folder: &Path) -> Result<Till<'_>> {
        self.till_with(store, till, folder, |_| {})
    }

    /// As [`till`](Self::till), where the terminal says something of itself.
    ///
    /// # Errors
    /// When the outbox does not open.
    pub fn till_with(
        &self,
        store: u32,
        till: u32,
        folder: &Path,
        says: impl FnOnce(&mut SessionConfig),
    ) -> Result<Till<'_>> {
        let id = TerminalId::new(StoreId::new(store)?, TillId::new(till)?);
        let told = Arc::new(Told::default());
        let mut config = TerminalConfig::new(id);
        says(&mut config.session);
        let observer: Arc<dyn Observer> = Arc::<Told>::clone(&told);
        config.observer = Some(observer);
        if let Some(parent) = folder.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let outbox = DiskOutbox::open(folder, id, DiskConfig::default())?;
        let dead = folder.with_extension("dead");
        let letters = DeadLetterFile::open(&dead)?;
        let _inside = self.runtime.enter();
        let terminal = self
            .link
            .terminal(config, Box::new(outbox), Box::new(letters));
        Ok(Till {
            wire: self,
            terminal,
            told,
            dead,
        })
    }
}

impl Till<'_> {
    /// Puts an event into the outbox.
    ///
    /// # Errors
    /// When the outbox does not take it.
    pub fn send(&self, event: Event<'_>) -> Result<()> {
        self.wire.runtime.block_on(self.terminal.send(event))?;
        Ok(())
    }

    /// Waits until everything that was sent is committed.
    ///
    /// # Errors
    /// When that takes too long; says what the engine said.
    pub fn committed(&self) -> Result<()> {
        let flush = async { tokio::time::timeout(PATIENCE, self.terminal.flush()).await };
        let flushed = self.wire.runtime.block_on(flush);
        flushed.with_context(|| format!("not committed in time; told {:?}", self.told))??;
        Ok(())
    }

    /// Waits until the engine turns the terminal away; gives its reason and words.
    ///
    /// # Errors
    /// When it does not.
    pub fn turned_away(&self) -> Result<(Reason, String)> {
        let mut told = None;
        crate::wait_until("the terminal is turned away", || {
            let last = self.told.0.lock().unwrap_or_else(PoisonError::into_inner);
            told.clone_from(&last);
            Ok(told.is_some())
        })?;
        told.context("nothing was said")
    }

    /// Why events became dead letters, in order.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn dead(&self) -> Result<Vec<Cause>> {
        let letters = DeadLetterFile::open(&self.dead)?.letters()?;
        Ok(letters.into_iter().map(|letter| letter.cause).collect())
    }

    /// Takes the terminal off; what is not committed stays in the outbox.
    ///
    /// # Errors
    /// When the outbox could not be synced.
    pub fn close(self) -> Result<()> {
        self.wire.runtime.block_on(self.terminal.synced())?;
        self.wire.runtime.block_on(self.terminal.close());
        Ok(())
    }
}

/// Copies a folder, as a backup of a device does.
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    ensure!(from.is_dir(), "{} is no folder", from.display());
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
