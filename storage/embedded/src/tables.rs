//! One fjall keyspace per table, each tuned to how it is read.

use fjall::config::{
    BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry,
};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions};
use till_storage::pack::Table;

use crate::config::EmbeddedConfig;

/// Name of the keyspace of marks: the checkpoint and the format.
const WATERMARKS: &str = "marks";
/// Key of the checkpoint among the marks.
pub(crate) const CHECKPOINT: &[u8] = b"checkpoint";
/// Key of the format among the marks.
pub(crate) const FORMAT: &[u8] = b"format";
/// The one format so far: keys and rows of `till_storage::pack` with their first schema.
pub(crate) const FORMAT_NOW: u8 = 1;
/// An open database with its tables.
pub(crate) struct Open {
    pub(crate) db: Database,
    pub(crate) digests: Keyspace,
    tables: [Keyspace; 7],
}

/// Why a database is not open.
pub(crate) enum NotOpen {
    Failed(fjall::Error),
    /// A table is missing in a folder that was there. It is not made again: fjall drops a table that has lost its first file,
    /// but not the rows of it in its journal, which would come back, in the order of another history, in the new table.
    Missing(&'static str),
}

impl From<fjall::Error> for NotOpen {
    fn from(error: fjall::Error) -> Self {
        Self::Failed(error)
    }
}

impl Open {
    /// Opens the tables, and makes them where the folder is new.
    pub(crate) fn new(config: &EmbeddedConfig, is_new: bool) -> Result<Self, NotOpen> {
        let db = Database::builder(&config.dir)
            .cache_size(config.cache_bytes)
            .worker_threads(config.worker_threads.max(1))
            .max_journaling_size(config.journal_bytes.max(64 << 20))
            .open()?;
        let known = db.list_keyspace_names();
        let is_known = |name: &str| known.iter().any(|known| **known == *name);
        let names = Table::ALL.iter().map(|table| table.name());
        let mut names = names.chain([WATERMARKS]);
        let missing = names.find(|name| !is_known(name));
        if let (Some(table), false) = (missing, is_new) {
            return Err(NotOpen::Missing(table));
        }
        let small = config.memtable_bytes.min(1 << 20);
        let digests = db.keyspace(WATERMARKS, || options(small))?;
        let open = |table: Table| {
            db.keyspace(table.name(), || match table {
                Table::EventIds => looked_up_to_no_effect(config.memtable_bytes),
                Table::Names => looked_up_to_no_effect(small),
                Table::Stores | Table::Terminals | Table::Quarantine => options(small),
                Table::Skus | Table::Rollups => options(config.memtable_bytes),
            })
        };
        let tables = [
            open(Table::Stores)?,
            open(Table::Terminals)?,
            open(Table::Skus)?,
            open(Table::Rollups)?,
            open(Table::EventIds)?,
            open(Table::Quarantine)?,
            open(Table::Names)?,
        ];
        Ok(Self {
            db,
            digests,
            tables,
        })
    }

    pub(crate) const fn table(&self, table: Table) -> &Keyspace {
        let [
            stores,
            terminals,
            skus,
            rollups,
            event_ids,
            quarantine,
            names,
        ] = &self.tables;
        match table {
            Table::Stores => stores,
            Table::Terminals => terminals,
            Table::Skus => skus,
            Table::Rollups => rollups,
            Table::EventIds => event_ids,
            Table::Quarantine => quarantine,
            Table::Names => names,
        }
    }

    pub(crate) fn keyspaces(&self) -> impl Iterator<Item = &Keyspace> {
        self.tables.iter().chain([&self.digests])
    }
}

fn options(memtable_bytes: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable_bytes)
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
        .data_block_size_policy(BlockSizePolicy::all(8 << 10))
}

/// Tables that are mostly asked for what is not there: a filter on every level, the last one too, answers 99 % of such
/// questions without a block; 10 bits an id, 125 MB of filters for 100 M ids, of which the cache holds the used part.
fn looked_up_to_no_effect(memtable_bytes: u64) -> KeyspaceCreateOptions {
    let filter = |bits| FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(bits));
    options(memtable_bytes)
        .data_block_size_policy(BlockSizePolicy::all(4 << 10))
        .expect_point_read_hits(false)
        .filter_policy(FilterPolicy::new([filter(14.0), filter(10.0)]))
}
