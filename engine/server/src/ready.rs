//! Files that tell others where the engine is, put in place whole or not at all.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// Where an engine that accepts is reached.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ready {
    /// Address for devices.
    pub(crate) quic: String,
    /// URL of the admin port.
    pub(crate) admin: String,
    /// PEM file (CA, certificate, key) that is authorised for every terminal.
    pub(crate) identity: String,
    /// Process of the engine.
    pub(crate) pid: u32,
}

impl Ready {
    /// Writes the file beside its place and renames it, so that a reader sees all of it or nothing.
    ///
    /// # Errors
    /// Returns an error that names the file when it cannot be written.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.tmp", self.pid));
        let text = serde_json::to_string(self).context("ready file")?;
        fs::write(&beside, format!("{text}\n"))
            .and_then(|()| fs::rename(&beside, path))
            .with_context(|| format!("could not write the ready file {}", path.display()))
    }
}
