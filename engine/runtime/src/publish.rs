//! From shards to the rows that queries read.

pub(crate) mod batches;
pub(crate) mod door;
pub(crate) mod flusher;
pub(crate) mod local;
pub(crate) mod names;
pub(crate) mod publisher;
pub(crate) mod rounds;
pub(crate) mod row_backend;
