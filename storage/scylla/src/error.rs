//! What keeps the cluster from doing what it was asked for.

use std::fmt;
use std::io;
use std::path::PathBuf;

use scylla::errors::ExecutionError;
use thiserror::Error;

/// Why a call to the cluster did not succeed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CqlError {
    /// None of the nodes that were named could be spoken to; each with what it said.
    #[error("no node of the cluster can be used: {0}")]
    Unreachable(Tried),
    /// The server lacks what the tables and statements need.
    #[error("{server} is too old: {least} or later is needed")]
    TooOld {
        /// What answers, with its version.
        server: String,
        /// The first version that will do.
        least: &'static str,
    },
    /// Several data centres, and none was chosen.
    #[error(
        "cannot tell which data centre to use, as no node has one of the addresses given; name one of: {0}"
    )]
    Datacenter(String),
    /// The file of the authority cannot be used.
    #[error("authority {}: {cause}", file.display())]
    Authority {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A statement failed. Whether it took effect is for whoever knows the statement to tell.
    #[error("{what}: {source}")]
    Statement {
        /// What it was for.
        what: &'static str,
        /// What the driver or the server said.
        source: Box<ExecutionError>,
    },
    /// An answer of a shape that was not asked for.
    #[error("{what}: unexpected answer: {cause}")]
    Answer {
        /// What was asked.
        what: &'static str,
        /// What is odd about the answer.
        cause: String,
    },
    /// The threads that speak to the cluster could not be started.
    #[error("threads for the cluster: {0}")]
    Threads(#[source] io::Error),
    /// The threads that speak to the cluster have ended under a call that was waiting.
    #[error("the call to the cluster was given up: its threads have ended")]
    Stopped,
}

impl CqlError {
    /// A statement that failed.
    pub fn statement(what: &'static str, source: impl Into<ExecutionError>) -> Self {
        Self::Statement {
            what,
            source: Box::new(source.into()),
        }
    }

    /// An answer that does not fit.
    pub fn answer(what: &'static str, cause: impl fmt::Display) -> Self {
        Self::Answer {
            what,
            cause: cause.to_string(),
        }
    }
}

/// Addresses that were tried, each with what came of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tried(pub Vec<(String, String)>);

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (address, cause)) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{address}: {cause}")?;
        }
        Ok(())
    }
}
