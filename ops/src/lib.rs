//! The admin port: health, metrics, queries and a page for people.
//!
//! It listens apart from the devices' port, on this machine only unless it is told otherwise, and speaks plain HTTP. It
//! never touches the data path: it reads published figures and rows, and what it is asked has a limit in size, in time
//! and in number.

mod ask; // questions and their parameters
mod engine; // what an engine answers
mod figures; // the live numbers
mod health; // ready or not, and why
mod limits; // size, time and number of requests; whose they may be
mod metrics; // the numbers as Prometheus reads them
mod page; // the page for people
mod port; // routes and the listener

pub use ask::{Answer, By, ParamError, Question, Topic, When, query_string};
pub use engine::{Engine, EngineError};
pub use figures::{
    AckFigures, ClusterFigures, DiskFigures, EngineFigures, EventFigures, Figures, FlushFigures,
    HotKey, JournalFigures, MemoryFigures, PkiFigures, Problem, SalesFigures, SessionFigures,
    ShardFigures, StoreFigures,
};
pub use health::{Check, Health};
pub use metrics::{METRICS, Metric};
pub use port::{Port, PortError, serve};

#[cfg(test)]
mod tests;
