//! `cargo sim`: runs seeds and says what broke, in words or as one line of JSON.

use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::json;
use till_simulation::{MISTAKES, Mistake, Options, Report, run};

const USAGE: &str = "\
cargo sim -- [--seeds N] [--first-seed S] [--planted NAME] [--list-planted] [--threads N] [--json]
  --seeds N         worlds that are run (256; with --planted, the budget of the mistake)
  --first-seed S    the first of them (0)
  --planted NAME    a mistake that all make, until a seed shows it
  --list-planted    names the mistakes and within how many seeds each has to be found
  --threads N       threads that share the seeds (one for each processor)
  --json            one line of JSON
Ends with 1 when a promise is broken or, from 1,000 seeds on, a rare situation never occurred; with 2 when it is not understood.";
/// Seeds of a run that names no number.
const SEEDS: u64 = 256;

struct Constraint {
    options: Options,
    seeds: Option<u64>,
    lists: bool,
    helps: bool,
    json: bool,
}

fn main() -> ExitCode {
    let constraint = match constraint(std::env::args().skip(1)) {
        Ok(constraint) => constraint,
        Err(wrong) => {
            return print(&format!("{wrong}\n{USAGE}"), ExitCode::from(2));
        }
    };
    if constraint.helps {
        return print(USAGE, ExitCode::SUCCESS);
    }
    if constraint.lists {
        return list(constraint.json);
    }
    let mut options = constraint.options;
    let budget = options.planted.map(|mistake| mistake.budget);
    options.seeds = constraint.seeds.or(budget).unwrap_or(SEEDS);
    let report = run(options);
    if report.is_bare {
        let wrong = "this build has no planted mistakes; use `cargo sim`, which has the feature";
        return print(wrong, ExitCode::from(2));
    }
    let is_broken = !report.violations.is_empty() || !report.uncovered().is_empty();
    let code = ExitCode::from(u8::from(is_broken));
    if constraint.json {
        return print(&report.to_json().to_string(), code);
    }
    print(&words(&report), code)
}

fn constraint(mut args: impl Iterator<Item = String>) -> Result<Constraint, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut constraint = Constraint {
        options: Options {
            first_seed: 0,
            seeds: SEEDS,
            threads,
            planted: None,
        },
        seeds: None,
        lists: false,
        helps: false,
        json: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        let number = |text: String| {
            let parsed: Result<u64, _> = text.parse();
            parsed.map_err(|_| format!("{arg} {text}: not a number"))
        };
        match arg.as_str() {
            "--seeds" => match number(value()?)? {
                0 => return Err("--seeds 0: nothing would be tested".to_owned()),
                seeds => constraint.seeds = Some(seeds),
            },
            "--first-seed" => constraint.options.first_seed = number(value()?)?,
            "--threads" => {
                let wanted = number(value()?)?;
                constraint.options.threads = usize::try_from(wanted).unwrap_or(threads).max(1);
            }
            "--planted" => constraint.options.planted = Some(named(&value()?)?),
            "--list-planted" => constraint.lists = true,
            "--json" => constraint.json = true,
            "--help" | "-h" => constraint.helps = true,
            _ => return Err(format!("{arg} is not understood")),
        }
    }
    Ok(constraint)
}

fn named(name: &str) -> Result<Mistake, String> {
    let found = MISTAKES.iter().find(|mistake| mistake.name == name);
    found
        .copied()
        .ok_or_else(|| format!("no mistake is called {name}; see --list-planted"))
}

fn list(as_json: bool) -> ExitCode {
    if as_json {
        let planted: Vec<_> = MISTAKES
            .iter()
            .map(|mistake| json!({ "name": mistake.name, "budget": mistake.budget }))
            .collect();
        return print(
            &json!({ "planted": planted }).to_string(),
            ExitCode::SUCCESS,
        );
    }
    let lines = MISTAKES.iter();
    let lines: Vec<String> = lines
        .map(|mistake| format!("{} (within {} seeds)", mistake.name, mistake.budget))
        .collect();
    print(&lines.join("\n"), ExitCode::SUCCESS)
}

fn words(report: &Report) -> String {
    let mut lines = Vec::new();
    let planted = report
        .planted
        .map_or_else(String::new, |name| format!(" --planted {name}"));
    for (seed, id, what) in &report.violations {
        lines.push(format!(
            "seed {seed} breaks {id}: {what}\n  replay: cargo sim -- --first-seed {seed} --seeds 1{planted}"
        ));
    }
    for situation in report.uncovered() {
        lines.push(format!("no seed had this: {situation}"));
    }
    if let (true, Some(name)) = (report.has_survivor(), report.planted) {
        let seeds = counted(report.seeds, "seed", "seeds");
        lines.push(format!("{name} SURVIVED {seeds}: none of them shows it"));
    }
    let whole = report.to_json();
    let number = |field: &str| whole[field].as_u64().unwrap_or_default();
    let violations = u64::try_from(report.violations.len()).unwrap_or(u64::MAX);
    lines.push(format!(
        "{}, {} simulated hours, {}, {}, {}, {} seeds/s, trace {}",
        counted(report.seeds, "seed", "seeds"),
        whole["simulated_hours"],
        counted(number("events"), "event", "events"),
        counted(number("crashes"), "crash", "crashes"),
        counted(violations, "violation", "violations"),
        whole["seeds_per_s"],
        whole["trace_hash"],
    ));
    lines.join("\n")
}

fn counted(number: u64, one: &str, many: &str) -> String {
    let word = if number == 1 { one } else { many };
    format!("{number} {word}")
}

fn print(text: &str, code: ExitCode) -> ExitCode {
    let reported = writeln!(io::stdout(), "{text}");
    match reported {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => code,
    }
}
