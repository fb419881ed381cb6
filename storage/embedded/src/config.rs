//! How much memory and disk the rows may take.

use std::path::PathBuf;

/// Where the rows are and what they may cost.
///
/// Memory: `cache_bytes` + up to 4 memtables of `memtable_bytes` for each of 8 tables that is being written to (in
/// practice rollups and SKUs: about 2 x 4), + filters of the event ids that are pinned (10 bits an id in the upper
/// levels). The defaults stay below 200 MiB. Disk: the rows, plus at most `journal_bytes` of fjall's own journal.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// Folder of the rows; made when it is not there.
    pub dir: PathBuf,
    /// Blocks kept in memory, in bytes.
    pub cache_bytes: u64,
    /// Rows of one table that are gathered in memory before they go to a file of their own, in bytes.
    pub memtable_bytes: u64,
    /// Most bytes of fjall's journal; at least 64 MiB. At half of it, tables that have been idle are written out, so
    /// that none of them holds the journal back.
    pub journal_bytes: u64,
    /// Threads that write tables out and merge them. With more than one, fjall 3.1 keeps the first from merging by handing
    /// it the same task over and over: it takes a core for nothing as long as there is something to merge.
    pub worker_threads: usize,
}

impl EmbeddedConfig {
    /// The defaults: 64 MiB of cache, memtables of 8 MiB, a journal of at most 256 MiB, one thread.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache_bytes: 64 << 20,
            memtable_bytes: 8 << 20,
            journal_bytes: 256 << 20,
            worker_threads: 1,
        }
    }
}
