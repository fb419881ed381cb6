//! The log: lines on standard error, for people or for machines.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// Starts the log. Colours only on a terminal, and never when `NO_COLOR` is set.
///
/// # Errors
/// Returns an error that names the filter when it cannot be read.
pub(crate) fn start(level: Option<&str>, fallback: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(level.unwrap_or(fallback))
        .with_context(|| {
            format!(
                "log level {:?}: use error, warn, info, debug or trace",
                level.unwrap_or(fallback)
            )
        })?;
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colours);
    // A second start in one process (tests) keeps the first log.
    let started = match format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    drop(started);
    Ok(())
}
