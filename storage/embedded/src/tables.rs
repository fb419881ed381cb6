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
/// The format of rows that are known not to be whole.
pub(crate) const FORMAT_BROKEN: [u8; 1] = [0];

/// An open database with its tables.
pub(crate) struct Open {
    pub(crate) db: Database,
    pub(crate) digests: Keyspace,
    tables: [Keyspace; 7],
    /// A table that was not there and has been made now.
    pub(crate) made: Option<&'static str>,
}

impl Open {
    pub(crate) fn new(config: &EmbeddedConfig) -> Result<Self, fjall::Error> {
        let db = Database::builder(&config.dir)
            .cache_size(config.cache_bytes)
            .worker_threads(config.worker_threads.max(1))
            .max_journaling_size(config.journal_bytes.max(64 << 20))
            .open()?;
        // fjall takes a table for unfinished that has lost its first file, and drops it.
        let known = db.list_keyspace_names();
        let is_known = |name: &str| known.iter().any(|known| **known == *name);
        let names = Table::ALL.iter().map(|table| table.name());
        let made = names.chain([WATERMARKS]).find(|name| !is_known(name));
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
            made,
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
