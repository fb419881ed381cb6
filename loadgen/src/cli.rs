//! The commands of `tillload`.
//!
//! With `--json`, standard output is exactly one line; everything else goes to standard error.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use till_protocol::currency::Currency;

use crate::bench::{self, BenchConfig};
use crate::engine::EngineStarter;
use crate::fleet::{self, FleetConfig};
use crate::replay::{self, ReplayConfig, Target};

/// Bad rows that are printed one by one; the rest are counted.
const SKIPS_SHOWN: u64 = 1_000;

/// Sends load to a Tillstream engine and checks afterwards that the engine holds exactly what it acknowledged.
#[derive(Debug, Parser)]
#[command(name = "tillload", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure how many events an engine makes durable per second, and how long each waits for its ack.
    Bench(Bench),
    /// Send a CSV file of transaction lines, as the tills would have.
    Replay(Replay),
    /// Run a simulated chain of honest and rude devices against an engine.
    Fleet(Fleet),
}

/// The command line asks for something that cannot be; exit code 2.
#[derive(Debug)]
struct UsageError(String);

impl Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

#[derive(Args, Debug)]
struct EngineArgs {
    /// QUIC address of a running engine; of several that share their stores, with commas between.
    #[arg(
        long,
        value_name = "HOST:PORT",
        requires = "identity",
        value_delimiter = ','
    )]
    addr: Vec<String>,
    /// PEM file that is authorised for every terminal (`serve --dev` makes one under DIR/pki).
    #[arg(long, value_name = "PATH")]
    identity: Option<PathBuf>,
    /// Admin URL of the engine, or of each of several, with commas between; by default found in engine.json near the identity.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
}

/// Where the rows of an engine go that is started.
#[derive(Args, Debug)]
struct RowsArgs {
    /// `embedded` (into its data folder) or `scylla`.
    #[arg(long, value_name = "embedded|scylla", value_parser = ["embedded", "scylla"], requires = "spawn")]
    store: Option<String>,
    /// Nodes of the shared store, with commas between.
    #[arg(long, value_name = "HOST:PORT", requires = "spawn")]
    scylla: Option<String>,
    /// Keyspace of the shared store.
    #[arg(long, value_name = "K", requires = "spawn")]
    keyspace: Option<String>,
}

impl RowsArgs {
    /// As arguments of `serve`.
    fn arguments(self) -> Vec<String> {
        let named = [
            ("--store", self.store),
            ("--scylla", self.scylla),
            ("--keyspace", self.keyspace),
        ];
        let given = named
            .into_iter()
            .filter_map(|(name, value)| Some([name.to_owned(), value?]));
        given.flatten().collect()
    }
}

#[derive(Args, Debug)]
struct Bench {
    #[command(flatten)]
    engine: EngineArgs,
    /// Start an engine for the bench and stop it at the end.
    #[arg(long, conflicts_with = "addr")]
    spawn: bool,
    /// Data folder of the engine that is started; a temporary one by default.
    #[arg(long, value_name = "DIR", requires = "spawn")]
    data: Option<PathBuf>,
    #[command(flatten)]
    rows: RowsArgs,
    /// Events to send.
    #[arg(long, default_value_t = 4_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// Events in a frame.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1024))]
    frame_events: u32,
    /// QUIC connections.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=4096))]
    connections: u32,
    /// Events per second that are due (open loop); as fast as acks come by default.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Stores.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    stores: u32,
    /// SKUs of each store.
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    skus: u32,
    /// Frames in flight per terminal; chosen by the size of a frame by default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    in_flight: Option<u32>,
    /// Seed of the trade.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One line of JSON on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Replay {
    #[command(flatten)]
    engine: EngineArgs,
    /// CSV file with a header row; `-` is standard input.
    #[arg(long, value_name = "F.csv")]
    file: PathBuf,
    /// Start an engine on --data and stop it at the end; the data stays.
    #[arg(long, conflicts_with = "addr", requires = "data")]
    spawn: bool,
    /// Data folder of the engine that is started.
    #[arg(long, value_name = "DIR", requires = "spawn")]
    data: Option<PathBuf>,
    #[command(flatten)]
    rows: RowsArgs,
    /// ISO 4217 code of the amounts.
    #[arg(long, default_value = "USD", value_parser = currency)]
    currency: Currency,
    /// IANA time zone of the stores.
    #[arg(long, default_value = "UTC", value_parser = zone)]
    time_zone: String,
    /// Check the whole file first, and send nothing if a row is bad.
    #[arg(long)]
    strict: bool,
    /// One line of JSON on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Fleet {
    #[command(flatten)]
    engine: EngineArgs,
    /// Stores.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    stores: u32,
    /// Honest tills of each store.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    terminals: u32,
    /// Events per second that are due, all devices together.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// How long, such as 90s, 10m or 1h.
    #[arg(long, default_value = "60s", value_parser = length)]
    duration: Duration,
    /// Share of rude devices, from 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    rude: f64,
    /// Folder of durable outboxes; in memory by default.
    #[arg(long, value_name = "DIR")]
    outbox: Option<PathBuf>,
    /// SKUs of the chain.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    skus: u32,
    /// Seed of the trade.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One line of JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// Runs a command line; its first argument is the program's name. Prints to standard output and standard error.
///
/// Exit code 0 means that the engine was found equal to what was sent, 1 that it was not or the run failed, 2 that the
/// command line is wrong.
pub fn main(args: impl IntoIterator<Item = OsString>, starter: &dyn EngineStarter) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            // Where the message cannot be written there is nobody to tell.
            error.print().ok();
            return ExitCode::from(code);
        }
    };
    let done = match cli.command {
        Command::Bench(args) => bench(args, starter),
        Command::Replay(args) => replay(args, starter),
        Command::Fleet(args) => fleet(args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("tillload: {error:#}"));
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}

fn bench(args: Bench, starter: &dyn EngineStarter) -> Result<bool> {
    if !args.spawn && args.engine.addr.is_empty() {
        let hint =
            "say --spawn to start an engine, or --addr HOST:PORT --identity PATH for one that runs";
        return Err(UsageError(hint.to_owned()).into());
    }
    let engine = args.engine.running()?.map(Running::alone).transpose()?;
    let config = BenchConfig {
        data: args.data,
        serve: args.rows.arguments(),
        engine,
        events: args.events,
        frame_events: args.frame_events,
        connections: args.connections,
        rate: args.rate,
        stores: args.stores,
        skus: args.skus,
        in_flight: args.in_flight,
        seed: args.seed,
        progress: io::stderr().is_terminal(),
    };
    let report = bench::run(&config, starter)?;
    finish(&report, args.json, &report.differences)?;
    Ok(report.reconciled)
}

fn replay(args: Replay, starter: &dyn EngineStarter) -> Result<bool> {
    let target = match (args.engine.running()?, args.data) {
        (Some(running), _) => Target::Running {
            addr: running.addr,
            others: running.others,
            identity: running.identity,
            admin: running.admin,
        },
        (None, Some(data)) => Target::Spawn {
            data,
            serve: args.rows.arguments(),
        },
        (None, None) => {
            let hint = "say --spawn --data DIR to start an engine, or --addr HOST:PORT --identity PATH for one that runs";
            return Err(UsageError(hint.to_owned()).into());
        }
    };
    let config = ReplayConfig {
        file: args.file,
        target,
        currency: args.currency,
        zone: args.time_zone,
        strict: args.strict,
        progress: io::stderr().is_terminal(),
    };
    let mut shown = 0;
    let mut on_skip = |line: u64, reason: &str| {
        shown += 1;
        if shown <= SKIPS_SHOWN {
            say(&format!("line {line}: {reason}"));
        } else if shown == SKIPS_SHOWN + 1 {
            say("more rows are bad; they are counted and no longer printed");
        }
    };
    let report = replay::run(&config, starter, &mut on_skip)?;
    finish(&report, args.json, &report.differences)?;
    Ok(report.reconciled)
}

fn fleet(args: Fleet) -> Result<bool> {
    let Some(running) = args.engine.running()? else {
        let hint = "say --addr HOST:PORT --identity PATH; `tillstream serve --dev --data DIR` starts an engine";
        return Err(UsageError(hint.to_owned()).into());
    };
    let config = FleetConfig {
        others: running.others,
        admin: running.admin,
        stores: args.stores,
        terminals: args.terminals,
        skus: args.skus,
        rate: args.rate,
        duration: Some(args.duration),
        rude: args.rude,
        outbox: args.outbox,
        seed: args.seed,
        ..FleetConfig::new(running.addr, running.identity)
    };
    let report = fleet::run(&config, &mut |live| say(&live.to_string()))?;
    finish(&report, args.json, &report.differences)?;
    Ok(report.reconciled)
}

/// Engines that run.
struct Running {
    addr: SocketAddr,
    others: Vec<SocketAddr>,
    identity: PathBuf,
    admin: Option<String>,
}

impl Running {
    /// One engine, as the bench measures it.
    fn alone(self) -> Result<(SocketAddr, PathBuf, Option<String>)> {
        if !self.others.is_empty() {
            let hint = "bench measures one engine; give --addr one address";
            return Err(UsageError(hint.to_owned()).into());
        }
        Ok((self.addr, self.identity, self.admin))
    }
}

impl EngineArgs {
    fn running(&self) -> Result<Option<Running>> {
        let Some(identity) = &self.identity else {
            return Ok(None);
        };
        let found = |addr: &String| {
            let mut all = match addr.to_socket_addrs() {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    return Err(UsageError(format!("--addr {addr}: {error}")).into());
                }
                found => found.with_context(|| format!("{addr} is no address"))?,
            };
            all.next().with_context(|| format!("{addr} has no address"))
        };
        let mut addrs = self.addr.iter().map(found).collect::<Result<Vec<_>>>()?;
        if addrs.is_empty() {
            return Ok(None);
        }
        let addr = addrs.remove(0);
        Ok(Some(Running {
            addr,
            others: addrs,
            identity: identity.clone(),
            admin: self.admin.clone(),
        }))
    }
}

fn finish<T: Serialize + Display>(report: &T, json: bool, differences: &[String]) -> Result<()> {
    for difference in differences.iter().take(crate::oracle::DIFFERENCES_SHOWN) {
        say(&format!("different: {difference}"));
    }
    if let Some(more) = differences
        .len()
        .checked_sub(crate::oracle::DIFFERENCES_SHOWN)
        .filter(|more| *more > 0)
    {
        say(&format!("and {more} more differences"));
    }
    let text = if json {
        serde_json::to_string(report)?
    } else {
        report.to_string()
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").context("could not write the result")?;
    out.flush().context("could not write the result")
}

/// A line for people. Where standard error is closed there is nobody to tell.
fn say(text: &str) {
    writeln!(io::stderr().lock(), "{text}").ok();
}

fn currency(text: &str) -> Result<Currency, String> {
    Currency::from_code(&text.to_ascii_uppercase()).map_err(|error| error.to_string())
}

fn zone(text: &str) -> Result<String, String> {
    match jiff::tz::TimeZone::get(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("not an IANA time zone; write one such as Europe/Berlin".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok();
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "not a share from 0 to 1".to_owned())
}

fn length(text: &str) -> Result<Duration, String> {
    let hint = || format!("{text:?} is no length of time; write 90s, 10m or 1h");
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 's')) => (text.get(..at).unwrap_or(""), 1),
        Some((at, 'm')) => (text.get(..at).unwrap_or(""), 60),
        Some((at, 'h')) => (text.get(..at).unwrap_or(""), 3_600),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| hint())?;
    number
        .checked_mul(factor)
        .filter(|s| *s > 0)
        .map(Duration::from_secs)
        .ok_or_else(hint)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_forms_are_understood() {
        for line in [
            "tillload bench --spawn --data D --events 4000000 --frame-events 256 --connections 4 --json",
            "tillload bench --spawn --rate 100000",
            "tillload replay --file F.csv --addr 127.0.0.1:4433 --identity P --json",
            "tillload replay --file F.csv --spawn --data D --currency JPY --time-zone Asia/Tokyo --strict",
            "tillload fleet --addr 127.0.0.1:1,127.0.0.1:2,127.0.0.1:3 --identity P --admin U1,U2",
            "tillload replay --file F.csv --addr 127.0.0.1:1,127.0.0.1:2 --identity P",
            "tillload fleet --addr 127.0.0.1:1 --identity P --stores 2 --terminals 3 --rate 100 --duration 20s --rude 0.2 --outbox O --json",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_looked_for() {
        for line in [
            "tillload replay --file F.csv --spawn --data D --currency QQQ",
            "tillload replay --file F.csv --spawn --data D --time-zone Mars/Olympus",
            "tillload fleet --addr 127.0.0.1:1 --identity P --rude 1.5",
            "tillload fleet --addr 127.0.0.1:1 --identity P --rude NaN",
            "tillload bench --spawn --events 0",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        for line in [
            "tillload replay --file F.csv",
            "tillload bench",
            "tillload fleet",
            "tillload fleet --addr nowhere --identity P",
        ] {
            let args = line.split(' ').map(OsString::from);
            let code = main(args, &crate::engine::SelfStarter);
            assert_eq!(
                format!("{code:?}"),
                format!("{:?}", ExitCode::from(2)),
                "{line}"
            );
        }
    }

    #[test]
    fn lengths_of_time_have_units() {
        assert_eq!(length("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(length("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(length("7"), Ok(Duration::from_secs(7)));
        assert!(length("0s").is_err() && length("x").is_err() && length("9é").is_err());
    }
}
