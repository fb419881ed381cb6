//! An engine, its load, and the steps that all rounds are made of.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;

use crate::load::{Load, Wanted};
use crate::power::{self, Luck};
use crate::report::Report;
use crate::site::{Engine, PATIENCE, Site};
use crate::{Options, Say};

/// Longest wait for devices to come back to an engine before it is killed all the same.
const FLOW_MAX: Duration = Duration::from_millis(1_200);
const LOOK: Duration = Duration::from_millis(10);

/// An engine that is up, and its load.
pub(crate) struct World<'a> {
    pub(crate) site: Site,
    pub(crate) chance: SmallRng,
    pub(crate) report: &'a mut Report,
    pub(crate) say: &'a Say<'a>,
    pub(crate) load: Load,
    /// What a loss of power takes; chance says so when `None`.
    pub(crate) luck: Option<Luck>,
    /// The engine, between two rounds. It accepts.
    engine: Option<Engine>,
    /// When the engine last came up, in ms after its start.
    recovery_ms: u64,
}

impl<'a> World<'a> {
    /// Starts an engine on an empty folder, and a fleet.
    pub(crate) fn open(
        mut site: Site,
        options: &Options,
        (report, say): (&'a mut Report, &'a Say<'a>),
        way: impl FnOnce(&Site) -> Result<std::net::SocketAddr>,
    ) -> Result<Self> {
        let (engine, took) = site.start_up()?;
        let quic = way(&site)?;
        let (_, admin) = site.at()?;
        // A copy, which no loss of power takes.
        let identity = site.beside("device.pem");
        fs::copy(site.data().join("pki/device.pem"), &identity).context("the identity")?;
        let load = Load::start(&Wanted {
            quic,
            admin,
            identity,
            outbox: site.beside("outbox"),
            rate: options.rate,
            rude: options.rude,
            seed: options.seed,
        });
        let mut world = Self {
            chance: SmallRng::seed_from_u64(options.seed),
            site,
            report,
            say,
            load,
            luck: options.lies.then_some(Luck::Everything),
            engine: Some(engine),
            recovery_ms: u64::try_from(took.as_millis())?,
        };
        world.flows("the fleet's first events")?;
        Ok(world)
    }

    /// The engine that is up.
    pub(crate) fn engine(&mut self) -> Result<&mut Engine> {
        self.engine.as_mut().context("no engine is up")
    }

    /// Waits for a moment of chance.
    pub(crate) fn idle(&mut self, ms: std::ops::Range<u64>) {
        let ms = self.chance.random_range(ms);
        thread::sleep(Duration::from_millis(ms));
    }

    /// Kills the engine that is up.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut engine = self.engine.take().context("no engine is up")?;
        if let Some(status) = engine.ended()? {
            bail!(
                "the engine ended by itself with {status}; its last words:\n{}",
                self.site.last_words()
            );
        }
        engine.kill()?;
        self.report.kills += 1;
        Ok(())
    }

    /// Starts an engine, and kills some before they are up.
    pub(crate) fn rise(&mut self) -> Result<()> {
        while self.chance.random_range(0..6) == 0 {
            let engine = self.site.start()?;
            let longest = self.recovery_ms * 5 / 4 + 20;
            self.idle(1..longest);
            engine.kill()?;
            self.report.kills += 1;
            self.report.count("kill while starting");
        }
        self.up()
    }

    /// Starts an engine and waits until it accepts.
    pub(crate) fn up(&mut self) -> Result<()> {
        ensure!(
            !self.load.has_ended(),
            "the fleet ended before it was told to"
        );
        let (engine, took) = self.site.start_up()?;
        self.report.recovered(took);
        self.recovery_ms = u64::try_from(took.as_millis())?;
        self.engine = Some(engine);
        Ok(())
    }

    /// Lets the engine live for a moment of chance, mostly with devices at work, and kills it at work, frozen or draining.
    pub(crate) fn live_and_die(&mut self) -> Result<()> {
        if self.chance.random_range(0..5) > 0 {
            let until = Instant::now() + FLOW_MAX;
            while self.site.acked().unwrap_or(0) == 0 && Instant::now() < until {
                thread::sleep(LOOK);
            }
        }
        self.idle(0..500);
        match self.chance.random_range(0..10) {
            0 => self.freeze(true)?,
            1 => {
                self.freeze(false)?;
                self.report.count("kill while stopped (SIGSTOP)");
                return self.kill();
            }
            2 | 3 => {
                self.engine()?.signal(Signal::TERM)?;
                self.idle(0..80);
                // It may have been quick enough to end in good order.
                if self.engine()?.ended()?.is_some() {
                    self.engine = None;
                    self.report.count("orderly stop");
                    return Ok(());
                }
                self.report.count("kill while draining");
                return self.kill();
            }
            _ => {}
        }
        self.report.count("kill at work");
        self.kill()
    }

    /// Stops the engine where it is for a moment, and lets it go on.
    pub(crate) fn freeze(&mut self, thaws: bool) -> Result<()> {
        self.engine()?.signal(Signal::STOP)?;
        self.idle(20..900);
        if thaws {
            self.report.count("stop and go (SIGSTOP, SIGCONT)");
            self.engine()?.signal(Signal::CONT)?;
            self.idle(0..200);
        }
        Ok(())
    }

    /// Fails the power of a folder whose engine is dead.
    pub(crate) fn lose_power(&mut self) -> Result<()> {
        let shim = self.site.shim.as_ref().context("no shim")?;
        let luck = self.luck.unwrap_or_else(|| Luck::draw(&mut self.chance));
        let lost = power::fail(shim, luck, &mut self.chance)?;
        self.report.power_losses += 1;
        self.report.add("sector lost", lost.sectors);
        self.report.add("sector kept unsynced", lost.sectors_kept);
        self.report.add("name lost", lost.names);
        self.report.add("name kept unsynced", lost.names_kept);
        self.report.add("length lost", lost.lengths);
        Ok(())
    }

    /// Waits until the engine that is up acknowledges more.
    pub(crate) fn flows(&mut self, what: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let mut before = None;
        while Instant::now() < until {
            let acked = self.site.acked();
            match (before, acked) {
                (Some(before), Some(acked)) if acked > before => return Ok(()),
                (None, _) => before = acked,
                _ => {}
            }
            if let Some(status) = self.engine()?.ended()? {
                bail!(
                    "{what}: the engine ended with {status}; its last words:\n{}",
                    self.site.last_words()
                );
            }
            thread::sleep(LOOK);
        }
        bail!(
            "{what}: nothing was acknowledged within {PATIENCE:?}; the engine's last words:\n{}",
            self.site.last_words()
        )
    }

    /// Forgets the engine, which has ended by itself as it should.
    pub(crate) fn bury(&mut self) {
        self.engine = None;
    }

    /// Ends the trade; the oracle compares, and the engine drains. Gives the folder back.
    pub(crate) fn close(mut self, part: &str) -> Result<Site> {
        if self.engine.is_none() {
            self.up()?;
        }
        let fleet = self.load.finish().with_context(|| {
            let words = self.site.last_words();
            format!("the end of {part}; the engine's last words:\n{words}")
        })?;
        self.report.judged(part, &fleet);
        let engine = self.engine.take().context("no engine is up")?;
        engine.drain()?;
        Ok(self.site)
    }
}
