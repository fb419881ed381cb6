//! `cargo crash`: kills engines, fails their power, and says what became of what they had acknowledged.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use till_crash::{Options, run, soak, troubles};

const USAGE: &str = "\
cargo crash -- [--kills N] [--power-losses N] [--faults N] [--only NAME] [--rate N] [--rude PERCENT] [--seed S] [--lying-syncs] [--soak] [--json]
  --kills N         engines that are killed (kill -9, at work, frozen, starting, draining)
  --power-losses N  losses of power, each of which takes what was not synced
  --faults N        rounds of every other trouble: disk, clock, network
  --only NAME       of these, one trouble alone, as the closing summary calls it; one round where --faults says nothing
  --rate N          events per second that devices send (1000)
  --rude PERCENT    devices that misbehave, while engines are killed (0)
  --seed S          replays the choices of a run
  --lying-syncs     syncs do nothing and say that they did: the run has to fail
  --soak            everything mixed on one folder, without an end (cargo soak)
  --json            one line of JSON at the end and nothing before it
Without --only and any number: 20 kills, 10 losses of power and one round of the others.
Ends with 1 when something is lost, doubled or different, and with 2 when it is not understood.";

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
    let (mut kills, mut power_losses, mut faults) = (None, None, None);
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64> {
            let text = args
                .next()
                .with_context(|| format!("{arg} needs a value"))?;
            text.parse()
                .with_context(|| format!("{arg} {text}: not a number"))
        };
        match arg.as_str() {
            "--kills" => kills = Some(number()?),
            "--power-losses" => power_losses = Some(number()?),
            "--faults" => faults = Some(number()?),
            "--only" => options.only = Some(named(args.next())?),
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
    let is_open = kills.is_none() && power_losses.is_none() && faults.is_none();
    (options.kills, options.power_losses, options.faults) = match (is_open, &options.only) {
        (true, None) => (20, 10, 1),
        (_, only) => (
            kills.unwrap_or(0),
            power_losses.unwrap_or(0),
            faults.unwrap_or_else(|| u64::from(only.is_some())),
        ),
    };
    let rounds = [options.kills, options.power_losses, options.faults];
    ensure!(rounds != [0; 3], "nothing would be tested");
    ensure!(
        options.only.is_none() || options.faults > 0,
        "--only is about rounds of --faults, of which there are none"
    );
    Ok(Some(Wish {
        options,
        soaks,
        json,
    }))
}

fn named(name: Option<String>) -> Result<String> {
    let name = name.context("--only needs a value")?;
    let names: Vec<&str> = troubles().collect();
    if !names.contains(&name.as_str()) {
        bail!(
            "no trouble is called {name}; there are:\n  {}",
            names.join("\n  ")
        );
    }
    Ok(name)
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

#[cfg(test)]
mod tests {
    use super::wish;

    /// Kills, losses of power and rounds of the others that these words ask for.
    fn rounds(words: &[&str]) -> [u64; 3] {
        let words = words.iter().map(|word| (*word).to_owned());
        let options = wish(words).unwrap().unwrap().options;
        [options.kills, options.power_losses, options.faults]
    }

    #[test]
    fn a_number_or_a_name_asks_for_itself_alone() {
        assert_eq!(rounds(&["--json"]), [20, 10, 1]);
        assert_eq!(rounds(&["--kills", "3"]), [3, 0, 0]);
        assert_eq!(rounds(&["--kills", "3", "--power-losses", "2"]), [3, 2, 0]);
        assert_eq!(rounds(&["--only", "disk full"]), [0, 0, 1]);
        assert_eq!(rounds(&["--only", "disk full", "--faults", "4"]), [0, 0, 4]);
        assert_eq!(rounds(&["--kills", "3", "--only", "no line"]), [3, 0, 1]);
    }
}
