//! What only a real server can show. Needs one at TILL_CQL=HOST:PORT; `tests/cql/run` starts it.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on stops; helpers of tests are not seen as tests"
)]

mod constraints;
mod days;
mod document;
mod handoff;
mod migrate;
mod rebuild;
mod retain;
mod rows;
mod schema;
mod world;
