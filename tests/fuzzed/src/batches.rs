//! Batches put together again from their views, by the code that the wire's own tests use.

#[path = "../../../protocol/tests/wire/samples/rebuild.rs"]
mod rebuild;

pub(crate) use rebuild::rebuild;
