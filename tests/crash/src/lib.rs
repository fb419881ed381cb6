//! Real engines that are killed, frozen, lose their power and meet every trouble, while the load generator's fleet sends to
//! them; its oracle judges whether everything that was acknowledged is there exactly once.
//!
//! Each part of a run has an engine, a folder and a fleet of its own. What happens when comes from the seed; what the
//! machine makes of it does not, so that a seed replays the choices and not each byte.

mod load;
pub mod power;
mod report;
mod rounds;
pub mod shim;
pub mod site;
mod world;

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};

pub use load::{Load, Wanted};
pub use report::{Recovery, Report};
pub use rounds::troubles;

/// Where lines for people go.
pub type Say<'a> = dyn Fn(&str) + 'a;

/// What is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The engine: `tillstream`.
    pub program: PathBuf,
    /// Engines that are killed at least, those that lose their power left out.
    pub kills: u64,
    /// Losses of power.
    pub power_losses: u64,
    /// Rounds of each other trouble.
    pub faults: u64,
    /// The one trouble that rounds consist of, by one of the names of [`troubles`]; all when `None`.
    pub only: Option<String>,
    /// Events per second.
    pub rate: u64,
    /// Share of rude devices in the part with kills.
    pub rude: f64,
    /// Whether syncs do nothing and say that they did, and each loss of power takes all that was not synced: then the oracle
    /// has to find what is missing.
    pub lies: bool,
    /// What every choice comes from.
    pub seed: u64,
}

impl Options {
    /// Nothing yet, for engines of this program.
    pub const fn new(program: PathBuf, seed: u64) -> Self {
        Self {
            program,
            kills: 0,
            power_losses: 0,
            faults: 0,
            only: None,
            rate: 1_000,
            rude: 0.0,
            lies: false,
            seed,
        }
    }
}

/// Runs every part that has rounds.
///
/// # Errors
/// When an engine does not come up or ends without a reason, or does not go on after a trouble. The folder is kept then, and
/// named; so it is when something is lost, doubled or different.
pub fn run(options: &Options, say: &Say<'_>) -> Result<Report> {
    let begun = Instant::now();
    let mut report = Report::new(options.seed);
    let parts: [(&str, u64, rounds::Part); 3] = [
        ("kills", options.kills, rounds::kills),
        ("power", options.power_losses, rounds::power),
        ("faults", options.faults, rounds::faults),
    ];
    for (name, _, part) in parts.into_iter().filter(|(_, rounds, _)| *rounds > 0) {
        let folder = tempfile::Builder::new().prefix("till-crash-").tempdir()?;
        if let Err(error) = part(options, folder.path(), (&mut report, say)) {
            let kept = folder.keep();
            let seed = options.seed;
            return Err(error).with_context(|| {
                format!(
                    "{name}, seed {seed}; the folder is kept: {}",
                    kept.display()
                )
            });
        }
        if !report.is_clean() && !options.lies {
            report.kept = Some(folder.keep());
            break;
        }
    }
    report.elapsed_s = begun.elapsed().as_secs_f64();
    Ok(report)
}

/// Runs everything, mixed, on one folder, until something is wrong. A line a minute tells how large everything is.
///
/// # Errors
/// When something is lost, doubled or different, and whatever ends [`run`].
pub fn soak(options: &Options, say: &Say<'_>) -> Result<Infallible> {
    let folder = tempfile::Builder::new().prefix("till-soak-").tempdir()?;
    let mut report = Report::new(options.seed);
    let ended = rounds::soak(options, folder.path(), (&mut report, say));
    let kept = folder.keep();
    ended.with_context(|| format!("the folder is kept: {}", kept.display()))
}
