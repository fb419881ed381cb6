//! The shim itself, with small commands as writers: what they do not sync is lost, what they sync is not.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use till_crash::power::{self, Lost, Luck};
use till_crash::shim::{Fault, Shim};

/// A folder below a shim.
struct Bench {
    _folder: tempfile::TempDir,
    data: PathBuf,
    shim: Shim,
    chance: SmallRng,
}

impl Bench {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        let shim = Shim::new(&data, &folder.path().join("shim"), 1)?;
        Ok(Self {
            data,
            shim,
            chance: SmallRng::seed_from_u64(1),
            _folder: folder,
        })
    }

    /// Runs a line of shell in the folder, above the shim.
    fn run(&self, line: &str) -> Result<Output> {
        let mut command = Command::new("sh");
        command.args(["-ec", line]).current_dir(&self.data);
        self.shim.below(&mut command);
        Ok(command.output()?)
    }

    fn does(&self, line: &str) -> Result<String> {
        let output = self.run(line)?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{line}: {words}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn lose(&mut self, luck: Luck) -> Result<Lost> {
        power::fail(&self.shim, luck, &mut self.chance)
    }

    fn file(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.data.join(name)).ok()
    }
}

#[test]
fn what_is_not_synced_is_lost_and_what_is_synced_stays() -> Result<()> {
    let mut bench = Bench::new()?;
    bench.does("printf synced >a; sync a; sync .; printf lost >b; printf nameless >c; sync c")?;
    let lost = bench.lose(Luck::Everything)?;
    assert_eq!(bench.file("a").as_deref(), Some("synced"));
    assert_eq!(bench.file("b"), None, "nobody synced b");
    assert_eq!(bench.file("c"), None, "nobody synced the folder of c");
    assert_eq!(lost.names, 2);

    bench.does(
        "printf SYN >other; sync other; sync .; printf XYZ | dd of=a conv=notrunc status=none",
    )?;
    bench.does("printf more >>other; sync a")?;
    bench.lose(Luck::Everything)?;
    assert_eq!(bench.file("a").as_deref(), Some("XYZced"));
    assert_eq!(
        bench.file("other").as_deref(),
        Some("SYN"),
        "the end was not synced"
    );
    Ok(())
}

#[test]
fn names_come_back_with_what_they_named() -> Result<()> {
    let mut bench = Bench::new()?;
    bench.does("printf one >a; printf two >b; printf three >c; mkdir d; printf in >d/e; sync a b c d/e d .")?;
    bench.does("rm a; mv b c; rm d/e; rmdir d; mkdir new; printf x >new/y; sync new/y new")?;
    bench.lose(Luck::Everything)?;
    assert_eq!(bench.file("a").as_deref(), Some("one"));
    assert_eq!(bench.file("b").as_deref(), Some("two"));
    assert_eq!(
        bench.file("c").as_deref(),
        Some("three"),
        "what was replaced comes back"
    );
    assert_eq!(bench.file("d/e").as_deref(), Some("in"));
    assert_eq!(
        bench.file("new/y"),
        None,
        "its folder's name was not synced"
    );

    bench.does("rm a; mv b c; sync .")?;
    bench.lose(Luck::Everything)?;
    assert_eq!(bench.file("a"), None);
    assert_eq!(bench.file("b"), None);
    assert_eq!(bench.file("c").as_deref(), Some("two"));
    Ok(())
}

#[test]
fn a_record_over_which_a_process_was_killed_hides_none_of_the_next_one() -> Result<()> {
    let mut bench = Bench::new()?;
    bench.does("printf synced >a; sync a; sync .")?;
    let whole = fs::read(bench.shim.log())?;
    for cut in [1, 40, 50] {
        let torn = whole.get(..cut).context("a record is longer")?;
        fs::write(bench.shim.log(), [whole.as_slice(), torn].concat())?;
        bench.does("printf lost >>a")?;
        bench.lose(Luck::Everything)?;
        assert_eq!(bench.file("a").as_deref(), Some("synced"), "cut to {cut}");
        fs::write(bench.shim.log(), &whole)?;
    }
    Ok(())
}

#[test]
fn a_kill_loses_nothing_and_a_cut_file_grows_again() -> Result<()> {
    let mut bench = Bench::new()?;
    bench.does("printf unsynced >a")?;
    bench.lose(Luck::Nothing)?;
    assert_eq!(bench.file("a").as_deref(), Some("unsynced"));
    bench.does("truncate -s 3 a")?;
    bench.lose(Luck::Everything)?;
    assert_eq!(bench.file("a").as_deref(), Some("unsynced"));
    bench.does("printf new >a")?;
    bench.lose(Luck::Everything)?;
    assert_eq!(bench.file("a").as_deref(), Some("unsynced"));
    bench.does("rm a; printf other >a; sync a")?;
    bench.lose(Luck::Everything)?;
    assert_eq!(
        bench.file("a").as_deref(),
        Some("unsynced"),
        "the name was not synced"
    );
    Ok(())
}

#[test]
fn chance_keeps_some_sectors_whole() -> Result<()> {
    let mut bench = Bench::new()?;
    let (old, new) = ("o".repeat(512 * 200), "n".repeat(512 * 200));
    fs::write(bench.data.join("a"), &old)?;
    fs::write(bench.data.with_extension("new"), &new)?;
    bench.does("dd if=../data.new of=a bs=3000 conv=notrunc status=none")?;
    let lost = bench.lose(Luck::Some(50))?;
    let found = bench.file("a").context("no file")?;
    let sectors: Vec<&[u8]> = found.as_bytes().chunks(512).collect();
    let is_old = |sector: &&&[u8]| **sector == &old.as_bytes()[..512];
    let is_new = |sector: &&&[u8]| **sector == &new.as_bytes()[..512];
    let (olds, news) = (
        sectors.iter().filter(is_old).count(),
        sectors.iter().filter(is_new).count(),
    );
    assert_eq!(olds + news, 200, "a sector is whole");
    assert!(olds > 50 && news > 50, "{olds} old, {news} new");
    assert_eq!(lost.sectors, u64::try_from(olds)?);
    Ok(())
}

#[test]
fn calls_fail_as_they_are_told_to_and_only_in_the_folder() -> Result<()> {
    let bench = Bench::new()?;
    bench.does("printf whole >a; sync a .")?;
    let outside = bench.data.with_extension("outside");
    for (fault, line) in [
        (Fault::NoRoom, "printf x >>a"),
        (Fault::NoRoom, ": >new"),
        (Fault::Write, "printf x >>a"),
        (Fault::Read, "cat a"),
        (Fault::Sync, "sync a"),
    ] {
        bench.shim.fail(fault, 1_000)?;
        ensure!(
            !bench.run(line)?.status.success(),
            "{fault:?}: {line} went well"
        );
        let path = outside.display();
        bench.does(&format!("printf x >{path}; sync {path}; cat {path}"))?;
        bench.shim.heal()?;
        bench.does("cat a; sync a")?;
    }
    let counted = bench.shim.counted()?;
    let all = [counted.no_room, counted.write, counted.read, counted.sync];
    assert!(all.iter().all(|times| *times > 0), "{counted:?}");
    assert_eq!(bench.file("a").as_deref(), Some("whole"));
    Ok(())
}

#[test]
fn a_sync_that_lies_saves_nothing() -> Result<()> {
    let mut bench = Bench::new()?;
    bench.shim.fail(Fault::Lie, 1_000)?;
    bench.does("printf x >a; sync a; sync .")?;
    bench.lose(Luck::Everything)?;
    assert_eq!(bench.file("a"), None);
    assert_eq!(bench.shim.counted()?.lie, 2);
    Ok(())
}

#[test]
fn the_clock_leaps() -> Result<()> {
    let bench = Bench::new()?;
    let now = || -> Result<u64> { Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()) };
    bench.shim.set_clock(-7_200_000_000)?;
    let (before, told, after) = (now()?, bench.does("date +%s")?, now()?);
    let told: u64 = told.trim().parse()?;
    assert!((before..=after).contains(&(told + 7_200)), "{told}");
    Ok(())
}
