//! What answers CQL: which server, which version, and what it calls things.

use scylla::client::session::Session;

use crate::error::CqlError;

/// The servers that hold our tables. Statements are of the subset that both know; where there is none, this decides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// ScyllaDB.
    Scylla,
    /// Apache Cassandra.
    Cassandra,
}

impl Dialect {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scylla => "ScyllaDB",
            Self::Cassandra => "Apache Cassandra",
        }
    }

    /// The first version whose features the tables use (ICS outside the enterprise edition; UCS).
    const fn least(self) -> ((u32, u32), &'static str) {
        match self {
            Self::Scylla => ((2025, 1), "ScyllaDB 2025.1"),
            Self::Cassandra => ((5, 0), "Apache Cassandra 5.0"),
        }
    }
}

/// A server and its version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Server {
    /// Which.
    pub dialect: Dialect,
    /// Its version as it says it.
    pub version: String,
}

impl Server {
    /// Whether tables may lie in tablets: conditional statements work there since ScyllaDB 2025.4.
    pub fn has_tablets(&self) -> bool {
        self.dialect == Dialect::Scylla && numbers(&self.version) >= Some((2025, 4))
    }

    /// Asks a node what it is.
    ///
    /// # Errors
    /// [`CqlError::TooOld`], or what kept the node from answering.
    pub(crate) async fn find(session: &Session) -> Result<Self, CqlError> {
        const OWN: &str = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'system' AND table_name = 'scylla_local'";
        let is_scylla = first_text(session, OWN).await?.is_some();
        let (dialect, asked) = if is_scylla {
            let asked = "SELECT version FROM system.versions WHERE key = 'local'";
            (Dialect::Scylla, asked)
        } else {
            let asked = "SELECT release_version FROM system.local WHERE key = 'local'";
            (Dialect::Cassandra, asked)
        };
        let version = first_text(session, asked).await?;
        let server = Self {
            dialect,
            version: version.unwrap_or_else(|| "of unknown version".to_owned()),
        };
        server.checked()
    }

    fn checked(self) -> Result<Self, CqlError> {
        let (least, words) = self.dialect.least();
        if numbers(&self.version) >= Some(least) {
            return Ok(self);
        }
        Err(CqlError::TooOld {
            server: format!("{} {}", self.dialect.name(), self.version),
            least: words,
        })
    }
}

/// The first two numbers of a version: `2025.4.0-rc1` is (2025, 4).
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-', '~']);
    let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
    Some((number()?, number()?))
}

async fn first_text(session: &Session, cql: &str) -> Result<Option<String>, CqlError> {
    const WHAT: &str = "which server answers";
    let answer = session
        .query_unpaged(cql, ())
        .await
        .map_err(|error| CqlError::statement(WHAT, error))?;
    let rows = answer
        .into_rows_result()
        .map_err(|error| CqlError::answer(WHAT, error))?;
    let row = rows
        .maybe_first_row::<(String,)>()
        .map_err(|error| CqlError::answer(WHAT, error))?;
    Ok(row.map(|(text,)| text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(dialect: Dialect, version: &str) -> Server {
        Server {
            dialect,
            version: version.to_owned(),
        }
    }

    #[test]
    fn tablets_are_used_where_conditional_statements_work_in_them() {
        let cases = [
            (Dialect::Scylla, "2025.3.9", false),
            (Dialect::Scylla, "2025.4.0~rc1-0.2025", true),
            (Dialect::Scylla, "2026.1.0", true),
            (Dialect::Cassandra, "5.0.8", false),
        ];
        for (dialect, version, wanted) in cases {
            assert_eq!(server(dialect, version).has_tablets(), wanted, "{version}");
        }
    }

    #[test]
    fn old_servers_are_refused_by_name() {
        for (dialect, version) in [
            (Dialect::Scylla, "6.2.3"),
            (Dialect::Cassandra, "4.1.7"),
            (Dialect::Cassandra, "unknown"),
        ] {
            let error = server(dialect, version).checked().unwrap_err();
            assert!(error.to_string().contains(version), "{error}");
        }
        assert!(server(Dialect::Cassandra, "5.0.8").checked().is_ok());
        assert!(server(Dialect::Scylla, "2025.1.0").checked().is_ok());
    }
}
