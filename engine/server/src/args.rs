//! The command line, as clap reads it.

mod cluster;
mod pki;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;

pub(crate) use cluster::{
    ApplyArgs, ClusterArgs, DrainArgs, MigrateArgs, MoveArgs, RetainArgs, SchemaCommand,
    SchemaStatusArgs, ShardsCommand, ShardsListArgs, SharedArgs, SubmitArgs, UntilArgs,
};
pub(crate) use pki::{IssueArgs, PkiCommand, RevokeArgs};

/// Takes in everything that happens at a chain's tills, makes it durable and answers questions about it.
#[derive(Debug, Parser)]
#[command(
    name = "tillstream",
    version,
    after_help = "Start here: `tillstream demo` shows a running chain; `tillstream serve --dev --data DIR` starts an engine for your own."
)]
pub(crate) struct Cli {
    /// How much to log: error, warn, info, debug, trace, or a filter like till_runtime=debug
    #[arg(
        long,
        global = true,
        env = "TILLSTREAM_LOG",
        value_name = "LEVEL",
        help_heading = "Log"
    )]
    pub(crate) log: Option<String>,
    /// Form of the log lines on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "text|json", hide_possible_values = true, help_heading = "Log")]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the engine
    Serve(Box<ServeArgs>),
    /// Show a running engine with a simulated chain
    Demo(DemoArgs),
    /// Check the configuration that `serve` would run with, and show it
    CheckConfig(Box<CheckArgs>),
    /// Examine a data folder and say in words what state it is in
    Doctor(DoctorArgs),
    /// Make every derived row again from the journal, or from the log of a shared store (its engines must be stopped)
    Rebuild(RebuildArgs),
    /// Drop records of a shared store that were received long ago; sums, levels and event ids stay (engines may run)
    Retain(RetainArgs),
    /// Events that are durable and could not be applied
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Look inside the files of a data folder
    #[command(subcommand)]
    Inspect(InspectCommand),
    /// Ask what was sold, what is in stock, what a terminal sent
    #[command(subcommand)]
    Query(QueryCommand),
    /// The tables of a cluster in ScyllaDB or Apache Cassandra
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Which engine serves which slots of a shared store
    #[command(subcommand)]
    Shards(ShardsCommand),
    /// Hand off what the journal of an engine has that will never run again
    Submit(SubmitArgs),
    /// Identities of devices, where the engine is its own authority (--dev)
    #[command(subcommand)]
    Pki(PkiCommand),
    /// The metrics that /metrics shows
    #[command(subcommand)]
    Metrics(MetricsCommand),
}

/// What an engine runs with; also taken by `check-config`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArgs {
    /// Make an own certificate authority and device certificates, and take unknown stores and terminals in
    #[arg(long)]
    pub(crate) dev: bool,
    /// Folder that holds the data; made when it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address for devices (QUIC over UDP); port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Address of the admin port (HTTP); port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
    /// Number of shards, or `auto` for one per core; changes no answer
    #[arg(long, value_name = "auto|N", value_parser = shards)]
    pub(crate) shards: Option<String>,
    /// Time zone of stores that do not name their own, like Europe/Vienna
    #[arg(long, value_name = "TZ")]
    pub(crate) time_zone: Option<String>,
    /// Currency of stores that do not name their own, like USD
    #[arg(long, value_name = "CODE")]
    pub(crate) currency: Option<String>,
    /// `disk`: synced before every ack; `os`: survives a crash of the engine, not of the machine
    #[arg(long, value_name = "disk|os", value_parser = ["disk", "os"])]
    pub(crate) durability: Option<String>,
    /// Where rows go: `embedded` into the data folder, `scylla` into a store that several engines share
    #[arg(long, value_name = "embedded|scylla", value_parser = ["embedded", "scylla"])]
    pub(crate) store: Option<String>,
    /// Nodes of the shared store
    #[arg(long, value_name = "HOST:PORT[,HOST:PORT...]")]
    pub(crate) scylla: Option<String>,
    /// Keyspace of the shared store
    #[arg(long, value_name = "K")]
    pub(crate) keyspace: Option<String>,
    /// How long a silent engine keeps its stores, like 5s; others serve them at most 2 s after that
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) lease: Option<Duration>,
    /// Address under which devices reach this engine, for other engines to send them to
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<String>,
    /// With --dev: identity file of another engine, to be one of its cluster instead of an own authority
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Configuration file (TOML); flags win over it
    #[arg(long, value_name = "FILE", env = "TILLSTREAM_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// File to write once devices may connect: {"quic","admin","identity","pid"}
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Drain and stop when standard input is closed, so that the engine ends with what started it
    #[arg(long)]
    pub(crate) until_stdin_closes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
    /// Print a configuration file with every setting, its default and its cost, and check nothing
    #[arg(long)]
    pub(crate) reference: bool,
    /// Print one JSON line to standard output
    #[arg(long)]
    pub(crate) json: bool,
}

fn shards(text: &str) -> Result<String, String> {
    let right = text == "auto"
        || text
            .parse::<u32>()
            .is_ok_and(|count| 0 < count && count <= 1024);
    right
        .then(|| text.to_owned())
        .ok_or_else(|| "must be `auto` or a number from 1 to 1024".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder for the data; a fresh one that is removed afterwards unless given
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// How long to trade, like 20s or 5m; until Ctrl-C unless given
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Stores of the chain
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) stores: u32,
    /// Terminals in each store
    #[arg(long, default_value_t = 6, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) terminals: u32,
    /// Events per second that the chain makes
    #[arg(long, default_value_t = 5_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: u64,
    /// Seed of the chain's chance
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    /// Address of the admin port; a free one when the usual is busy
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
    /// Print one JSON line at the end and nothing else to standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reads `20s`, `1m 30s`, `500ms`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|time| Duration::try_from(time).ok())
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "must be a time like 20s, 500ms or 5m".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct DirArgs {
    /// Folder that holds the data
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Print one JSON line to standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is rebuilt.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["data", "scylla"]))]
pub(crate) struct RebuildArgs {
    /// Folder that holds the data of an engine on its own
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The store that engines share
    #[command(flatten)]
    pub(crate) shared: SharedArgs,
    /// Folder for the rows of one slot while they are made, with --scylla; the system's folder for temporary files unless said
    #[arg(long, value_name = "DIR", requires = "scylla")]
    pub(crate) scratch: Option<PathBuf>,
    /// Print one JSON line to standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The folder.
    #[command(flatten)]
    pub(crate) dir: DirArgs,
    /// Keep everything that can be read, set the damaged part aside, and name what was lost
    #[arg(long)]
    pub(crate) salvage: bool,
}

/// Where answers come from.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["data", "addr", "scylla"]))]
pub(crate) struct SourceArgs {
    /// Data folder; the engine that has it open is asked, or the folder is read
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address of a running engine's admin port, like http://127.0.0.1:7881
    #[arg(long, value_name = "URL")]
    pub(crate) addr: Option<String>,
    /// The store that engines share, with or without engines
    #[command(flatten)]
    pub(crate) shared: SharedArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct AskArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Print one JSON line to standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// Show them, each with its reason
    List {
        /// Show records of other engines' journals that have no place, and what they collide with
        #[arg(long)]
        stranded: bool,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Decide them again, for instance after the cause was repaired
    Retry(AskArgs),
    /// Let a stranded record count, under an epoch of its terminal that no device is granted
    ///
    /// What has an event id counts once. What has none counts twice where its device still has it, or has sent it again.
    Release {
        /// The record, as `list --stranded` names it
        record: String,
        #[command(flatten)]
        ask: AskArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum InspectCommand {
    /// Segments, groups and records of the journal; changes nothing
    Journal(JournalArgs),
}

#[derive(Debug, Args)]
pub(crate) struct JournalArgs {
    #[command(flatten)]
    pub(crate) dir: DirArgs,
    /// Show records from this position on
    #[arg(long, default_value_t = 0, value_name = "POSITION")]
    pub(crate) from: u64,
    /// Show at most so many records; 0 shows the segments alone
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) limit: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MetricsCommand {
    /// Name, kind, label and meaning of every metric
    List {
        /// Print one JSON line to standard output
        #[arg(long)]
        json: bool,
    },
}

/// Questions. Values are checked where both this command line and the JSON API come through.
#[derive(Debug, Subcommand)]
pub(crate) enum QueryCommand {
    /// Sums of sales, by total, store, day, hour, SKU, tender, category or operator
    Sales {
        /// What to split by
        #[arg(
            long,
            default_value = "total",
            value_name = "total|store|day|hour|sku|tender"
        )]
        by: String,
        /// Start, inclusive: a date, or a time with offset
        #[arg(long, value_name = "T")]
        from: Option<String>,
        /// End, exclusive: a date, or a time with offset
        #[arg(long, value_name = "T")]
        to: Option<String>,
        /// One store only
        #[arg(long, value_name = "N")]
        store: Option<String>,
        /// One SKU only, by total, store, day or hour
        #[arg(long, value_name = "CODE")]
        sku: Option<String>,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// What a store has in stock
    Stock {
        /// The store
        #[arg(long, value_name = "N")]
        store: String,
        /// One SKU only
        #[arg(long, value_name = "CODE")]
        sku: Option<String>,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Every transaction with a receipt number
    #[command(alias = "transactions")]
    Transaction {
        /// The number as printed
        #[arg(long, value_name = "R")]
        receipt: String,
        /// Of one store only
        #[arg(long, value_name = "N")]
        store: Option<String>,
        /// Of one till only
        #[arg(long, value_name = "N")]
        terminal: Option<String>,
        /// Of one business day only
        #[arg(long, value_name = "DATE")]
        day: Option<String>,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// How far terminals have come and what they sold
    #[command(alias = "terminals")]
    Terminal {
        /// Of one store only
        #[arg(long, value_name = "N")]
        store: Option<String>,
        /// One till only
        #[arg(long, value_name = "N")]
        terminal: Option<String>,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Which stores are registered, with currency and time zone
    Stores {
        #[command(flatten)]
        ask: AskArgs,
    },
}
