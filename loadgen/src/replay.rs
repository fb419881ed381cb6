//! A file of transaction lines becomes sales, as the tills would have sent them.
//!
//! Each receipt is one event with a lasting name, so that a file can be sent again, extended or in another order, and only
//! what is new has an effect. A receipt is sent whole or not at all. Memory is bounded by the receipts' 16-byte names, one
//! entry per SKU and terminal, and fixed budgets for what is under way.

mod csv;
mod frame;
mod quiesce;
mod receipt;
mod report;
mod row;
mod send;

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use till_protocol::card::mask_text;
use till_protocol::currency::Currency;

pub use self::csv::{Next, ROW_BYTES_MAX, Row, Rows};
pub use self::frame::Builder;
pub use self::receipt::{Grouper, Outcome, Receipt, event_id};
pub use self::report::ReplayReport;
pub use self::row::{COLUMNS, Columns, Key, Line, rfc3339};
use crate::admin::Admin;
use crate::bench::running;
use crate::engine::{Engine, EngineOptions, EngineStarter};
use crate::oracle::Baseline;

/// Where a file is sent.
#[derive(Clone, Debug)]
pub enum Target {
    /// An engine that runs.
    Running {
        /// Its QUIC address.
        addr: SocketAddr,
        /// QUIC addresses of further engines that share its stores.
        others: Vec<SocketAddr>,
        /// The identity file that is authorised for every terminal.
        identity: PathBuf,
        /// Its admin port, or several with commas between; found beside the identity when `None`.
        admin: Option<String>,
    },
    /// An engine of its own on a data folder, stopped at the end.
    Spawn {
        /// The folder.
        data: PathBuf,
        /// Further arguments of `serve`.
        serve: Vec<String>,
    },
}

impl Target {
    /// Further engines behind the first.
    pub(crate) fn others(&self) -> &[SocketAddr] {
        match self {
            Self::Running { others, .. } => others,
            Self::Spawn { .. } => &[],
        }
    }
}

/// What is replayed, and how.
#[derive(Clone, Debug)]
pub struct ReplayConfig {
    /// The file; `-` is standard input.
    pub file: PathBuf,
    /// Where it goes.
    pub target: Target,
    /// Currency of the amounts.
    pub currency: Currency,
    /// IANA name of the stores' time zone.
    pub zone: String,
    /// Check everything before anything is sent, and send nothing if a row is bad.
    pub strict: bool,
    /// Show a progress bar.
    pub progress: bool,
}

/// Counts of a file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Rows behind the header.
    pub rows_read: u64,
    /// Rows that are left out.
    pub rows_skipped: u64,
    /// Receipts that are whole and good.
    pub receipts: u64,
    /// Sum of their amounts in minor units.
    pub net_minor: i128,
}

/// Replays a file. `on_skip` is told of rows that are left out: line and reason.
///
/// # Errors
/// Fails when the file cannot be read, its header is wrong, a row is bad in a strict run, or the engine cannot be used.
pub fn run(
    config: &ReplayConfig,
    starter: &dyn EngineStarter,
    on_skip: &mut dyn FnMut(u64, &str),
) -> Result<ReplayReport> {
    if config.strict {
        check(config, on_skip)?;
    }
    // The header is looked at before an engine is started for nothing; standard input has it once.
    let reader = Reader::open(config)?;
    let started = Instant::now();
    let mut own = None;
    let ready = match &config.target {
        Target::Running {
            addr,
            identity,
            admin,
            ..
        } => running(*addr, identity, admin.as_deref())?,
        Target::Spawn { data, serve } => {
            let options = EngineOptions {
                data: data.clone(),
                extra: serve.clone(),
                ..EngineOptions::default()
            };
            let engine = Engine::start(starter, &options)?;
            let mut ready = engine.ready().clone();
            if ready.identity.as_os_str().is_empty() {
                ready.identity = data.join("pki/device.pem");
            }
            own = Some((engine, options));
            ready
        }
    };
    let admin = Admin::new(&ready.admin);
    let baseline = Baseline::read(&admin, &[], false)?;
    let mut keeper = send::Keeper::new(own, &ready, starter);
    let sent = send::send(config, reader, &ready, &mut keeper, on_skip);
    let report = sent.and_then(|sent| quiesce::quiesce(&admin, &baseline, &sent, started));
    keeper.stop()?;
    report
}

/// Reads the whole file and fails if a row is bad.
fn check(config: &ReplayConfig, on_skip: &mut dyn FnMut(u64, &str)) -> Result<()> {
    if config.file == Path::new("-") {
        bail!("--strict reads the file twice, which standard input does not allow; give a file");
    }
    let mut reader = Reader::open(config)?;
    while reader.step(on_skip)?.is_some() {}
    let skipped = reader.counts.rows_skipped;
    if skipped > 0 {
        bail!("{skipped} rows are bad or belong to receipts with bad rows; nothing was sent");
    }
    Ok(())
}

/// The receipts of a file.
pub struct Reader {
    rows: Rows<Box<dyn Read>>,
    row: Row,
    columns: Columns,
    grouper: Grouper,
    out: Vec<Outcome>,
    ended: bool,
    /// What has come so far.
    pub counts: Counts,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Reader {
    fn open(config: &ReplayConfig) -> Result<Self> {
        let name = config.file.display();
        let source: Box<dyn Read> = if config.file == Path::new("-") {
            if io::stdin().is_terminal() {
                bail!("standard input is a terminal; pipe a file into it or give --file F.csv");
            }
            Box::new(io::stdin())
        } else {
            Box::new(File::open(&config.file).with_context(|| format!("could not open {name}"))?)
        };
        Self::new(source, config.currency.exponent()).with_context(|| format!("{name}"))
    }

    /// The receipts of a source; `decimals` are those of its currency.
    ///
    /// # Errors
    /// Fails when the source cannot be read, is empty, or its header lacks a column.
    pub fn new(source: Box<dyn Read>, decimals: u8) -> Result<Self> {
        let mut rows = Rows::new(source)?;
        let mut row = Row::default();
        let next = rows.next(&mut row)?;
        if row.has_bare_return() {
            bail!(
                "its lines end with CR alone, so that all of it is one line; write it with LF or CR LF, for instance by \
                 `tr '\\r' '\\n'`"
            );
        }
        match next {
            Next::Row => {}
            Next::Broken(why) => bail!("line 1, the header: {why}"),
            Next::End => bail!(
                "the file is empty; it needs the header {}",
                COLUMNS.join(",")
            ),
        }
        let columns = Columns::read(&row, decimals)?;
        Ok(Self {
            rows,
            row,
            columns,
            grouper: Grouper::default(),
            out: Vec::new(),
            ended: false,
            counts: Counts::default(),
        })
    }

    /// Columns that are ignored.
    pub(crate) fn ignored(&self) -> &[String] {
        &self.columns.ignored
    }

    /// Takes the next row: the receipts that are complete with it, or `None` behind the last. `on_skip` is told of rows that
    /// are left out: line and reason.
    ///
    /// # Errors
    /// Fails when the source cannot be read.
    pub fn step(&mut self, on_skip: &mut dyn FnMut(u64, &str)) -> Result<Option<Vec<Receipt>>> {
        if self.ended {
            return Ok(None);
        }
        let next = self.rows.next(&mut self.row).context("could not read on")?;
        let line = self.row.line();
        match next {
            Next::End => {
                self.ended = true;
                self.grouper.finish(&mut self.out);
            }
            Next::Broken(why) => {
                self.counts.rows_read += 1;
                let bad = row::Bad {
                    reason: why.to_owned(),
                    partial: self.columns.partial(&self.row, true),
                };
                self.grouper.bad(line, bad, &mut self.out);
            }
            Next::Row => {
                self.counts.rows_read += 1;
                match self.columns.parse(&self.row) {
                    Ok(row) => self.grouper.good(line, row, &mut self.out),
                    Err(bad) => {
                        if self.columns.is_torn(&self.row) {
                            self.rows.only_first_line();
                        }
                        self.grouper.bad(line, bad, &mut self.out);
                    }
                }
            }
        }
        let mut receipts = Vec::new();
        for outcome in self.out.drain(..) {
            match outcome {
                Outcome::Receipt(receipt) => {
                    self.counts.receipts += 1;
                    self.counts.net_minor += receipt.net();
                    receipts.push(receipt);
                }
                Outcome::Skipped { line, rows, reason } => {
                    self.counts.rows_skipped += rows;
                    // Reasons quote the file, and what people read must not hold card numbers.
                    on_skip(line, &mask_text(&reason).unwrap_or(reason));
                }
            }
        }
        Ok(Some(receipts))
    }
}

#[cfg(test)]
mod tests;
