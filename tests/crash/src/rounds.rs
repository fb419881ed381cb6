//! The parts of a run, and what happens in each round of them.

mod soak;
mod trouble;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use till_tests::UdpProxy;

pub(crate) use self::soak::soak;
use self::trouble::Trouble;
use crate::power::{self, Luck};
use crate::report::Report;
use crate::shim::Fault;
use crate::site::Site;
use crate::world::World;
use crate::{Options, Say};

/// Rounds between two lines for people.
const SAY_EVERY: u64 = 20;

/// A part of a run, in an empty folder.
pub(crate) type Part = fn(&Options, &Path, (&mut Report, &Say<'_>)) -> Result<()>;

/// kill -9 and SIGSTOP at any moment, on an engine with nothing else between it and the machine.
pub(crate) fn kills(options: &Options, folder: &Path, told: (&mut Report, &Say<'_>)) -> Result<()> {
    let site = Site::new(&options.program, folder);
    let mut world = World::open(site, options, told, |site| Ok(site.at()?.0))?;
    let before = world.report.kills;
    let mut round = 0;
    while world.report.kills < before + options.kills {
        world.live_and_die()?;
        world.rise()?;
        round += 1;
        if round % SAY_EVERY == 0 {
            let done = world.report.kills - before;
            progress(&world, &format!("{done} of {} kills", options.kills));
        }
    }
    world.close("kills")?;
    Ok(())
}

/// Losses of power, some of them after an engine or two have gone on upon what was never synced.
pub(crate) fn power(options: &Options, folder: &Path, told: (&mut Report, &Say<'_>)) -> Result<()> {
    let mut site = Site::new(&options.program, folder);
    site.put_shim(options.seed)?;
    births(&site, options, told.0)?;
    let options = Options {
        rude: 0.0,
        ..options.clone()
    };
    let mut world = World::open(site, &options, told, |site| Ok(site.at()?.0))?;
    let data = world.site.data();
    let mapped = world.engine()?.mapped(&data)?;
    ensure!(mapped.is_empty(), "the shim can't see into {mapped:?}");
    for round in 1..=options.power_losses {
        if options.lies
            && let Some(shim) = &world.site.shim
        {
            shim.fail(Fault::Lie, 1_000)?;
        }
        while world.chance.random_range(0..4) == 0 {
            world.live_and_die()?;
            world.rise()?;
        }
        world.live_and_die()?;
        world.lose_power()?;
        world.rise()?;
        if round % SAY_EVERY == 0 {
            let all = options.power_losses;
            progress(&world, &format!("{round} of {all} losses of power"));
        }
    }
    let counted = world.site.shim.as_ref().map(|shim| shim.counted());
    if let Some(counted) = counted.transpose()? {
        world.report.add("write seen", counted.writes);
        world.report.add("sync seen", counted.syncs);
        world.report.add("sync that lied", counted.lie);
    }
    world.close("power")?;
    Ok(())
}

/// Losses of power while an engine makes its folder: whatever is left of keys and files, the next start comes up.
fn births(site: &Site, options: &Options, report: &mut Report) -> Result<()> {
    let mut chance = SmallRng::seed_from_u64(!options.seed);
    let shim = site.shim.as_ref().context("no shim")?;
    for _ in 0..options.power_losses.div_ceil(10) {
        let data = site.data();
        std::fs::remove_dir_all(&data)?;
        std::fs::create_dir(&data)?;
        power::forget(shim)?;
        for _ in 0..3 {
            let engine = site.start()?;
            std::thread::sleep(Duration::from_millis(chance.random_range(1..250)));
            engine.kill()?;
            power::fail(shim, Luck::draw(&mut chance), &mut chance)?;
            report.count("loss of power at a first start");
        }
        let mut engine = site.start()?;
        let came_up = engine.wait();
        came_up.with_context(|| format!("a first start failed:\n{}", site.last_words()))?;
        engine.kill()?;
    }
    Ok(())
}

/// The names of the troubles other than kills and losses of power.
pub fn troubles() -> impl Iterator<Item = &'static str> {
    Trouble::ALL.into_iter().map(Trouble::name)
}

/// Every other trouble: of the disk, the clock and the network.
pub(crate) fn faults(
    options: &Options,
    folder: &Path,
    told: (&mut Report, &Say<'_>),
) -> Result<()> {
    let mut site = Site::new(&options.program, folder);
    site.put_shim(options.seed)?;
    let options = Options {
        rude: 0.0,
        ..options.clone()
    };
    let mut proxy = None;
    let mut world = World::open(site, &options, told, |site| {
        let way = UdpProxy::start(site.at()?.0, options.seed)?;
        Ok(proxy.insert(way).addr())
    })?;
    for round in 1..=options.faults {
        for trouble in Trouble::ALL {
            let is_asked = options
                .only
                .as_deref()
                .is_none_or(|only| only == trouble.name());
            if let Some(proxy) = proxy.as_ref().filter(|_| is_asked) {
                trouble.happen(&mut world, proxy)?;
            }
        }
        progress(
            &world,
            &format!("{round} of {} rounds of troubles", options.faults),
        );
    }
    if let (Some(shim), Some(proxy)) = (&world.site.shim, &proxy) {
        let (disk, line) = (shim.counted()?, proxy.tally());
        let report = &mut *world.report;
        report.add("call without room (ENOSPC)", disk.no_room);
        report.add("write failed (EIO)", disk.write);
        report.add("read failed (EIO)", disk.read);
        report.add("sync failed (EIO)", disk.sync);
        report.add("sync slowed", disk.slow);
        report.add("datagram lost", line.lost);
        report.add("datagram doubled", line.doubled);
        report.add("datagram late", line.late);
        report.add("datagram vanished", line.vanished);
        report.add("address of a device changed", line.rebound);
    }
    world.close("faults")?;
    Ok(())
}

fn progress(world: &World<'_>, what: &str) {
    let report = &world.report;
    (world.say)(&format!(
        "{what}; {} events acknowledged in this part, an engine is back after {} ms (at most {} ms)",
        world.load.acked(),
        report.recovery_ms.p50,
        report.recovery_ms.max
    ));
}
