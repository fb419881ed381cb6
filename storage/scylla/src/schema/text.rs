//! The statements of each version.

use crate::config::Keyspace;
use crate::server::{Dialect, Server};

/// A file of statements and the version that they lead to, oldest first.
pub(super) const MIGRATIONS: &[(i32, &str)] = &[
    (4, include_str!("../../schema/v4.cql")),
    (5, include_str!("../../schema/v5.cql")),
];

/// What stands for the variables of the files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Variables {
    /// `${keyspace}`.
    pub keyspace: Keyspace,
    /// `${dc}`: the data centre that holds the rows.
    pub datacenter: String,
    /// `${rf}`: copies of every row.
    pub replication: u32,
    /// Decides `${overwrite}`, the compaction of tables whose rows are overwritten, and `${tablets}`.
    pub server: Server,
}

impl Variables {
    fn fill(&self, text: &str) -> String {
        let overwrite = match self.server.dialect {
            Dialect::Scylla => "{'class': 'IncrementalCompactionStrategy'}",
            Dialect::Cassandra => "{'class': 'UnifiedCompactionStrategy'}",
        };
        let tablets = match (self.server.dialect, self.server.has_tablets()) {
            (Dialect::Scylla, true) => " AND tablets = {'enabled': true}",
            // Said, because a server may have them as a default.
            (Dialect::Scylla, false) => " AND tablets = {'enabled': false}",
            (Dialect::Cassandra, _) => "",
        };
        text.replace("${keyspace}", &self.keyspace.quoted())
            .replace("${dc}", &self.datacenter.replace('\'', "''"))
            .replace("${rf}", &self.replication.to_string())
            .replace("${tablets}", tablets)
            .replace("${overwrite}", overwrite)
    }
}

/// The statements that lead from a version (0: nothing is there) to the newest, in order, for a server.
pub fn statements(from: i32, variables: &Variables) -> Vec<String> {
    MIGRATIONS
        .iter()
        .filter(|(version, _)| *version > from)
        .flat_map(|(_, text)| split(text))
        .map(|statement| variables.fill(&statement))
        .collect()
}

/// Statements without comments; each ends with a semicolon at the end of a line.
fn split(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with("--"));
    let bare = lines.collect::<Vec<_>>().join("\n");
    bare.split(";\n")
        .map(|statement| statement.trim().trim_end_matches(';').to_owned())
        .filter(|statement| !statement.is_empty())
        .collect()
}

/// A table of the newest version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Its primary key, as written: `((store, hour), position)`.
    pub key: String,
}

/// A column.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as written.
    pub kind: String,
}

/// The tables of the newest version: those that all versions together make, as none has changed a column yet.
pub fn tables() -> Vec<Table> {
    MIGRATIONS
        .iter()
        .flat_map(|(_, text)| split(text))
        .filter_map(|statement| table(&statement))
        .collect()
}

/// Reads `CREATE TABLE IF NOT EXISTS ${keyspace}.name (`, a column a line, `PRIMARY KEY (...)`.
fn table(statement: &str) -> Option<Table> {
    let rest = statement.strip_prefix("CREATE TABLE IF NOT EXISTS ${keyspace}.")?;
    let (name, body) = rest.split_once(" (\n")?;
    let lines = body.lines().map(str::trim);
    let mut table = Table {
        name: name.to_owned(),
        columns: Vec::new(),
        key: String::new(),
    };
    for line in lines {
        if let Some(key) = line.strip_prefix("PRIMARY KEY ") {
            key.clone_into(&mut table.key);
            break;
        }
        let (name, kind) = line.trim_end_matches(',').split_once(' ')?;
        table.columns.push(Column {
            name: name.to_owned(),
            kind: kind.to_owned(),
        });
    }
    Some(table)
}

#[cfg(test)]
mod tests;
