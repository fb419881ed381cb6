//! Where the cluster is, and as whom it is spoken to.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Time that one address has to take a connection, unless said otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach a cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ScyllaConfig {
    /// Nodes to ask first, each HOST:PORT; the others are learnt from them.
    pub hosts: Vec<String>,
    /// Where the tables are.
    pub keyspace: Keyspace,
    /// As whom; `None` where the cluster does not ask.
    pub credentials: Option<Credentials>,
    /// PEM file of the authority that signed the nodes' certificates; `None` speaks without TLS. The driver knows nodes by
    /// their addresses, so the certificates have to name those.
    pub ca_file: Option<PathBuf>,
    /// Data centre that is written to and read from; `None` is the one of the first host that is found.
    pub datacenter: Option<String>,
    /// Time that one address has to take a connection.
    pub connect_timeout: Duration,
}

impl ScyllaConfig {
    /// Checks the hosts and the name of the keyspace; everything else is as in a plain cluster without users.
    ///
    /// # Errors
    /// [`ScyllaConfigError`] names what is wrong.
    pub fn new<'a>(
        hosts: impl IntoIterator<Item = &'a str>,
        keyspace: &str,
    ) -> Result<Self, ScyllaConfigError> {
        let hosts: Result<Vec<String>, _> = hosts.into_iter().map(host).collect();
        let hosts = hosts?;
        if hosts.is_empty() {
            return Err(ScyllaConfigError::NoHosts);
        }
        Ok(Self {
            hosts,
            keyspace: Keyspace::new(keyspace)?,
            credentials: None,
            ca_file: None,
            datacenter: None,
            connect_timeout: CONNECT_TIMEOUT,
        })
    }
}

fn host(text: &str) -> Result<String, ScyllaConfigError> {
    let text = text.trim();
    let right = text.rsplit_once(':').is_some_and(|(name, port)| {
        let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
        let is_name = !name.is_empty() && (bare.is_some() || !name.contains(':'));
        is_name && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    right
        .then(|| text.to_owned())
        .ok_or_else(|| ScyllaConfigError::Host(text.to_owned()))
}

/// A user with a password, for nobody else's eyes: shown nowhere, `Debug` included.
#[derive(Clone)]
pub struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    /// A user with a password.
    pub const fn new(user: String, password: String) -> Self {
        Self { user, password }
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(not shown)")
    }
}

/// The name of a keyspace: small letters, digits and `_`, a letter first, at most 48. Such a name stands in a statement as it
/// is; nothing else ever does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Keyspace(String);

impl Keyspace {
    /// Checks a name.
    ///
    /// # Errors
    /// [`ScyllaConfigError::Keyspace`] for another form, and for the keyspaces of the server itself.
    pub fn new(name: &str) -> Result<Self, ScyllaConfigError> {
        let starts_right = name.starts_with(|c: char| c.is_ascii_lowercase());
        let only_right = name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        let is_servers_own = name == "system" || name.starts_with("system_");
        if starts_right && only_right && !is_servers_own && name.len() <= 48 {
            Ok(Self(name.to_owned()))
        } else {
            Err(ScyllaConfigError::Keyspace(name.to_owned()))
        }
    }

    /// The name itself.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The name as it stands in a statement: in quotes, as it may be a word of CQL.
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl fmt::Display for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ScyllaConfigError {
    /// No node is named.
    #[error("no node is named: at least one HOST:PORT is needed")]
    NoHosts,
    /// Not an address.
    #[error("`{0}` is not HOST:PORT, like 10.0.0.1:9042")]
    Host(String),
    /// Not the name of a keyspace.
    #[error(
        "`{0}` cannot name a keyspace: small letters, digits and _, a letter first, at most 48, not one of the server's own"
    )]
    Keyspace(String),
}

#[cfg(test)]
mod tests;
