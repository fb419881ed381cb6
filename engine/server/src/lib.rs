//! The `tillstream` and `tillload` commands: arguments, wiring, and what people read.
//!
//! This crate names every other one and holds no rules of its own. Results go to standard output, with `--json` exactly
//! one line; everything else goes to standard error. Commands end with 0 when they did what they were asked, 1 when they
//! could not, 2 when the command line was wrong.

mod answer; // questions, from rows and facts
mod args; // the command line
mod check; // check-config
mod demo; // a running chain to look at
mod doctor; // what state a data folder is in
mod inspect; // what the journal holds
mod live; // a running engine behind the admin port
mod logging; // the log
mod offline; // a data folder without an engine
mod output; // standard output
mod pki; // identities of devices
mod ports; // addresses that may be busy
mod query; // questions
mod ready; // where the engine is reached
mod rebuild;
mod retain; // every derived row again
mod schema; // the tables of a cluster
mod serve; // the engine
mod shards; // who serves what, and who shall
mod shared; // the store of several engines
mod silence; // a shared store that does not answer
mod source; // who answers a question
mod stop; // when to drain
mod submit; // the journal of a dead engine
mod table; // rows for people

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use thiserror::Error;

use crate::args::{Cli, Command, InspectCommand, MetricsCommand};

/// The command line asks for something that does not exist; exit code 2.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// The command did what it was asked, found something wrong, and has said so; exit code 1 without another message.
#[derive(Debug, Error)]
#[error("see above")]
pub(crate) struct Found;

/// Runs the `tillstream` command with the arguments of this process.
pub fn tillstream() -> ExitCode {
    run(std::env::args_os())
}

/// Runs the `tillload` command with the arguments of this process. `tillload serve` is the engine that it starts itself.
pub fn tillload() -> ExitCode {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == "serve")
    {
        return run(std::env::args_os());
    }
    // What a run has to say while it goes on, such as that its engine does not answer.
    let level = std::env::var("RUST_LOG").ok();
    if let Err(error) = logging::start(level.as_deref(), "warn,scylla=off", args::LogFormat::Text) {
        output::note(format!("error: {error:#}"));
        return ExitCode::from(2);
    }
    till_loadgen::cli::main(std::env::args_os(), &till_loadgen::engine::SelfStarter)
}

fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results; everything else is a usage error.
            let code = if error.use_stderr() { 2 } else { 0 };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    match command(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Found>() => ExitCode::FAILURE,
        Err(error) => {
            output::note(format!("error: {error:#}"));
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

fn command(cli: Cli) -> anyhow::Result<()> {
    // What the driver of the shared store has to say is told in our own words.
    let quiet = if matches!(cli.command, Command::Serve(_)) {
        "info,scylla=off"
    } else {
        "warn,scylla=off"
    };
    let level = cli.log.or_else(|| std::env::var("RUST_LOG").ok());
    logging::start(level.as_deref(), quiet, cli.log_format)?;
    match cli.command {
        Command::Serve(args) => serve::run(*args),
        Command::Demo(args) => demo::run(&args),
        Command::CheckConfig(args) => check::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Rebuild(args) => rebuild::run(&args),
        Command::Retain(args) => retain::run(&args),
        Command::Quarantine(command) => query::quarantine(command),
        Command::Inspect(InspectCommand::Journal(args)) => inspect::run(&args),
        Command::Query(command) => query::run(command),
        Command::Schema(command) => schema::run(&command),
        Command::Shards(command) => shards::run(&command),
        Command::Submit(args) => submit::run(&args),
        Command::Pki(command) => pki::run(&command),
        Command::Metrics(MetricsCommand::List { json }) => metrics(json),
    }
}

fn metrics(json: bool) -> anyhow::Result<()> {
    let row = |metric: &till_ops::Metric| {
        let name = match metric.kind() {
            "counter" => format!("{}_total", metric.name),
            _ => metric.name.to_owned(),
        };
        serde_json::json!({
            "name": name,
            "kind": metric.kind(),
            "label": metric.label(),
            "meaning": metric.help,
        })
    };
    let rows: Vec<_> = till_ops::METRICS.iter().map(row).collect();
    if json {
        return output::json(&serde_json::json!({ "rows": rows }));
    }
    table::lines(&rows).iter().try_for_each(output::line)
}
