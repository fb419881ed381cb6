//! Everything at once and without an end, on one folder.

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rand::RngExt as _;
use till_loadgen::engine::usage;
use till_tests::UdpProxy;

use super::trouble::Trouble;
use crate::report::Report;
use crate::site::Site;
use crate::world::World;
use crate::{Options, Say};

/// How long a fleet trades until the oracle looks.
const FLEET_FOR: Duration = Duration::from_secs(15 * 60);
/// Between two lines for people.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Mixes everything on one folder until something is wrong.
pub(crate) fn soak(
    options: &Options,
    folder: &Path,
    (report, say): (&mut Report, &Say<'_>),
) -> Result<Infallible> {
    let begun = Instant::now();
    let mut site = Site::new(&options.program, folder);
    site.put_shim(options.seed)?;
    let mut proxy = None;
    for fleet in 0_u64.. {
        let options = Options {
            rude: 0.0,
            seed: options.seed.wrapping_add(fleet),
            ..options.clone()
        };
        let mut world = World::open(site, &options, (&mut *report, say), |site| {
            if proxy.is_none() {
                proxy = Some(UdpProxy::start(site.at()?.0, options.seed)?);
            }
            Ok(proxy.as_ref().map_or(site.at()?.0, UdpProxy::addr))
        })?;
        let since = Instant::now();
        let mut said = Instant::now();
        while since.elapsed() < FLEET_FOR {
            if let Some(proxy) = &proxy {
                round(&mut world, proxy)?;
            }
            if said.elapsed() > SAY_EVERY {
                said = Instant::now();
                tell(&mut world, begun)?;
            }
        }
        site = world.close("soak")?;
        report.elapsed_s = begun.elapsed().as_secs_f64();
        say(&report.to_string());
        ensure!(report.is_clean(), "the engine differs from what was sent");
    }
    bail!("as many fleets as there are numbers")
}

fn round(world: &mut World<'_>, proxy: &UdpProxy) -> Result<()> {
    match world.chance.random_range(0..10) {
        // Peace, in which nothing should grow.
        0..3 => world.idle(5_000..40_000),
        3..6 => {
            world.live_and_die()?;
            world.rise()?;
        }
        6..8 => {
            world.live_and_die()?;
            world.lose_power()?;
            world.rise()?;
        }
        _ => {
            let one = world.chance.random_range(0..Trouble::ALL.len());
            if let Some(trouble) = Trouble::ALL.get(one) {
                trouble.happen(world, proxy)?;
            }
        }
    }
    Ok(())
}

/// A line that tells how large everything is.
fn tell(world: &mut World<'_>, begun: Instant) -> Result<()> {
    let pid = world.engine()?.pid();
    let (engine, own) = (usage(pid)?, usage(std::process::id())?);
    let files = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let (data, outbox) = (world.site.data(), world.site.beside("outbox"));
    let line = format!(
        "{:>6.0} s  {:>9} acknowledged by this fleet  {} kills  {} losses of power  engine {:.0} MiB, {files} files  \
         data {} MiB  outboxes {} MiB  fleet {:.0} MiB",
        begun.elapsed().as_secs_f64(),
        world.load.acked(),
        world.report.kills,
        world.report.power_losses,
        engine.rss_now_mb,
        disk_mb(&data)?,
        disk_mb(&outbox)?,
        own.rss_now_mb,
    );
    (world.say)(&line);
    Ok(())
}

/// MiB that a folder takes on its disk.
fn disk_mb(folder: &Path) -> Result<u64> {
    let mut blocks = 0;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        // Files come and go meanwhile.
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(state) if state.is_dir() => folders.push(entry.path()),
                Ok(state) => blocks += state.blocks(),
                Err(_) => {}
            }
        }
    }
    Ok(blocks / 2_048)
}
