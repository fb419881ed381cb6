//! A share of what `cargo crash` runs by the hundred.

use anyhow::{Result, ensure};
use till_crash::{Options, Report, run};

/// Runs some rounds, and fails where the command would.
fn clean(change: impl FnOnce(&mut Options)) -> Result<Report> {
    let mut options = Options::new(till_tests::command("tillstream")?, 7);
    options.rate = 800;
    change(&mut options);
    let report = run(&options, &|_| {})?;
    ensure!(report.is_clean(), "{report}");
    ensure!(report.acked > 500, "hardly any load");
    Ok(report)
}

#[test]
fn ten_kills_lose_nothing_and_double_nothing() -> Result<()> {
    let report = clean(|options| options.kills = 10)?;
    ensure!(report.kills >= 10 && report.recovery_ms.max > 0);
    Ok(())
}

#[test]
fn five_losses_of_power_lose_nothing_that_was_acknowledged() -> Result<()> {
    let report = clean(|options| options.power_losses = 5)?;
    ensure!(report.power_losses == 5);
    let lost = report.faults.get("sector lost").copied().unwrap_or(0);
    ensure!(lost > 0, "nothing was ever unsynced: {:?}", report.faults);
    Ok(())
}

#[test]
fn one_round_of_every_other_trouble() -> Result<()> {
    let report = clean(|options| options.faults = 1)?;
    for what in [
        "call without room (ENOSPC)",
        "write failed (EIO)",
        "read failed (EIO)",
        "sync failed (EIO)",
        "sync slowed",
        "datagram lost",
        "datagram doubled",
        "datagram late",
        "address of a device changed",
    ] {
        ensure!(
            report.faults.contains_key(what),
            "no {what}: {:?}",
            report.faults
        );
    }
    Ok(())
}

/// The check that the check can fail.
#[test]
fn a_disk_that_lies_about_syncs_is_caught() -> Result<()> {
    let mut options = Options::new(till_tests::command("tillstream")?, 7);
    options.rate = 800;
    options.lies = true;
    options.power_losses = 1;
    let report = run(&options, &|line| println!("{line}"))?;
    println!("{report}");
    ensure!(report.lost > 0 && !report.is_clean(), "nobody noticed");
    Ok(())
}
