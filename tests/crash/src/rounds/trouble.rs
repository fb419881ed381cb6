//! Troubles other than kills and losses of power, and what an engine owes in each.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::RngExt as _;
use till_tests::{LineFaults, UdpProxy, wait_until};

use crate::shim::{Fault, Shim};
use crate::site::PATIENCE;
use crate::world::World;

const HOUR_US: i64 = 3_600_000_000;
/// Time in which an engine may go on after a failed call before its readiness is asked why it does not.
const SHOW_MAX: Duration = Duration::from_secs(5);

/// A trouble.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trouble {
    /// The disk is full for a while: intake stops, and goes on by itself.
    NoRoom,
    /// Writes fail: what was not written is not acknowledged.
    Write,
    /// Reads fail while the engine works.
    Read,
    /// Reads fail while it starts: nothing may be taken for missing.
    ReadAtStart,
    /// A sync fails: the process ends without an ack, and what was not synced may be gone.
    Sync,
    /// Syncs take long.
    Slow,
    /// The clock leaps, while the engine works and between two starts.
    Clock,
    /// Datagrams are lost, doubled and late.
    Line,
    /// Nothing passes for some seconds.
    Blackhole,
    /// Devices come from other addresses.
    Rebind,
    /// Rows, or one of their files, are gone: a start makes them again.
    Rows,
}

impl Trouble {
    pub(super) const ALL: [Self; 11] = [
        Self::NoRoom,
        Self::Write,
        Self::Read,
        Self::ReadAtStart,
        Self::Sync,
        Self::Slow,
        Self::Clock,
        Self::Line,
        Self::Blackhole,
        Self::Rebind,
        Self::Rows,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::NoRoom => "disk full",
            Self::Write => "writes fail",
            Self::Read => "reads fail",
            Self::ReadAtStart => "reads fail at a start",
            Self::Sync => "a sync fails",
            Self::Slow => "syncs are slow",
            Self::Clock => "the clock leaps",
            Self::Line => "a bad line",
            Self::Blackhole => "no line",
            Self::Rebind => "other addresses",
            Self::Rows => "rows are gone",
        }
    }

    /// Lets it happen to an engine that is up. Afterwards one is up, and takes events.
    pub(super) fn happen(self, world: &mut World<'_>, proxy: &UdpProxy) -> Result<()> {
        world.report.count(self.name());
        let happened = match self {
            Self::NoRoom => no_room(world),
            Self::Write => fails(world, Fault::Write),
            Self::Read => fails(world, Fault::Read),
            Self::ReadAtStart => read_at_start(world),
            Self::Sync => sync(world),
            Self::Slow => slow(world),
            Self::Clock => clock(world),
            Self::Line => line(world, proxy),
            Self::Blackhole => blackhole(world, proxy),
            Self::Rebind => rebind(world, proxy),
            Self::Rows => rows(world),
        };
        happened.with_context(|| format!("in the trouble: {}", self.name()))?;
        world.flows(self.name())
    }
}

fn shim<'a>(world: &'a World<'_>) -> Result<&'a Shim> {
    world.site.shim.as_ref().context("no shim")
}

/// Ends the engine by force, half of the time with its power.
fn end(world: &mut World<'_>) -> Result<()> {
    world.kill()?;
    if world.chance.random_range(0..2) == 0 {
        world.lose_power()?;
    }
    world.up()
}

fn no_room(world: &mut World<'_>) -> Result<()> {
    let met = |world: &World<'_>| -> Result<u64> { Ok(shim(world)?.counted()?.no_room) };
    let before = met(world)?;
    shim(world)?.fail(Fault::NoRoom, 1_000)?;
    world.idle(300..2_000);
    wait_until("a call without room", || Ok(met(world)? > before))?;
    if world.chance.random_range(0..3) == 0 {
        // Killed while there is none.
        world.kill()?;
        shim(world)?.heal()?;
        return world.up();
    }
    shim(world)?.heal()?;
    world.flows("there is room again")?;
    end(world)
}

/// Some calls fail. The engine goes on, or ends over it, or stands still and its readiness names a reason.
fn fails(world: &mut World<'_>, fault: Fault) -> Result<()> {
    let permille = world.chance.random_range(20..1_000);
    let met = |world: &World<'_>| -> Result<u64> {
        let counted = shim(world)?.counted()?;
        Ok(counted.write + counted.read)
    };
    let before = met(world)?;
    shim(world)?.fail(fault, permille)?;
    world.idle(100..1_500);
    if fault == Fault::Write {
        // Whether anything is read is the engine's choice; it surely writes.
        wait_until("a write that fails", || Ok(met(world)? > before))?;
    }
    shim(world)?.heal()?;
    let begun = Instant::now();
    let mut before = world.site.acked();
    loop {
        if world.engine()?.ended()?.is_some() {
            world.report.count("engine ended over a failed call");
            world.bury();
            if world.chance.random_range(0..2) == 0 {
                world.lose_power()?;
            }
            return world.up();
        }
        let acked = world.site.acked();
        if before.is_some() && acked > before {
            break;
        }
        before = before.or(acked);
        // A reason that lasts is the engine's last word on it; devices may take their time to come back.
        let waited = begun.elapsed();
        if waited > SHOW_MAX
            && let Some(reason) = world.site.unready()
        {
            world.report.count("engine stood still and said why");
            (world.say)(&format!("after a failed call: {reason}"));
            break;
        }
        ensure!(
            waited < PATIENCE,
            "the engine stands still after a failed call and does not say why; its last words:\n{}",
            world.site.last_words()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    end(world)
}

/// A start that cannot read its disk fails or tries again; the next one has everything.
fn read_at_start(world: &mut World<'_>) -> Result<()> {
    world.kill()?;
    let permille = world.chance.random_range(300..1_001);
    shim(world)?.fail(Fault::Read, permille)?;
    let mut engine = world.site.start()?;
    if engine.wait_end(Duration::from_secs(2))?.is_some() {
        world.report.count("start refused over a failed read");
    }
    drop(engine);
    shim(world)?.heal()?;
    world.up()
}

fn sync(world: &mut World<'_>) -> Result<()> {
    let permille = world.chance.random_range(100..1_001);
    shim(world)?.fail(Fault::Sync, permille)?;
    let ended = world.engine()?.wait_end(PATIENCE)?;
    shim(world)?.heal()?;
    let Some(status) = ended else {
        bail!("the engine lives on after failed syncs");
    };
    ensure!(!status.success(), "the engine ended well over failed syncs");
    world.bury();
    // What a failed sync left behind is anything but safe.
    world.lose_power()?;
    world.up()
}

fn slow(world: &mut World<'_>) -> Result<()> {
    let ms = world.chance.random_range(20..400);
    shim(world)?.slow(Duration::from_millis(ms))?;
    world.flows("slow syncs")?;
    world.idle(200..1_500);
    world.kill()?;
    world.lose_power()?;
    shim(world)?.heal()?;
    world.up()
}

fn clock(world: &mut World<'_>) -> Result<()> {
    for _ in 0..2 {
        let off_us = world.chance.random_range(-12 * HOUR_US..12 * HOUR_US);
        shim(world)?.set_clock(off_us)?;
        world.flows("after a leap of the clock")?;
        world.idle(50..500);
        let off_us = world.chance.random_range(-12 * HOUR_US..12 * HOUR_US);
        world.kill()?;
        shim(world)?.set_clock(off_us)?;
        world.up()?;
        world.flows("after a start with another clock")?;
    }
    shim(world)?.set_clock(0)
}

fn line(world: &mut World<'_>, proxy: &UdpProxy) -> Result<()> {
    let chance = &mut world.chance;
    proxy.set(LineFaults {
        lost: chance.random_range(10..200),
        doubled: chance.random_range(10..200),
        late: chance.random_range(10..400),
        late_max: Duration::from_millis(chance.random_range(1..120)),
    });
    let before = proxy.tally();
    world.flows("on a bad line")?;
    world.idle(200..2_000);
    wait_until("datagrams that meet everything", || {
        let now = proxy.tally();
        Ok(now.lost > before.lost && now.doubled > before.doubled && now.late > before.late)
    })?;
    end(world)?;
    world.flows("an engine that is back on a bad line")?;
    world.idle(200..1_000);
    proxy.set(LineFaults::default());
    Ok(())
}

fn blackhole(world: &mut World<'_>, proxy: &UdpProxy) -> Result<()> {
    proxy.block(true);
    world.idle(200..4_000);
    if world.chance.random_range(0..2) == 0 {
        end(world)?;
    }
    proxy.block(false);
    world.flows("behind a blackhole")
}

/// Nothing but the journal and the keys may be needed.
fn rows(world: &mut World<'_>) -> Result<()> {
    world.kill()?;
    let folder = world.site.data().join("rows");
    let mut files = Vec::new();
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let entry = entry?;
            let is_folder = entry.file_type()?.is_dir();
            if is_folder { &mut folders } else { &mut files }.push(entry.path());
        }
    }
    files.sort();
    match world.chance.random_range(0..=files.len()) {
        number if number < files.len() => {
            if let Some(file) = files.get(number) {
                (world.say)(&format!("{} is removed", file.display()));
                fs::remove_file(file)?;
            }
        }
        _ => {
            (world.say)("all rows are removed");
            fs::remove_dir_all(folder)?;
        }
    }
    world.up()
}

fn rebind(world: &mut World<'_>, proxy: &UdpProxy) -> Result<()> {
    for _ in 0..5 {
        proxy.rebind();
        world.idle(20..400);
        world.flows("from another address")?;
    }
    Ok(())
}
