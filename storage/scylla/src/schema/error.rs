//! Why the tables are not as they should be.

use thiserror::Error;

use crate::error::CqlError;

/// Why a schema cannot be made or used as it was asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The cluster did not do what it was asked for.
    #[error(transparent)]
    Cql(#[from] CqlError),
    /// There are too few nodes for so many copies.
    #[error(
        "{wanted} copies of every row need {wanted} nodes; data centre {datacenter} has {nodes}: add nodes, or ask for fewer with --replication"
    )]
    TooFewNodes {
        /// Copies that were asked for.
        wanted: u32,
        /// Nodes that there are.
        nodes: u32,
        /// Where.
        datacenter: String,
    },
    /// The keyspace keeps another number of copies.
    #[error(
        "keyspace {keyspace} keeps {fixed} copies in data centre {datacenter}, not {wanted}; that is changed by ALTER KEYSPACE and a repair of every node, and then asked for here"
    )]
    Replication {
        /// The keyspace.
        keyspace: String,
        /// Where.
        datacenter: String,
        /// Copies that it keeps.
        fixed: u32,
        /// Copies that were asked for.
        wanted: u32,
    },
    /// A keyspace that something else uses.
    #[error(
        "keyspace {keyspace} has tables and no schema_version among them: it is not Tillstream's; name another"
    )]
    Foreign {
        /// The keyspace.
        keyspace: String,
    },
    /// A later program has been here.
    #[error(
        "keyspace {keyspace} has schema version {found} (for programs that know {min_reader} or later); this program knows {known}: use a newer one. Nothing was changed"
    )]
    Newer {
        /// The keyspace.
        keyspace: String,
        /// Version that it has.
        found: i32,
        /// What a program has to know for it.
        min_reader: i32,
        /// What this program knows.
        known: i32,
    },
    /// The schema is behind this program.
    #[error(
        "keyspace {keyspace} has schema version {found}, this program needs {known}: run `tillstream schema apply`"
    )]
    Older {
        /// The keyspace.
        keyspace: String,
        /// Version that it has.
        found: i32,
        /// What this program needs.
        known: i32,
    },
    /// The schema is of a time before the log was kept: another keyspace takes its place.
    #[error(
        "keyspace {keyspace} has schema version {found}, which cannot be brought up to {known} in place: apply the schema to a new keyspace with as many slots, and copy this one into it with `tillstream schema migrate --from {keyspace}`"
    )]
    Outdated {
        /// The keyspace.
        keyspace: String,
        /// Version that it has.
        found: i32,
        /// What this program needs.
        known: i32,
    },
    /// Not all of another keyspace has been copied here.
    #[error(
        "keyspace {keyspace} has not all of keyspace {from} yet: run `tillstream schema migrate --from {from}` until it succeeds"
    )]
    Copied {
        /// The keyspace.
        keyspace: String,
        /// The one that is being copied.
        from: String,
    },
    /// There is no schema, or not all of it.
    #[error("keyspace {keyspace} is not ready ({what}): run `tillstream schema apply`")]
    Missing {
        /// The keyspace.
        keyspace: String,
        /// What is not there.
        what: String,
    },
    /// The number of slots cannot change: the rows of every store lie by it.
    #[error(
        "keyspace {keyspace} has {fixed} slots, not {wanted}: their number is fixed when the schema is first applied"
    )]
    Slots {
        /// The keyspace.
        keyspace: String,
        /// Slots that it has.
        fixed: u32,
        /// Slots that were asked for.
        wanted: u32,
    },
    /// Not a number of slots.
    #[error("{wanted} slots: must be a number from 1 to {max}")]
    SlotsRange {
        /// Slots that were asked for.
        wanted: u32,
        /// Most that there can be.
        max: u32,
    },
    /// No copy at all.
    #[error("0 copies of a row hold nothing: ask for 1 or more with --replication")]
    NoCopies,
}
