//! The part of the command line that names a cluster.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::SignedDuration;
use till_storage::cluster::SLOTS_MAX;

/// How a cluster is reached, and as whom.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Nodes of the cluster, separated by commas; the others are learnt from them
    #[arg(
        long,
        value_name = "HOST:PORT,..",
        value_delimiter = ',',
        required = true
    )]
    pub(crate) scylla: Vec<String>,
    /// Keyspace of the tables
    #[arg(long, value_name = "NAME")]
    pub(crate) keyspace: String,
    /// Data centre to work in; that of the first node given unless said
    #[arg(long, value_name = "NAME")]
    pub(crate) datacenter: Option<String>,
    /// User, where the cluster asks for one
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub(crate) user: Option<String>,
    /// File that holds the user's password
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the nodes' certificates; speaks TLS
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

/// As [`ClusterArgs`], where a cluster is one of several places that may be named.
#[derive(Clone, Debug, Args)]
pub(crate) struct SharedArgs {
    /// Nodes of the shared store, separated by commas
    #[arg(
        long,
        value_name = "HOST:PORT,..",
        value_delimiter = ',',
        requires = "keyspace"
    )]
    pub(crate) scylla: Vec<String>,
    /// Keyspace of the shared store
    #[arg(long, value_name = "NAME", requires = "scylla")]
    pub(crate) keyspace: Option<String>,
    /// User of the shared store
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub(crate) user: Option<String>,
    /// File that holds the user's password
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the nodes' certificates; speaks TLS
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

impl SharedArgs {
    /// The cluster, if one is named.
    pub(crate) fn cluster(&self) -> Option<ClusterArgs> {
        if self.scylla.is_empty() {
            return None;
        }
        Some(ClusterArgs {
            scylla: self.scylla.clone(),
            keyspace: self.keyspace.clone()?,
            datacenter: None,
            user: self.user.clone(),
            password_file: self.password_file.clone(),
            ca: self.ca.clone(),
        })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ShardsCommand {
    /// Engines with the slots that they serve; with --json every slot with its engine
    List(ShardsListArgs),
    /// Have a slot served by one engine in particular, as long as that lives
    Move(MoveArgs),
    /// Have an engine give all its slots to the others and take none
    Drain(DrainArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShardsListArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Print one JSON line to standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// The slot
    #[arg(long, value_name = "N")]
    pub(crate) slot: u32,
    /// The engine: where devices reach it, or the beginning of its node id
    #[arg(long, value_name = "NODE|ADDRESS", required_unless_present = "undo")]
    pub(crate) to: Option<String>,
    /// Let the slot be like any other again
    #[arg(long, conflicts_with = "to")]
    pub(crate) undo: bool,
    #[command(flatten)]
    pub(crate) until: UntilArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// The engine: where devices reach it, or the beginning of its node id
    #[arg(value_name = "NODE|ADDRESS")]
    pub(crate) node: String,
    /// Let it take its share again
    #[arg(long)]
    pub(crate) undo: bool,
    #[command(flatten)]
    pub(crate) until: UntilArgs,
}

/// How long a command waits, and how it speaks.
#[derive(Debug, Args)]
pub(crate) struct UntilArgs {
    /// How long to wait until it is so; 0s does not wait
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = patience)]
    pub(crate) wait: Duration,
    /// Print one JSON line to standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SchemaCommand {
    /// Make the keyspace and its tables, or bring them up to date; can be repeated
    Apply(ApplyArgs),
    /// Say what is there; exit code 1 when this program cannot work with it
    Status(SchemaStatusArgs),
    /// Copy a chain of an earlier release into a keyspace that is new, and rebuild it there (the engines of both must be stopped)
    Migrate(MigrateArgs),
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Keyspace of the earlier release, in the same cluster; it is only read
    #[arg(long, value_name = "KEYSPACE")]
    pub(crate) from: String,
    /// Folder for the rows of one slot while they are made; the system's folder for temporary files unless said
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch: Option<PathBuf>,
    /// Print one JSON line to standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RetainArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Days since they were received for which records are kept
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
    /// Folder for the rows of one slot while they are made; the system's folder for temporary files unless said
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch: Option<PathBuf>,
    /// Print one JSON line to standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Copies of every row; 3 unless said, or one a node where there are fewer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) replication: Option<u32>,
    /// Slots that stores are dealt to, fixed when first applied; 256 unless said
    #[arg(long, value_name = "N", value_parser = slots)]
    pub(crate) slots: Option<u32>,
    /// Print one JSON line to standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaStatusArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Print one JSON line to standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("store").required(true).args(["addr", "scylla"]))]
pub(crate) struct SubmitArgs {
    /// Data folder of the engine that is gone, or the journal in it
    #[arg(long, value_name = "DIR")]
    pub(crate) journal: PathBuf,
    /// Admin ports of engines that run, like http://127.0.0.1:7881: the first that answers says where the store is
    #[arg(long, value_name = "URL,..", value_delimiter = ',')]
    pub(crate) addr: Vec<String>,
    /// The store itself.
    #[command(flatten)]
    pub(crate) shared: SharedArgs,
    /// How long to wait until engines have taken everything in; 0s does not wait
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = patience)]
    pub(crate) wait: Duration,
    /// Print one JSON line to standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reads a number of slots.
fn slots(text: &str) -> Result<u32, String> {
    let slots = text
        .parse()
        .ok()
        .filter(|slots| (1..=SLOTS_MAX).contains(slots));
    slots.ok_or_else(|| format!("must be a number from 1 to {SLOTS_MAX}"))
}

/// Reads `60s`, `2m`, `0s`.
fn patience(text: &str) -> Result<Duration, String> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|time| Duration::try_from(time).ok())
        .ok_or_else(|| "must be a time like 60s, 2m or 0s".to_owned())
}
