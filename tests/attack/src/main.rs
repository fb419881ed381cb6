//! `cargo attack`: hostile devices against a real engine, and what became of the honest ones.
//!
//! The executable is also the engine and the fleet that it starts as processes of their own: the first word says which.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use till_attack::{NAMES, Options, Report};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "cargo attack -- [--duration SECONDS] [--quick] [--connections N] [--rate N] [--only NAME] [--list] [--json]\n\
    --list names the attacks; --only takes one of them, and may be given again.\n\
    It ends with 1 when one is not withstood and with 2 when it is not understood. It compares what honest devices get with and without an attack: run it on a machine that has nothing else to do.";

fn main() -> ExitCode {
    let command: Option<fn() -> ExitCode> = match std::env::args().nth(1).as_deref() {
        Some("serve" | "query" | "rebuild" | "pki") => Some(till_server::tillstream),
        Some("fleet" | "replay") => Some(till_server::tillload),
        _ => None,
    };
    if let Some(command) = command {
        return match end_with_parent() {
            Ok(()) => command(),
            Err(error) => tell(&format!("error: {error}"), ExitCode::FAILURE),
        };
    }
    let (options, json) = match wish(std::env::args().skip(1)) {
        Ok(Wish::Run(options, json)) => (options, json),
        Ok(Wish::Names) => return tell(&NAMES.join("\n"), ExitCode::SUCCESS),
        Ok(Wish::Help) => return tell(USAGE, ExitCode::SUCCESS),
        Err(wrong) => return tell(&format!("{wrong}\n{USAGE}"), ExitCode::from(2)),
    };
    let mut on_attack = |line: &str| {
        if !json {
            tell(line, ExitCode::SUCCESS);
        }
    };
    match std::env::current_exe() {
        Ok(own) => till_tests::commands_are(own),
        Err(error) => return tell(&format!("error: {error}"), ExitCode::FAILURE),
    }
    // Whoever reads the line also reads why there was nothing to measure.
    let report = till_attack::run(&options, &mut on_attack).unwrap_or_else(|error| Report {
        complaints: vec![format!("{error:#}")],
        ..Report::default()
    });
    let code = ExitCode::from(u8::from(!report.passed));
    match serde_json::to_string(&report) {
        Ok(line) if json => tell(&line, code),
        _ => tell(&last_words(&report), code),
    }
}

// An attack that is killed cannot end what it started: that ends by itself.
fn end_with_parent() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

fn last_words(report: &Report) -> String {
    let mut words = format!(
        "{} attacks in {:.0} s, {}",
        report.attacks.len(),
        report.elapsed_s,
        if report.passed {
            "all withstood"
        } else {
            "NOT all withstood"
        }
    );
    for complaint in &report.complaints {
        words.push_str("\n  ");
        words.push_str(complaint);
    }
    words
}

enum Wish {
    /// Attacks, and whether a line of JSON is all that is said.
    Run(Options, bool),
    Names,
    Help,
}

fn wish(mut args: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut options = Options::default();
    let (mut json, mut lists, mut helps) = (false, false, false);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        let number = |text: String| {
            let parsed: Result<u32, _> = text.trim_end_matches('s').parse();
            parsed.map_err(|_| format!("{arg} {text}: not a number"))
        };
        match arg.as_str() {
            "--duration" => {
                options.duration = Duration::from_secs(u64::from(number(value()?)?.max(1)));
            }
            "--quick" => options = options.quick(),
            "--connections" => options.connections = number(value()?)?.clamp(1, 400),
            "--rate" => options.rate = number(value()?)?.max(1),
            "--only" => {
                let name = value()?;
                if !NAMES.contains(&name.as_str()) {
                    return Err(format!("no attack is called {name}; see --list"));
                }
                options.only.push(name);
            }
            "--list" => lists = true,
            "--json" => json = true,
            "--help" | "-h" => helps = true,
            _ => return Err(format!("{arg} is not understood")),
        }
    }
    Ok(match (helps, lists) {
        (true, _) => Wish::Help,
        (false, true) => Wish::Names,
        (false, false) => Wish::Run(options, json),
    })
}

fn tell(text: &str, code: ExitCode) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => code,
    }
}
