//! `cargo crash`: kills engines, fails their power, and says what became of what they had acknowledged.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use till_crash::{Options, run, soak};

const USAGE: &str = "\
cargo crash -- [--kills N] [--power-losses N] [--faults N] [--only NAME] [--rate N] [--rude PERCENT] [--seed S] [--lying-syncs] [--soak] [--json]
  --kills N         engines that are killed (kill -9, at work, frozen, starting, draining)
  --power-losses N  losses of power, each of which takes what was not synced
  --faults N        rounds of every other trouble: disk, clock, network
  --only NAME       rounds of one trouble alone, as the closing summary calls it
  --rate N          events per second that devices send (1000)
  --rude PERCENT    devices that misbehave, while engines are killed (0)
  --seed S          replays the choices of a run
  --lying-syncs     syncs do nothing and say that they did: the run has to fail
  --soak            everything mixed on one folder, without an end (cargo soak)
  --json            one line of JSON at the end and nothing before it
Without any number: 20 kills, 10 losses of power and one round of the others.";

struct Wish {
    options: Options,
    soaks: bool,
    json: bool,
}

fn main() -> ExitCode {
    let wish = match wish(std::env::args().skip(1)) {
        Ok(Some(wish)) => wish,
        Ok(None) => return tell(USAGE, ExitCode::SUCCESS),
        Err(wrong) => return tell(&format!("{wrong:#}\n{USAGE}"), ExitCode::from(2)),
    };
    let say = |line: &str| {
        if !wish.json {
            tell(line, ExitCode::SUCCESS);
        }
    };
    let ended = build().and_then(|()| {
        if wish.soaks {
            match soak(&wish.options, &say)? {}
        }
        run(&wish.options, &say)
    });
    let report = match ended {
        Ok(report) => report,
        Err(error) => {
            // The line of JSON stands alone on standard output; a run without an end has none.
            drop(writeln!(io::stderr(), "{error:#}"));
            return ExitCode::FAILURE;
        }
    };
    let code = ExitCode::from(u8::from(!report.is_clean()));
    match serde_json::to_string(&report) {
        Ok(line) if wish.json => tell(&line, code),
        _ => tell(&report.to_string(), code),
    }
}

fn wish(mut args: impl Iterator<Item = String>) -> Result<Option<Wish>> {
    let mut options = Options::new(engine()?, 1);
    let (mut soaks, mut json) = (false, false);
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64> {
            let text = args
                .next()
                .with_context(|| format!("{arg} needs a value"))?;
            text.parse()
                .with_context(|| format!("{arg} {text}: not a number"))
        };
        match arg.as_str() {
            "--kills" => options.kills = number()?,
            "--power-losses" => options.power_losses = number()?,
            "--faults" => options.faults = number()?,
            "--only" => options.only = Some(args.next().context("--only needs a value")?),
            "--rate" => options.rate = number()?.max(1),
            "--rude" => options.rude = f64::from(u32::try_from(number()?.min(100))?) / 100.0,
            "--seed" => options.seed = number()?,
            "--lying-syncs" => options.lies = true,
            "--soak" => soaks = true,
            // Stands between an alias that has arguments and further ones.
            "--" => {}
            "--json" => json = true,
            "--help" | "-h" => return Ok(None),
            _ => bail!("{arg} is not understood"),
        }
    }
    if options.kills + options.power_losses + options.faults == 0 {
        (options.kills, options.power_losses, options.faults) = (20, 10, 1);
    }
    Ok(Some(Wish {
        options,
        soaks,
        json,
    }))
}

/// The engine is built beside this program.
fn engine() -> Result<PathBuf> {
    let own = std::env::current_exe().context("path of this program")?;
    Ok(own.with_file_name("tillstream"))
}

/// Builds the engine of this source, so that none that was left from before is tested.
fn build() -> Result<()> {
    // Cargo names itself to what it runs; a program that was started by itself takes the engine that lies there.
    let Some(cargo) = std::env::var_os("CARGO") else {
        return Ok(());
    };
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--workspace", "--bin", "tillstream"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let built = command.status().context("start cargo")?;
    ensure!(built.success(), "the engine does not build");
    Ok(())
}

fn tell(text: &str, code: ExitCode) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => code,
    }
}
