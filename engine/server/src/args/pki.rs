//! The words of `tillstream pki`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};

use super::duration;

#[derive(Debug, Subcommand)]
pub(crate) enum PkiCommand {
    /// Make an identity for a device (authority, certificate and key in one file)
    Issue(IssueArgs),
    /// Take an identity back: a running engine closes its connections within seconds
    Revoke(RevokeArgs),
    /// Show what is revoked
    List(super::DirArgs),
}

#[derive(Debug, Args)]
pub(crate) struct IssueArgs {
    /// The folder.
    #[command(flatten)]
    pub(crate) dir: super::DirArgs,
    /// Whom it speaks for: till://STORE/TILL, till://STORE/* or till://*; may be given more than once
    #[arg(long = "for", required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// How long it counts, like 8760h or 90m
    #[arg(long, default_value = "8760h", value_name = "TIME", value_parser = duration)]
    pub(crate) valid: Duration,
    /// File to write; it must not be there
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["identity", "serial"]))]
pub(crate) struct RevokeArgs {
    /// The folder.
    #[command(flatten)]
    pub(crate) dir: super::DirArgs,
    /// Identity file or certificate (PEM) of the device
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Serial number of its certificate, in hexadecimal digits
    #[arg(long, value_name = "HEX")]
    pub(crate) serial: Option<String>,
}
