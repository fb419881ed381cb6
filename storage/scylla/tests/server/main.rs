//! What only a real server can show. Needs one at TILL_CQL=HOST:PORT; `tests/cql/run` starts it.

mod document;
mod schema;
mod world;
